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
        let bad = |option, reason: String| Err(Error::Sampling { option, reason });
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return bad("temperature", format!("{temperature} is not a number of at least 0"));
        }
        if top_k == Some(0) {
            return bad("top-k", "0, expected at least 1".into());
        }
        if let Some(p) = top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            return bad("top-p", format!("{p} is not above 0 and at most 1"));
        }
        Ok(match (top_k, top_p) {
            _ if temperature == 0.0 => Self::Greedy,
            (None, None) => Self::Temperature { temperature },
            (Some(k), None) => Self::TopK { k, temperature },
            (None, Some(p)) => Self::TopP { p, temperature },
            (Some(k), Some(p)) => Self::TopKThenTopP { k, p, temperature },
        })
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
    pub fn new(sampling: Sampling, seed: u64) -> Self {
        Self { sampling, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Chooses a token. A NaN logit is never chosen if there is another logit.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
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
        candidates.truncate(k.max(1));
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

/// Returns the most likely token; of equals, the first.
pub fn argmax(logits: &[f32]) -> u32 {
    let better =
        |best: usize, i: usize| if logits[i] > logits[best] || logits[best].is_nan() { i } else { best };
    (0..logits.len()).reduce(better).unwrap_or(0) as u32
}

/// Returns unnormalized probabilities, of which the largest is 1.
fn weights(logits: &[f32], temperature: f32) -> Vec<(u32, f64)> {
    let max = logits[argmax(logits) as usize];
    let weight = |&l: &f32| {
        let w = f64::from((l - max) / temperature).exp();
        // inf - inf, or a NaN logit
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
        let mut sampler = Sampler::new(sampling, 7);
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            counts[sampler.sample(&LOGITS) as usize] += 1;
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
        assert_eq!(Sampler::new(Sampling::TopP { p: 1e-6, temperature: 1.0 }, 1).sample(&LOGITS), 3);
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
        assert_eq!(argmax(&[]), 0);
    }

    #[test]
    fn extreme_logits_do_not_panic() {
        for logits in [
            [f32::NAN; 3],
            [f32::INFINITY, f32::INFINITY, 0.0],
            [f32::NEG_INFINITY; 3],
            [f32::MAX, f32::MIN, 0.0],
        ] {
            let token = Sampler::new(Sampling::Temperature { temperature: 1e-30 }, 1).sample(&logits);
            assert!(token < 3);
        }
    }

    #[test]
    fn the_seed_decides() {
        let draw = |seed| {
            let mut sampler = Sampler::new(Sampling::Temperature { temperature: 1.0 }, seed);
            (0..32).map(|_| sampler.sample(&LOGITS)).collect::<Vec<_>>()
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
}
