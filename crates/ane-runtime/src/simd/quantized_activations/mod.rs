//! Rounds activations to fixed point.

use super::fixed_point::{BLOCK, Fixed, Numbers, PRECISE, TERMS, blocks, padded};
use super::{Isa, rounding};

/// Memory for a [`Fixed`], in words.
#[derive(Debug)]
pub(crate) struct FixedBuffer<'a> {
    words: &'a mut [f32],
    len: usize,
}

impl<'a> FixedBuffer<'a> {
    /// Returns the number of words that a vector of `len` elements needs.
    pub(crate) fn words(len: usize) -> usize {
        TERMS * (padded(len) / 2 + blocks(len) * 17)
    }

    /// Creates memory for a vector of `len` elements from the first [`words`](Self::words) of `words`.
    pub(crate) fn new(words: &'a mut [f32], len: usize) -> Self {
        Self { words: &mut words[..Self::words(len)], len }
    }

    /// Rounds `x` into this memory, in the form that `isa` multiplies.
    pub(crate) fn round(self, isa: Isa, x: &[f32]) -> Fixed<'a> {
        let len = self.len;
        assert_eq!(x.len(), len);
        let (numbers, rest) = self.words.split_at_mut(TERMS * padded(len) / 2);
        let (steps, sums) = rest.split_at_mut(TERMS * blocks(len));
        let steps = steps.as_chunks_mut().0;
        if isa.takes_limbs() {
            let (high, low) = bytemuck::cast_slice_mut(numbers).split_at_mut(TERMS * padded(len));
            let mut terms =
                Terms { isa, len, numbers: Unfilled::Limbs(high, low, bytemuck::cast_slice_mut(sums)) };
            terms.fill(x, steps);
            let Unfilled::Limbs(high, low, sums) = terms.numbers else { unreachable!("as made above") };
            Fixed { len, steps, numbers: Numbers::Limbs(high, low, sums) }
        } else {
            let mut terms = Terms { isa, len, numbers: Unfilled::Whole(bytemuck::cast_slice_mut(numbers)) };
            terms.fill(x, steps);
            let Unfilled::Whole(whole) = terms.numbers else { unreachable!("as made above") };
            Fixed { len, steps, numbers: Numbers::Whole(whole) }
        }
    }
}

/// Integers that are being computed, laid out as in [`Numbers`].
enum Unfilled<'a> {
    Whole(&'a mut [i16]),
    Limbs(&'a mut [i8], &'a mut [i8], &'a mut [[i32; 16]]),
}

/// The terms of a vector while they are computed.
struct Terms<'a> {
    isa: Isa,
    len: usize,
    numbers: Unfilled<'a>,
}

impl Terms<'_> {
    /// Rounds each block of `x` to as many terms as it needs.
    fn fill(&mut self, x: &[f32], steps: &mut [[f32; TERMS]]) {
        for (block, (x, steps)) in x.chunks(BLOCK).zip(steps).enumerate() {
            *steps = [0.0; TERMS];
            steps[0] = self.round(block, 0, x);
            if self.is_coarse(x, steps[0]) {
                self.refine(block, x, steps);
            }
        }
    }

    /// Returns whether `x` needs another term after one with this step; see [`Fixed`].
    fn is_coarse(&self, x: &[f32], step: f32) -> bool {
        let (precise, other_than_zero) = rounding::count(self.isa, x, PRECISE * step);
        // A block that contains a NaN or an infinity needs no further terms: its result is NaN anyway.
        2 * precise < other_than_zero && !step.is_nan()
    }

    /// Computes the terms after the first one.
    #[cold]
    fn refine(&mut self, block: usize, x: &[f32], steps: &mut [f32; TERMS]) {
        let mut left = [0.0; BLOCK];
        let left = &mut left[..x.len()];
        left.copy_from_slice(x);
        for term in 1..TERMS {
            self.subtract(block, term - 1, steps[term - 1], left);
            steps[term] = self.round(block, term, left);
            if !self.is_coarse(x, steps[term]) {
                break;
            }
        }
    }

    /// Rounds `x` to integers, and returns their step.
    fn round(&mut self, block: usize, term: usize, x: &[f32]) -> f32 {
        let start = term * padded(self.len) + block * BLOCK;
        let range = start..start + padded(x.len());
        match &mut self.numbers {
            Unfilled::Whole(whole) => rounding::whole(self.isa, x, &mut whole[range]),
            Unfilled::Limbs(high, low, sums) => {
                let sums = &mut sums[term * blocks(self.len) + block];
                let (high, low) = (&mut high[range.clone()], &mut low[range]);
                match self.isa {
                    // SAFETY: `Isa` values exist only for instructions that the machine has.
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => unsafe { super::avx512::limbs(x, high, low, sums) },
                    _ => rounding::limbs(self.isa, x, high, low, sums),
                }
            }
        }
    }

    /// Subtracts a term from `left`.
    ///
    /// The result is exact. A step has ten significant bits and an integer fourteen, so their product is an
    /// f32. The remainder is a whole number of units in the last place: less than 2^10 units of the product, or
    /// less than 2^24 units of the element, because an element that is rounded to any integer but 0 is at least
    /// half a step.
    fn subtract(&self, block: usize, term: usize, step: f32, left: &mut [f32]) {
        let start = term * padded(self.len) + block * BLOCK;
        let range = start..start + left.len();
        match &self.numbers {
            Unfilled::Whole(whole) => rounding::subtract_whole(self.isa, step, &whole[range], left),
            Unfilled::Limbs(high, low, _) => {
                rounding::subtract_limbs(self.isa, step, &high[range.clone()], &low[range], left);
            }
        }
    }
}

#[cfg(test)]
mod tests;
