//! Sampling: from logits to a token.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};

/// How a token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Sampling {
    /// The most likely token; of equals, the first.
    Greedy,
    /// A token drawn from `softmax(logits / temperature)`.
    Temperature {
        /// Above 0. Values below 1 sharpen the distribution, values above 1 flatten it.
        temperature: f32,
    },
    /// A token drawn from the `k` most likely.
    TopK {
        /// At least 1.
        k: usize,
        /// As for `Temperature`.
        temperature: f32,
    },
    /// A token drawn from the smallest set of most likely tokens with a total probability of at least `p`.
    TopP {
        /// In `(0, 1]`.
        p: f32,
        /// As for `Temperature`.
        temperature: f32,
    },
    /// First `TopK`, then `TopP` of the remaining tokens.
    TopKThenTopP {
        /// At least 1.
        k: usize,
        /// In `(0, 1]`.
        p: f32,
        /// As for `Temperature`.
        temperature: f32,
    },
}

impl Sampling {
    /// Returns the strategy for a user's options. Temperature 0 means greedy.
    ///
    /// # Errors
    ///
    /// [`Error::Sampling`] for a value out of range.
    pub fn from_options(temperature: f32, top_k: Option<usize>, top_p: Option<f32>) -> Result<Self> {
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return Err(bad("temperature", format!("{temperature} is not a number of at least 0")));
        }
        check_top(top_k, top_p)?;
        Ok(match (top_k, top_p) {
            _ if temperature == 0.0 => Self::Greedy,
            (None, None) => Self::Temperature { temperature },
            (Some(k), None) => Self::TopK { k, temperature },
            (None, Some(p)) => Self::TopP { p, temperature },
            (Some(k), Some(p)) => Self::TopKThenTopP { k, p, temperature },
        })
    }

    /// Returns the options that this strategy stands for, as [`from_options`](Self::from_options) takes them.
    pub(crate) fn options(self) -> (f32, Option<usize>, Option<f32>) {
        match self {
            Self::Greedy => (0.0, None, None),
            Self::Temperature { temperature } => (temperature, None, None),
            Self::TopK { k, temperature } => (temperature, Some(k), None),
            Self::TopP { p, temperature } => (temperature, None, Some(p)),
            Self::TopKThenTopP { k, p, temperature } => (temperature, Some(k), Some(p)),
        }
    }

    fn check(self) -> Result<()> {
        let (temperature, top_k, top_p) = self.options();
        if self != Self::Greedy && !(temperature > 0.0 && temperature.is_finite()) {
            return Err(bad(
                "temperature",
                format!(
                    "{temperature} is not a number above 0: for the most likely token, use greedy sampling"
                ),
            ));
        }
        check_top(top_k, top_p)
    }
}

fn bad(option: &'static str, reason: String) -> Error {
    Error::Sampling { option, reason }
}

fn check_top(top_k: Option<usize>, top_p: Option<f32>) -> Result<()> {
    if top_k == Some(0) {
        return Err(bad("top-k", "0, expected at least 1".into()));
    }
    match top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
        Some(p) => Err(bad("top-p", format!("{p} is not above 0 and at most 1"))),
        None => Ok(()),
    }
}

/// A sampling strategy with its random number generator.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// Creates a sampler. The same strategy and seed choose the same tokens on every machine.
    ///
    /// # Errors
    ///
    /// [`Error::Sampling`] for a value out of range.
    pub fn new(sampling: Sampling, seed: u64) -> Result<Self> {
        sampling.check()?;
        Ok(Self { sampling, rng: ChaCha8Rng::seed_from_u64(seed) })
    }

    /// Returns the strategy.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// Changes the strategy and goes on with the same random numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Sampling`] for a value out of range. The strategy is then unchanged.
    pub fn set_sampling(&mut self, sampling: Sampling) -> Result<()> {
        sampling.check()?;
        self.sampling = sampling;
        Ok(())
    }

    /// Chooses a token.
    ///
    /// # Errors
    ///
    /// [`Error::Sampling`] if there are no logits, or if one is NaN.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        match fault(logits) {
            Some(reason) => Err(bad("logits", reason)),
            None => Ok(self.choose(logits)),
        }
    }

    /// Chooses a token by logits that have no [`fault`].
    pub(crate) fn choose(&mut self, logits: &[f32]) -> u32 {
        let (k, p, temperature) = match self.sampling {
            Sampling::Greedy => return argmax(logits),
            Sampling::Temperature { temperature } => (logits.len(), 1.0, temperature),
            Sampling::TopK { k, temperature } => (k, 1.0, temperature),
            Sampling::TopP { p, temperature } => (logits.len(), p, temperature),
            Sampling::TopKThenTopP { k, p, temperature } => (k, p, temperature),
        };
        let mut candidates: Vec<(u32, f64)> = weights(logits, temperature);
        // Most likely first; of equals, the lower id first, so the order does not depend on the sorting
        // algorithm.
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        candidates.truncate(k);
        if p < 1.0 {
            let enough = f64::from(p) * candidates.iter().map(|c| c.1).sum::<f64>();
            let mut so_far = 0.0;
            let keep = candidates.iter().position(|c| {
                so_far += c.1;
                so_far >= enough
            });
            candidates.truncate(keep.map_or(candidates.len(), |i| i + 1));
        }
        let mut left = self.rng.random::<f64>() * candidates.iter().map(|c| c.1).sum::<f64>();
        for &(token, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return token;
            }
        }
        candidates[0].0
    }
}

/// Returns why no token can be chosen by these logits.
pub(crate) fn fault(logits: &[f32]) -> Option<String> {
    if logits.is_empty() {
        return Some("there are none, expected one for each token".into());
    }
    // Counting takes vector instructions, which a search for the first does not.
    let count = logits.iter().filter(|logit| logit.is_nan()).count();
    if count == 0 {
        return None;
    }
    let token = logits.iter().position(|logit| logit.is_nan())?;
    Some(format!(
        "{count} of {} are NaN, the first is that of token {token}: watch the model for hazards to find the operation \
         that produced it",
        logits.len()
    ))
}

/// Returns the most likely token; of equals, the first. A NaN logit counts as less than any other. Returns 0 if
/// there are no logits.
pub fn argmax(logits: &[f32]) -> u32 {
    let better = |best: usize, i: usize| {
        let is_better = logits[i] > logits[best] || (logits[best].is_nan() && !logits[i].is_nan());
        if is_better { i } else { best }
    };
    (0..logits.len()).reduce(better).unwrap_or(0) as u32
}

/// Returns unnormalized probabilities, of which the largest is 1.
fn weights(logits: &[f32], temperature: f32) -> Vec<(u32, f64)> {
    let max = logits[argmax(logits) as usize];
    let weight = |&l: &f32| {
        let w = f64::from((l - max) / temperature).exp();
        // inf - inf
        if w.is_nan() { f64::from(u8::from(l == max)) } else { w }
    };
    logits.iter().enumerate().map(|(i, l)| (i as u32, weight(l))).collect()
}

#[cfg(test)]
mod tests {
    use std::f32::consts::LN_2;

    use super::*;

    /// ln of 1, 2, 3, 4: probabilities 0.1, 0.2, 0.3, 0.4.
    const LOGITS: [f32; 4] = [0.0, LN_2, 1.098_612_3, 2.0 * LN_2];

    fn counts(sampling: Sampling) -> [usize; 4] {
        let mut sampler = Sampler::new(sampling, 7).unwrap();
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            counts[sampler.sample(&LOGITS).unwrap() as usize] += 1;
        }
        counts
    }

    /// Returns whether `count` is within four standard deviations of a binomial with probability `p` over
    /// 10,000 draws.
    fn near(count: usize, p: f64) -> bool {
        (count as f64 - 10_000.0 * p).abs() <= 4.0 * (10_000.0 * p * (1.0 - p)).sqrt()
    }

    #[test]
    fn temperature_one_draws_from_the_distribution() {
        let counts = counts(Sampling::Temperature { temperature: 1.0 });
        for (count, p) in counts.into_iter().zip([0.1, 0.2, 0.3, 0.4]) {
            assert!(near(count, p), "{counts:?}");
        }
    }

    #[test]
    fn temperature_one_half_squares_the_probabilities() {
        let counts = counts(Sampling::Temperature { temperature: 0.5 });
        for (count, w) in counts.into_iter().zip([1.0, 4.0, 9.0, 16.0]) {
            assert!(near(count, w / 30.0), "{counts:?}");
        }
    }

    #[test]
    fn top_k_leaves_k() {
        let counts = counts(Sampling::TopK { k: 2, temperature: 1.0 });
        assert_eq!(counts[..2], [0, 0]);
        assert!(near(counts[2], 3.0 / 7.0), "{counts:?}");
    }

    #[test]
    fn top_p_leaves_the_fewest_that_reach_p() {
        // 0.4 is less than 0.6, but 0.4 + 0.3 is not.
        let counts = counts(Sampling::TopP { p: 0.6, temperature: 1.0 });
        assert_eq!(counts[..2], [0, 0]);
        assert!(near(counts[2], 3.0 / 7.0), "{counts:?}");
        let mut sampler = Sampler::new(Sampling::TopP { p: 1e-6, temperature: 1.0 }, 1).unwrap();
        assert_eq!(sampler.sample(&LOGITS).unwrap(), 3);
    }

    #[test]
    fn top_k_then_top_p() {
        // The three most likely have 4/9, 3/9 and 2/9 of the remaining probability, and 7/9 reaches p = 0.75.
        // Without top-k, or with top-p first, 0.4 + 0.3 would not reach it; without top-p, three would remain.
        let counts = counts(Sampling::TopKThenTopP { k: 3, p: 0.75, temperature: 1.0 });
        assert_eq!(counts[..2], [0, 0]);
        assert!(near(counts[2], 3.0 / 7.0), "{counts:?}");
    }

    #[test]
    fn greedy_takes_the_first_of_equals_and_never_nan() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(argmax(&[f32::NAN, 1.0, f32::NAN]), 1);
        assert_eq!(argmax(&[f32::NEG_INFINITY; 3]), 0);
        assert_eq!(argmax(&[f32::NAN; 3]), 0);
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY]), 1);
        assert_eq!(argmax(&[]), 0);
    }

    #[test]
    fn extreme_logits_do_not_panic() {
        for logits in [[f32::INFINITY, f32::INFINITY, 0.0], [f32::NEG_INFINITY; 3], [f32::MAX, f32::MIN, 0.0]]
        {
            let mut sampler = Sampler::new(Sampling::Temperature { temperature: 1e-30 }, 1).unwrap();
            assert!(sampler.sample(&logits).unwrap() < 3);
        }
    }

    #[test]
    fn logits_that_choose_nothing_are_refused() {
        for sampling in [Sampling::Greedy, Sampling::Temperature { temperature: 1.0 }] {
            let mut sampler = Sampler::new(sampling, 1).unwrap();
            let error = sampler.sample(&[]).unwrap_err().to_string();
            assert_eq!(error, "logits: there are none, expected one for each token");
            let error = sampler.sample(&[1.0, f32::NAN, 0.0, f32::NAN]).unwrap_err().to_string();
            assert_eq!(
                error,
                "logits: 2 of 4 are NaN, the first is that of token 1: watch the model for hazards to find the \
                 operation that produced it"
            );
        }
    }

    #[test]
    fn the_seed_decides() {
        let draw = |seed| {
            let mut sampler = Sampler::new(Sampling::Temperature { temperature: 1.0 }, seed).unwrap();
            (0..32).map(|_| sampler.sample(&LOGITS).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn options_outside_of_their_range_are_named() {
        assert_eq!(Sampling::from_options(0.0, Some(3), None).unwrap(), Sampling::Greedy);
        for (t, k, p, option) in [
            (-1.0, None, None, "temperature"),
            (f32::NAN, None, None, "temperature"),
            (1.0, Some(0), None, "top-k"),
            (1.0, None, Some(0.0), "top-p"),
            (1.0, None, Some(1.5), "top-p"),
        ] {
            assert!(Sampling::from_options(t, k, p).unwrap_err().to_string().starts_with(option));
        }
    }

    #[test]
    fn strategies_outside_of_their_range_are_named() {
        let mut sampler = Sampler::new(Sampling::Greedy, 0).unwrap();
        for (sampling, expected) in [
            (
                Sampling::Temperature { temperature: -1.0 },
                "temperature: -1 is not a number above 0: for the most likely token, use greedy sampling",
            ),
            (
                Sampling::TopK { k: 3, temperature: f32::NAN },
                "temperature: NaN is not a number above 0: for the most likely token, use greedy sampling",
            ),
            (
                Sampling::TopP { p: 0.5, temperature: 0.0 },
                "temperature: 0 is not a number above 0: for the most likely token, use greedy sampling",
            ),
            (Sampling::TopK { k: 0, temperature: 1.0 }, "top-k: 0, expected at least 1"),
            (Sampling::TopP { p: f32::NAN, temperature: 1.0 }, "top-p: NaN is not above 0 and at most 1"),
            (
                Sampling::TopKThenTopP { k: 1, p: -1.0, temperature: 1.0 },
                "top-p: -1 is not above 0 and at most 1",
            ),
        ] {
            assert_eq!(Sampler::new(sampling, 0).unwrap_err().to_string(), expected);
            assert_eq!(sampler.set_sampling(sampling).unwrap_err().to_string(), expected);
        }
        assert_eq!(sampler.sampling(), Sampling::Greedy);
    }

    /// A new strategy draws with the numbers that the old one would have drawn with.
    #[test]
    fn another_strategy_keeps_the_random_numbers() {
        let one = Sampling::Temperature { temperature: 1.0 };
        let mut kept = Sampler::new(one, 5).unwrap();
        let mut changed = Sampler::new(Sampling::Temperature { temperature: 0.5 }, 5).unwrap();
        for sampler in [&mut kept, &mut changed] {
            for _ in 0..10 {
                sampler.sample(&LOGITS).unwrap();
            }
        }
        changed.set_sampling(one).unwrap();
        let draw =
            |sampler: &mut Sampler| (0..32).map(|_| sampler.sample(&LOGITS).unwrap()).collect::<Vec<_>>();
        assert_eq!(draw(&mut changed), draw(&mut kept));
    }
}
