//! Kernels for AVX2, FMA and F16C.

use std::arch::x86_64::*;

/// Returns the exact dot products of `ROWS` rows of weights, `stride` apart, with a vector of 16-bit
/// integers.
#[target_feature(enable = "avx2")]
pub(super) fn products<const ROWS: usize>(weights: &[i8], stride: usize, x: &[i16]) -> [i32; ROWS] {
    let len = x.len();
    assert!(weights.len() >= (ROWS - 1) * stride + len);
    let mut sums = [_mm256_setzero_si256(); ROWS];
    let whole = len / 16 * 16;
    let mut k = 0;
    while k < whole {
        // SAFETY: at least sixteen elements of each remain.
        let numbers = unsafe { _mm256_loadu_si256(x.as_ptr().add(k).cast()) };
        for (r, sum) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let w = unsafe { _mm_loadu_si128(weights.as_ptr().add(r * stride + k).cast()) };
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_cvtepi8_epi16(w), numbers));
        }
        k += 16;
    }
    // A loop: as a closure, the compiler may call it for each row.
    let mut totals = [0; ROWS];
    for (r, total) in totals.iter_mut().enumerate() {
        *total = sum_of_lanes(sums[r]);
        for (w, x) in weights[r * stride + whole..r * stride + len].iter().zip(&x[whole..]) {
            *total = total.wrapping_add(i32::from(*w) * i32::from(*x));
        }
    }
    totals
}

/// Returns the wrapping sum of eight lanes.
#[target_feature(enable = "avx2")]
#[inline]
fn sum_of_lanes(lanes: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0b00_00_11_10));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0b00_00_00_01)))
}

/// Returns the dot product of fp16 elements, two bytes each, with `x`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot_halves(bytes: &[u8], x: &[f32]) -> f32 {
    assert!(bytes.len() >= 2 * x.len());
    let mut sums = [_mm256_setzero_ps(); 4];
    let whole = x.len() / 8 * 8;
    for (chunk, k) in (0..whole).step_by(8).enumerate() {
        // SAFETY: at least eight elements of each remain.
        let (w, x) = unsafe {
            (_mm_loadu_si128(bytes.as_ptr().add(2 * k).cast()), _mm256_loadu_ps(x.as_ptr().add(k)))
        };
        sums[chunk % 4] = _mm256_fmadd_ps(_mm256_cvtph_ps(w), x, sums[chunk % 4]);
    }
    let [a, b, c, d] = sums;
    let total = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
    let mut lanes = [0.0f32; 8];
    // SAFETY: there is room for eight values of 32 bits.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), total) };
    let mut rest = [0.0f32; 8];
    let rest = &mut rest[..x.len() - whole];
    super::portable::halves(&bytes[2 * whole..2 * x.len()], rest);
    lanes.iter().sum::<f32>() + rest.iter().zip(&x[whole..]).map(|(w, x)| w * x).sum::<f32>()
}

/// Returns the dot product of table entries, which indices of a byte each name, with `x`.
#[target_feature(enable = "avx2,fma")]
pub(super) fn dot_entries(table: &[f32; 256], indices: &[u8], x: &[f32]) -> f32 {
    assert!(indices.len() >= x.len());
    let mut sums = [_mm256_setzero_ps(); 2];
    let whole = x.len() / 8 * 8;
    for (chunk, k) in (0..whole).step_by(8).enumerate() {
        // SAFETY: at least eight elements of each remain, and the table has an entry for every byte.
        let (entries, x) = unsafe {
            let indices = _mm256_cvtepu8_epi32(_mm_loadl_epi64(indices.as_ptr().add(k).cast()));
            (_mm256_i32gather_ps::<4>(table.as_ptr(), indices), _mm256_loadu_ps(x.as_ptr().add(k)))
        };
        sums[chunk % 2] = _mm256_fmadd_ps(entries, x, sums[chunk % 2]);
    }
    let mut lanes = [0.0f32; 8];
    // SAFETY: there is room for eight values of 32 bits.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), _mm256_add_ps(sums[0], sums[1])) };
    let rest = indices[whole..].iter().zip(&x[whole..]);
    lanes.iter().sum::<f32>() + rest.map(|(i, x)| table[usize::from(*i)] * x).sum::<f32>()
}
