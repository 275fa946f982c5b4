//! Speed limits of the machine: the bounds that a decoder's speed is compared with.
//!
//! A token needs every weight once, so decoding one sequence is memory-bandwidth bound: no decoder is faster
//! than the machine reads its weights. Several sequences at once share the reading, and are bounded by the
//! rate at which the machine multiplies and adds.
//!
//! ```
//! use ane_runtime::machine::Machine;
//!
//! let machine = Machine::new(2);
//! let weights = vec![1u8; 1 << 20];
//! let floor = machine.read(&weights);
//! println!("{machine}: a megabyte in {floor:?}, {:.0} G products/s", machine.byte_products() / 1e9);
//! ```

use std::fmt;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::simd::{self, Isa};
use crate::workers::Workers;

/// Below this size in bytes, waking a second thread costs more than it saves.
const ALONE: usize = 64 << 10;

/// A number of threads of this machine, with the instructions that the engine `mil-cpu` uses.
pub struct Machine {
    isa: Isa,
    workers: Workers,
}

impl Machine {
    /// Creates up to `threads` threads, and no more than the machine runs at once. The calling thread is one
    /// of them.
    pub fn new(threads: usize) -> Self {
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        Self { isa: Isa::best(), workers: Workers::new(threads.clamp(1, most)) }
    }

    /// Returns the number of threads.
    pub fn threads(&self) -> usize {
        self.workers.threads()
    }

    /// Reads all of `bytes` once, a part on each thread, and returns the time it took: the memory-bandwidth
    /// bound of a model whose weights have that size. Bytes in a cache are read faster, so read them more
    /// than once.
    pub fn read(&self, bytes: &[u8]) -> Duration {
        let (_, words, _) = bytemuck::pod_align_to::<u8, u64>(bytes);
        let threads = if bytes.len() < ALONE { 1 } else { self.threads() };
        let share = words.len().div_ceil(threads).max(1);
        let started = Instant::now();
        let sum = AtomicU64::new(0);
        self.workers.run(threads, &|thread| {
            if let Some(part) = words.chunks(share).nth(thread) {
                sum.fetch_add(simd::sum_of_words(self.isa, part), Ordering::Relaxed);
            }
        });
        black_box(sum);
        started.elapsed()
    }

    /// Returns the largest number of 8-bit products per second that all threads together can accumulate.
    ///
    /// The measurement takes some milliseconds and uses operands in registers. Weights of 8 bits need two
    /// products for each activation.
    pub fn byte_products(&self) -> f64 {
        self.rate(|times| {
            let (products, sum) = simd::byte_products(self.isa, times);
            black_box(sum);
            products
        })
    }

    /// Returns the same rate for f32 multiply-adds.
    pub fn multiply_adds(&self) -> f64 {
        self.rate(|times| {
            let mut sums = black_box([1.0; simd::LANES]);
            simd::multiply_adds(self.isa, times, black_box(0.5), &mut sums);
            black_box(sums);
            (simd::LANES * times) as u64
        })
    }

    /// Returns the best rate of several runs.
    ///
    /// It repeats until three runs are close to the best, because a run that does not get all its threads
    /// would understate the machine's speed.
    fn rate(&self, work: impl Fn(usize) -> u64 + Sync) -> f64 {
        const TIMES: usize = 50_000;
        let run = || {
            let started = Instant::now();
            let done = AtomicU64::new(0);
            self.workers.run(self.threads(), &|_| {
                done.fetch_add(work(TIMES), Ordering::Relaxed);
            });
            done.into_inner() as f64 / started.elapsed().as_secs_f64()
        };
        let mut rates = Vec::with_capacity(64);
        let near = |rates: &[f64], best: f64| rates.iter().filter(|rate| **rate > 0.97 * best).count();
        loop {
            rates.push(run());
            let best = rates.iter().copied().fold(0.0, f64::max);
            if (rates.len() >= 9 && near(&rates, best) >= 3) || rates.len() == 64 {
                return best;
            }
        }
    }
}

/// Writes the instruction set and the number of threads.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = self.threads();
        write!(f, "{}, {threads} thread{}", self.isa.name(), if threads == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_a_machine() {
        let machine = Machine::new(1);
        assert_eq!(machine.threads(), 1);
        assert!(machine.to_string().ends_with(", 1 thread"), "{machine}");
        // The slowest supported computer exceeds a million products per second, and none reaches 10^16.
        for rate in [machine.byte_products(), machine.multiply_adds()] {
            assert!((1e6..1e16).contains(&rate), "{rate}");
        }
    }

    #[test]
    fn any_number_of_bytes_can_be_read() {
        let machine = Machine::new(2);
        for len in [0, 1, 7, 8, 9, 1_000_003] {
            assert!(machine.read(&vec![1; len]) < Duration::from_secs(10));
        }
        // The sum of the words shows that all of them are read, in any split.
        let words: Vec<u64> = (0..1_001).collect();
        for isa in Isa::all() {
            assert_eq!(simd::sum_of_words(isa, &words), 1_001 * 500);
        }
    }
}
