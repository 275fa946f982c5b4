//! Vectors in fixed point: their layout, their steps and their error.

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
pub(super) const PRECISE: f32 = 1_032.0;

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
/// `max(2^-11 h, 2^-44 m, 2^-126)`. For a larger `m`, the product of a step and an integer may be infinite, and
/// so may every product with a weight larger than 1.
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
    pub(super) steps: &'a [[f32; TERMS]],
    pub(super) numbers: Numbers<'a>,
}

/// The integers of all first terms, then of all second terms, then of all third terms.
#[derive(Clone, Copy, Debug)]
pub(super) enum Numbers<'a> {
    /// The integers themselves.
    Whole(&'a [i16]),
    /// Their high limbs, their low limbs, and the sums of each block.
    Limbs(&'a [i8], &'a [i8], &'a [[i32; 16]]),
}

/// The limbs of a block: an integer is `high * 128 + low`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limbs<'a> {
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
    pub(super) fn limbs(&self, block: usize, term: usize) -> Limbs<'a> {
        let Numbers::Limbs(high, low, sums) = self.numbers else {
            unreachable!("limbs, for an Isa that uses them");
        };
        let start = self.start(block, term);
        let range = start..start + BLOCK.min(padded(self.len) - block * BLOCK);
        Limbs { high: &high[range.clone()], low: &low[range], sums: &sums[term * blocks(self.len) + block] }
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

/// Returns the number of elements that a term of `len` elements takes.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(PADDING)
}

/// Returns the number of blocks of a vector of `len` elements.
pub(super) fn blocks(len: usize) -> usize {
    len.div_ceil(BLOCK)
}
