//! Measures how fast a bundle decodes on an engine, and the most that the machine could reach.
//!
//! All measurements are interleaved over many rounds, so that a drift of the machine's speed affects them
//! alike. Results are medians; bounds are the best value.

use std::fmt;
use std::time::{Duration, Instant};

use ane_bundle::Bundle;
use ane_runtime::machine::Machine;
use ane_runtime::{
    DecodeModel, Decoder, Engine, Generation, Result, Sampler, Sampling, Sequence, TextTokenizer,
};
use mlpackage::counted;
use serde::Serialize;

use crate::energy::{EnergyReport, Meter};
use crate::memory::peak_memory;

/// Tokens/s of Experiment 27: 500 names of the scaled preset, decoded through Core ML on the Neural Engine of
/// an M4 Max.
pub const EXPERIMENT_27: f64 = 1_535.0;

/// Exceeds the time for which an idle thread spins before it sleeps, so that each measurement has the
/// processors to itself.
const PAUSE: Duration = Duration::from_millis(3);

/// Readings of the memory-bandwidth bound per round.
const FLOORS: usize = 5;

/// What is measured, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct BenchmarkOptions {
    /// Threads for measuring the bounds of the machine: as many as the engine uses.
    pub threads: usize,
    /// How long decoding is measured.
    pub duration: Duration,
    /// Sequences that are decoded at once.
    pub batch: usize,
    /// Names to generate; 0 skips them.
    pub names: usize,
    /// Seed of the names.
    pub seed: u64,
    /// Whether to measure the energy per token, where the system allows it.
    pub energy: bool,
}

/// Bounds for two threads, three seconds, a batch of 16, and the 500 names of Experiment 27.
impl Default for BenchmarkOptions {
    fn default() -> Self {
        Self { threads: 2, duration: Duration::from_secs(3), batch: 16, names: 500, seed: 42, energy: false }
    }
}

/// The results.
#[derive(Clone, Debug, Serialize)]
pub struct Benchmark {
    /// Name of the engine.
    pub engine: String,
    /// Instruction set and threads that the bounds are measured with.
    pub machine: String,
    /// Bytes that a token needs: the weights in their stored form.
    pub weight_bytes: u64,
    /// Multiply-adds of weights per token.
    pub multiply_adds_a_token: u64,
    /// Milliseconds from opening the bundle to the logits of the first token, with its files in the system's
    /// cache.
    pub load_ms: f64,
    /// Milliseconds to read the weights once, at best: the memory-bandwidth bound.
    pub stream_floor_ms: f64,
    /// 8-bit multiply-adds of the machine per second.
    pub byte_products_a_second: f64,
    /// One sequence, token by token over the whole context.
    pub decode: Decode,
    /// Several sequences at once.
    pub batch: Batch,
    /// The run of Experiment 27.
    pub names: Option<Names>,
    /// Energy per token, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy: Option<EnergyReport>,
    /// Peak memory of the process in bytes, where the system reports it.
    pub peak_memory_bytes: Option<u64>,
}

/// One sequence.
#[derive(Clone, Debug, Serialize)]
pub struct Decode {
    /// Tokens per second: the median over whole contexts.
    pub tokens_per_second: f64,
    /// Median time per token in milliseconds.
    pub p50_ms: f64,
    /// 90th percentile of the time per token in milliseconds.
    pub p90_ms: f64,
    /// 99th percentile of the time per token in milliseconds.
    pub p99_ms: f64,
    /// Median time per token over whole contexts, relative to the memory-bandwidth bound.
    pub times_stream_floor: f64,
}

/// Several sequences.
#[derive(Clone, Debug, Serialize)]
pub struct Batch {
    /// Number of sequences.
    pub sequences: usize,
    /// Tokens per second of all sequences together.
    pub tokens_per_second: f64,
    /// The same, relative to one sequence.
    pub times_one: f64,
    /// Tokens per second if the machine only multiplied: two 8-bit products per weight.
    pub arithmetic_bound: f64,
}

/// Generated names.
#[derive(Clone, Debug, Serialize)]
pub struct Names {
    /// Number of names.
    pub names: usize,
    /// Tokens that the model was run on.
    pub tokens: usize,
    /// Seconds, including sampling and text.
    pub seconds: f64,
    /// Tokens per second.
    pub tokens_per_second: f64,
}

/// Measures a bundle on an engine.
///
/// # Errors
///
/// If the bundle cannot be loaded or run.
pub fn benchmark(bundle: &Bundle, engine: &dyn Engine, options: &BenchmarkOptions) -> Result<Benchmark> {
    let mut loads = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        let bundle = Bundle::open(bundle.path())?;
        let model = DecodeModel::load(&bundle, engine)?;
        model.decode(0, &mut model.new_sequence())?;
        loads.push(started.elapsed().as_secs_f64());
    }
    let model = DecodeModel::load(bundle, engine)?;
    // The same pages that the engine reads.
    let packages =
        bundle.manifest().shards.iter().map(|shard| bundle.package(shard)).collect::<Result<Vec<_>, _>>()?;
    let weights: Vec<&[u8]> =
        packages.iter().flat_map(|package| package.weight_files()).map(|(_, file)| file.as_bytes()).collect();
    let machine = Machine::new(options.threads);

    let context = model.context_length();
    let mut floors = Vec::new();
    let (mut contexts, mut tokens, mut batches) = (Vec::new(), Vec::new(), Vec::new());
    let mut sequences: Vec<Sequence> = (0..options.batch.max(1)).map(|_| model.new_sequence()).collect();
    let started = Instant::now();
    let mut rounds = 0;
    // The first round only warms up; one more is needed for results.
    while rounds < 2 || started.elapsed() < options.duration {
        // By then the threads of the previous round sleep and take no time from those of the machine.
        std::thread::sleep(PAUSE);
        // The last readings find the weights in the same caches as token-by-token decoding does.
        let reads: Vec<f64> = (0..2 * FLOORS).map(|_| read(&machine, &weights)).collect();
        floors.extend_from_slice(&reads[FLOORS..]);
        std::thread::sleep(PAUSE);
        let sequence = &mut sequences[0];
        for warm in [false, true, true, true] {
            model.reset(sequence);
            let begin = Instant::now();
            let mut last = begin;
            for position in 0..context {
                model.decode(token_at(&model, position), sequence)?;
                let now = Instant::now();
                if warm {
                    tokens.push((now - last).as_secs_f64());
                }
                last = now;
            }
            if warm {
                contexts.push(context as f64 / (last - begin).as_secs_f64());
            }
        }
        batches.push(batch(&model, &mut sequences)?);
        if rounds == 0 {
            for warm_up in [&mut floors, &mut tokens, &mut contexts, &mut batches] {
                warm_up.clear();
            }
        }
        rounds += 1;
    }

    let energy = options.energy.then(|| {
        let sequence = &mut sequences[0];
        let decode = || context_of(&model, sequence).map(|()| context).map_err(|e| e.to_string());
        let measured = Meter::of_system().and_then(|meter| meter.measure(options.duration, decode));
        EnergyReport::from(measured)
    });
    let names = match options.names {
        0 => None,
        names => Some(generate(bundle, model, names, options.seed)?),
    };
    // A bound is what the machine can do, not what it achieves while others use it.
    let floor = percentile(&mut floors, 0);
    let one = percentile(&mut contexts, 50);
    let many = percentile(&mut batches, 50);
    let architecture = &bundle.manifest().architecture;
    let (c, v, l) = (architecture.n_embd as u64, architecture.vocab_size as u64, architecture.n_layer as u64);
    let multiply_adds = 12 * c * c * l + v * c;
    let byte_products = machine.byte_products();
    Ok(Benchmark {
        engine: engine.name().to_owned(),
        machine: machine.to_string(),
        weight_bytes: weights.iter().map(|file| file.len() as u64).sum(),
        multiply_adds_a_token: multiply_adds,
        load_ms: 1e3 * percentile(&mut loads, 50),
        stream_floor_ms: 1e3 * floor,
        byte_products_a_second: byte_products,
        decode: Decode {
            tokens_per_second: one,
            p50_ms: 1e3 * percentile(&mut tokens, 50),
            p90_ms: 1e3 * percentile(&mut tokens, 90),
            p99_ms: 1e3 * percentile(&mut tokens, 99),
            times_stream_floor: 1.0 / (one * floor),
        },
        batch: Batch {
            sequences: options.batch.max(1),
            tokens_per_second: many,
            times_one: many / one,
            arithmetic_bound: byte_products / (2 * multiply_adds) as f64,
        },
        names,
        energy,
        peak_memory_bytes: peak_memory(),
    })
}

/// Seconds that the machine needs to read all weights once.
fn read(machine: &Machine, weights: &[&[u8]]) -> f64 {
    weights.iter().map(|file| machine.read(file).as_secs_f64()).sum()
}

/// Some token, not always the same.
fn token_at(model: &DecodeModel, position: usize) -> u32 {
    (position % model.vocab_size()) as u32
}

/// Decodes a whole context.
fn context_of(model: &DecodeModel, sequence: &mut Sequence) -> Result<()> {
    model.reset(sequence);
    (0..model.context_length())
        .try_for_each(|position| model.decode(token_at(model, position), sequence).map(drop))
}

/// Tokens per second of several sequences at once, over a context.
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

/// Generates names as `microgpt generate` does, one after the other.
fn generate(bundle: &Bundle, model: DecodeModel, names: usize, seed: u64) -> Result<Names> {
    let tokenizer = TextTokenizer::from_bundle(bundle)?;
    let mut decoder = Decoder::new(std::sync::Arc::new(model));
    let mut sampler = Sampler::new(Sampling::Temperature { temperature: 0.5 }, seed);
    let started = Instant::now();
    let mut tokens = 0;
    for _ in 0..names {
        let mut generation = Generation::new(&mut decoder, &tokenizer, &mut sampler, "", usize::MAX)?;
        generation.by_ref().try_for_each(|piece| piece.map(drop))?;
        tokens += generation.tokens();
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Names { names, tokens, seconds, tokens_per_second: tokens as f64 / seconds })
}

/// The value below or at which the given percentage of values lies.
fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get(last * percent / 100).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Benchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        writeln!(f, "engine        {}", self.engine)?;
        writeln!(
            f,
            "machine       {}: {:.0} G 8-bit products per second",
            self.machine,
            self.byte_products_a_second / 1e9
        )?;
        writeln!(
            f,
            "stream floor  {:.4} ms to read {:.3} MB of weights",
            self.stream_floor_ms,
            mega(self.weight_bytes)
        )?;
        writeln!(f, "load          {:.1} ms to the first token", self.load_ms)?;
        let Decode { tokens_per_second, p50_ms, p90_ms, p99_ms, times_stream_floor } = &self.decode;
        writeln!(
            f,
            "decode        {tokens_per_second:.0} tokens/s, {times_stream_floor:.2} x the stream floor"
        )?;
        writeln!(f, "              {p50_ms:.4} ms (median), {p90_ms:.4} (90 %), {p99_ms:.4} (99 %)")?;
        let Batch { sequences, tokens_per_second, times_one, arithmetic_bound } = &self.batch;
        writeln!(
            f,
            "batch         {}: {tokens_per_second:.0} tokens/s, {times_one:.2} x one; the machine's \
             products would allow {arithmetic_bound:.0}",
            counted(*sequences, "sequence")
        )?;
        if let Some(Names { names, tokens, seconds, tokens_per_second }) = &self.names {
            writeln!(
                f,
                "names         {}, {}, {seconds:.2} s: {tokens_per_second:.0} tokens/s \
                 (Experiment 27, scaled, on an M4 Max's ANE: {EXPERIMENT_27})",
                counted(*names, "name"),
                counted(*tokens, "token")
            )?;
        }
        if let Some(energy) = &self.energy {
            writeln!(f, "energy        {energy}")?;
        }
        if let Some(peak) = self.peak_memory_bytes {
            writeln!(f, "memory        {:.1} MB at most", mega(peak))?;
        }
        Ok(())
    }
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
