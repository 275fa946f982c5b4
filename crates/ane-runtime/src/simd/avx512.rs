//! Kernels for AVX-512 with VNNI.

use std::arch::x86_64::*;

use smallvec::SmallVec;

use super::Fixed;
use super::fixed_point::{Limbs, step_of};

/// How far ahead weights are prefetched, in bytes.
const AHEAD: usize = 2048;

/// Rounds a block to integers of two limbs, and returns their step. `high` and `low` are padded to a multiple
/// of 64.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn limbs(x: &[f32], high: &mut [i8], low: &mut [i8], sums: &mut [i32; 16]) -> f32 {
    assert!(high.len() >= x.len() && high.len().is_multiple_of(64) && low.len() == high.len());
    let mask = |k: usize| -> __mmask16 {
        match x.len().saturating_sub(k) {
            16.. => !0,
            left => (1 << left) - 1,
        }
    };
    // SAFETY: the mask excludes elements after the end.
    let load = |k: usize| unsafe { _mm512_maskz_loadu_ps(mask(k), x.as_ptr().wrapping_add(k)) };
    let mut largest = [_mm512_setzero_ps(); 4];
    let mut nan = 0;
    for k in (0..x.len()).step_by(64) {
        for (i, largest) in largest.iter_mut().enumerate() {
            let v = load(k + 16 * i);
            nan |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            *largest = _mm512_max_ps(*largest, _mm512_abs_ps(v));
        }
    }
    let [a, b, c, d] = largest;
    let largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d)));
    let (step, factor) = step_of(if nan == 0 { largest } else { f32::NAN });

    let factor = _mm512_set1_ps(factor);
    let mut sum = _mm512_setzero_si512();
    for k in (0..high.len()).step_by(16) {
        // Rounds to the nearest integer, ties to even.
        let number = _mm512_cvtps_epi32(_mm512_mul_ps(load(k), factor));
        sum = _mm512_sub_epi32(sum, _mm512_slli_epi32(number, 7));
        let up = _mm512_add_epi32(number, _mm512_set1_epi32(64));
        let lower = _mm512_sub_epi32(_mm512_and_si512(up, _mm512_set1_epi32(127)), _mm512_set1_epi32(64));
        let upper = _mm512_srai_epi32(up, 7);
        // SAFETY: the length is a multiple of 64.
        unsafe {
            _mm_storeu_si128(high.as_mut_ptr().add(k).cast(), _mm512_cvtepi32_epi8(upper));
            _mm_storeu_si128(low.as_mut_ptr().add(k).cast(), _mm512_cvtepi32_epi8(lower));
        }
    }
    // SAFETY: there are sixteen sums.
    unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), sum) };
    step
}

/// Multiplies rows of `stride` weights, of which `len` belong to the block, with this block of each vector.
/// Adds the products to `out`, or writes them there if they are the first.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn matvec(
    weights: &[i8],
    stride: usize,
    len: usize,
    block: usize,
    x: &[Fixed<'_>],
    out: &mut [&mut [f32]],
) {
    let mut terms: SmallVec<[Term<'_>; 16]> = SmallVec::new();
    for (vector, x) in x.iter().enumerate() {
        terms.extend(x.steps(block).enumerate().map(|(term, step)| Term {
            vector,
            limbs: x.limbs(block, term),
            step,
            first: (block, term) == (0, 0),
        }));
    }
    let Some(rows) = out.first().map(|out| out.len()) else { return };
    // Takes four rows from four parts of the matrix, so that each part is read sequentially, which the
    // processor can predict.
    let quarter = rows / 4;
    for row in 0..quarter {
        let at = [row, row + quarter, row + 2 * quarter, row + 3 * quarter];
        let mut rows = [&weights[..len]; 4];
        for (row, at) in rows.iter_mut().zip(at) {
            *row = &weights[at * stride..][..len];
        }
        for terms in terms.chunks(2) {
            match terms {
                [a, b] => {
                    let [a_totals, b_totals] = products(rows, [a.limbs, b.limbs]);
                    a.add(&a_totals, &at, out);
                    b.add(&b_totals, &at, out);
                }
                [a] => {
                    let [totals] = products(rows, [a.limbs]);
                    a.add(&totals, &at, out);
                }
                _ => {}
            }
        }
    }
    for row in 4 * quarter..rows {
        for term in &terms {
            let [totals] = products([&weights[row * stride..][..len]], [term.limbs]);
            term.add(&totals, &[row], out);
        }
    }
}

/// A term of a vector's block.
struct Term<'a> {
    /// Index of the vector that the term belongs to, and of its result.
    vector: usize,
    limbs: Limbs<'a>,
    step: f32,
    /// Whether this is the first term of the vector, which replaces the previous contents of the result.
    first: bool,
}

impl Term<'_> {
    /// Adds the products with the rows `at` to the result.
    #[inline(always)]
    fn add<const ROWS: usize>(&self, totals: &[i32; ROWS], at: &[usize; ROWS], out: &mut [&mut [f32]]) {
        let out = &mut *out[self.vector];
        for (total, at) in totals.iter().zip(at) {
            let value = self.step * *total as f32;
            out[*at] = if self.first { value } else { out[*at] + value };
        }
    }
}

/// Returns the products of each vector of limbs with each row of weights.
///
/// Weights are made unsigned by flipping their highest bit, because VNNI multiplies unsigned bytes with
/// signed ones; the sums of the limbs compensate for the difference.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn products<const ROWS: usize, const VECTORS: usize>(
    rows: [&[i8]; ROWS],
    limbs: [Limbs<'_>; VECTORS],
) -> [[i32; ROWS]; VECTORS] {
    let len = rows[0].len();
    for row in rows {
        assert!(row.len() == len);
    }
    for limbs in &limbs {
        assert!(limbs.high.len() >= len.next_multiple_of(64) && limbs.low.len() == limbs.high.len());
    }
    let flip = _mm512_set1_epi8(-128);
    let mut high = [[_mm512_setzero_si512(); ROWS]; VECTORS];
    // SAFETY: there are sixteen sums.
    let mut low = limbs.map(|limbs| [unsafe { _mm512_loadu_si512(limbs.sums.as_ptr().cast()) }; ROWS]);
    let mut k = 0;
    while k < len {
        let mask: __mmask64 = if len - k >= 64 { !0 } else { (1 << (len - k)) - 1 };
        for (r, row) in rows.iter().enumerate() {
            _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().wrapping_add(k + AHEAD));
            // SAFETY: the mask excludes elements after the end of the row. These become 128 and are
            // multiplied with limbs that are zero.
            let w = unsafe { _mm512_maskz_loadu_epi8(mask, row.as_ptr().add(k)) };
            let w = _mm512_xor_si512(w, flip);
            for (v, limbs) in limbs.iter().enumerate() {
                // SAFETY: limbs are padded to a multiple of 64.
                let load = |limbs: &[i8]| unsafe { _mm512_loadu_si512(limbs.as_ptr().add(k).cast()) };
                high[v][r] = _mm512_dpbusd_epi32(high[v][r], w, load(limbs.high));
                low[v][r] = _mm512_dpbusd_epi32(low[v][r], w, load(limbs.low));
            }
        }
        k += 64;
    }
    std::array::from_fn(|v| {
        let lanes: [__m512i; ROWS] =
            std::array::from_fn(|r| _mm512_add_epi32(_mm512_slli_epi32(high[v][r], 7), low[v][r]));
        match lanes.as_slice() {
            &[a, b, c, d] => {
                let four = sum_of_four(a, b, c, d);
                std::array::from_fn(|r| four[r])
            }
            _ => lanes.map(|lanes| _mm512_reduce_add_epi32(lanes)),
        }
    })
}

/// Returns the sum of the lanes of each of four vectors.
#[target_feature(enable = "avx512f")]
#[inline]
fn sum_of_four(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> [i32; 4] {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let abcd = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let halves = _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64(abcd, 1));
    let quarter = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
    let mut out = [0; 4];
    // SAFETY: there is room for four values of 32 bits.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), quarter) };
    out
}

/// Returns the dot product of fp16 elements, two bytes each, with `x`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn dot_halves(bytes: &[u8], x: &[f32]) -> f32 {
    assert!(bytes.len() >= 2 * x.len());
    let mut sums = [_mm512_setzero_ps(); 4];
    let mut k = 0;
    let mut chunk = 0;
    while k < x.len() {
        let left = x.len() - k;
        let mask: __mmask16 = if left >= 16 { !0 } else { (1 << left) - 1 };
        // SAFETY: the mask excludes elements after the end.
        let (w, x) = unsafe {
            (
                _mm256_maskz_loadu_epi16(mask, bytes.as_ptr().add(2 * k).cast()),
                _mm512_maskz_loadu_ps(mask, x.as_ptr().add(k)),
            )
        };
        sums[chunk % 4] = _mm512_fmadd_ps(_mm512_cvtph_ps(w), x, sums[chunk % 4]);
        (k, chunk) = (k + 16, chunk + 1);
    }
    let [a, b, c, d] = sums;
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)))
}

/// A table of up to 256 fp16 entries in registers.
pub(super) struct Table([__m512i; 8]);

impl Table {
    /// Loads the entries, given as bits of fp16. Missing entries are never looked up.
    #[target_feature(enable = "avx512f")]
    pub(super) fn new(entries: &[u16]) -> Self {
        let mut padded = [0u16; 256];
        padded[..entries.len()].copy_from_slice(entries);
        // SAFETY: there are 32 entries of 16 bits for each vector.
        Self(std::array::from_fn(|i| unsafe { _mm512_loadu_si512(padded.as_ptr().add(32 * i).cast()) }))
    }

    /// Looks up the entries that 32 indices of 16 bits name.
    #[target_feature(enable = "avx512f,avx512bw")]
    fn look_up<const BITS: usize>(&self, indices: __m512i) -> __m512i {
        let [a, b, c, d, e, f, g, h] = self.0;
        match BITS {
            4 => _mm512_permutexvar_epi16(indices, a),
            6 => _mm512_permutex2var_epi16(a, indices, b),
            _ => {
                let sixth = _mm512_test_epi16_mask(indices, _mm512_set1_epi16(64));
                let seventh = _mm512_test_epi16_mask(indices, _mm512_set1_epi16(128));
                let low = _mm512_mask_blend_epi16(
                    sixth,
                    _mm512_permutex2var_epi16(a, indices, b),
                    _mm512_permutex2var_epi16(c, indices, d),
                );
                let high = _mm512_mask_blend_epi16(
                    sixth,
                    _mm512_permutex2var_epi16(e, indices, f),
                    _mm512_permutex2var_epi16(g, indices, h),
                );
                _mm512_mask_blend_epi16(seventh, low, high)
            }
        }
    }
}

/// Expands up to 32 indices of `BITS` bits to 16 bits each. `bytes` holds `left` indices.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn indices<const BITS: usize>(bytes: &[u8], left: usize) -> __m512i {
    let count = (left.min(32) * BITS).div_ceil(8);
    let mask: __mmask32 = if count >= 32 { !0 } else { (1 << count) - 1 };
    assert!(bytes.len() >= count);
    // SAFETY: the mask excludes elements after the end.
    let bytes = unsafe { _mm256_maskz_loadu_epi8(mask, bytes.as_ptr().cast()) };
    match BITS {
        // A byte becomes two indices of 16 bits: its lower half the lower one, its upper half the upper one.
        4 => {
            let wide = _mm512_cvtepu8_epi32(_mm256_castsi256_si128(bytes));
            let lower = _mm512_and_si512(wide, _mm512_set1_epi32(0x0f));
            let upper = _mm512_and_si512(_mm512_slli_epi32(wide, 12), _mm512_set1_epi32(0x0f_0000));
            _mm512_or_si512(lower, upper)
        }
        // A pair of indices has 12 bits: pair j starts at bit 12 j. The 16-bit words that hold the pairs are
        // put side by side and shifted, by 0, 12, 8 and 4 in turn.
        6 => {
            const WORDS: [i16; 32] = {
                let mut words = [0; 32];
                let mut j = 0;
                while j < 16 {
                    words[2 * j] = (12 * j / 16) as i16;
                    words[2 * j + 1] = (12 * j / 16) as i16 + 1;
                    j += 1;
                }
                words
            };
            // SAFETY: there are 32 words.
            let words = unsafe { _mm512_loadu_si512(WORDS.as_ptr().cast()) };
            let pairs = _mm512_permutexvar_epi16(words, _mm512_castsi256_si512(bytes));
            let pairs = _mm512_srlv_epi32(pairs, _mm512_set4_epi32(4, 8, 12, 0));
            let lower = _mm512_and_si512(pairs, _mm512_set1_epi32(0x3f));
            let upper = _mm512_and_si512(_mm512_slli_epi32(pairs, 10), _mm512_set1_epi32(0x3f_0000));
            _mm512_or_si512(lower, upper)
        }
        _ => _mm512_cvtepu8_epi16(bytes),
    }
}

/// Returns the dot product of table entries, which indices of `BITS` bits name, with `x`. The first index
/// starts at a byte boundary.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn dot_table<const BITS: usize>(table: &Table, bytes: &[u8], x: &[f32]) -> f32 {
    let mut sums = [_mm512_setzero_ps(); 2];
    let mut k = 0;
    while k < x.len() {
        let left = x.len() - k;
        let entries = table.look_up::<BITS>(indices::<BITS>(&bytes[k * BITS / 8..], left));
        for (i, sum) in sums.iter_mut().enumerate() {
            let left = left.saturating_sub(16 * i);
            let mask: __mmask16 = if left >= 16 { !0 } else { (1 << left) - 1 };
            let half =
                if i == 0 { _mm512_castsi512_si256(entries) } else { _mm512_extracti64x4_epi64(entries, 1) };
            // SAFETY: the mask excludes elements after the end.
            let x = unsafe { _mm512_maskz_loadu_ps(mask, x.as_ptr().wrapping_add(k + 16 * i)) };
            *sum = _mm512_fmadd_ps(_mm512_cvtph_ps(half), x, *sum);
        }
        k += 32;
    }
    _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]))
}
