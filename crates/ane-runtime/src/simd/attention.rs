//! Attention of one query, and its softmax.

use super::Isa;
use super::for_each_isa::{for_each_isa, mul_add};
use super::products::{dot_of, sum_of};

for_each_isa! {
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
    /// Computes `exp(x - max(x)) / sum`, in place.
    #[cfg(test)]
    fn softmax(x: &mut [f32]) => softmax_of;
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

/// Computes the same for heads of a width that is known at compile time, so that the result stays in registers
/// until the end.
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
fn add_scaled_of<const FMA: bool>(factor: f32, x: &[f32], out: &mut [f32]) {
    debug_assert_eq!(x.len(), out.len());
    for (out, x) in out.iter_mut().zip(x) {
        *out = mul_add::<FMA>(*x, factor, *out);
    }
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

/// Returns the largest of sixteen lanes that are not NaN.
#[inline(always)]
fn max_of(lanes: [f32; 16]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i].max(lanes[i + 8]));
    let four: [f32; 4] = std::array::from_fn(|i| eight[i].max(eight[i + 4]));
    four[0].max(four[2]).max(four[1].max(four[3]))
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
    fn softmax_over_odd_lengths() {
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
