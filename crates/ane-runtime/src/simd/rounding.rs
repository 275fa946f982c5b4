//! Rounding of vectors to fixed point.

use super::Isa;
use super::fixed_point::{BLOCK, step_of};
use super::for_each_isa::for_each_isa;

for_each_isa! {
    /// Rounds a block to integers of two limbs, and returns their step; see [`Fixed`](super::Fixed).
    pub(super) fn limbs(x: &[f32], high: &mut [i8], low: &mut [i8], sums: &mut [i32; 16]) -> f32 => limbs_of;
    /// Rounds a block to integers of 16 bits, and returns their step.
    pub(super) fn whole(x: &[f32], numbers: &mut [i16]) -> f32 => whole_of;
    /// Subtracts `step * number` from each element of `left`.
    pub(super) fn subtract_whole(step: f32, numbers: &[i16], left: &mut [f32]) => subtract_whole_of;
    /// Subtracts `step * number` from each element of `left`, for integers of two limbs.
    pub(super) fn subtract_limbs(step: f32, high: &[i8], low: &[i8], left: &mut [f32]) => subtract_limbs_of;
    /// Returns how many elements have a magnitude of at least `least`, and how many are not zero.
    pub(super) fn count(x: &[f32], least: f32) -> (u32, u32) => count_of;
}

#[inline(always)]
fn largest_of<const FMA: bool>(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            // Written so that a NaN is selected and kept: no value compares as larger than it.
            let v = v.abs();
            *lane = if v > *lane || v.is_nan() { v } else { *lane };
        }
    }
    rest.iter()
        .map(|v| v.abs())
        .chain(lanes)
        .fold(0.0, |largest, v| if largest >= v || largest.is_nan() { largest } else { v })
}

#[inline(always)]
fn whole_of<const FMA: bool>(x: &[f32], numbers: &mut [i16]) -> f32 {
    let (step, factor) = step_of(largest_of::<false>(x));
    for (number, x) in numbers.iter_mut().zip(x) {
        *number = (x * factor).round_ties_even() as i32 as i16;
    }
    numbers[x.len()..].fill(0);
    step
}

#[inline(always)]
fn limbs_of<const FMA: bool>(x: &[f32], high: &mut [i8], low: &mut [i8], sums: &mut [i32; 16]) -> f32 {
    let (step, factor) = step_of(largest_of::<false>(x));
    let mut numbers = [0i32; BLOCK];
    for (number, x) in numbers.iter_mut().zip(x) {
        *number = (x * factor).round_ties_even() as i32;
    }
    for ((number, high), low) in numbers.iter().zip(high.iter_mut()).zip(low.iter_mut()) {
        *high = ((number + 64) >> 7) as i8;
        *low = (((number + 64) & 127) - 64) as i8;
    }
    *sums = [0; 16];
    for chunk in numbers.as_chunks::<64>().0.iter().take(high.len() / 64) {
        for (sum, four) in sums.iter_mut().zip(chunk.as_chunks::<4>().0) {
            *sum -= 128 * four.iter().sum::<i32>();
        }
    }
    step
}

#[inline(always)]
fn subtract_whole_of<const FMA: bool>(step: f32, numbers: &[i16], left: &mut [f32]) {
    for (left, number) in left.iter_mut().zip(numbers) {
        *left -= step * f32::from(*number);
    }
}

#[inline(always)]
fn subtract_limbs_of<const FMA: bool>(step: f32, high: &[i8], low: &[i8], left: &mut [f32]) {
    for ((left, high), low) in left.iter_mut().zip(high).zip(low) {
        *left -= step * (128 * i32::from(*high) + i32::from(*low)) as f32;
    }
}

#[inline(always)]
fn count_of<const FMA: bool>(x: &[f32], least: f32) -> (u32, u32) {
    let (mut reach, mut other_than_zero) = (0, 0);
    for x in x {
        reach += u32::from(x.abs() >= least);
        other_than_zero += u32::from(*x != 0.0);
    }
    (reach, other_than_zero)
}
