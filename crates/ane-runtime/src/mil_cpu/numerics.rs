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
    /// For speed, with errors as small as those of fp16: operations are fused, computed in f32 by the fastest instructions that
    /// there are, on several threads. Two things are not as in [`F32`](Self::F32):
    ///
    /// - Weights of 8 bits meet activations in 15-bit fixed point, and scales are applied to sums instead of weights. Of a block
    ///   of 1,024 activations with the largest magnitude `m`, each is off by at most `m / 32,512`, so a result by at most
    ///   `s * sum |w| * m / 32,512` a block, for integer weights `w` of scale `s`; products and sums of them are exact. A weight
    ///   is `s * w` itself here, where `F32` has it rounded to fp16, as its type says: from that, the two differ by up to
    ///   `sum |s w x| / 2,048`.
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
