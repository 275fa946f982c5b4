//! What each operation computes, in f32, written to be read: the semantics of MIL come before speed here.

mod constexpr;
mod elementwise;
mod linear;
mod movement;
mod reduction;

use mlpackage::mil::Resolved;

use crate::tensor::Tensor;

pub(super) use constexpr::dequantize;

/// An operation whose parameters are parsed. It cannot fail: types and shapes were checked at load.
pub(super) trait Kernel: Send + Sync {
    /// The results, from the operands in the order that [`Lowered::operands`] gives.
    fn run(&self, operands: &[&Tensor]) -> Vec<Tensor>;
}

impl<F: Fn(&[&Tensor]) -> Vec<Tensor> + Send + Sync> Kernel for F {
    fn run(&self, operands: &[&Tensor]) -> Vec<Tensor> {
        self(operands)
    }
}

/// A kernel and the parameters that it takes as tensors; every other one was parsed into it.
pub(super) struct Lowered {
    pub(super) kernel: Box<dyn Kernel>,
    pub(super) operands: &'static [&'static str],
}

impl Lowered {
    fn new(operands: &'static [&'static str], kernel: impl Kernel + 'static) -> Self {
        Self { kernel: Box::new(kernel), operands }
    }

    /// A kernel of one result.
    fn one(
        operands: &'static [&'static str],
        kernel: impl Fn(&[&Tensor]) -> Tensor + Send + Sync + 'static,
    ) -> Self {
        Self::new(operands, move |operands: &[&Tensor]| vec![kernel(operands)])
    }
}

/// Operations whose kernels take integers and bools as well as floats.
const TAKES_INTEGERS: [&str; 23] = [
    "add",
    "sub",
    "mul",
    "real_div",
    "maximum",
    "minimum",
    "pow",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "cast",
    "select",
    "identity",
    "reshape",
    "expand_dims",
    "squeeze",
    "transpose",
    "slice_by_index",
    "concat",
    "split",
];

/// The kernel of an operation, or what is missing.
pub(super) fn lower(op: &Resolved<'_>) -> Result<Lowered, String> {
    let floats = |name: &str| op.args.get(name).is_none_or(|a| a.ty.dtype.is_float());
    if !TAKES_INTEGERS.contains(&op.operation.op.as_str()) && !["x", "y", "weight"].into_iter().all(floats) {
        return Err(format!("{} of {}", op.operation.op, op.args.ty("x")?.dtype));
    }
    for family in [elementwise::lower, reduction::lower, linear::lower, movement::lower] {
        if let Some(lowered) = family(op)? {
            return Ok(lowered);
        }
    }
    Err(op.operation.op.clone())
}

/// The shape of an operation's only result.
fn result_shape(op: &Resolved<'_>) -> mlpackage::Shape {
    super::fixed(super::tensor_of(&op.operation.outputs[0]))
}

/// Distance in elements between neighbours on each axis of a row-major tensor.
fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    strides
}

/// Strides by which a tensor of `from` is walked in step with one of `to` that it broadcasts to.
fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<usize> {
    let missing = to.len() - from.len();
    let own = strides(from);
    (0..to.len()).map(|i| if i < missing || from[i - missing] == 1 { 0 } else { own[i - missing] }).collect()
}

/// Offsets of every element of `dims` in row-major order, under `strides`, from `start`.
fn offsets(dims: &[usize], strides: &[isize], start: usize) -> Vec<usize> {
    let count: usize = dims.iter().product();
    let mut offsets = Vec::with_capacity(count);
    let mut index = vec![0usize; dims.len()];
    let mut at = start as isize;
    for _ in 0..count {
        offsets.push(at as usize);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            at -= strides[axis] * dims[axis] as isize;
            index[axis] = 0;
        }
    }
    offsets
}
