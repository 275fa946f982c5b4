//! Operations that fold axes into one number, and those that normalise over axes.

use mlpackage::Shape;
use mlpackage::mil::Resolved;

use super::{Lowered, result_shape, strides};
use crate::tensor::{Data, Tensor};

pub(super) fn lower(op: &Resolved<'_>) -> Result<Option<Lowered>, String> {
    type Fold = fn(&mut dyn Iterator<Item = f32>, usize) -> f32;
    let fold: Option<Fold> = match op.operation.op.as_str() {
        "reduce_mean" => Some(|values, n| sum(values) / n as f32),
        "reduce_sum" => Some(|values, _| sum(values)),
        "reduce_max" => Some(|values, _| values.fold(f32::NEG_INFINITY, larger)),
        "reduce_min" => Some(|values, _| -values.map(|v| -v).fold(f32::NEG_INFINITY, larger)),
        "reduce_sum_square" => Some(|values, _| sum(&mut values.map(|v| v * v))),
        "reduce_l2_norm" => Some(|values, _| sum(&mut values.map(|v| v * v)).sqrt()),
        _ => None,
    };
    if let Some(fold) = fold {
        let x = op.args.ty("x")?;
        if !x.dtype.is_float() {
            return Err(format!("{} of {}", op.operation.op, x.dtype));
        }
        let lines = Lines::new(&op.args.shape("x")?, &op.args.axes("axes", &x.shape)?);
        let shape = result_shape(op);
        return Ok(Some(Lowered::one(&["x"], move |operands| {
            let x = operands[0].floats();
            let n = lines.within.len();
            let values = lines.starts.iter().map(|&s| fold(&mut lines.within.iter().map(|&w| x[s + w]), n));
            Tensor::from_parts(shape.clone(), Data::F32(values.collect()))
        })));
    }
    let lowered = match op.operation.op.as_str() {
        "softmax" => {
            let shape = op.args.shape("x")?;
            let axis = op.args.int("axis")?.unwrap_or(-1);
            let axis = shape.axis(axis).ok_or("softmax of a scalar")?;
            let lines = Lines::new(&shape, &[axis]);
            Lowered::one(&["x"], move |operands| softmax(operands[0], &lines))
        }
        "layer_norm" => {
            let axes = op.args.axes("axes", op.args.dims("x")?)?;
            let epsilon = op.args.float_or("epsilon", 1e-5)?;
            let lines = Lines::new(&op.args.shape("x")?, &axes);
            let (gamma, beta) = (op.args.get("gamma").is_some(), op.args.get("beta").is_some());
            Lowered::one(&["x", "gamma", "beta"], move |operands| {
                let gamma = gamma.then(|| operands[1].floats());
                let beta = beta.then(|| operands[operands.len() - 1].floats());
                layer_norm(operands[0], &lines, epsilon, gamma, beta)
            })
        }
        _ => return Ok(None),
    };
    Ok(Some(lowered))
}

/// The elements of a tensor in groups: those that differ only on the reduced axes belong together.
struct Lines {
    /// Offset of each group's first element, in row-major order of the kept axes.
    starts: Vec<usize>,
    /// Offsets within a group, in row-major order of the reduced axes.
    within: Vec<usize>,
}

impl Lines {
    fn new(shape: &Shape, axes: &[usize]) -> Self {
        let all = strides(shape.dims());
        let offsets = |reduced: bool| {
            let axes: Vec<usize> = (0..shape.rank()).filter(|a| axes.contains(a) == reduced).collect();
            let dims: Vec<usize> = axes.iter().map(|&a| shape.dims()[a]).collect();
            let strides: Vec<isize> = axes.iter().map(|&a| all[a] as isize).collect();
            super::offsets(&dims, &strides, 0)
        };
        Self { starts: offsets(false), within: offsets(true) }
    }
}

/// Adds in pairs of ever larger halves would be more exact; eight running sums are exact enough and as fast.
fn sum(values: &mut dyn Iterator<Item = f32>) -> f32 {
    let mut lanes = [0.0f32; 8];
    for (i, value) in values.enumerate() {
        lanes[i % 8] += value;
    }
    lanes.iter().sum()
}

/// The larger of two; NaN if one of them is.
fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

fn softmax(x: &Tensor, lines: &Lines) -> Tensor {
    let values = x.floats();
    let mut result = vec![0.0; values.len()];
    for &start in &lines.starts {
        let at = || lines.within.iter().map(|&w| start + w);
        let max = at().map(|i| values[i]).fold(f32::NEG_INFINITY, larger);
        let mut total = 0.0;
        for i in at() {
            let e = (values[i] - max).exp();
            result[i] = e;
            total += e;
        }
        for i in at() {
            result[i] /= total;
        }
    }
    Tensor::from_parts(x.shape().clone(), Data::F32(result))
}

fn layer_norm(
    x: &Tensor,
    lines: &Lines,
    epsilon: f32,
    gamma: Option<&[f32]>,
    beta: Option<&[f32]>,
) -> Tensor {
    let values = x.floats();
    let mut result = vec![0.0; values.len()];
    let n = lines.within.len() as f32;
    for &start in &lines.starts {
        let at = || lines.within.iter().map(|&w| start + w);
        let mean = sum(&mut at().map(|i| values[i])) / n;
        let variance = sum(&mut at().map(|i| (values[i] - mean).powi(2))) / n;
        let scale = 1.0 / (variance + epsilon).sqrt();
        for (j, i) in at().enumerate() {
            let y = (values[i] - mean) * scale;
            result[i] = y * gamma.map_or(1.0, |g| g[j]) + beta.map_or(0.0, |b| b[j]);
        }
    }
    Tensor::from_parts(x.shape().clone(), Data::F32(result))
}
