//! Weights that are kept compressed and unfold when the program is loaded.

use super::args::Args;
use super::spec::{Inferred, Kind, OpSpec, Param};
use crate::dtype::DType;
use crate::mil::{Opset, TensorType};

pub(super) const OPS: &[OpSpec] = &[OpSpec::new(
    "constexpr_blockwise_shift_scale",
    &[
        Param::constant("data", Kind::Int),
        Param::constant("scale", Kind::Float),
        Param::constant("offset", Kind::Number).optional(),
    ],
    blockwise_shift_scale,
)
.since(Opset::CoreML8)];

/// `scale * (data - offset)`; each extent of `scale` divides that of `data` and stands for a block of it.
fn blockwise_shift_scale(args: &Args<'_>) -> Inferred {
    let (data, scale) = (args.ty("data")?, args.ty("scale")?);
    if !matches!(data.dtype, DType::Int4 | DType::Uint4 | DType::Int8 | DType::Uint8) {
        return Err(format!("data is {}, expected int4, uint4, int8 or uint8", data.dtype));
    }
    let divides = data.shape.rank() == scale.shape.rank()
        && data.shape.dims().iter().zip(scale.shape.dims()).all(|(&d, &s)| s > 0 && d % s == 0);
    if !divides {
        return Err(format!("scale {} does not divide data {}", scale.shape, data.shape));
    }
    if let Some(offset) = args.get("offset") {
        if offset.ty.shape != scale.shape {
            return Err(format!("offset {} must have the shape of scale {}", offset.ty.shape, scale.shape));
        }
        if offset.ty.dtype != data.dtype && offset.ty.dtype != scale.dtype {
            return Err(format!("offset is {}, expected {} or {}", offset.ty.dtype, data.dtype, scale.dtype));
        }
    }
    Ok(vec![TensorType { dtype: scale.dtype, shape: data.shape.clone() }])
}
