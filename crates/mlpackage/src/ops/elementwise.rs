//! Elementwise operations.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::spec::{Inferred, OpSpec, Param};
use crate::dtype::DType;
use crate::finding::Fault;
use crate::mil::{Opset, TensorType, Value};

const X: Param = Param::new("x", DTypeConstraint::NUMBER);
const XY: &[Param] = &[X.domain('T'), Param::new("y", DTypeConstraint::NUMBER).domain('T')];
const LOGICAL: &[Param] =
    &[Param::new("x", DTypeConstraint::BOOL).domain('T'), Param::new("y", DTypeConstraint::BOOL).domain('T')];
const UNARY: &[Param] = &[X];
const FLOAT_X: Param = Param::new("x", DTypeConstraint::FLOAT);
const FLOAT_UNARY: &[Param] = &[FLOAT_X];

const fn unary(name: &'static str) -> OpSpec {
    OpSpec::new(name, UNARY, like_x)
}

/// Returns an operation on fp16 and fp32 only.
const fn float_unary(name: &'static str) -> OpSpec {
    OpSpec::new(name, FLOAT_UNARY, like_x)
}

/// Returns a function with an epsilon that avoids its pole. Up to iOS 16 the epsilon has the type of `x`.
const fn with_epsilon(name: &'static str, params: &'static [Param]) -> OpSpec {
    OpSpec::new(name, params, like_x)
}

const fn epsilon(default: f32) -> [Param; 3] {
    let epsilon = Param::constant("epsilon", DTypeConstraint::FLOAT).or_fp32(default);
    [FLOAT_X.domain('T'), epsilon.domain('T').until(Opset::CoreML7), epsilon.since(Opset::CoreML7)]
}

const fn binary(name: &'static str) -> OpSpec {
    OpSpec::new(name, XY, broadcast)
}

const fn comparison(name: &'static str) -> OpSpec {
    OpSpec::new(name, XY, compare)
}

const fn logical(name: &'static str) -> OpSpec {
    OpSpec::new(name, LOGICAL, broadcast)
}

pub(super) const OPS: &[OpSpec] = &[
    binary("add"),
    binary("sub"),
    binary("mul"),
    binary("real_div"),
    binary("floor_div"),
    binary("mod"),
    binary("maximum"),
    binary("minimum"),
    binary("pow"),
    comparison("equal"),
    comparison("not_equal"),
    comparison("less"),
    comparison("less_equal"),
    comparison("greater"),
    comparison("greater_equal"),
    logical("logical_and"),
    logical("logical_or"),
    logical("logical_xor"),
    OpSpec::new("logical_not", &[Param::new("x", DTypeConstraint::BOOL)], like_x),
    unary("abs"),
    float_unary("acos"),
    float_unary("asin"),
    float_unary("atan"),
    float_unary("atanh"),
    float_unary("ceil"),
    float_unary("cos"),
    float_unary("cosh"),
    float_unary("erf"),
    float_unary("exp"),
    unary("exp2"),
    float_unary("floor"),
    float_unary("round"),
    unary("sign"),
    float_unary("sin"),
    float_unary("sinh"),
    float_unary("sqrt"),
    unary("square"),
    float_unary("tan"),
    float_unary("tanh"),
    with_epsilon("rsqrt", &const { epsilon(1e-12) }),
    with_epsilon("inverse", &const { epsilon(1e-4) }),
    with_epsilon("log", &const { epsilon(1e-45) }),
    OpSpec::new(
        "clip",
        &[
            FLOAT_X.domain('T'),
            Param::constant("alpha", DTypeConstraint::FLOAT).domain('T'),
            Param::constant("beta", DTypeConstraint::FLOAT).domain('T'),
        ],
        clip,
    ),
    OpSpec::new(
        "threshold",
        &[X.domain('T'), Param::constant("alpha", DTypeConstraint::NUMBER).domain('T')],
        like_x,
    ),
    OpSpec::new("identity", &[Param::new("x", DTypeConstraint::ANY)], like_x),
    OpSpec::new(
        "cast",
        &[Param::new("x", DTypeConstraint::WIDE_ELEMENT), Param::constant("dtype", DTypeConstraint::STRING)],
        cast,
    ),
    OpSpec::new(
        "select",
        &[
            Param::new("cond", DTypeConstraint::BOOL),
            Param::new("a", DTypeConstraint::ELEMENT).domain('T'),
            Param::new("b", DTypeConstraint::ELEMENT).domain('T'),
        ],
        select,
    ),
];

/// Returns one result of the type of `x`.
pub(super) fn like_x(args: &Args<'_>) -> Inferred {
    Ok(vec![args.ty("x")?.clone()])
}

fn broadcast(args: &Args<'_>) -> Inferred {
    let dtype = args.same_dtype(&["x", "y"])?;
    let (x, y) = (args.dims("x")?, args.dims("y")?);
    let shape = x.broadcast(y).ok_or_else(|| format!("x {x} and y {y} do not broadcast"))?;
    Ok(vec![TensorType { dtype, shape }])
}

fn compare(args: &Args<'_>) -> Inferred {
    let result = broadcast(args)?;
    Ok(result.into_iter().map(|t| TensorType { dtype: DType::Bool, ..t }).collect())
}

fn cast(args: &Args<'_>) -> Inferred {
    let name = args.string("dtype")?.unwrap_or_default();
    let small = args.opset() >= Opset::CoreML7;
    let dtype = match name {
        "fp16" => DType::Fp16,
        "fp32" => DType::Fp32,
        "int32" => DType::Int32,
        "bool" => DType::Bool,
        "int8" if small => DType::Int8,
        "uint8" if small => DType::Uint8,
        "int16" if small => DType::Int16,
        "uint16" if small => DType::Uint16,
        other => {
            let more = if small { ", int8, uint8, int16, uint16" } else { "" };
            return Err(Fault::value(
                "dtype",
                format!("is {other:?}, expected fp16, fp32, int32, bool{more}"),
            ));
        }
    };
    Ok(vec![TensorType { dtype, shape: args.dims("x")?.clone() }])
}

/// Returns the type of `x`. Since iOS 17 `alpha` must be less than `beta`.
fn clip(args: &Args<'_>) -> Inferred {
    let bound = |name: &str| args.get(name).and_then(|arg| arg.value).and_then(Value::as_float);
    match bound("alpha").zip(bound("beta")) {
        Some((alpha, beta)) if args.opset() >= Opset::CoreML7 && alpha >= beta => {
            Err(Fault::value("alpha", format!("is {alpha}, expected less than beta, which is {beta}")))
        }
        _ => like_x(args),
    }
}

fn select(args: &Args<'_>) -> Inferred {
    let dtype = args.same_dtype(&["a", "b"])?;
    let (cond, a, b) = (args.dims("cond")?, args.dims("a")?, args.dims("b")?);
    let shape = a
        .broadcast(b)
        .and_then(|ab| ab.broadcast(cond))
        .ok_or_else(|| format!("cond {cond}, a {a} and b {b} do not broadcast"))?;
    Ok(vec![TensorType { dtype, shape }])
}
