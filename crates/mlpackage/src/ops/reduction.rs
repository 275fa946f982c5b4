//! Operations that reduce axes or run along one.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::elementwise::like_x;
use super::spec::{Inferred, OpSpec, Param};
use crate::dtype::DType;
use crate::finding::Fault;
use crate::mil::{Dim, Dims, Opset, TensorType};

const X: Param = Param::new("x", DTypeConstraint::NUMBER);
const REDUCE: &[Param] = &[
    X,
    Param::constant("axes", DTypeConstraint::INT32).optional(),
    Param::constant("keep_dims", DTypeConstraint::BOOL).or_bool(false),
];
const ARG: &[Param] = &[
    X,
    Param::constant("axis", DTypeConstraint::INT32).or_int(-1),
    Param::constant("keep_dims", DTypeConstraint::BOOL).or_bool(false),
    Param::constant("output_dtype", DTypeConstraint::STRING).or_string("int32").since(Opset::CoreML7),
];

const fn reduce(name: &'static str) -> OpSpec {
    OpSpec::new(name, REDUCE, reduced)
}

pub(super) const OPS: &[OpSpec] = &[
    reduce("reduce_l1_norm"),
    reduce("reduce_l2_norm"),
    reduce("reduce_log_sum"),
    reduce("reduce_log_sum_exp"),
    reduce("reduce_max"),
    reduce("reduce_mean"),
    reduce("reduce_min"),
    reduce("reduce_prod"),
    reduce("reduce_sum"),
    reduce("reduce_sum_square"),
    OpSpec::new("reduce_argmax", ARG, arg),
    OpSpec::new("reduce_argmin", ARG, arg),
    OpSpec::new(
        "cumsum",
        &[
            X,
            Param::constant("axis", DTypeConstraint::INT32).or_int(0),
            Param::constant("exclusive", DTypeConstraint::BOOL).or_bool(false),
            Param::constant("reverse", DTypeConstraint::BOOL).or_bool(false),
        ],
        along_axis,
    ),
    OpSpec::new(
        "argsort",
        &[
            X,
            Param::constant("axis", DTypeConstraint::INT32).or_int(-1),
            Param::constant("ascending", DTypeConstraint::BOOL).or_bool(false),
        ],
        |args| {
            let result = along_axis(args)?;
            Ok(result.into_iter().map(|t| TensorType { dtype: DType::Int32, ..t }).collect())
        },
    ),
    OpSpec::new(
        "topk",
        &[
            Param::new("x", DTypeConstraint::WIDE_NUMBER),
            Param::constant("k", DTypeConstraint::SHAPE).or_int(1),
            Param::constant("axis", DTypeConstraint::INT32).or_int(-1),
            Param::constant("ascending", DTypeConstraint::BOOL).or_bool(false),
            Param::constant("sort", DTypeConstraint::BOOL).or_bool(true).since(Opset::CoreML6),
            Param::constant("return_indices", DTypeConstraint::BOOL).or_bool(true).since(Opset::CoreML6),
            Param::constant("output_indices_dtype", DTypeConstraint::STRING)
                .or_string("int32")
                .since(Opset::CoreML7),
        ],
        topk,
    ),
];

/// Returns `dims` without the reduced axes, or with ones in their place.
fn fold(dims: &Dims, axes: &[usize], keep: bool) -> Dims {
    let kept = dims.iter().enumerate().filter_map(|(i, d)| match axes.contains(&i) {
        true => keep.then_some(Dim::Known(1)),
        false => Some(d),
    });
    kept.collect()
}

fn reduced(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let axes = args.axes("axes", &x.shape)?;
    let shape = fold(&x.shape, &axes, args.bool_or("keep_dims", false)?);
    Ok(vec![TensorType { dtype: x.dtype, shape }])
}

fn along_axis(args: &Args<'_>) -> Inferred {
    if args.get("axis").is_some() {
        args.axis("axis", args.dims("x")?)?;
    }
    like_x(args)
}

/// Returns the element type that an argument names for indices.
fn index_dtype(args: &Args<'_>, name: &str) -> Result<DType, Fault> {
    match args.string(name)?.unwrap_or("int32").to_ascii_lowercase().as_str() {
        "int32" => Ok(DType::Int32),
        "uint16" => Ok(DType::Uint16),
        other => Err(Fault::value(name, format!("is {other:?}, expected int32 or uint16"))),
    }
}

fn arg(args: &Args<'_>) -> Inferred {
    let x = args.dims("x")?;
    let axis = match args.get("axis") {
        Some(_) => args.axis("axis", x)?,
        None => x.axis(-1).ok_or_else(|| Fault::value("x", "is a scalar, which has no axis"))?,
    };
    let shape = fold(x, &[axis], args.bool_or("keep_dims", false)?);
    Ok(vec![TensorType { dtype: index_dtype(args, "output_dtype")?, shape }])
}

fn topk(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let axis = match args.get("axis") {
        Some(_) => args.axis("axis", &x.shape)?,
        None => x.shape.axis(-1).ok_or_else(|| Fault::value("x", "is a scalar, which has no axis"))?,
    };
    let k = args.int("k")?.unwrap_or(1);
    // Since iOS 17, -1 selects all elements.
    let all = args.opset() >= Opset::CoreML7;
    let k = match usize::try_from(k) {
        Ok(k) => Dim::Known(k),
        Err(_) if k == -1 && all => x.shape[axis],
        Err(_) => {
            let least = if all { -1 } else { 0 };
            return Err(Fault::value("k", format!("is {k}, expected {least} or more")));
        }
    };
    if let (Dim::Known(k), Dim::Known(size)) = (k, x.shape[axis])
        && k > size
    {
        return Err(Fault::value("k", format!("is {k}, axis {axis} of x {} has fewer", x.shape)));
    }
    let shape: Dims = x.shape.iter().enumerate().map(|(i, d)| if i == axis { k } else { d }).collect();
    let values = TensorType { dtype: x.dtype, shape: shape.clone() };
    if !args.bool_or("return_indices", true)? {
        if args.get("output_indices_dtype").is_some() {
            let reason = "is bound, but return_indices is false";
            return Err(Fault::value("output_indices_dtype", reason));
        }
        return Ok(vec![values]);
    }
    Ok(vec![values, TensorType { dtype: index_dtype(args, "output_indices_dtype")?, shape }])
}
