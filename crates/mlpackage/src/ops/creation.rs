//! Operations that create tensors from shapes and scalars.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::elementwise::like_x;
use super::spec::{Inferred, OpSpec, Param};
use crate::dtype::DType;
use crate::finding::Fault;
use crate::mil::{Dim, Dims, Opset, TensorType, Value, axis_of};

const SHAPE: Param = Param::new("shape", DTypeConstraint::INT32);
const SEED: Param = Param::constant("seed", DTypeConstraint::INT32).or_int(-1);

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new("shape", &[Param::new("x", DTypeConstraint::ELEMENT)], |args| {
        let rank = args.dims("x")?.rank();
        Ok(vec![TensorType::new(DType::Int32, [rank])])
    }),
    OpSpec::new("fill", &[SHAPE, Param::constant("value", DTypeConstraint::ELEMENT).or_fp32(0.0)], |args| {
        let dtype = args.get("value").map_or(DType::Fp32, |v| v.ty.dtype);
        Ok(vec![TensorType { dtype, shape: dims_of(args, "shape")? }])
    }),
    OpSpec::new(
        "fill_like",
        &[
            Param::new("ref_tensor", DTypeConstraint::ELEMENT),
            Param::constant("value", DTypeConstraint::ELEMENT).or_fp32(0.0),
        ],
        |args| {
            let dtype = args.get("value").map_or(DType::Fp32, |v| v.ty.dtype);
            Ok(vec![TensorType { dtype, shape: args.dims("ref_tensor")?.clone() }])
        },
    )
    .since(Opset::CoreML6),
    OpSpec::new(
        "range_1d",
        &[
            Param::new("end", DTypeConstraint::NUMBER).domain('T'),
            Param::new("start", DTypeConstraint::NUMBER).domain('T'),
            Param::new("step", DTypeConstraint::NUMBER).domain('T'),
        ],
        range_1d,
    ),
    OpSpec::new(
        "one_hot",
        &[
            Param::new("indices", DTypeConstraint::INT32),
            Param::new("one_hot_vector_size", DTypeConstraint::INT32),
            Param::constant("axis", DTypeConstraint::INT32).or_int(-1),
            Param::constant("on_value", DTypeConstraint::ELEMENT).or_int(1).domain('T'),
            Param::constant("off_value", DTypeConstraint::ELEMENT).or_int(0).domain('T'),
        ],
        one_hot,
    ),
    OpSpec::new(
        "band_part",
        &[
            Param::new("x", DTypeConstraint::ELEMENT),
            Param::constant("lower", DTypeConstraint::INT32).or_int(-1),
            Param::constant("upper", DTypeConstraint::INT32).or_int(-1),
        ],
        |args| match args.dims("x")?.rank() {
            0 | 1 => Err(Fault::value("x", format!("is {}, expected rank 2 or more", args.dims("x")?))),
            _ => like_x(args),
        },
    ),
    OpSpec::new("non_zero", &[Param::new("x", DTypeConstraint::ELEMENT)], |args| {
        let rank = args.dims("x")?.rank();
        Ok(vec![TensorType::new(DType::Int32, [Dim::Unknown, Dim::Known(rank)])])
    }),
    OpSpec::new(
        "random_bernoulli",
        &[SHAPE, Param::constant("prob", DTypeConstraint::FLOAT).or_fp32(0.5), SEED],
        |args| random(args, "prob"),
    ),
    OpSpec::new(
        "random_normal",
        &[
            SHAPE,
            Param::constant("mean", DTypeConstraint::FLOAT).or_fp32(0.0).domain('T'),
            Param::constant("stddev", DTypeConstraint::FLOAT).or_fp32(1.0).domain('T'),
            SEED,
        ],
        |args| random(args, "mean"),
    ),
    OpSpec::new(
        "random_uniform",
        &[
            SHAPE,
            Param::constant("low", DTypeConstraint::FLOAT).or_fp32(0.0).domain('T'),
            Param::constant("high", DTypeConstraint::FLOAT).or_fp32(1.0).domain('T'),
            SEED,
        ],
        |args| random(args, "low"),
    ),
    OpSpec::new(
        "random_categorical",
        &[
            Param::new("x", DTypeConstraint::FLOAT),
            Param::constant("mode", DTypeConstraint::STRING).or_string("logits"),
            Param::constant("size", DTypeConstraint::INT32).or_int(1),
            SEED,
        ],
        random_categorical,
    ),
];

/// Returns the dimensions that a vector of integers states; unknown dimensions if it is computed.
fn dims_of(args: &Args<'_>, name: &str) -> Result<Dims, Fault> {
    let Some(dims) = args.ints_if_known(name) else {
        return match args.dims(name)?.as_slice() {
            &[Dim::Known(rank)] if rank <= 16 => Ok(vec![Dim::Unknown; rank].into()),
            [Dim::Unknown] => Ok(Dims::of_any_rank()),
            _ => Err(Fault::value(
                name,
                format!("is {}, expected one axis of 16 entries at most", args.ty(name)?),
            )),
        };
    };
    let known: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    known
        .map(Dims::from)
        .ok_or_else(|| Fault::value(name, format!("is {dims:?}, expected non-negative integers")))
}

fn random(args: &Args<'_>, typed: &str) -> Inferred {
    let dtype = args.get(typed).map_or(DType::Fp32, |v| v.ty.dtype);
    Ok(vec![TensorType { dtype, shape: dims_of(args, "shape")? }])
}

/// Draws `size` samples from each distribution along the last axis of `x`.
fn random_categorical(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    match args.string("mode")?.unwrap_or("logits") {
        "logits" | "probs" => {}
        other => return Err(Fault::value("mode", format!("is {other:?}, expected logits or probs"))),
    }
    args.int("seed")?;
    let mut dims = x.shape.as_slice().to_vec();
    match dims.last_mut() {
        Some(last) => *last = Dim::Known(args.extent("size")?.unwrap_or(1)),
        None => return Err(Fault::value("x", format!("is {x}, expected rank 1 or more"))),
    }
    Ok(vec![TensorType { dtype: x.dtype, shape: dims.into() }])
}

fn range_1d(args: &Args<'_>) -> Inferred {
    let dtype = args.same_dtype(&["start", "end", "step"])?;
    let number = |name: &str| -> Option<f64> {
        let value = args.get(name)?.value?;
        let int = value.to_ints().and_then(|v| v.first().copied()).map(f64::from);
        int.or_else(|| value.as_float().map(f64::from))
    };
    let known = number("start").zip(number("end")).zip(number("step"));
    let Some(((start, end), step)) = known else {
        return Ok(vec![TensorType::new(dtype, [Dim::Unknown])]);
    };
    let len = ((end - start) / step).ceil();
    if !(0.0..=f64::from(u32::MAX)).contains(&len) {
        return Err(format!("from {start} to {end} by {step} is not a range").into());
    }
    Ok(vec![TensorType::new(dtype, [len as usize])])
}

fn one_hot(args: &Args<'_>) -> Inferred {
    // The result is int32 if neither value is bound; otherwise it has the type of the bound values.
    let dtype = match (args.get("on_value"), args.get("off_value")) {
        (None, None) => DType::Int32,
        _ => args.same_dtype(&["on_value", "off_value"])?,
    };
    let size = match args.get("one_hot_vector_size").and_then(|a| a.value).map(Value::to_ints) {
        Some(Some(size)) => {
            let size = match size.as_slice() {
                [one] => usize::try_from(*one).ok(),
                _ => None,
            };
            Dim::Known(
                size.ok_or_else(|| Fault::value("one_hot_vector_size", "must be one non-negative integer"))?,
            )
        }
        _ => Dim::Unknown,
    };
    let mut dims = args.dims("indices")?.as_slice().to_vec();
    let axis = args.int("axis")?.unwrap_or(-1);
    let at = axis_of(axis, dims.len() + 1);
    let at = at.ok_or_else(|| {
        Fault::value("axis", format!("names axis {axis}, which is outside of rank {}", dims.len() + 1))
    })?;
    dims.insert(at, size);
    Ok(vec![TensorType { dtype, shape: dims.into() }])
}
