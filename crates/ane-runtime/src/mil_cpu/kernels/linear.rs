//! Operations that multiply and add.

use mlpackage::Shape;
use mlpackage::mil::Resolved;
use rayon::prelude::*;

use super::{Lowered, broadcast_strides, result_shape, strides};
use crate::tensor::{Data, Tensor};

/// Multiply-adds below which a second thread costs more than it saves.
const PARALLEL_FROM: usize = 1 << 18;

pub(super) fn lower(op: &Resolved<'_>) -> Result<Option<Lowered>, String> {
    let lowered = match op.operation.op.as_str() {
        "conv" => conv(op)?,
        "linear" => {
            let shape = result_shape(op);
            Lowered::one(&["x", "weight", "bias"], move |operands| {
                let d_in = operands[1].shape().dims()[1];
                let (weight, bias) = (operands[1].floats(), operands.get(2).map(|b| b.floats()));
                let rows = operands[0].floats().chunks_exact(d_in);
                let values = rows.flat_map(|row| matvec(weight, row, bias)).collect();
                Tensor::from_parts(shape.clone(), Data::F32(values))
            })
        }
        "matmul" => {
            let shape = result_shape(op);
            let (tx, ty) = (op.args.bool_or("transpose_x", false)?, op.args.bool_or("transpose_y", false)?);
            Lowered::one(&["x", "y"], move |operands| matmul(operands[0], operands[1], tx, ty, &shape))
        }
        _ => return Ok(None),
    };
    Ok(Some(lowered))
}

/// Sum of products, in eight lanes that a compiler can keep in vector registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    lanes.iter().sum::<f32>() + tail
}

/// `weight [rows, x.len()]` times `x`. Each row is one thread's, so that the result does not depend on their number.
fn matvec(weight: &[f32], x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let row = |(i, row): (usize, &[f32])| dot(row, x) + bias.map_or(0.0, |b| b[i]);
    if weight.len() >= PARALLEL_FROM {
        weight.par_chunks_exact(x.len()).enumerate().with_min_len(64).map(row).collect()
    } else {
        weight.chunks_exact(x.len()).enumerate().map(row).collect()
    }
}

/// Matrices in the last two axes, the others broadcast.
fn matmul(x: &Tensor, y: &Tensor, tx: bool, ty: bool, shape: &Shape) -> Tensor {
    let (dims_x, dims_y, dims) = (x.shape().dims(), y.shape().dims(), shape.dims());
    let outer = dims.len() - 2;
    let (rows, columns) = (dims[outer], dims[outer + 1]);
    let inner = dims_x[dims_x.len() - if tx { 2 } else { 1 }];
    // Distance between elements of a row of x, and of a column of y, and from one to the next.
    let step =
        |d: &[usize], transposed: bool| if transposed { (d[d.len() - 1], 1) } else { (1, d[d.len() - 1]) };
    let (x_inner, x_row) = step(dims_x, tx);
    let (y_column, y_inner) = step(dims_y, ty);
    let matrices = |d: &[usize]| {
        let (outer_dims, matrix) = d.split_at(d.len() - 2);
        let size: usize = matrix.iter().product();
        let strides: Vec<isize> =
            broadcast_strides(outer_dims, &dims[..outer]).iter().map(|&s| (s * size) as isize).collect();
        super::offsets(&dims[..outer], &strides, 0)
    };
    let (vx, vy) = (x.floats(), y.floats());
    let mut result = Vec::with_capacity(shape.elements());
    for (at_x, at_y) in matrices(dims_x).into_iter().zip(matrices(dims_y)) {
        for i in 0..rows {
            let row = at_x + i * x_row;
            for j in 0..columns {
                let column = at_y + j * y_column;
                let mut lanes = [0.0f32; 8];
                for k in 0..inner {
                    lanes[k % 8] += vx[row + k * x_inner] * vy[column + k * y_inner];
                }
                result.push(lanes.iter().sum());
            }
        }
    }
    Tensor::from_parts(shape.clone(), Data::F32(result))
}

fn conv(op: &Resolved<'_>) -> Result<Lowered, String> {
    let (x, w) = (op.args.shape("x")?.clone(), op.args.shape("weight")?.clone());
    let shape = result_shape(op);
    let spatial = x.rank() - 2;
    let ones = vec![1; spatial];
    let parse = |name: &str| -> Result<Vec<usize>, String> {
        Ok(op.args.ints(name)?.map_or_else(|| ones.clone(), |v| v.iter().map(|&v| v as usize).collect()))
    };
    let (stride, dilation) = (parse("strides")?, parse("dilations")?);
    let groups = op.args.int("groups")?.unwrap_or(1) as usize;
    let pad_type = op.args.string("pad_type")?.unwrap_or("valid");
    // Padding before the first element of each spatial axis; what is behind the last follows from the result's shape.
    let before: Vec<usize> = match pad_type {
        "valid" => vec![0; spatial],
        "custom" => op.args.ints("pad")?.unwrap_or_default().iter().step_by(2).map(|&p| p as usize).collect(),
        lower => (0..spatial)
            .map(|i| {
                let reach = (w.dims()[2 + i] - 1) * dilation[i] + 1;
                let total = ((shape.dims()[2 + i] - 1) * stride[i] + reach).saturating_sub(x.dims()[2 + i]);
                if lower == "same_lower" { total.div_ceil(2) } else { total / 2 }
            })
            .collect(),
    };
    let pointwise = w.dims()[2..].iter().all(|&k| k == 1)
        && groups == 1
        && stride.iter().all(|&s| s == 1)
        && x.dims()[2..].iter().all(|&s| s == 1)
        && before.iter().all(|&p| p == 0)
        && x.dims()[0] == 1;
    if pointwise && shape.dims()[2..].iter().all(|&s| s == 1) {
        return Ok(Lowered::one(&["x", "weight", "bias"], move |operands| {
            let bias = operands.get(2).map(|b| b.floats());
            let values = matvec(operands[1].floats(), operands[0].floats(), bias);
            Tensor::from_parts(shape.clone(), Data::F32(values))
        }));
    }
    let geometry = Geometry { x, w, shape, stride, dilation, before, groups };
    Ok(Lowered::one(&["x", "weight", "bias"], move |operands| {
        let bias = operands.get(2).map(|b| b.floats());
        geometry.convolve(operands[0].floats(), operands[1].floats(), bias)
    }))
}

/// A convolution over any number of spatial axes.
struct Geometry {
    x: Shape,
    w: Shape,
    shape: Shape,
    stride: Vec<usize>,
    dilation: Vec<usize>,
    before: Vec<usize>,
    groups: usize,
}

impl Geometry {
    fn convolve(&self, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Tensor {
        let (dx, dw, dy) = (self.x.dims(), self.w.dims(), self.shape.dims());
        let (sx, kernel) = (strides(dx), &dw[2..]);
        let taps: usize = kernel.iter().product();
        let places: usize = dy[2..].iter().product();
        let (tap_strides, place_strides) = (strides(kernel), strides(&dy[2..]));
        let per_group = dy[1] / self.groups;
        let mut result = Vec::with_capacity(self.shape.elements());
        for n in 0..dy[0] {
            for co in 0..dy[1] {
                let first_channel = co / per_group * dw[1];
                for place in 0..places {
                    let mut total = bias.map_or(0.0, |b| b[co]);
                    for tap in 0..taps {
                        // The offset of the element that this tap sees; `None` in the padding.
                        let seen = (0..kernel.len()).try_fold(0usize, |at, axis| {
                            let p = place / place_strides[axis] % dy[2 + axis];
                            let t = tap / tap_strides[axis] % kernel[axis];
                            let i = (p * self.stride[axis] + t * self.dilation[axis])
                                .checked_sub(self.before[axis])?;
                            (i < dx[2 + axis]).then(|| at + i * sx[2 + axis])
                        });
                        let Some(seen) = seen else { continue };
                        for ci in 0..dw[1] {
                            let weight = w[(co * dw[1] + ci) * taps + tap];
                            total += weight * x[n * sx[0] + (first_channel + ci) * sx[1] + seen];
                        }
                    }
                    result.push(total);
                }
            }
        }
        Tensor::from_parts(self.shape.clone(), Data::F32(result))
    }
}
