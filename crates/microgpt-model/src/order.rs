//! Which example comes when.

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

/// The order of training: every epoch has all examples once. It follows from the seed and the number of an example alone, so
/// that a run that is resumed needs to remember nothing.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    len: usize,
    /// `None`: as they stand, again and again.
    seed: Option<u64>,
    epoch: usize,
    places: Vec<usize>,
}

impl Order {
    /// The first epoch takes the examples as they stand (the split has shuffled them), later ones are shuffled by `seed`.
    pub(crate) fn new(len: usize, seed: Option<u64>) -> Self {
        Self { len, seed, epoch: 0, places: (0..len).collect() }
    }

    /// The `n`th example of the run, from 0.
    pub(crate) fn at(&mut self, n: usize) -> usize {
        let epoch = n / self.len;
        if let Some(seed) = self.seed.filter(|_| epoch != self.epoch) {
            self.epoch = epoch;
            self.places = (0..self.len).collect();
            if epoch > 0 {
                // A stream of its own for each epoch.
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
    fn begins_anywhere_as_if_it_had_gone_there_step_by_step() {
        let mut through = Order::new(7, Some(1));
        let all: Vec<usize> = (0..40).map(|n| through.at(n)).collect();
        for n in (0..40).rev() {
            assert_eq!(Order::new(7, Some(1)).at(n), all[n]);
            assert_eq!(through.at(n), all[n], "backwards, too");
        }
    }

    #[test]
    fn without_a_seed_the_order_is_that_of_the_text() {
        let mut order = Order::new(3, None);
        assert_eq!((0..7).map(|n| order.at(n)).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 0]);
    }
}
