//! Weights that are stored in compressed form and decompressed when the program is loaded.
//!
//! The operations of iOS 16 hold vectors and state the shape of the result; those of iOS 18 hold sub-byte
//! tensors of that shape.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::spec::{Inferred, OpSpec, Param};
use crate::dtype::DType;
use crate::finding::Fault;
use crate::mil::{Dim, Dims, Opset, TensorType};
use crate::shape::Shape;

const IOS18: Opset = Opset::CoreML8;
const SCALE: Param = Param::constant("scale", DTypeConstraint::FLOAT);
const OFFSET: Param = Param::constant("offset", DTypeConstraint::COMPRESSED).optional();
const LUT: Param = Param::constant("lut", DTypeConstraint::LUT);
const VECTOR_AXIS: Param = Param::constant("vector_axis", DTypeConstraint::INT32).optional().since(IOS18);
const NONZERO_DATA: Param = Param::constant("nonzero_data", DTypeConstraint::NONZERO);
/// Up to iOS 17 the shape of the result is a separate argument.
const SHAPE: Param = Param::constant("shape", DTypeConstraint::UINT32).until(IOS18);

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new(
        "constexpr_affine_dequantize",
        &[
            Param::constant("quantized_data", DTypeConstraint::QUANTIZED),
            Param::constant("zero_point", DTypeConstraint::AFFINE_ZERO_POINT),
            SCALE,
            Param::constant("axis", DTypeConstraint::INT32),
        ],
        affine_dequantize,
    )
    .since(Opset::CoreML6),
    OpSpec::new(
        "constexpr_cast",
        &[
            Param::constant("source_val", DTypeConstraint::FP16),
            Param::constant("output_dtype", DTypeConstraint::STRING),
        ],
        |args| match args.string("output_dtype")? {
            Some("fp32") => {
                Ok(vec![TensorType { dtype: DType::Fp32, shape: args.dims("source_val")?.clone() }])
            }
            other => Err(Fault::value(
                "output_dtype",
                format!("is {:?}, expected fp32", other.unwrap_or_default()),
            )),
        },
    )
    .since(Opset::CoreML6),
    OpSpec::new(
        "constexpr_lut_to_dense",
        &[Param::constant("indices", DTypeConstraint::LUT_INDICES), LUT, SHAPE, VECTOR_AXIS],
        lut_to_dense,
    )
    .since(Opset::CoreML6),
    OpSpec::new(
        "constexpr_sparse_to_dense",
        &[NONZERO_DATA, Param::constant("mask", DTypeConstraint::BITS), SHAPE],
        sparse_to_dense,
    )
    .since(Opset::CoreML6),
    OpSpec::new(
        "constexpr_blockwise_shift_scale",
        &[Param::constant("data", DTypeConstraint::COMPRESSED), SCALE, OFFSET],
        |args| {
            let data = args.shape("data")?;
            check_shift_scale(args, "data", &data)?;
            Ok(vec![TensorType { dtype: args.ty("scale")?.dtype, shape: data.into() }])
        },
    )
    .since(IOS18),
    OpSpec::new(
        "constexpr_lut_to_sparse",
        &[
            Param::constant("indices_mask", DTypeConstraint::BITS),
            Param::constant("indices_nonzero_data", DTypeConstraint::LUT_INDICES),
            LUT,
            VECTOR_AXIS,
        ],
        lut_to_sparse,
    )
    .since(IOS18),
    OpSpec::new(
        "constexpr_sparse_blockwise_shift_scale",
        &[Param::constant("data_mask", DTypeConstraint::BITS), NONZERO_DATA, SCALE, OFFSET],
        |args| {
            let mask = mask(args, "data_mask")?;
            check_shift_scale(args, "nonzero_data", &mask)?;
            let nonzero = vector(args, "nonzero_data")?;
            let scaled = TensorType { dtype: args.ty("scale")?.dtype, shape: [nonzero].into() };
            Ok(vec![TensorType { dtype: DType::Uint1, shape: mask.into() }, scaled])
        },
    )
    .since(IOS18),
];

/// Returns the length of a vector.
fn vector(args: &Args<'_>, name: &str) -> Result<usize, Fault> {
    match args.shape(name)?.dims() {
        &[len] => Ok(len),
        _ => Err(Fault::value(name, format!("is {}, expected a vector", args.ty(name)?))),
    }
}

/// Returns the shape of a mask, whose element type must be uint1.
fn mask(args: &Args<'_>, name: &str) -> Result<Shape, Fault> {
    match args.ty(name)?.dtype {
        DType::Uint1 => args.shape(name),
        dtype => Err(Fault::value(name, format!("is {dtype}, expected uint1"))),
    }
}

/// Returns the shape that an operation of iOS 16 states, and its number of elements.
fn named_shape(args: &Args<'_>) -> Result<(Shape, usize), Fault> {
    let given = args.ints("shape")?.ok_or_else(|| Fault::missing("shape"))?;
    let dims: Option<Vec<usize>> = given.iter().map(|&d| usize::try_from(d).ok()).collect();
    let shape = dims.map(Shape::from).and_then(|s| s.checked_elements().map(|n| (s, n)));
    shape.ok_or_else(|| Fault::value("shape", format!("is {given:?}, which is not a shape")))
}

/// Infers the type of dequantized int8 or uint8 data. `scale` and `zero_point` are scalars or have one element
/// for each index of `axis`. The type of `zero_point` may differ from the type of the data.
fn affine_dequantize(args: &Args<'_>) -> Inferred {
    let data = args.ty("quantized_data")?;
    let axis = args.axis("axis", &data.shape)?;
    for name in ["scale", "zero_point"] {
        let ty = args.ty(name)?;
        let fits = match ty.shape.as_slice() {
            [] => true,
            &[len] => len.may_be(data.shape[axis]),
            _ => false,
        };
        if !fits {
            let expected = format!("a scalar or a vector of {}", data.shape[axis]);
            return Err(Fault::value(name, format!("is {ty}, expected {expected}")));
        }
    }
    Ok(vec![TensorType { dtype: args.ty("scale")?.dtype, shape: data.shape.clone() }])
}

/// Checks that `scale` and `offset` divide `shape` into blocks.
fn check_shift_scale(args: &Args<'_>, data: &str, shape: &Shape) -> Result<(), Fault> {
    let dtype = args.ty(data)?.dtype;
    let scale = args.shape("scale")?;
    let divides = shape.rank() == scale.rank()
        && shape.dims().iter().zip(scale.dims()).all(|(&d, &s)| s > 0 && d.is_multiple_of(s));
    if !divides {
        return Err(format!("scale {scale} does not divide {data} {shape}").into());
    }
    let Some(offset) = args.get("offset") else { return Ok(()) };
    if offset.ty.shape != scale {
        return Err(format!("offset {} must have the shape of scale {scale}", offset.ty.shape).into());
    }
    if !offset.ty.dtype.is_float() && offset.ty.dtype != dtype {
        let reason = format!("is {}, expected fp16, fp32 or {dtype}, the type of {data}", offset.ty.dtype);
        return Err(Fault::value("offset", reason));
    }
    Ok(())
}

/// Returns the number of bits of an index into a table of `entries`.
fn index_bits(entries: usize) -> Option<usize> {
    (entries.is_power_of_two() && matches!(entries, 2 | 4 | 8 | 16 | 64 | 256))
        .then(|| entries.trailing_zeros() as usize)
}

fn lut_to_dense(args: &Args<'_>) -> Inferred {
    let lut = args.ty("lut")?;
    if args.opset() < IOS18 {
        let (shape, elements) = named_shape(args)?;
        let entries = vector(args, "lut")?;
        let bits = index_bits(entries).filter(|&b| b != 3);
        let bits = bits.ok_or_else(|| format!("lut has {entries} entries, expected 2, 4, 16, 64 or 256"))?;
        let bytes = elements.checked_mul(bits).map(|n| n.div_ceil(8));
        let (dtype, found) = (args.ty("indices")?.dtype, vector(args, "indices")?);
        if dtype != DType::Uint8 || Some(found) != bytes {
            return Err(format!(
                "indices are {found} of {dtype}, {elements} of {bits} bits need {bytes:?} of uint8"
            )
            .into());
        }
        return Ok(vec![TensorType { dtype: lut.dtype, shape: shape.into() }]);
    }
    let indices = args.shape("indices")?;
    let vector_size = check_lut(args, "indices", &indices)?;
    let shape = grown(args, &indices, vector_size)?;
    Ok(vec![TensorType { dtype: lut.dtype, shape }])
}

/// Checks that `lut [groups.., 2^bits, vector]` matches indices of `shape`; returns the length of its
/// vectors.
fn check_lut(args: &Args<'_>, indices: &str, shape: &Shape) -> Result<usize, Fault> {
    let (lut, dtype) = (args.shape("lut")?, args.ty(indices)?.dtype);
    let bad = |reason: String| Err(format!("lut {lut} does not match {indices} of {shape}: {reason}").into());
    let rank = shape.rank();
    if rank == 0 || lut.rank() != rank + 2 {
        return bad(format!("expected rank {}", rank + 2));
    }
    let groups = &lut.dims()[..rank];
    if groups.iter().zip(shape.dims()).any(|(&g, &d)| g == 0 || !d.is_multiple_of(g)) {
        return bad(format!("groups {groups:?} do not divide it"));
    }
    let (entries, vector_size) = (lut.dims()[rank], lut.dims()[rank + 1]);
    if index_bits(entries) != Some(dtype.bits()) || dtype.is_signed_int() {
        return bad(format!("{entries} entries, indices of {dtype}"));
    }
    Ok(vector_size)
}

/// Returns `shape` with the axis that `vector_axis` names multiplied by the length of a vector.
fn grown(args: &Args<'_>, shape: &Shape, vector_size: usize) -> Result<Dims, Fault> {
    let mut dims = Dims::from(shape);
    if vector_size == 1 && args.get("vector_axis").is_none() {
        return Ok(dims);
    }
    let axis = args.axis("vector_axis", &dims)?;
    let mut grown = dims.as_slice().to_vec();
    grown[axis] =
        grown[axis].map(|d| d.checked_mul(vector_size)).ok_or("the result has too many elements")?;
    dims = grown.into();
    Ok(dims)
}

fn lut_to_sparse(args: &Args<'_>) -> Inferred {
    let mask = mask(args, "indices_mask")?;
    let vector_size = check_lut(args, "indices_nonzero_data", &mask)?;
    let nonzero = vector(args, "indices_nonzero_data")?;
    let nonzero = nonzero.checked_mul(vector_size).ok_or("the result has too many elements")?;
    let shape = grown(args, &mask, vector_size)?;
    Ok(vec![
        TensorType { dtype: DType::Uint1, shape },
        TensorType { dtype: args.ty("lut")?.dtype, shape: [Dim::Known(nonzero)].into() },
    ])
}

fn sparse_to_dense(args: &Args<'_>) -> Inferred {
    let dtype = args.ty("nonzero_data")?.dtype;
    vector(args, "nonzero_data")?;
    if args.opset() >= IOS18 {
        return Ok(vec![TensorType { dtype, shape: mask(args, "mask")?.into() }]);
    }
    let (shape, elements) = named_shape(args)?;
    let (found, mask) = (vector(args, "mask")?, args.ty("mask")?.dtype);
    if mask != DType::Uint8 || found != elements.div_ceil(8) {
        return Err(Fault::value(
            "mask",
            format!(
                "is {found} of {mask}, one bit for each of {elements} elements needs {}",
                elements.div_ceil(8)
            ),
        ));
    }
    Ok(vec![TensorType { dtype, shape: shape.into() }])
}
