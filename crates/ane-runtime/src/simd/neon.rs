//! Kernels for NEON, with dot products of bytes if the machine has them.
//!
//! Rust has no stable intrinsics for the dot product and for conversions of fp16, so they are inline
//! assembly.

use std::arch::aarch64::*;
use std::arch::asm;

use super::fixed_point::Limbs;

/// Returns `sum + w . x` in four lanes of four bytes each.
#[target_feature(enable = "neon,dotprod")]
fn sdot(sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: the instruction only reads and writes registers, and the caller's machine has it.
    unsafe {
        asm!("sdot {sum:v}.4s, {w:v}.16b, {x:v}.16b", sum = inout(vreg) sum, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// Returns the exact dot products of `ROWS` rows of weights, `stride` apart, with a vector in limbs.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn products_of_limbs<const ROWS: usize>(
    weights: &[i8],
    stride: usize,
    len: usize,
    limbs: Limbs<'_>,
) -> [i32; ROWS] {
    assert!(weights.len() >= (ROWS - 1) * stride + len);
    assert!(limbs.high.len() >= len && limbs.low.len() == limbs.high.len());
    let mut high = [vdupq_n_s32(0); ROWS];
    let mut low = [vdupq_n_s32(0); ROWS];
    let whole = len / 16 * 16;
    for k in (0..whole).step_by(16) {
        // SAFETY: at least sixteen elements of each remain.
        let (h, l) = unsafe { (vld1q_s8(limbs.high.as_ptr().add(k)), vld1q_s8(limbs.low.as_ptr().add(k))) };
        for r in 0..ROWS {
            // SAFETY: as above.
            let w = unsafe { vld1q_s8(weights.as_ptr().add(r * stride + k)) };
            high[r] = sdot(high[r], w, h);
            low[r] = sdot(low[r], w, l);
        }
    }
    std::array::from_fn(|r| {
        let total = vaddvq_s32(vaddq_s32(vshlq_n_s32::<7>(high[r]), low[r]));
        (whole..len).fold(total, |total, k| {
            let number = 128 * i32::from(limbs.high[k]) + i32::from(limbs.low[k]);
            total.wrapping_add(i32::from(weights[r * stride + k]) * number)
        })
    })
}

/// Returns the exact dot products of `ROWS` rows of weights, `stride` apart, with a vector of 16-bit
/// integers.
#[target_feature(enable = "neon")]
pub(super) fn products<const ROWS: usize>(weights: &[i8], stride: usize, x: &[i16]) -> [i32; ROWS] {
    let len = x.len();
    assert!(weights.len() >= (ROWS - 1) * stride + len);
    let mut sums = [[vdupq_n_s32(0); 2]; ROWS];
    let whole = len / 16 * 16;
    for k in (0..whole).step_by(16) {
        // SAFETY: at least sixteen elements of each remain.
        let numbers = unsafe { [vld1q_s16(x.as_ptr().add(k)), vld1q_s16(x.as_ptr().add(k + 8))] };
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let w = unsafe { vld1q_s8(weights.as_ptr().add(r * stride + k)) };
            for (x, w) in numbers.into_iter().zip([vmovl_s8(vget_low_s8(w)), vmovl_high_s8(w)]) {
                sums[0] = vmlal_s16(sums[0], vget_low_s16(w), vget_low_s16(x));
                sums[1] = vmlal_high_s16(sums[1], w, x);
            }
        }
    }
    std::array::from_fn(|r| {
        let total = vaddvq_s32(vaddq_s32(sums[r][0], sums[r][1]));
        let rest = weights[r * stride + whole..r * stride + len].iter().zip(&x[whole..]);
        rest.fold(total, |total, (w, x)| total.wrapping_add(i32::from(*w) * i32::from(*x)))
    })
}

/// Returns the dot product of fp16 elements, two bytes each, with `x`.
#[target_feature(enable = "neon")]
pub(super) fn dot_halves(bytes: &[u8], x: &[f32]) -> f32 {
    assert!(bytes.len() >= 2 * x.len());
    let mut sums = [vdupq_n_f32(0.0); 2];
    let whole = x.len() / 8 * 8;
    for k in (0..whole).step_by(8) {
        // SAFETY: at least eight elements of each remain.
        let (w, x) = unsafe {
            let w = vld1q_u8(bytes.as_ptr().add(2 * k));
            (w, [vld1q_f32(x.as_ptr().add(k)), vld1q_f32(x.as_ptr().add(k + 4))])
        };
        let (low, high): (float32x4_t, float32x4_t);
        // SAFETY: the instructions only read and write registers, and every aarch64 has them.
        unsafe {
            asm!("fcvtl {low:v}.4s, {w:v}.4h", "fcvtl2 {high:v}.4s, {w:v}.8h",
                low = out(vreg) low, high = lateout(vreg) high, w = in(vreg) w,
                options(pure, nomem, nostack, preserves_flags));
        }
        sums[0] = vfmaq_f32(sums[0], low, x[0]);
        sums[1] = vfmaq_f32(sums[1], high, x[1]);
    }
    let mut rest = [0.0f32; 8];
    let rest = &mut rest[..x.len() - whole];
    super::portable::halves(&bytes[2 * whole..2 * x.len()], rest);
    vaddvq_f32(vaddq_f32(sums[0], sums[1])) + rest.iter().zip(&x[whole..]).map(|(w, x)| w * x).sum::<f32>()
}
