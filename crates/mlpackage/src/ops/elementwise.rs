//! Operations on each element by itself.

use super::args::Args;
use super::spec::{Inferred, Kind, OpSpec, Param};
use crate::dtype::DType;
use crate::mil::{Opset, TensorType};

const X: Param = Param::new("x", Kind::Float);
const XY: &[Param] = &[Param::new("x", Kind::Number), Param::new("y", Kind::Number)];
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

pub(super) const OPS: &[OpSpec] = &[
    binary("add"),
    binary("sub"),
    binary("mul"),
    binary("real_div"),
    binary("maximum"),
    binary("minimum"),
    binary("pow"),
    comparison("equal"),
    comparison("not_equal"),
    comparison("less"),
    comparison("less_equal"),
    comparison("greater"),
    comparison("greater_equal"),
    unary("abs"),
    unary("exp"),
    unary("relu"),
    unary("sigmoid"),
    unary("silu"),
    unary("sqrt"),
    unary("square"),
    unary("tanh"),
    // `epsilon` may be fp32 beside an fp16 `x` since CoreML7, and coremltools writes it so.
    OpSpec::new("rsqrt", &[X, Param::constant("epsilon", Kind::Float).or_fp32(1e-12)], like_x)
        .since(Opset::CoreML7),
    OpSpec::new("inverse", &[X, Param::constant("epsilon", Kind::Float).or_fp32(1e-4)], like_x)
        .since(Opset::CoreML7),
    OpSpec::new("log", &[X, Param::constant("epsilon", Kind::Float).or_fp32(1e-45)], like_x)
        .since(Opset::CoreML7),
    OpSpec::new(
        "clip",
        &[X, Param::constant("alpha", Kind::Float), Param::constant("beta", Kind::Float)],
        like_x,
    ),
    OpSpec::new("gelu", &[X, Param::constant("mode", Kind::String).or_string("EXACT")], gelu),
    OpSpec::new("cast", &[Param::new("x", Kind::Any), Param::constant("dtype", Kind::String)], cast),
    OpSpec::new(
        "select",
        &[Param::new("cond", Kind::Bool), Param::new("a", Kind::Any), Param::new("b", Kind::Any)],
        select,
    ),
];

fn like_x(args: &Args<'_>) -> Inferred {
    Ok(vec![args.ty("x")?.clone()])
}

fn broadcast(args: &Args<'_>) -> Inferred {
    let dtype = args.same_dtype(&["x", "y"])?;
    let (x, y) = (args.shape("x")?, args.shape("y")?);
    let shape = x.broadcast(y).ok_or_else(|| format!("x {x} and y {y} do not broadcast"))?;
    Ok(vec![TensorType { dtype, shape }])
}

fn compare(args: &Args<'_>) -> Inferred {
    let result = broadcast(args)?;
    Ok(result.into_iter().map(|t| TensorType { dtype: DType::Bool, ..t }).collect())
}

fn gelu(args: &Args<'_>) -> Inferred {
    match args.string("mode")?.unwrap_or("EXACT") {
        "EXACT" | "TANH_APPROXIMATION" | "SIGMOID_APPROXIMATION" => like_x(args),
        mode => Err(format!("mode {mode:?}, expected EXACT, TANH_APPROXIMATION or SIGMOID_APPROXIMATION")),
    }
}

fn cast(args: &Args<'_>) -> Inferred {
    let dtype = match args.string("dtype")?.unwrap_or_default() {
        "fp16" => DType::Fp16,
        "fp32" => DType::Fp32,
        "int32" => DType::Int32,
        "bool" => DType::Bool,
        other => return Err(format!("dtype {other:?}, expected fp16, fp32, int32 or bool")),
    };
    Ok(vec![TensorType { dtype, shape: args.shape("x")?.clone() }])
}

fn select(args: &Args<'_>) -> Inferred {
    let dtype = args.same_dtype(&["a", "b"])?;
    let (cond, a, b) = (args.shape("cond")?, args.shape("a")?, args.shape("b")?);
    let shape = a
        .broadcast(b)
        .and_then(|ab| ab.broadcast(cond))
        .ok_or_else(|| format!("cond {cond}, a {a} and b {b} do not broadcast"))?;
    Ok(vec![TensorType { dtype, shape }])
}
