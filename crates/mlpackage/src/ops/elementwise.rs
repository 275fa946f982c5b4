//! Operations on each element by itself.

use super::args::Args;
use super::spec::{Inferred, Kind, OpSpec, Param};
use crate::dtype::DType;
use crate::finding::Fault;
use crate::mil::{Opset, TensorType};

const X: Param = Param::new("x", Kind::Number);
const XY: &[Param] = &[X, Param::new("y", Kind::Number)];
const LOGICAL: &[Param] = &[Param::new("x", Kind::Bool), Param::new("y", Kind::Bool)];
const UNARY: &[Param] = &[X];

const fn unary(name: &'static str) -> OpSpec {
    OpSpec::new(name, UNARY, like_x)
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
    OpSpec::new("logical_not", &[Param::new("x", Kind::Bool)], like_x),
    unary("abs"),
    unary("acos"),
    unary("asin"),
    unary("atan"),
    unary("atanh"),
    unary("ceil"),
    unary("cos"),
    unary("cosh"),
    unary("erf"),
    unary("exp"),
    unary("exp2"),
    unary("floor"),
    unary("round"),
    unary("sign"),
    unary("sin"),
    unary("sinh"),
    unary("sqrt"),
    unary("square"),
    unary("tan"),
    unary("tanh"),
    // From CoreML7 on `epsilon` may be fp32 beside an fp16 `x`, and coremltools writes it so.
    OpSpec::new("rsqrt", &[X, Param::constant("epsilon", Kind::Float).or_fp32(1e-12)], like_x),
    OpSpec::new("inverse", &[X, Param::constant("epsilon", Kind::Float).or_fp32(1e-4)], like_x),
    OpSpec::new("log", &[X, Param::constant("epsilon", Kind::Float).or_fp32(1e-45)], like_x),
    OpSpec::new(
        "clip",
        &[X, Param::constant("alpha", Kind::Number), Param::constant("beta", Kind::Number)],
        like_x,
    ),
    OpSpec::new("threshold", &[X, Param::constant("alpha", Kind::Number)], like_x),
    OpSpec::new("identity", &[Param::new("x", Kind::Any)], like_x),
    OpSpec::new("cast", &[Param::new("x", Kind::Element), Param::constant("dtype", Kind::String)], cast),
    OpSpec::new(
        "select",
        &[Param::new("cond", Kind::Bool), Param::new("a", Kind::Any), Param::new("b", Kind::Any)],
        select,
    ),
];

/// One result of the type of `x`.
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

fn select(args: &Args<'_>) -> Inferred {
    let dtype = args.same_dtype(&["a", "b"])?;
    let (cond, a, b) = (args.dims("cond")?, args.dims("a")?, args.dims("b")?);
    let shape = a
        .broadcast(b)
        .and_then(|ab| ab.broadcast(cond))
        .ok_or_else(|| format!("cond {cond}, a {a} and b {b} do not broadcast"))?;
    Ok(vec![TensorType { dtype, shape }])
}
