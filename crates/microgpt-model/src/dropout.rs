//! Dropout with masks that follow from the seed and the step, so that a resumed run draws the same ones.

use burn::tensor::{Tensor, TensorData};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Sets a share of the elements to 0 and scales up the others to keep the mean.
///
/// burn's own dropout draws from one process-wide generator, whose state cannot be saved.
#[derive(Debug)]
pub(crate) struct Dropout {
    rate: f64,
    rng: ChaCha8Rng,
}

impl Dropout {
    /// Creates the dropout of one forward pass; `pass` is its index in the whole run.
    pub(crate) fn new(rate: f64, seed: u64, pass: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(pass);
        Self { rate, rng }
    }

    /// Creates a dropout that drops nothing, for use outside training.
    pub(crate) fn none() -> Self {
        Self::new(0.0, 0, 0)
    }

    /// Drops elements of `x`.
    ///
    /// # Shapes
    ///
    /// - x: `[N, C]`
    /// - output: `[N, C]`
    pub(crate) fn apply(&mut self, x: Tensor<2>) -> Tensor<2> {
        if self.rate == 0.0 {
            return x;
        }
        // 16 random bits per element resolve the rate to 1 / 65536.
        let threshold = (self.rate * 65_536.0).round() as u16;
        let kept = 65_536.0 / (65_536.0 - f32::from(threshold));
        let elements = x.shape().num_elements();
        let mut mask = Vec::with_capacity(elements + 3);
        while mask.len() < elements {
            let bits: u64 = self.rng.random();
            let draws = [0, 16, 32, 48].map(|shift| (bits >> shift) as u16);
            mask.extend(draws.map(|draw| if draw < threshold { 0.0 } else { kept }));
        }
        mask.truncate(elements);
        let mask: Tensor<2> = Tensor::from_data(TensorData::new(mask, x.dims()), &x.device());
        x * mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Backend;

    fn dropped(rate: f64, pass: u64) -> Vec<f32> {
        let ones: Tensor<2> = Tensor::ones([100, 103], &Backend::default().device());
        Dropout::new(rate, 5, pass).apply(ones).into_data().try_into_vec_as::<f32>().unwrap()
    }

    #[test]
    fn drops_the_stated_share_and_keeps_the_mean() {
        let values = dropped(0.2, 0);
        let zeros = values.iter().filter(|v| **v == 0.0).count();
        // Four standard deviations of a binomial of 10,300 with p = 0.2: 4 * sqrt(1648) = 162.
        assert!((2060 - 162..=2060 + 162).contains(&zeros), "{zeros}");
        assert!(values.iter().all(|v| *v == 0.0 || (v - 1.25).abs() < 1e-4));
        assert_eq!(dropped(0.0, 0), vec![1.0; 10_300]);
    }

    #[test]
    fn masks_follow_from_seed_and_pass() {
        assert_eq!(dropped(0.5, 7), dropped(0.5, 7));
        assert_ne!(dropped(0.5, 7), dropped(0.5, 8));
    }
}
