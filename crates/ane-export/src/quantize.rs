//! Conversion of weights to the form that a package stores.
//!
//! INT8 is coremltools' symmetric linear quantization, computed in fp16 as coremltools does, so the same
//! weights produce the same bytes: `scale = fp16((max - min) / 254)` over the tensor or the row with `max =
//! -min = max|w|`, and `q = clip(round_half_even(fp16(w / scale)), -127, 127)`.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use crate::error::{Error, Result};
use crate::options::Quantization;

/// A matrix of a checkpoint, `[rows, columns]` row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Matrix {
    pub(crate) name: String,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) values: Vec<f32>,
}

/// A matrix as a package stores it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stored {
    Fp16(Vec<f16>),
    /// `value = scale * data`, with one scale for all rows or one per row.
    Int8 {
        data: Vec<i8>,
        scales: Vec<f16>,
    },
}

impl Stored {
    /// Converts a matrix to its stored form.
    ///
    /// # Errors
    ///
    /// [`Error::Overflow`] for a weight beyond fp16.
    pub(crate) fn new(matrix: &Matrix, quantization: Quantization) -> Result<Self> {
        let halves = to_half(&matrix.name, &matrix.values)?;
        let group = match quantization {
            Quantization::None => return Ok(Self::Fp16(halves)),
            Quantization::Int8PerTensor => halves.len(),
            Quantization::Int8PerChannel => matrix.columns,
        };
        let mut data = Vec::with_capacity(halves.len());
        let mut scales = Vec::with_capacity(halves.len() / group);
        for group in halves.chunks(group) {
            let scale = scale(group);
            scales.push(scale);
            // Whole rows are converted with the processor's instructions for fp16.
            let mut ratios = floats(group);
            ratios.iter_mut().for_each(|w| *w /= scale.to_f32());
            let ratios = floats(&halves_of(&ratios));
            data.extend(ratios.iter().map(|ratio| ratio.round_ties_even().clamp(-127.0, 127.0) as i8));
        }
        Ok(Self::Int8 { data, scales })
    }

    /// Returns the values that a program sees: fp16, as `constexpr_blockwise_shift_scale` dequantizes them.
    pub(crate) fn values(&self) -> Vec<f32> {
        match self {
            Self::Fp16(halves) => floats(halves),
            Self::Int8 { data, scales } => {
                let group = data.len() / scales.len();
                let dequantize =
                    |(i, &q): (usize, &i8)| f16::from_f32(scales[i / group].to_f32() * f32::from(q)).to_f32();
                data.iter().enumerate().map(dequantize).collect()
            }
        }
    }
}

/// Rounds values to fp16.
///
/// # Errors
///
/// [`Error::Overflow`] for a value that does not fit into fp16.
pub(crate) fn to_half(tensor: &str, values: &[f32]) -> Result<Vec<f16>> {
    let halves = halves_of(values);
    match halves.iter().position(|h| !h.is_finite()) {
        None => Ok(halves),
        Some(element) => Err(Error::Overflow { tensor: tensor.to_owned(), element, value: values[element] }),
    }
}

/// Rounds values to the nearest fp16 number; those beyond its range become infinite.
fn halves_of(values: &[f32]) -> Vec<f16> {
    let mut halves = vec![f16::ZERO; values.len()];
    halves.convert_from_f32_slice(values);
    halves
}

fn floats(halves: &[f16]) -> Vec<f32> {
    let mut values = vec![0.0; halves.len()];
    halves.convert_to_f32_slice(&mut values);
    values
}

/// Returns the scale of a group: 1 for a group of zeros, because 0 would make the division undefined; at
/// least the smallest fp16 number for a group of tiny values.
fn scale(group: &[f16]) -> f16 {
    // The order of finite fp16 numbers without their sign is that of their bits.
    let max = f16::from_bits(group.iter().map(|w| w.to_bits() & 0x7fff).max().unwrap_or(0));
    if max == f16::ZERO {
        return f16::ONE;
    }
    let range = f16::from_f32(2.0 * max.to_f32());
    // Twice the largest magnitude can exceed fp16's range even if the magnitude does not. Doubling is exact
    // otherwise.
    let scale = if range.is_finite() {
        f16::from_f32(range.to_f32() / 254.0)
    } else {
        f16::from_f32(max.to_f32() / 127.0)
    };
    match scale {
        scale if scale == f16::ZERO => f16::from_bits(1),
        // The largest weight must not overflow when it is dequantized with a scale that was rounded up.
        scale if !f16::from_f32(127.0 * scale.to_f32()).is_finite() => f16::from_bits(scale.to_bits() - 1),
        scale => scale,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matrix(rows: usize, values: Vec<f32>) -> Matrix {
        Matrix { name: "w".into(), rows, columns: values.len() / rows, values }
    }

    /// 65504 / 127 = 515.8 rounds to 516 in fp16, and 127 * 516 = 65532 overflows.
    #[test]
    fn the_largest_weights_stay_finite() {
        let stored = Stored::new(&matrix(1, vec![65_504.0, -65_504.0]), Quantization::Int8PerTensor).unwrap();
        assert_eq!(stored.values(), [65_472.0, -65_472.0]);
    }

    #[test]
    fn per_tensor_by_hand() {
        // With max 1.27, the range 2.54 is 2.5390625 in fp16; divided by 254 it is 0.009996.., which is
        // 0.0099945 in fp16.
        let stored =
            Stored::new(&matrix(1, vec![1.27, -1.27, 0.635, 0.0]), Quantization::Int8PerTensor).unwrap();
        let Stored::Int8 { data, scales } = &stored else { panic!() };
        assert_eq!(scales, &[f16::from_bits(0x211e)]);
        assert_eq!(data, &[127, -127, 64, 0]);
    }

    #[test]
    fn per_channel_has_a_scale_a_row() {
        let stored =
            Stored::new(&matrix(2, vec![1.0, 0.5, 100.0, -25.0]), Quantization::Int8PerChannel).unwrap();
        let Stored::Int8 { data, scales } = &stored else { panic!() };
        assert_eq!(scales.len(), 2);
        assert_eq!(data, &[127, 64, 127, -32]);
    }

    #[test]
    fn a_row_of_zeros_has_scale_one() {
        let stored = Stored::new(&matrix(2, vec![0.0, 0.0, 1.0, 2.0]), Quantization::Int8PerChannel).unwrap();
        let Stored::Int8 { scales, .. } = &stored else { panic!() };
        assert_eq!(scales[0], f16::ONE);
        assert_eq!(stored.values()[..2], [0.0, 0.0]);
    }

    #[test]
    fn weights_beyond_fp16_are_named() {
        let error = Stored::new(&matrix(1, vec![0.0, 1e5]), Quantization::None).unwrap_err().to_string();
        assert!(error.starts_with("tensor w: element 1 is 100000"), "{error}");
    }

    /// Generates three to six rows, each a sixteenth of the row above it in magnitude: two rows down, the
    /// largest weight is less than half a step of the first row's scale.
    fn rows_of_falling_magnitude() -> impl Strategy<Value = Matrix> {
        (3usize..=6, 1usize..16).prop_flat_map(|(rows, columns)| {
            prop::collection::vec(-1f32..=1.0, rows * columns).prop_map(move |mut values| {
                for (row, weights) in values.chunks_mut(columns).enumerate() {
                    // Every row reaches its magnitude.
                    weights[0] = 1f32.copysign(weights[0]);
                    let magnitude = 60_000.0 / 16f32.powi(row as i32);
                    weights.iter_mut().for_each(|w| *w *= magnitude);
                }
                matrix(rows, values)
            })
        })
    }

    fn largest(values: &[f32]) -> f32 {
        values.iter().fold(0f32, |m, v| m.max(v.abs()))
    }

    proptest! {
        /// The step is that of the tensor or of the row. The bound is half a step, plus one fp16 rounding
        /// (2^-11) each of the ratio (at most 127) and of the product.
        #[test]
        fn error_is_at_most_about_half_a_step(matrix in rows_of_falling_magnitude()) {
            for (quantization, group) in [
                (Quantization::Int8PerTensor, matrix.values.len()),
                (Quantization::Int8PerChannel, matrix.columns),
            ] {
                let stored = Stored::new(&matrix, quantization).unwrap().values();
                prop_assert_eq!(stored.len(), matrix.values.len());
                for (values, stored) in matrix.values.chunks(group).zip(stored.chunks(group)) {
                    let max = largest(values);
                    let bound = max / 127.0 * (0.5 + 127.0 / 2048.0 * 2.0) + max / 1024.0 + 1e-7;
                    for (v, s) in values.iter().zip(stored) {
                        prop_assert!((v - s).abs() <= bound, "{v} became {s}, step {}", max / 127.0);
                    }
                }
            }
        }

        /// Per channel, a row is stored as if it were a tensor; per tensor, one scale serves all rows, and
        /// rows below half of its step become zeros.
        #[test]
        fn the_granularities_differ(matrix in rows_of_falling_magnitude()) {
            let stored = |matrix: &Matrix, quantization| match Stored::new(matrix, quantization).unwrap() {
                Stored::Int8 { data, scales } => (data, scales),
                Stored::Fp16(_) => panic!("not quantized"),
            };
            let (data, scales) = stored(&matrix, Quantization::Int8PerChannel);
            let mut rows = (Vec::new(), Vec::new());
            for row in matrix.values.chunks(matrix.columns) {
                let (data, scales) = stored(&self::matrix(1, row.to_vec()), Quantization::Int8PerTensor);
                rows.0.extend(data);
                rows.1.extend(scales);
            }
            prop_assert_eq!((&data, &scales), (&rows.0, &rows.1));

            let (data, scales) = stored(&matrix, Quantization::Int8PerTensor);
            prop_assert_eq!(scales, [rows.1[0]]);
            prop_assert!(data[2 * matrix.columns..].iter().all(|q| *q == 0), "{data:?}");
        }

        #[test]
        fn small_weights_survive(exponent in -24i32..-10) {
            let w = 2f32.powi(exponent);
            let stored = Stored::new(&matrix(1, vec![w, -w]), Quantization::Int8PerTensor).unwrap();
            prop_assert!(stored.values().iter().all(|v| v.is_finite() && *v != 0.0));
        }
    }
}
