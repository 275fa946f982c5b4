//! Products of vectors, and the norm of a vector by its product with itself.

use super::Isa;
use super::for_each_isa::{for_each_isa, mul_add};

for_each_isa! {
    /// Returns the dot product of two vectors.
    pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 => dot_of;
    /// Multiplies rows that are stored [side by side](super::Matrix::Interleaved) with `x`.
    pub(super) fn interleaved(groups: &[[f32; 16]], x: &[f32], out: &mut [f32]) => interleaved_of;
    /// Computes `x / sqrt(mean(x^2) + epsilon)`, and returns the sum of the squares.
    pub(crate) fn rms_norm(x: &[f32], epsilon: f32, out: &mut [f32]) -> f32 => rms_norm_of;
}

#[inline(always)]
pub(super) fn dot_of<const FMA: bool>(x: &[f32], y: &[f32]) -> f32 {
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
pub(super) fn sum_of(lanes: [f32; 16]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
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

#[inline(always)]
fn rms_norm_of<const FMA: bool>(x: &[f32], epsilon: f32, out: &mut [f32]) -> f32 {
    assert_eq!(x.len(), out.len(), "a result for each element");
    let squares = dot_of::<FMA>(x, x);
    let factor = 1.0 / (squares / x.len() as f32 + epsilon).sqrt();
    out.iter_mut().zip(x).for_each(|(out, x)| *out = x * factor);
    squares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norm_over_odd_lengths() {
        for isa in Isa::all() {
            for len in [1, 15, 16, 17, 64, 77] {
                let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin() * 9.0).collect();
                let mut normed = vec![0.0; len];
                rms_norm(isa, &x, 1e-5, &mut normed);
                let mean = x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() / len as f64;
                for (got, x) in normed.iter().zip(&x) {
                    let exact = f64::from(*x) / (mean + 1e-5).sqrt();
                    assert!((f64::from(*got) - exact).abs() <= 1e-6 * exact.abs() + 1e-12, "{isa:?} {len}");
                }
            }
        }
    }
}
