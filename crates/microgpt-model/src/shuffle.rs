//! The order of examples in training.

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

/// The order of examples: every epoch visits each example once.
///
/// It follows from the seed and the index only, so a resumed run needs no further state.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    len: usize,
    /// `None`: the given order in every epoch.
    seed: Option<u64>,
    epoch: usize,
    places: Vec<usize>,
}

impl Order {
    /// Creates an order of `len` examples. The first epoch keeps the given order, because the split has
    /// already shuffled it; later epochs are shuffled by `seed`.
    pub(crate) fn new(len: usize, seed: Option<u64>) -> Self {
        Self { len, seed, epoch: 0, places: (0..len).collect() }
    }

    /// Returns the index of the run's `n`th example, from 0.
    pub(crate) fn at(&mut self, n: usize) -> usize {
        let epoch = n / self.len;
        if let Some(seed) = self.seed.filter(|_| epoch != self.epoch) {
            self.epoch = epoch;
            self.places = (0..self.len).collect();
            if epoch > 0 {
                // Each epoch has its own random stream.
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(epoch as u64);
                self.places.shuffle(&mut rng);
            }
        }
        self.places[n % self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_every_example_once_and_no_two_are_alike() {
        let mut order = Order::new(50, Some(3));
        let epochs: Vec<Vec<usize>> =
            (0..3).map(|e| (0..50).map(|i| order.at(50 * e + i)).collect()).collect();
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        }
        assert_eq!(epochs[0], (0..50).collect::<Vec<_>>());
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
    }

    #[test]
    fn any_starting_point_gives_the_same_order() {
        let mut through = Order::new(7, Some(1));
        let all: Vec<usize> = (0..40).map(|n| through.at(n)).collect();
        for n in (0..40).rev() {
            assert_eq!(Order::new(7, Some(1)).at(n), all[n]);
            assert_eq!(through.at(n), all[n], "backwards as well");
        }
    }

    #[test]
    fn without_a_seed_the_order_is_that_of_the_text() {
        let mut order = Order::new(3, None);
        assert_eq!((0..7).map(|n| order.at(n)).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 0]);
    }
}
