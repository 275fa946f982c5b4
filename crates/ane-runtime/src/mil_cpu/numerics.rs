//! Arithmetic of the engine, and rounding to fp16.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

/// Arithmetic of the engine `mil-cpu`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numerics {
    /// Every operation computes in f32, and results are not rounded to fp16, except by `cast`: the semantic
    /// reference.
    #[default]
    F32,
    /// Every operation computes in f32 and rounds each fp16-typed result to fp16, ties to even. Overflow,
    /// underflow and vanishing epsilons show up as on hardware that stores fp16.
    F16,
    /// For speed, with errors no larger than those of fp16. Operations are fused and computed in f32, with
    /// the fastest instructions of the machine and on several threads. The reference is what
    /// [`F32`](Self::F32) computes. Three things differ from it:
    ///
    /// - Weights of 8 bits are multiplied with activations in fixed point. In a block of 1,024 activations,
    ///   let `h` be the largest value that at least half of the non-zero ones reach in magnitude, and `m` the
    ///   largest magnitude. The error of each activation is at most `max(2^-11 h, 2^-44 m, 2^-126)`, with or
    ///   without outliers; fp16 would round an activation `x` by up to `2^-11 |x|`. Products with integer
    ///   weights `w` and their sums within a block are exact, so the error of a result with scale `s` is at
    ///   most `s * sum |w|` times that, plus f32 rounding. An infinity becomes a NaN, and a NaN stays a NaN.
    ///   Sums of `w x`, before scaling, must be within the range of f32; beyond it they are infinite or NaN.
    /// - Scales are applied to those sums instead of to the weights. A weight is therefore exactly `s * w`.
    ///   If the program's type says that it is rounded to fp16, the difference is up to `2^-11 |s w|`: as
    ///   much as fp16 loses when it rounds the activations once.
    /// - Attention skips the positions before the first and after the last one that its mask lets through:
    ///   one whose mask is not more than 8,192 below the largest. The weight of a skipped position is exactly
    ///   zero, unless its score is larger than the others by thousands, which is not the case in a sound
    ///   model.
    Fast,
}

/// Rounds floats to the nearest fp16 value, ties to even.
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
