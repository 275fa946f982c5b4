//! Measures rounds of decoding, each beside the memory-bandwidth bound.

use std::time::{Duration, Instant};

use ane_runtime::machine::Machine;
use ane_runtime::{DecodeModel, Result, Sequence};

use super::results::DecodeSpeed;

/// Exceeds the time for which an idle thread spins before it sleeps, so that each measurement has the
/// processors to itself.
const PAUSE: Duration = Duration::from_millis(3);

/// Contexts of one sequence per round.
const CONTEXTS: usize = 3;

/// Readings of the memory-bandwidth bound per round.
const FLOORS: usize = 5;

/// What is measured in all rounds.
#[derive(Default)]
pub(super) struct Samples {
    /// Seconds to read the weights once.
    pub(super) floors: Vec<f64>,
    /// Tokens per second over a whole context.
    contexts: Vec<f64>,
    /// Seconds for one token.
    tokens: Vec<f64>,
    /// Tokens per second of all sequences together.
    pub(super) batches: Vec<f64>,
}

impl Samples {
    /// Measures for `duration`, and at least one round.
    pub(super) fn measure(
        model: &DecodeModel,
        machine: &Machine,
        weights: &[&[u8]],
        sequences: &mut [Sequence],
        duration: Duration,
    ) -> Result<Self> {
        let mut samples = Self::default();
        let started = Instant::now();
        let mut rounds = 0;
        // The first round only warms up; one more is needed for results.
        while rounds < 2 || started.elapsed() < duration {
            samples.add_round(model, machine, weights, sequences)?;
            if rounds == 0 {
                samples.clear();
            }
            rounds += 1;
        }
        Ok(samples)
    }

    /// Measures one round.
    fn add_round(
        &mut self,
        model: &DecodeModel,
        machine: &Machine,
        weights: &[&[u8]],
        sequences: &mut [Sequence],
    ) -> Result<()> {
        // By then the threads of the previous round sleep and take no time from those of the machine.
        std::thread::sleep(PAUSE);
        // The last readings find the weights in the same caches as token-by-token decoding does.
        let reads: Vec<f64> = (0..2 * FLOORS).map(|_| read(machine, weights)).collect();
        self.floors.extend_from_slice(&reads[FLOORS..]);
        std::thread::sleep(PAUSE);
        context_of(model, &mut sequences[0])?;
        for _ in 0..CONTEXTS {
            self.add_context(model, &mut sequences[0])?;
        }
        self.batches.push(batch(model, sequences)?);
        Ok(())
    }

    /// Measures one context, token by token.
    fn add_context(&mut self, model: &DecodeModel, sequence: &mut Sequence) -> Result<()> {
        model.reset(sequence);
        let context = model.context_length();
        let begin = Instant::now();
        let mut last = begin;
        for position in 0..context {
            model.decode(token_at(model, position), sequence)?;
            let now = Instant::now();
            self.tokens.push((now - last).as_secs_f64());
            last = now;
        }
        self.contexts.push(context as f64 / (last - begin).as_secs_f64());
        Ok(())
    }

    fn clear(&mut self) {
        let Self { floors, contexts, tokens, batches } = self;
        [floors, contexts, tokens, batches].into_iter().for_each(Vec::clear);
    }

    /// Computes the speed of one sequence; `floor` is the memory-bandwidth bound in seconds.
    pub(super) fn decode_speed(&mut self, floor: f64) -> DecodeSpeed {
        let tokens_per_second = percentile(&mut self.contexts, 50);
        let mut milliseconds = |percent| 1e3 * percentile(&mut self.tokens, percent);
        DecodeSpeed {
            tokens_per_second,
            p50_ms: milliseconds(50),
            p90_ms: milliseconds(90),
            p99_ms: milliseconds(99),
            times_stream_floor: 1.0 / (tokens_per_second * floor),
        }
    }
}

/// Measures the seconds that the machine needs to read all weights once.
fn read(machine: &Machine, weights: &[&[u8]]) -> f64 {
    weights.iter().map(|file| machine.read(file).as_secs_f64()).sum()
}

/// Returns a token, not always the same.
fn token_at(model: &DecodeModel, position: usize) -> u32 {
    (position % model.vocab_size()) as u32
}

/// Decodes a whole context.
pub(super) fn context_of(model: &DecodeModel, sequence: &mut Sequence) -> Result<()> {
    model.reset(sequence);
    (0..model.context_length())
        .try_for_each(|position| model.decode(token_at(model, position), sequence).map(drop))
}

/// Measures the tokens per second of several sequences at once, over a context.
fn batch(model: &DecodeModel, sequences: &mut [Sequence]) -> Result<f64> {
    sequences.iter_mut().for_each(|sequence| model.reset(sequence));
    let mut all: Vec<&mut Sequence> = sequences.iter_mut().collect();
    let mut tokens = vec![0; all.len()];
    let started = Instant::now();
    for position in 0..model.context_length() {
        tokens.fill(token_at(model, position));
        model.decode_batch(&tokens, &mut all)?;
    }
    Ok((all.len() * model.context_length()) as f64 / started.elapsed().as_secs_f64())
}

/// Sorts the values, and returns the one at a percentile, without interpolation; NaN if there are none.
pub(super) fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get(last * percent / 100).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_few_values() {
        assert_eq!(percentile(&mut [3.0, 1.0, 2.0], 50), 2.0);
        assert_eq!(percentile(&mut [7.0], 99), 7.0);
        assert_eq!(percentile(&mut (0..=100).map(f64::from).collect::<Vec<_>>(), 99), 99.0);
        assert!(percentile(&mut [], 50).is_nan());
    }
}
