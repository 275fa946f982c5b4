//! How results are rounded.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

/// Arithmetic of the engine `mil-cpu`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numerics {
    /// Every operation in f32, nothing rounded to half: the semantic reference.
    #[default]
    F32,
    /// Every operation computes in f32 inside and rounds each fp16-typed result to half, ties to even: overflow, underflow
    /// and an epsilon that vanishes show up as they would on hardware that stores fp16.
    F16,
    /// For speed, with errors no larger than those of fp16: operations are fused, computed in f32 by the fastest instructions
    /// that there are, on several threads. The program's own types say what is right, which is what [`F32`](Self::F32) computes. Three
    /// things differ from it:
    ///
    /// - Weights of 8 bits meet activations in fixed point. Of a block of 1,024 activations, let `h` be the largest number that
    ///   at least half of those other than zero reach in magnitude, and `m` the largest magnitude. Each activation is off by at most
    ///   `max(2^-11 h, 2^-44 m, 2^-126)`, outliers or not; fp16 would round an activation `x` by up to `2^-11 |x|`. Products
    ///   with integer weights `w` and their sums are exact, so a result with scale `s` is off by at most `s * sum |w|` times
    ///   that. An infinity makes a NaN, and a NaN stays. Sums of `w x`, before the scale, must be within the range of f32: beyond
    ///   it they are infinite or NaN.
    /// - Scales are applied to those sums instead of weights. So a weight is `s * w` itself, where the program's type says that it
    ///   is rounded to fp16, and is off by up to `2^-11 |s w|`: as much as fp16 loses when it rounds the activations once.
    /// - Attention does not look at the positions before the first and behind the last that its mask lets through, which is
    ///   whose mask is not 8,192 below the largest. They weigh exactly nothing unless their scores are larger than the others'
    ///   by thousands, as those of no sound model are.
    Fast,
}

/// Rounds floats to the nearest fp16 value.
pub(super) fn round_to_half(values: &mut [f32]) {
    let mut buffer = [f16::ZERO; 256];
    for chunk in values.chunks_mut(buffer.len()) {
        let buffer = &mut buffer[..chunk.len()];
        buffer.convert_from_f32_slice(chunk);
        buffer.convert_to_f32_slice(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_ties_to_even_overflows_and_underflows_like_half() {
        let cases = [
            (1.0 + 1.0 / 2048.0, 1.0),                // tie, to even
            (1.0 + 3.0 / 2048.0, 1.0 + 2.0 / 1024.0), // tie, to even
            (65_519.0, 65_504.0),                     // rounds down to the largest half
            (65_520.0, f32::INFINITY),                // tie to the next power: infinity
            (2f32.powi(-25), 0.0),                    // half of the smallest subnormal: tie to zero
            (2f32.powi(-24), 2f32.powi(-24)),         // the smallest subnormal
            (2e-8, 0.0),                              // eps / 512, what `safe` adds
            (-1e4, -1e4),
        ];
        let mut values = cases.map(|c| c.0);
        round_to_half(&mut values);
        for ((input, expected), got) in cases.iter().zip(&values) {
            assert_eq!(got, expected, "{input}");
        }
    }
}
