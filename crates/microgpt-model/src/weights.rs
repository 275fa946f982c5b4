//! The parameters of a model, in memory.

use std::collections::BTreeMap;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Normal};

use crate::config::GptConfig;

/// Standard deviation of all initial weights in microGPT's final revision.
pub const INIT_STD: f32 = 0.08;

/// GPT-2's standard deviation, for wide models: at 512 dimensions, 0.08 starts at a loss of 37.6, where a
/// uniform guess costs ln 27 = 3.3.
pub const WIDE_INIT_STD: f32 = 0.02;

/// Every parameter of a model, by the names of [`GptConfig::tensors`], `[out, in]` row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    tensors: BTreeMap<String, Vec<f32>>,
}

impl Weights {
    /// Draws every weight from N(0, `std`). The values depend only on the seed, not on the backend or the
    /// machine.
    ///
    /// # Panics
    ///
    /// If `std` is negative or not finite.
    pub fn random(config: &GptConfig, std: f32, seed: u64) -> Self {
        assert!(std >= 0.0, "the standard deviation is {std}, expected 0 or more");
        let normal = Normal::new(0.0f32, std).expect("a finite standard deviation");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self::from_fn(config, |_, elements| normal.sample_iter(&mut rng).take(elements).collect())
    }

    /// Creates every tensor of `config` from its name and number of elements, in the order of
    /// [`GptConfig::tensors`].
    pub fn from_fn(config: &GptConfig, mut make: impl FnMut(&str, usize) -> Vec<f32>) -> Self {
        let tensors = config.tensors().into_iter().map(|t| {
            let values = make(&t.name, t.shape[0] * t.shape[1]);
            (t.name, values)
        });
        Self { tensors: tensors.collect() }
    }

    /// Returns the elements of a tensor.
    ///
    /// # Panics
    ///
    /// If the model has no such tensor; the names are those of [`GptConfig::tensors`].
    pub fn get(&self, name: &str) -> &[f32] {
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name} in a microGPT"))
    }

    /// Returns the elements of a tensor, if there is one of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&[f32]> {
        self.tensors.get(name).map(Vec::as_slice)
    }

    /// Returns all tensors, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.tensors.iter().map(|(name, values)| (name.as_str(), values.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Preset;

    #[test]
    fn initial_weights_have_the_stated_deviation_and_repeat() {
        let config = GptConfig::preset(Preset::Original, 27);
        let weights = Weights::random(&config, INIT_STD, 1);
        assert_eq!(weights, Weights::random(&config, INIT_STD, 1));
        assert_ne!(weights, Weights::random(&config, INIT_STD, 2));
        let all: Vec<f32> = weights.iter().flat_map(|(_, v)| v.iter().copied()).collect();
        assert_eq!(all.len(), 4_192);
        let mean = all.iter().sum::<f32>() / all.len() as f32;
        let std = (all.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / all.len() as f32).sqrt();
        // Four standard errors of each: 0.08 / sqrt(4192) = 0.00124 and 0.08 / sqrt(2 * 4192) = 0.00087.
        assert!(mean.abs() < 0.005 && (std - INIT_STD).abs() < 0.0035, "mean {mean}, std {std}");
    }

    #[test]
    #[should_panic(expected = "the standard deviation is -1, expected 0 or more")]
    fn a_negative_deviation_is_refused() {
        Weights::random(&GptConfig::preset(Preset::Original, 27), -1.0, 1);
    }
}
