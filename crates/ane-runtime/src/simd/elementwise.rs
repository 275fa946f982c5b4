//! Loops over vectors, compiled once for each instruction set and vectorized by the compiler.

use super::Isa;
use super::fixed_point::{BLOCK, step_of};

/// Lanes of [`multiply_adds`]: enough registers that no operation waits for the one before.
pub(crate) const LANES: usize = 128;

/// Compiles the function after `=>`, which must be inlined, for each instruction set. Its const parameter
/// states whether there is an instruction for a fused multiply-add, without which [`f32::mul_add`] is a slow
/// function.
macro_rules! for_each_isa {
    ($($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? => $inner:ident;)+) => {$(
        $(#[$doc])*
        $vis fn $name(isa: Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                $inner::<true>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                $inner::<true>($($arg),*)
            }
            match isa {
                // SAFETY: `Isa` values exist only for instructions that the machine has.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { avx2($($arg),*) },
                // NEON, which every aarch64 has, includes a fused multiply-add; x86-64 without AVX2 may not.
                _ => $inner::<{ cfg!(target_arch = "aarch64") }>($($arg),*),
            }
        }
    )+};
}

for_each_isa! {
    /// Rounds a block to integers of two limbs, and returns their step; see [`Fixed`](super::Fixed).
    pub(super) fn limbs(x: &[f32], high: &mut [i8], low: &mut [i8], sums: &mut [i32; 16]) -> f32 => limbs_of;
    /// Rounds a block to integers of 16 bits, and returns their step.
    pub(super) fn whole(x: &[f32], numbers: &mut [i16]) -> f32 => whole_of;
    /// Subtracts `step * number` from each element of `left`.
    pub(super) fn subtract_whole(step: f32, numbers: &[i16], left: &mut [f32]) => subtract_whole_of;
    /// The same for integers of two limbs.
    pub(super) fn subtract_limbs(step: f32, high: &[i8], low: &[i8], left: &mut [f32]) => subtract_limbs_of;
    /// Returns how many elements have a magnitude of at least `least`, and how many are not zero.
    pub(super) fn count(x: &[f32], least: f32) -> (u32, u32) => count_of;
    /// Returns the dot product of two vectors.
    pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 => dot_of;
    /// Multiplies rows that are stored [side by side](super::Matrix::Interleaved) with `x`.
    pub(super) fn interleaved(groups: &[[f32; 16]], x: &[f32], out: &mut [f32]) => interleaved_of;
    /// Computes attention of one query over a cache: the sum of the values, weighted by
    /// `softmax(scale * keys query + mask)`. A key or value is as long as the query, and there is one of each
    /// for every score.
    pub(crate) fn attend(
        cache: Cache<'_>,
        scale: f32,
        mask: Option<&[f32]>,
        scores: &mut [f32],
        out: &mut [f32],
    ) => attend_of;
    /// Returns the sum of all words, to measure how fast they are read.
    pub(crate) fn sum_of_words(words: &[u64]) -> u64 => sum_of_words_of;
    /// Multiplies and adds [`LANES`] f32 values in registers, `times` times.
    pub(crate) fn multiply_adds(times: usize, factor: f32, sums: &mut [f32; LANES]) => multiply_adds_of;
    /// Computes `x / sqrt(mean(x^2) + epsilon)`, and returns the sum of the squares.
    pub(crate) fn rms_norm(x: &[f32], epsilon: f32, out: &mut [f32]) -> f32 => rms_norm_of;
    /// Computes `exp(x - max(x)) / sum`, in place.
    #[cfg(test)]
    fn softmax(x: &mut [f32]) => softmax_of;
}

/// Returns `x * y + z`.
#[inline(always)]
fn mul_add<const FMA: bool>(x: f32, y: f32, z: f32) -> f32 {
    if FMA { x.mul_add(y, z) } else { x * y + z }
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

#[inline(always)]
fn dot_of<const FMA: bool>(x: &[f32], y: &[f32]) -> f32 {
    assert_eq!(x.len(), y.len(), "vectors of one length");
    let mut lanes = [[0.0f32; 16]; 4];
    let (xs, x_rest) = x.as_chunks::<64>();
    let (ys, y_rest) = y.as_chunks::<64>();
    for (x, y) in xs.iter().zip(ys) {
        for ((lanes, x), y) in lanes.iter_mut().zip(x.as_chunks::<16>().0).zip(y.as_chunks::<16>().0) {
            for i in 0..16 {
                lanes[i] = mul_add::<FMA>(x[i], y[i], lanes[i]);
            }
        }
    }
    let (xs, x_rest) = x_rest.as_chunks::<16>();
    let (ys, y_rest) = y_rest.as_chunks::<16>();
    for (x, y) in xs.iter().zip(ys) {
        for i in 0..16 {
            lanes[0][i] = mul_add::<FMA>(x[i], y[i], lanes[0][i]);
        }
    }
    let [a, b, c, d] = lanes;
    let mut total = sum_of(std::array::from_fn(|i| (a[i] + b[i]) + (c[i] + d[i])));
    for (x, y) in x_rest.iter().zip(y_rest) {
        total += x * y;
    }
    total
}

/// Returns the sum of sixteen lanes, adding one half to the other each time.
#[inline(always)]
fn sum_of(lanes: [f32; 16]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Returns the largest of sixteen lanes that are not NaN.
#[inline(always)]
fn max_of(lanes: [f32; 16]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i].max(lanes[i + 8]));
    let four: [f32; 4] = std::array::from_fn(|i| eight[i].max(eight[i + 4]));
    four[0].max(four[2]).max(four[1].max(four[3]))
}

#[inline(always)]
fn interleaved_of<const FMA: bool>(groups: &[[f32; 16]], x: &[f32], out: &mut [f32]) {
    assert!(groups.len() >= out.len().div_ceil(16) * x.len(), "a group for every sixteen results");
    for (group, out) in groups.chunks_exact(x.len()).zip(out.chunks_mut(16)) {
        let mut sums = [0.0f32; 16];
        for (weights, x) in group.iter().zip(x) {
            for i in 0..16 {
                sums[i] = mul_add::<FMA>(weights[i], *x, sums[i]);
            }
        }
        match out.as_mut_array() {
            Some(out) => *out = sums,
            None => out.copy_from_slice(&sums[..out.len()]),
        }
    }
}

/// A query, and the keys and values that it attends to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cache<'a> {
    pub(crate) query: &'a [f32],
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
}

#[inline(always)]
fn attend_of<const FMA: bool>(
    Cache { query, keys, values }: Cache<'_>,
    scale: f32,
    mask: Option<&[f32]>,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let (width, context) = (query.len(), scores.len());
    assert!(keys.len() == context * width && values.len() == keys.len(), "a key and a value for each score");
    assert!(out.len() == width && mask.is_none_or(|mask| mask.len() == context), "a mask for each score");
    match width {
        4 => return attend_fixed_of::<FMA, 4>(query, keys, values, scale, mask, scores, out),
        8 => return attend_fixed_of::<FMA, 8>(query, keys, values, scale, mask, scores, out),
        16 => return attend_fixed_of::<FMA, 16>(query, keys, values, scale, mask, scores, out),
        32 => return attend_fixed_of::<FMA, 32>(query, keys, values, scale, mask, scores, out),
        64 => return attend_fixed_of::<FMA, 64>(query, keys, values, scale, mask, scores, out),
        128 => return attend_fixed_of::<FMA, 128>(query, keys, values, scale, mask, scores, out),
        _ => {}
    }
    for (score, key) in scores.iter_mut().zip(keys.chunks_exact(width)) {
        *score = scale * dot_of::<FMA>(query, key);
    }
    if let Some(mask) = mask {
        scores.iter_mut().zip(mask).for_each(|(score, mask)| *score += mask);
    }
    softmax_of::<FMA>(scores);
    out.fill(0.0);
    for (weight, value) in scores.iter().zip(values.chunks_exact(width)) {
        // The weight of a masked position is zero.
        if *weight != 0.0 {
            add_scaled_of::<FMA>(*weight, value, out);
        }
    }
}

#[inline(always)]
fn add_scaled_of<const FMA: bool>(factor: f32, x: &[f32], out: &mut [f32]) {
    debug_assert_eq!(x.len(), out.len());
    for (out, x) in out.iter_mut().zip(x) {
        *out = mul_add::<FMA>(*x, factor, *out);
    }
}

/// The same for heads of a width that is known at compile time, so that the result stays in registers until
/// the end.
#[inline(always)]
fn attend_fixed_of<const FMA: bool, const WIDTH: usize>(
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    scale: f32,
    mask: Option<&[f32]>,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let query: [f32; WIDTH] = std::array::from_fn(|i| query[i]);
    for (score, key) in scores.iter_mut().zip(keys.as_chunks::<WIDTH>().0) {
        *score = scale
            * if WIDTH < 16 {
                let mut total = 0.0;
                for i in 0..WIDTH {
                    total = mul_add::<FMA>(query[i], key[i], total);
                }
                total
            } else {
                let mut lanes = [0.0f32; 16];
                for (query, key) in query.as_chunks::<16>().0.iter().zip(key.as_chunks::<16>().0) {
                    for i in 0..16 {
                        lanes[i] = mul_add::<FMA>(query[i], key[i], lanes[i]);
                    }
                }
                // Keeps the compiler from computing many keys at once, whose elements it would have to
                // gather.
                std::hint::black_box(sum_of(lanes))
            };
    }
    if let Some(mask) = mask {
        scores.iter_mut().zip(mask).for_each(|(score, mask)| *score += mask);
    }
    softmax_of::<FMA>(scores);
    let mut mixed = [0.0f32; WIDTH];
    for (weight, value) in scores.iter().zip(values.as_chunks::<WIDTH>().0) {
        for i in 0..WIDTH {
            mixed[i] = mul_add::<FMA>(*weight, value[i], mixed[i]);
        }
    }
    out.copy_from_slice(&mixed);
}

#[inline(always)]
fn rms_norm_of<const FMA: bool>(x: &[f32], epsilon: f32, out: &mut [f32]) -> f32 {
    assert_eq!(x.len(), out.len(), "a result for each element");
    let squares = dot_of::<FMA>(x, x);
    let factor = 1.0 / (squares / x.len() as f32 + epsilon).sqrt();
    out.iter_mut().zip(x).for_each(|(out, x)| *out = x * factor);
    squares
}

#[inline(always)]
fn softmax_of<const FMA: bool>(x: &mut [f32]) {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane = lane.max(*v);
        }
    }
    let max = rest.iter().copied().fold(max_of(lanes), f32::max);
    let mut sums = [0.0f32; 16];
    let (chunks, rest) = x.as_chunks_mut::<16>();
    for chunk in chunks {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *v = exp::<FMA>(*v - max);
            *sum += *v;
        }
    }
    let mut total = sum_of(sums);
    for v in rest {
        *v = exp::<FMA>(*v - max);
        total += *v;
    }
    let factor = 1.0 / total;
    x.iter_mut().for_each(|v| *v *= factor);
}

/// Returns `e^x` to within 2 units in the last place for `x` up to 0, which is all that softmax needs; 0
/// below -87.3, and NaN for NaN.
///
/// `x` is split into `n ln 2 + r` with `|r|` up to `ln 2 / 2`, and `e^r` is its Taylor series to the seventh
/// power.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.max(-88.0);
    let n = (clamped * std::f32::consts::LOG2_E).round_ties_even();
    let r = mul_add::<FMA>(n, -LN_2_HIGH, clamped);
    let r = mul_add::<FMA>(n, -LN_2_LOW, r);
    let mut series = 1.0 / 5_040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = mul_add::<FMA>(r, series, coefficient);
    }
    // 2^n, for n of at least -126.
    let power = f32::from_bits((((n as i32).max(-126) + 127) as u32) << 23);
    let value = series * power;
    if x < -87.3 {
        0.0
    } else if x.is_nan() {
        x
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with double precision, over the whole range that softmax uses.
    #[test]
    fn exp_is_right_to_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for i in 0..=900_000 {
            let x = -87.3 * (i as f32 / 900_000.0);
            for got in [exp::<true>(x), exp::<false>(x)] {
                let exact = f64::from(x).exp();
                worst = worst.max((f64::from(got) - exact).abs() / exact);
            }
        }
        assert!(worst < 2.0 * 2f64.powi(-23), "{worst}");
        assert_eq!(exp::<true>(0.0), 1.0);
        assert_eq!([exp::<true>(-1e4), exp::<true>(f32::NEG_INFINITY)], [0.0; 2]);
        assert!(exp::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn softmax_and_norm_over_odd_lengths() {
        for isa in Isa::all() {
            for len in [1, 15, 16, 17, 64, 77] {
                let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin() * 9.0).collect();
                let mut soft = x.clone();
                softmax(isa, &mut soft);
                let sum: f64 = x.iter().map(|v| f64::from(*v).exp()).sum();
                for (got, x) in soft.iter().zip(&x) {
                    let exact = f64::from(*x).exp() / sum;
                    // Two units for exp, one for the factor, and `len` roundings for the sum.
                    assert!(
                        (f64::from(*got) - exact).abs() <= exact * (4 + len) as f64 * 2f64.powi(-23),
                        "{isa:?} {len}"
                    );
                }
                let mut normed = vec![0.0; len];
                rms_norm(isa, &x, 1e-5, &mut normed);
                let mean = x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() / len as f64;
                for (got, x) in normed.iter().zip(&x) {
                    let exact = f64::from(*x) / (mean + 1e-5).sqrt();
                    assert!((f64::from(*got) - exact).abs() <= 1e-6 * exact.abs() + 1e-12, "{isa:?} {len}");
                }
            }
            // A masked element becomes exactly 0, and a NaN makes every result NaN.
            let mut masked = [1.0, -1e4, 1.0];
            softmax(isa, &mut masked);
            assert_eq!(masked, [0.5, 0.0, 0.5]);
            let mut bad = [1.0, f32::NAN, 1.0];
            softmax(isa, &mut bad);
            assert!(bad.iter().all(|v| v.is_nan()), "{bad:?}");
        }
    }

    /// Narrow heads and wide ones, contexts of any length, with and without a mask.
    #[test]
    fn attention_is_that_of_double_precision() {
        for (width, context) in
            [(1, 3), (3, 16), (4, 16), (4, 17), (8, 1), (8, 33), (16, 5), (64, 64), (70, 19)]
        {
            let wave = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).sin()).collect::<Vec<f32>>();
            let (query, keys, values) =
                (wave(width, 0.9), wave(context * width, 0.37), wave(context * width, 0.53));
            let mask: Vec<f32> = (0..context).map(|i| if i <= context / 2 { 0.0 } else { -1e4 }).collect();
            for mask in [None, Some(mask.as_slice())] {
                let seen = mask.map_or(context, |_| context / 2 + 1);
                let product = |t: usize| {
                    let key = &keys[t * width..(t + 1) * width];
                    0.3 * query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>()
                };
                let weights: Vec<f64> = (0..seen).map(|t| product(t).exp()).collect();
                let total: f64 = weights.iter().sum();
                for isa in Isa::all() {
                    let (mut scores, mut out) = (vec![f32::NAN; context], vec![f32::NAN; width]);
                    let cache = Cache { query: &query, keys: &keys, values: &values };
                    attend(isa, cache, 0.3, mask, &mut scores, &mut out);
                    for (i, got) in out.iter().enumerate() {
                        let mixed =
                            |(t, weight): (usize, &f64)| weight / total * f64::from(values[t * width + i]);
                        let exact: f64 = weights.iter().enumerate().map(mixed).sum();
                        // Scores of up to 21 have at most 70 roundings, and the sums one for each position.
                        let bound = (70.0 * 21.0 + context as f64) * 2f64.powi(-24);
                        let error = (f64::from(*got) - exact).abs();
                        assert!(error < bound, "{isa:?} {width} {context}: {got}, expected {exact}");
                    }
                }
            }
        }
    }
}
