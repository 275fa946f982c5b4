//! Operations that move elements without computing with them.

use mlpackage::Shape;
use mlpackage::mil::Resolved;
use mlpackage::ops::slice_ranges;

use super::{Lowered, offsets, result_shape, strides};
use crate::tensor::{Data, Tensor};

pub(super) fn lower(op: &Resolved<'_>) -> Result<Option<Lowered>, String> {
    let lowered = match op.operation.op.as_str() {
        "identity" | "reshape" | "expand_dims" | "squeeze" => {
            let shape = result_shape(op);
            Lowered::one(&["x"], move |operands| {
                Tensor::from_parts(shape.clone(), operands[0].data().clone())
            })
        }
        "transpose" => {
            let x = op.args.shape("x")?;
            let own = strides(x.dims());
            let perm = op.args.ints("perm")?.unwrap_or_default();
            let along: Option<Vec<isize>> =
                perm.iter().map(|&p| x.axis(p).map(|a| own[a] as isize)).collect();
            let shape = result_shape(op);
            gather(offsets(shape.dims(), &along.ok_or("transpose")?, 0), shape)
        }
        "slice_by_index" => {
            let own = strides(op.args.shape("x")?.dims());
            let ranges = slice_ranges(&op.args)?;
            let start = ranges.iter().zip(&own).map(|(r, s)| r.begin * s).sum();
            let dims: Vec<usize> = ranges.iter().map(|r| r.len).collect();
            let along: Vec<isize> = ranges.iter().zip(&own).map(|(r, &s)| r.step * s as isize).collect();
            gather(offsets(&dims, &along, start), result_shape(op))
        }
        "concat" => {
            if op.args.bool_or("interleave", false)? {
                return Err("concat with interleave".into());
            }
            let shape = result_shape(op);
            let axis = op.args.axis("axis", &super::super::tensor_of(&op.operation.outputs[0]).shape)?;
            Lowered::one(&["values"], move |operands| concat(operands, axis, &shape))
        }
        "split" => {
            let x = op.args.shape("x")?;
            let axis = op.args.axis("axis", op.args.dims("x")?)?;
            let own = strides(x.dims());
            let along: Vec<isize> = own.iter().map(|&s| s as isize).collect();
            let mut begin = 0;
            let parts: Vec<(Vec<usize>, Shape)> = op
                .operation
                .outputs
                .iter()
                .map(|output| {
                    let shape = super::super::fixed(super::super::tensor_of(output));
                    let at = offsets(shape.dims(), &along, begin * own[axis]);
                    begin += shape.dims()[axis];
                    (at, shape)
                })
                .collect();
            Lowered::new(&["x"], move |operands: &[&Tensor]| {
                parts.iter().map(|(at, shape)| pick(operands[0], at, shape)).collect()
            })
        }
        _ => return Ok(None),
    };
    Ok(Some(lowered))
}

/// A kernel that picks the elements at fixed offsets.
fn gather(at: Vec<usize>, shape: Shape) -> Lowered {
    Lowered::one(&["x"], move |operands| pick(operands[0], &at, &shape))
}

fn pick(x: &Tensor, at: &[usize], shape: &Shape) -> Tensor {
    let data = match x.data() {
        Data::F32(v) => Data::F32(at.iter().map(|&i| v[i]).collect()),
        Data::I32(v) => Data::I32(at.iter().map(|&i| v[i]).collect()),
        Data::Bool(v) => Data::Bool(at.iter().map(|&i| v[i]).collect()),
    };
    Tensor::from_parts(shape.clone(), data)
}

fn concat(operands: &[&Tensor], axis: usize, shape: &Shape) -> Tensor {
    fn join<'a, T: Copy + 'a>(
        operands: &[&'a Tensor],
        axis: usize,
        shape: &Shape,
        read: impl Fn(&'a Tensor) -> &'a [T],
    ) -> Vec<T> {
        let outer: usize = shape.dims()[..axis].iter().product();
        let mut result = Vec::with_capacity(shape.elements());
        for i in 0..outer {
            for operand in operands {
                let run: usize = operand.shape().dims()[axis..].iter().product();
                result.extend_from_slice(&read(operand)[i * run..(i + 1) * run]);
            }
        }
        result
    }
    let data = match operands[0].data() {
        Data::F32(_) => Data::F32(join(operands, axis, shape, Tensor::floats)),
        Data::I32(_) => Data::I32(join(operands, axis, shape, |t| match t.data() {
            Data::I32(v) => v.as_slice(),
            _ => unreachable!("values of one type, checked at load"),
        })),
        Data::Bool(_) => Data::Bool(join(operands, axis, shape, |t| match t.data() {
            Data::Bool(v) => v.as_slice(),
            _ => unreachable!("values of one type, checked at load"),
        })),
    };
    Tensor::from_parts(shape.clone(), data)
}
