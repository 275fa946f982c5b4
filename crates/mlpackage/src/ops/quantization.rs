//! Quantization and dequantization of activations.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::spec::{Inferred, OpSpec, Param};
use crate::dtype::DType;
use crate::finding::Fault;
use crate::mil::{Opset, TensorType};

const ZERO_POINT: Param = Param::constant("zero_point", DTypeConstraint::QUANTIZED).optional();
const SCALE: Param = Param::constant("scale", DTypeConstraint::FLOAT);
const AXIS: Param = Param::constant("axis", DTypeConstraint::INT32).optional();

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new(
        "quantize",
        &[
            Param::new("input", DTypeConstraint::FLOAT).domain('T'),
            ZERO_POINT,
            SCALE.domain('T'),
            AXIS,
            Param::constant("output_dtype", DTypeConstraint::STRING),
        ],
        |args| {
            let dtype = match args.string("output_dtype")?.unwrap_or_default() {
                "int8" => DType::Int8,
                "uint8" => DType::Uint8,
                other => {
                    return Err(Fault::value(
                        "output_dtype",
                        format!("is {other:?}, expected int8 or uint8"),
                    ));
                }
            };
            scaled(args, dtype, dtype)
        },
    )
    .since(Opset::CoreML7),
    OpSpec::new(
        "dequantize",
        &[Param::new("input", DTypeConstraint::QUANTIZED).domain('T'), ZERO_POINT.domain('T'), SCALE, AXIS],
        |args| scaled(args, args.ty("input")?.dtype, args.ty("scale")?.dtype),
    )
    .since(Opset::CoreML7),
];

/// Infers the type of a result that is scaled by `scale` and `zero_point`, which are scalars or have an element
/// for each index of `axis`.
fn scaled(args: &Args<'_>, quantized: DType, result: DType) -> Inferred {
    let input = args.ty("input")?;
    let of_scale = args.dims("scale")?.rank();
    if of_scale == 0 && args.get("axis").is_some() {
        return Err(Fault::value("axis", "is bound, but scale is a scalar"));
    }
    if let Some(zero_point) = args.get("zero_point").filter(|z| z.ty.shape.rank() != of_scale) {
        let expected = if of_scale == 0 { "a scalar" } else { "a vector" };
        return Err(Fault::value(
            "zero_point",
            format!("is {}, expected {expected}, like scale", zero_point.ty),
        ));
    }
    for name in ["scale", "zero_point"] {
        let Some(arg) = args.get(name) else { continue };
        let fits = match arg.ty.shape.as_slice() {
            [] => true,
            &[len] => len.may_be(input.shape[args.axis("axis", &input.shape)?]),
            _ => false,
        };
        if !fits {
            return Err(Fault::value(
                name,
                format!("is {}, expected a scalar or one element for each index of axis", arg.ty),
            ));
        }
        if name == "zero_point" && arg.ty.dtype != quantized {
            return Err(Fault::value("zero_point", format!("is {}, expected {quantized}", arg.ty.dtype)));
        }
    }
    Ok(vec![TensorType { dtype: result, shape: input.shape.clone() }])
}
