//! Operations on each element by itself.

use mlpackage::mil::Resolved;
use mlpackage::{DType, Shape};

use super::{Lowered, broadcast_strides, result_shape};
use crate::tensor::{Data, Tensor};

type Arithmetic<T> = fn(T, T) -> T;
type Compare<T> = fn(&T, &T) -> bool;

pub(super) fn lower(op: &Resolved<'_>) -> Result<Option<Lowered>, String> {
    let dtype = op.args.get("x").map(|a| a.ty.dtype);
    let unary: Option<fn(f32) -> f32> = match op.operation.op.as_str() {
        "abs" => Some(f32::abs),
        "exp" => Some(f32::exp),
        // Not `max`, which would turn a NaN into 0 and hide it.
        "relu" => Some(|x| if x > 0.0 || x.is_nan() { x } else { 0.0 }),
        "sigmoid" => Some(sigmoid),
        "silu" => Some(|x| x * sigmoid(x)),
        "sqrt" => Some(f32::sqrt),
        "square" => Some(|x| x * x),
        "tanh" => Some(f32::tanh),
        _ => None,
    };
    if let Some(f) = unary {
        return Ok(Some(map(f)));
    }
    let arithmetic: Option<(Arithmetic<f32>, Arithmetic<i32>)> = match op.operation.op.as_str() {
        "add" => Some((|x, y| x + y, i32::wrapping_add)),
        "sub" => Some((|x, y| x - y, i32::wrapping_sub)),
        "mul" => Some((|x, y| x * y, i32::wrapping_mul)),
        "real_div" => Some((|x, y| x / y, |x, y| x.checked_div(y).unwrap_or(0))),
        "maximum" => Some((|x, y| if x > y || x.is_nan() { x } else { y }, i32::max)),
        "minimum" => Some((|x, y| if x < y || x.is_nan() { x } else { y }, i32::min)),
        "pow" => Some((f32::powf, |x, y| u32::try_from(y).map_or(0, |y| x.wrapping_pow(y)))),
        _ => None,
    };
    if let Some((float, int)) = arithmetic {
        let shape = result_shape(op);
        return Ok(Some(Lowered::one(&["x", "y"], move |operands| {
            let data = match (operands[0].data(), operands[1].data()) {
                (Data::F32(x), Data::F32(y)) => Data::F32(zip(operands, x, y, &shape, float)),
                (Data::I32(x), Data::I32(y)) => Data::I32(zip(operands, x, y, &shape, int)),
                _ => unreachable!("operands of one type, checked at load"),
            };
            Tensor::from_parts(shape.clone(), data)
        })));
    }
    let comparison: Option<(Compare<f32>, Compare<i32>)> = match op.operation.op.as_str() {
        "equal" => Some((f32::eq, i32::eq)),
        "not_equal" => Some((f32::ne, i32::ne)),
        "less" => Some((f32::lt, i32::lt)),
        "less_equal" => Some((f32::le, i32::le)),
        "greater" => Some((f32::gt, i32::gt)),
        "greater_equal" => Some((f32::ge, i32::ge)),
        _ => None,
    };
    if let Some((float, int)) = comparison {
        let shape = result_shape(op);
        return Ok(Some(Lowered::one(&["x", "y"], move |operands| {
            let data = match (operands[0].data(), operands[1].data()) {
                (Data::F32(x), Data::F32(y)) => zip(operands, x, y, &shape, |a, b| float(&a, &b)),
                (Data::I32(x), Data::I32(y)) => zip(operands, x, y, &shape, |a, b| int(&a, &b)),
                _ => unreachable!("operands of one type, checked at load"),
            };
            Tensor::from_parts(shape.clone(), Data::Bool(data))
        })));
    }
    let lowered = match op.operation.op.as_str() {
        "rsqrt" => {
            let epsilon = op.args.float_or("epsilon", 1e-12)?;
            map(move |x| 1.0 / (x + epsilon).sqrt())
        }
        "inverse" => {
            let epsilon = op.args.float_or("epsilon", 1e-4)?;
            map(move |x| 1.0 / (x + epsilon))
        }
        "log" => {
            let epsilon = op.args.float_or("epsilon", 1e-45)?;
            map(move |x| (x + epsilon).ln())
        }
        "clip" => {
            let (low, high) = (op.args.float_or("alpha", f32::MIN)?, op.args.float_or("beta", f32::MAX)?);
            map(move |x| {
                if x < low {
                    low
                } else if x > high {
                    high
                } else {
                    x
                }
            })
        }
        "gelu" => match op.args.string("mode")?.unwrap_or("EXACT") {
            "TANH_APPROXIMATION" => map(|x| {
                let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }),
            "SIGMOID_APPROXIMATION" => map(|x| x * sigmoid(1.702 * x)),
            mode => return Err(format!("gelu of mode {mode}")),
        },
        "cast" => cast(op, dtype)?,
        "select" => {
            let shape = result_shape(op);
            Lowered::one(&["cond", "a", "b"], move |operands| select(operands, &shape))
        }
        _ => return Ok(None),
    };
    Ok(Some(lowered))
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn map(f: impl Fn(f32) -> f32 + Send + Sync + 'static) -> Lowered {
    Lowered::one(&["x"], move |operands| {
        let values = operands[0].floats().iter().map(|&x| f(x)).collect();
        Tensor::from_parts(operands[0].shape().clone(), Data::F32(values))
    })
}

/// `f` of every pair of elements, both operands broadcast to `shape`.
fn zip<T: Copy, R>(operands: &[&Tensor], x: &[T], y: &[T], shape: &Shape, f: impl Fn(T, T) -> R) -> Vec<R> {
    if operands[0].shape() == operands[1].shape() {
        return x.iter().zip(y).map(|(&a, &b)| f(a, b)).collect();
    }
    let dims = shape.dims();
    let (sx, sy) = (
        broadcast_strides(operands[0].shape().dims(), dims),
        broadcast_strides(operands[1].shape().dims(), dims),
    );
    let Some((&inner, outer)) = dims.split_last() else { return vec![f(x[0], y[0])] };
    let (dx, dy) = (sx[outer.len()], sy[outer.len()]);
    let mut result = Vec::with_capacity(shape.elements());
    let signed = |s: &[usize]| s[..outer.len()].iter().map(|&s| s as isize).collect::<Vec<_>>();
    let rows_x = super::offsets(outer, &signed(&sx), 0);
    let rows_y = super::offsets(outer, &signed(&sy), 0);
    for (row_x, row_y) in rows_x.into_iter().zip(rows_y) {
        result.extend((0..inner).map(|i| f(x[row_x + i * dx], y[row_y + i * dy])));
    }
    result
}

fn cast(op: &Resolved<'_>, from: Option<DType>) -> Result<Lowered, String> {
    let to = super::super::tensor_of(&op.operation.outputs[0]).dtype;
    if from == Some(DType::String) {
        return Err("cast of strings".into());
    }
    // fp16 to f32 and back is the business of rounding, which every result goes through; but a cast to fp16 must round
    // even where nothing else does.
    let half = to == DType::Fp16;
    Ok(Lowered::one(&["x"], move |operands| {
        let x = operands[0];
        let data = match (x.data(), to) {
            (Data::F32(v), DType::Int32) => Data::I32(v.iter().map(|&v| v as i32).collect()),
            (Data::F32(v), DType::Bool) => Data::Bool(v.iter().map(|&v| v != 0.0).collect()),
            (Data::F32(v), _) => Data::F32(v.clone()),
            (Data::I32(v), DType::Bool) => Data::Bool(v.iter().map(|&v| v != 0).collect()),
            (Data::I32(v), DType::Int32) => Data::I32(v.clone()),
            (Data::I32(v), _) => Data::F32(v.iter().map(|&v| v as f32).collect()),
            (Data::Bool(v), DType::Bool) => Data::Bool(v.clone()),
            (Data::Bool(v), DType::Int32) => Data::I32(v.iter().map(|&v| i32::from(v)).collect()),
            (Data::Bool(v), _) => Data::F32(v.iter().map(|&v| f32::from(u8::from(v))).collect()),
        };
        let mut tensor = Tensor::from_parts(x.shape().clone(), data);
        if half {
            crate::mil_cpu::numerics::round_to_half(&mut tensor);
        }
        tensor
    }))
}

fn select(operands: &[&Tensor], shape: &Shape) -> Tensor {
    let offsets = |tensor: &Tensor| {
        let strides = broadcast_strides(tensor.shape().dims(), shape.dims());
        super::offsets(shape.dims(), &strides.iter().map(|&s| s as isize).collect::<Vec<_>>(), 0)
    };
    let [cond, a, b] = [operands[0], operands[1], operands[2]];
    let Data::Bool(chosen) = cond.data() else { unreachable!("cond is bool, checked at load") };
    let at: Vec<(bool, usize, usize)> = offsets(cond)
        .into_iter()
        .zip(offsets(a).into_iter().zip(offsets(b)))
        .map(|(c, (a, b))| (chosen[c], a, b))
        .collect();
    fn pick<T: Copy>(at: &[(bool, usize, usize)], a: &[T], b: &[T]) -> Vec<T> {
        at.iter().map(|&(c, i, j)| if c { a[i] } else { b[j] }).collect()
    }
    let data = match (a.data(), b.data()) {
        (Data::F32(a), Data::F32(b)) => Data::F32(pick(&at, a, b)),
        (Data::I32(a), Data::I32(b)) => Data::I32(pick(&at, a, b)),
        (Data::Bool(a), Data::Bool(b)) => Data::Bool(pick(&at, a, b)),
        _ => unreachable!("a and b of one type, checked at load"),
    };
    Tensor::from_parts(shape.clone(), data)
}
