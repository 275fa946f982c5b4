//! Activations in fixed point.

use super::{Isa, vectors};

/// Number of elements that share a step.
pub(super) const BLOCK: usize = 1024;

/// The largest integer: 127 times 128. Its limbs to the base 128, of which the lower is from -64 to 63, fit
/// into 8 bits each.
pub(super) const LARGEST: f32 = 16_256.0;

// The sum of a block's products with weights of 8 bits fits into 32 bits, so it is exact even if a partial
// sum wraps around.
const _: () = assert!(BLOCK as i64 * 128 * LARGEST as i64 <= i32::MAX as i64);

/// The largest number of terms of a block.
pub(super) const TERMS: usize = 3;

/// An element of at least this many steps has a relative error of at most 2^-11, as in fp16: its error is at
/// most [`HALF_STEP`] steps.
const PRECISE: f32 = 1_032.0;

/// The largest error of an element, in steps: half a step, plus two roundings of f32 (2^-24 each) on up to
/// [`LARGEST`] steps.
const HALF_STEP: f32 = 0.502;

const _: () = assert!(HALF_STEP >= 0.5 + LARGEST / 8_388_608.0 && HALF_STEP * 2_048.0 <= PRECISE);

/// Vectors of bytes are padded with zeros to a multiple of this.
pub(super) const PADDING: usize = 64;

/// A vector of f32 in fixed point: each block of 1,024 elements is a sum of one to three *terms*, and a term
/// is a step times integers of up to 16,256.
///
/// The first term rounds the elements, with a step that makes the largest magnitude 16,256 steps. Its error
/// is at most 1/32,320 of the largest magnitude. That is enough for most blocks, but not for one with
/// outliers, whose other elements are only a few steps long. If fewer than half of the non-zero elements have
/// at least 1,032 steps, a second term therefore rounds the remainder of the first, in steps 32,320 times as
/// fine, and if necessary a third term rounds the remainder of the second. The remainder of a term is exact
/// in f32, and therefore the same on every machine.
///
/// # Error
///
/// Let `m` be the largest magnitude of a block and `h` the largest value that at least half of its non-zero
/// elements reach in magnitude. If `m` is less than 2^127, the error of each element is at most
/// `max(2^-11 h, 2^-44 m, 2^-126)`. (Above that, the product of a step and an integer may be infinite, and so may be every product with
/// a weight larger than 1.)
///
/// - The error of an element is at most 0.502 steps of the last term: half a step, plus the f32 rounding of
///   the product that converts an element to steps.
/// - If half of the elements reach 1,032 steps, `h` is at least 1,032 steps, and 0.502 / 1,032 is less than
///   2^-11.
/// - Otherwise there are three terms. A step is at most `(1 + 2^-9) / 16,256` of the magnitude that it
///   divides, so a term leaves at most 1 / 32,320 of what it rounds, and three terms leave at most `2^-44 m`;
///   or the step is the smallest there is, 2^-126.
///
/// The larger half of the elements is as precise as in fp16; the absolute error of the others is no larger
/// than that of the smallest element of that half. Of elements that fp16 can hold, three terms lose nothing:
/// 2^-44 of the largest fp16 value is less than 2^-4 of the smallest one.
///
/// With weights of 8 bits, the products are sums of integers that fit into 32 bits: exact, in any order. If
/// the machine multiplies bytes, an integer is split into two limbs to the base 128, and each weight is
/// loaded once for both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed<'a> {
    /// Number of elements.
    pub(super) len: usize,
    /// The steps of the terms of each block. Missing terms are last and have a step of 0.
    steps: &'a [[f32; TERMS]],
    numbers: Numbers<'a>,
}

/// The integers of all first terms, then of all second terms, then of all third terms.
#[derive(Clone, Copy, Debug)]
enum Numbers<'a> {
    /// The integers themselves.
    Whole(&'a [i16]),
    /// Their high limbs, their low limbs, and the sums of each block.
    Digits(&'a [i8], &'a [i8], &'a [[i32; 16]]),
}

/// The limbs of a block: an integer is `high * 128 + low`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digits<'a> {
    pub(super) high: &'a [i8],
    pub(super) low: &'a [i8],
    /// For each of sixteen lanes, which hold four of every 64 elements, -128 times the sum of its integers.
    /// It compensates for weights that are made unsigned by adding 128.
    #[cfg_attr(target_arch = "aarch64", expect(dead_code, reason = "its products take signed weights"))]
    pub(super) sums: &'a [i32; 16],
}

impl<'a> Fixed<'a> {
    /// Returns the steps of a block's terms, in the order in which the terms are added.
    pub(super) fn steps(&self, block: usize) -> impl Iterator<Item = f32> + use<'a> {
        // Includes the step of the first term even if it is 0, because every block has a first term.
        self.steps[block]
            .into_iter()
            .enumerate()
            .take_while(|(term, step)| *term == 0 || *step != 0.0)
            .map(|(_, step)| step)
    }

    /// Returns where the elements of a block's term start.
    fn start(&self, block: usize, term: usize) -> usize {
        term * padded(self.len) + block * BLOCK
    }

    /// Returns the limbs of a block's term.
    pub(super) fn digits(&self, block: usize, term: usize) -> Digits<'a> {
        let Numbers::Digits(high, low, sums) = self.numbers else {
            unreachable!("limbs, for an Isa that uses them");
        };
        let start = self.start(block, term);
        let range = start..start + BLOCK.min(padded(self.len) - block * BLOCK);
        Digits { high: &high[range.clone()], low: &low[range], sums: &sums[term * blocks(self.len) + block] }
    }

    /// Returns the integers of a block's term.
    pub(super) fn whole(&self, block: usize, term: usize) -> &'a [i16] {
        let Numbers::Whole(numbers) = self.numbers else {
            unreachable!("16-bit integers, for an Isa that uses them");
        };
        &numbers[self.start(block, term)..][..BLOCK.min(self.len - block * BLOCK)]
    }
}

/// Returns the step of a block with this largest magnitude, and the factor that converts its elements to
/// steps.
///
/// A step has ten significant bits, so that up to 16,256 steps are exact in f32.
#[inline(always)]
pub(super) fn step_of(largest: f32) -> (f32, f32) {
    // A NaN or an infinity makes every product of the block NaN.
    if !largest.is_finite() {
        return (f32::NAN, 0.0);
    }
    if largest == 0.0 {
        return (0.0, 0.0);
    }
    const LOWER: u32 = (1 << 14) - 1;
    // Rounded up. This cannot become infinite, even for the largest f32.
    let step = f32::from_bits((largest / LARGEST).to_bits().next_multiple_of(LOWER + 1));
    // The smallest step for which the step and its inverse are normal.
    let step = step.max(f32::MIN_POSITIVE);
    (step, 1.0 / step)
}

/// Memory for a [`Fixed`], in words.
#[derive(Debug)]
pub(crate) struct FixedBuffer<'a> {
    words: &'a mut [f32],
    len: usize,
}

fn padded(len: usize) -> usize {
    len.next_multiple_of(PADDING)
}

fn blocks(len: usize) -> usize {
    len.div_ceil(BLOCK)
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
        if isa.takes_digits() {
            let (high, low) = bytemuck::cast_slice_mut(numbers).split_at_mut(TERMS * padded(len));
            let mut terms =
                Terms { isa, len, numbers: Unfilled::Digits(high, low, bytemuck::cast_slice_mut(sums)) };
            terms.fill(x, steps);
            let Unfilled::Digits(high, low, sums) = terms.numbers else { unreachable!("as made above") };
            Fixed { len, steps, numbers: Numbers::Digits(high, low, sums) }
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
    Digits(&'a mut [i8], &'a mut [i8], &'a mut [[i32; 16]]),
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

    /// Whether `x` needs another term after one with this step; see [`Fixed`].
    fn is_coarse(&self, x: &[f32], step: f32) -> bool {
        let (precise, other_than_zero) = vectors::count(self.isa, x, PRECISE * step);
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
            Unfilled::Whole(whole) => vectors::whole(self.isa, x, &mut whole[range]),
            Unfilled::Digits(high, low, sums) => {
                let sums = &mut sums[term * blocks(self.len) + block];
                let (high, low) = (&mut high[range.clone()], &mut low[range]);
                match self.isa {
                    // SAFETY: `Isa` values exist only for instructions that the machine has.
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => unsafe { super::avx512::digits(x, high, low, sums) },
                    _ => vectors::digits(self.isa, x, high, low, sums),
                }
            }
        }
    }

    /// Subtracts a term from `left`.
    ///
    /// The result is exact. A step has ten significant bits and an integer fourteen, so their product is an
    /// f32. The remainder is a multiple of the unit in the last place of either the product or the element:
    /// less than 2^10 units of the former, or less than 2^24 of the latter, because an element that is
    /// rounded to any integer but 0 is at least half a step.
    fn subtract(&self, block: usize, term: usize, step: f32, left: &mut [f32]) {
        let start = term * padded(self.len) + block * BLOCK;
        let range = start..start + left.len();
        match &self.numbers {
            Unfilled::Whole(whole) => vectors::subtract_whole(self.isa, step, &whole[range], left),
            Unfilled::Digits(high, low, _) => {
                vectors::subtract_digits(self.isa, step, &high[range.clone()], &low[range], left);
            }
        }
    }
}

#[cfg(test)]
mod tests;
