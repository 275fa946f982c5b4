//! Loops that measure the highest rates of the machine: products of bytes and multiply-adds of floats, both on
//! values that stay in registers, and reads of words from memory.

use super::Isa;
use super::for_each_isa::{for_each_isa, mul_add};

/// Lanes of [`multiply_adds`]: enough registers that no operation waits for the one before.
pub(crate) const LANES: usize = 128;

for_each_isa! {
    /// Returns the sum of all words, to measure how fast they are read.
    pub(crate) fn sum_of_words(words: &[u64]) -> u64 => sum_of_words_of;
    /// Multiplies and adds [`LANES`] f32 values in registers, `times` times.
    pub(crate) fn multiply_adds(times: usize, factor: f32, sums: &mut [f32; LANES]) => multiply_adds_of;
}

#[inline(always)]
fn sum_of_words_of<const FMA: bool>(words: &[u64]) -> u64 {
    // Reads from four positions at once, as a product of four rows does, because the processor then has more
    // reads in flight.
    let (ab, cd) = words.split_at(words.len() / 4 * 2);
    let (a, b) = ab.split_at(ab.len() / 2);
    let (c, d) = cd.split_at(ab.len() / 2);
    let (d, rest) = d.split_at(a.len());
    let mut sum = 0u64;
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        sum = sum.wrapping_add(a.wrapping_add(*b).wrapping_add(c.wrapping_add(*d)));
    }
    rest.iter().fold(sum, |sum, word| sum.wrapping_add(*word))
}

#[inline(always)]
fn multiply_adds_of<const FMA: bool>(times: usize, factor: f32, sums: &mut [f32; LANES]) {
    let mut lanes = *sums;
    for _ in 0..times {
        for lane in &mut lanes {
            *lane = mul_add::<FMA>(*lane, factor, factor);
        }
    }
    *sums = lanes;
}

/// Adds up products of 8-bit integers in 32 bits, `times` times over some registers.
///
/// Returns the number of products, and a sum that keeps the compiler from removing the work.
pub(crate) fn byte_products(isa: Isa, times: usize) -> (u64, i64) {
    match isa {
        // SAFETY: `Isa` values exist only for instructions that the machine has.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::avx512(times) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::avx2(times) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDot => unsafe { arm::dot(times) },
        _ => portable(times),
    }
}

/// Adds up products in a loop that the compiler vectorizes, as it does the portable kernel.
fn portable(times: usize) -> (u64, i64) {
    let weights: [i8; 32] = std::hint::black_box(std::array::from_fn(|i| i as i8));
    let mut sums = [0i32; 32];
    for k in 0..times {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum = sum.wrapping_add(i32::from(weight) * i32::from(k as i16));
        }
    }
    (32 * times as u64, sums.iter().map(|sum| i64::from(*sum)).sum())
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn avx512(times: usize) -> (u64, i64) {
        let (weights, limbs) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(5)));
        let mut sums = [_mm512_setzero_si512(); 16];
        for _ in 0..times {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, weights, limbs);
            }
        }
        let total = sums.into_iter().map(|sum| i64::from(_mm512_reduce_add_epi32(sum))).sum();
        (64 * 16 * times as u64, total)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(times: usize) -> (u64, i64) {
        let (weights, numbers) = (black_box(_mm256_set1_epi16(3)), black_box(_mm256_set1_epi16(5)));
        let mut sums = [_mm256_setzero_si256(); 8];
        for _ in 0..times {
            for sum in &mut sums {
                // The operands change, or the compiler would compute the products only once.
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_xor_si256(*sum, weights), numbers));
            }
        }
        let mut lanes = [0i32; 8];
        let total = sums.into_iter().map(|sum| {
            // SAFETY: there is room for eight values of 32 bits.
            unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
            lanes.iter().map(|lane| i64::from(*lane)).sum::<i64>()
        });
        let total = total.sum();
        (16 * 8 * times as u64, total)
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;
    use std::arch::asm;
    use std::hint::black_box;

    #[target_feature(enable = "neon,dotprod")]
    pub(super) fn dot(times: usize) -> (u64, i64) {
        let (weights, limbs) = (black_box(vdupq_n_s8(3)), black_box(vdupq_n_s8(5)));
        let mut sums = [vdupq_n_s32(0); 8];
        for _ in 0..times {
            for sum in &mut sums {
                // SAFETY: the instruction reads and writes nothing but these registers.
                unsafe {
                    asm!("sdot {sum:v}.4s, {w:v}.16b, {d:v}.16b", sum = inout(vreg) *sum, w = in(vreg) weights,
                         d = in(vreg) limbs, options(pure, nomem, nostack, preserves_flags));
                }
            }
        }
        let total = sums.into_iter().map(|sum| i64::from(vaddvq_s32(sum))).sum();
        (16 * 8 * times as u64, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All products that are counted are computed: each is 3 times 5 on instruction sets that use limbs.
    #[test]
    fn products_are_counted() {
        for isa in Isa::all() {
            let (products, sum) = byte_products(isa, 100);
            assert!(products >= 100 && products.is_multiple_of(100), "{isa:?}");
            if isa.takes_limbs() {
                assert_eq!(sum, 15 * products as i64, "{isa:?}");
            }
        }
    }
}
