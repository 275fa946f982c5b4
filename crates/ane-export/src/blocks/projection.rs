//! Linear layers as 1x1 convolutions.

use mlpackage::DType;
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::{TensorType, Value};

use crate::error::Result;
use crate::options::Quantization;
use crate::quantize::{Matrix, Stored};

/// Adds the product of `matrix [Co, Ci]` and `x [1, Ci, 1, T]`, `[1, Co, 1, T]`.
///
/// The weight is written together with its operation, so the weight file is in the order of the operations,
/// as coremltools writes it.
///
/// # Errors
///
/// Returns an error if `name` is taken, if the widths do not match, or if a weight does not fit into fp16.
pub(crate) fn project(
    f: &mut FunctionBuilder<'_>,
    name: &str,
    x: &Var,
    matrix: &Matrix,
    quantization: Quantization,
) -> Result<Var> {
    let shape = [matrix.rows, matrix.columns, 1, 1];
    let weight_name = format!("{name}_weight");
    let weight = match Stored::new(matrix, quantization)? {
        Stored::Fp16(halves) => {
            f.weight(&weight_name, TensorType::new(DType::Fp16, shape), bytemuck::cast_slice(&halves))?
        }
        Stored::Int8 { data, scales } => {
            let data = f.blob(TensorType::new(DType::Int8, shape), bytemuck::cast_slice(&data))?;
            let scale = f.fp16_array([scales.len(), 1, 1, 1], &scales)?;
            f.op("constexpr_blockwise_shift_scale", &weight_name)
                .inline("data", data)
                .inline("scale", scale)
                .one()?
        }
    };
    let ones = || Value::ints([2], [1, 1]);
    let conv = f
        .op("conv", name)
        .arg("x", x)
        .arg("weight", &weight)
        .value("strides", ones())
        .value("pad", Value::ints([4], [0; 4]))
        .value("dilations", ones());
    Ok(conv.one()?)
}
