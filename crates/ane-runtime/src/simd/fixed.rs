//! Activations in fixed point.

use super::Isa;

/// Elements that share a scale. A row of so many products of a weight of 8 bits with a number of [`LARGEST`] fits into 32 bits:
/// 1024 * 128 * 16256 < 2^31.
pub(super) const BLOCK: usize = 1024;

/// The largest number: 127 times 128, so that its digits to the base 128, the lower one from -64 to 63, fit into 8 bits
/// each.
pub(super) const LARGEST: f32 = 16_256.0;

/// Vectors of bytes are padded with zeros to a multiple of this.
pub(super) const PADDING: usize = 64;

/// A vector of f32 in fixed point: in each block of 1,024 elements, the largest magnitude becomes 16,256, and every element the
/// nearest whole number. The error of an element is at most 1/32,512 of the block's largest magnitude.
///
/// With weights of 8 bits the products are sums of integers that fit into 32 bits: exact, in any order. Where a machine
/// multiplies bytes, a number is split into two digits to the base 128, and each weight, once loaded, meets both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed<'a> {
    /// Number of elements.
    pub(super) len: usize,
    /// What a step is worth, for each block.
    pub(super) scales: &'a [f32],
    pub(super) numbers: Numbers<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Numbers<'a> {
    /// The numbers themselves.
    Whole(&'a [i16]),
    /// Their digits, and the sums of each block.
    Digits(&'a [i8], &'a [i8], &'a [[i32; 16]]),
}

/// Digits of a block: a number is `high * 128 + low`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digits<'a> {
    pub(super) high: &'a [i8],
    pub(super) low: &'a [i8],
    /// For each sixteenth of 64 elements, -128 times the sum of its numbers: what is left over where weights are made unsigned
    /// by adding 128.
    #[cfg_attr(target_arch = "aarch64", expect(dead_code, reason = "its products take signed weights"))]
    pub(super) sums: &'a [i32; 16],
}

impl<'a> Fixed<'a> {
    /// The digits of a block.
    pub(super) fn digits(&self, block: usize) -> Option<Digits<'a>> {
        let Numbers::Digits(high, low, sums) = self.numbers else { return None };
        let range = block * BLOCK..high.len().min((block + 1) * BLOCK);
        Some(Digits { high: &high[range.clone()], low: &low[range], sums: &sums[block] })
    }
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
    /// How many words a vector of `len` elements takes.
    pub(crate) fn words(len: usize) -> usize {
        padded(len) / 2 + blocks(len) * 17
    }

    /// Memory for a vector of `len` elements: the first [`words`](Self::words) of `words`.
    pub(crate) fn new(words: &'a mut [f32], len: usize) -> Self {
        Self { words: &mut words[..Self::words(len)], len }
    }

    /// Rounds `x` into it, in the form that `isa` takes.
    pub(crate) fn round(self, isa: Isa, x: &[f32]) -> Fixed<'a> {
        assert_eq!(x.len(), self.len);
        let (numbers, rest) = self.words.split_at_mut(padded(self.len) / 2);
        let (scales, sums) = rest.split_at_mut(blocks(self.len));
        if isa.takes_digits() {
            let (high, low) = numbers.split_at_mut(padded(self.len) / 4);
            let (high, low): (&mut [i8], &mut [i8]) =
                (bytemuck::cast_slice_mut(high), bytemuck::cast_slice_mut(low));
            let sums: &mut [[i32; 16]] = bytemuck::cast_slice_mut(sums);
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => {
                    let bytes = high.chunks_mut(BLOCK).zip(low.chunks_mut(BLOCK));
                    for (((x, scale), (high, low)), sums) in
                        x.chunks(BLOCK).zip(&mut *scales).zip(bytes).zip(&mut *sums)
                    {
                        // SAFETY: an `Isa` is only had where the machine has the instructions.
                        *scale = unsafe { super::avx512::digits(x, high, low, sums) };
                    }
                }
                _ => super::vectors::digits(isa, x, scales, high, low, sums),
            }
            Fixed { len: self.len, scales, numbers: Numbers::Digits(high, low, sums) }
        } else {
            let whole: &mut [i16] = bytemuck::cast_slice_mut(numbers);
            super::vectors::whole(isa, x, scales, whole);
            Fixed { len: self.len, scales, numbers: Numbers::Whole(whole) }
        }
    }
}
