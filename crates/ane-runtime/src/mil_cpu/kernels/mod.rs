//! What each operation computes, in f32 and i32, written to be read: the semantics of MIL come before speed here.
//!
//! Every element is a word of four bytes: an f32 for fp16 and fp32, an i32 for integers of every width, 0 or 1 for bools.
//! What only moves elements therefore needs one kernel for all types.

mod activation;
mod attention;
mod classifier;
mod conv;
mod creation;
mod detection;
mod elementwise;
mod gather;
mod join;
mod linear;
mod normalization;
mod pooling;
mod quantization;
mod recurrent;
mod reduction;
mod reshape;
mod resize;
mod slice;
mod walk;

use mlpackage::ops::Args;
use mlpackage::{DType, Shape};

use super::packed::Packed;
pub(super) use creation::is_non_zero;
pub(super) use walk::MAX_RANK;

/// An operation with everything known of it but the values: what a kernel is lowered from.
pub(super) struct Node<'a> {
    /// Type of the operation.
    pub(super) op: &'a str,
    pub(super) args: Args<'a>,
    /// Type and shape of each result.
    pub(super) results: Vec<(DType, Shape)>,
}

impl Node<'_> {
    /// The shape of an argument.
    fn shape(&self, name: &str) -> Result<Shape, String> {
        Ok(self.args.shape(name)?)
    }

    /// The shape of the first result.
    fn result(&self) -> Shape {
        self.results[0].1.clone()
    }

    /// Element type of an argument.
    fn dtype(&self, name: &str) -> Result<DType, String> {
        Ok(self.args.ty(name)?.dtype)
    }

    /// Whether an argument is bound.
    fn has(&self, name: &str) -> bool {
        self.args.get(name).is_some()
    }

    /// The axis that an argument names, `default` if it is missing.
    fn axis(&self, name: &str, shape: &Shape, default: i32) -> Result<usize, String> {
        let axis = self.args.int(name)?.unwrap_or(default);
        shape.axis(axis).ok_or_else(|| format!("{name} {axis} is outside of {shape}"))
    }
}

/// An operand of a call.
#[derive(Clone, Copy)]
pub(super) enum Operand<'a> {
    /// An element in each word.
    Words(&'a [u32]),
    /// A constant as it is stored.
    Packed(&'a Packed),
}

impl Operand<'_> {
    /// `len` elements from `start` on; in `buffer`, if the operand is packed.
    fn read<'b>(&'b self, start: usize, len: usize, buffer: &'b mut [f32]) -> &'b [f32] {
        match self {
            Operand::Words(words) => bytemuck::cast_slice(&words[start..start + len]),
            Operand::Packed(packed) => {
                let buffer = &mut buffer[..len];
                packed.read(start, buffer);
                buffer
            }
        }
    }
}

/// The elements of two slices in pairs.
///
/// # Panics
///
/// If the slices differ in length, where a plain `zip` would leave the rest of the result as it was.
fn pairs<'o, 'x, T, U>(out: &'o mut [T], x: &'x [U]) -> impl Iterator<Item = (&'o mut T, &'x U)> {
    assert_eq!(out.len(), x.len(), "a result has an element for each of the operand");
    out.iter_mut().zip(x)
}

/// What a kernel is called with.
pub(super) struct Call<'a, 'r> {
    /// In the order that [`Lowered::operands`] gives.
    pub(super) operands: &'a [Operand<'a>],
    /// A slice of the right length for each result.
    pub(super) results: &'a mut [&'r mut [u32]],
    /// States that are read and written in place.
    pub(super) states: &'a mut [&'r mut [u32]],
    /// Room for as many numbers as [`Lowered::scratch`] says.
    pub(super) scratch: &'a mut [f32],
}

impl<'a> Call<'a, '_> {
    /// The words of an operand.
    fn words(&self, i: usize) -> &'a [u32] {
        match self.operands[i] {
            Operand::Words(words) => words,
            Operand::Packed(_) => unreachable!("only what Lowered::packed names stays packed"),
        }
    }

    /// The elements of an operand of floats.
    pub(super) fn f32(&self, i: usize) -> &'a [f32] {
        bytemuck::cast_slice(self.words(i))
    }

    /// The elements of an operand of integers.
    fn i32(&self, i: usize) -> &'a [i32] {
        bytemuck::cast_slice(self.words(i))
    }

    /// The elements of an operand that may be missing, and is then no operand.
    fn maybe(&self, i: Option<usize>) -> Option<&'a [f32]> {
        i.map(|i| self.f32(i))
    }

    /// Whether operand `i` is the same memory in every one of `calls`, as constants are.
    fn share(calls: &[Self], i: usize) -> bool {
        calls.windows(2).all(|pair| match (pair[0].operands[i], pair[1].operands[i]) {
            (Operand::Words(a), Operand::Words(b)) => std::ptr::eq(a, b),
            (Operand::Packed(a), Operand::Packed(b)) => std::ptr::eq(a, b),
            _ => false,
        })
    }

    /// The first result, as words.
    fn out(&mut self) -> &mut [u32] {
        self.results[0]
    }

    /// The first result, as floats.
    pub(super) fn out_f32(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.results[0])
    }

    /// The first result, as integers.
    fn out_i32(&mut self) -> &mut [i32] {
        bytemuck::cast_slice_mut(self.results[0])
    }
}

/// What a kernel may find out only when it sees the values: an index out of range, for one.
pub(super) type Outcome = Result<(), String>;

/// An operation whose parameters are parsed.
pub(super) trait Kernel: Send + Sync {
    /// Computes the results.
    fn run(&self, call: &mut Call<'_, '_>) -> Outcome;

    /// Computes the results of several sequences, which share every packed operand.
    fn run_batch(&self, calls: &mut [Call<'_, '_>]) -> Outcome {
        calls.iter_mut().try_for_each(|call| self.run(call))
    }

    /// Whether the result is `weight [d_out, d_in]` times each row of `x [.., d_in]`, plus `bias`, and nothing else. The
    /// kernel answers, since whoever lowered it has looked at every parameter: strides, padding, groups, element types.
    fn is_matrix_product(&self) -> bool {
        false
    }
}

impl<F: Fn(&mut Call<'_, '_>) -> Outcome + Send + Sync> Kernel for F {
    fn run(&self, call: &mut Call<'_, '_>) -> Outcome {
        self(call)
    }
}

/// A kernel and the parameters that it takes as operands; every other one was parsed into it.
pub(super) struct Lowered {
    pub(super) kernel: Box<dyn Kernel>,
    /// Names of parameters; of variadic ones every binding, of missing ones none.
    pub(super) operands: &'static [&'static str],
    /// Those that may stay packed if they are constants.
    pub(super) packed: &'static [&'static str],
    /// Numbers of scratch memory.
    pub(super) scratch: usize,
    /// Whether the call can fail.
    pub(super) fallible: bool,
}

impl Lowered {
    /// A kernel that cannot fail.
    fn new(
        operands: &'static [&'static str],
        kernel: impl Fn(&mut Call<'_, '_>) + Send + Sync + 'static,
    ) -> Self {
        let kernel = move |call: &mut Call<'_, '_>| {
            kernel(call);
            Ok(())
        };
        Self { fallible: false, ..Self::fallible(operands, kernel) }
    }

    /// A kernel that can fail.
    fn fallible(
        operands: &'static [&'static str],
        kernel: impl Fn(&mut Call<'_, '_>) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        Self { kernel: Box::new(kernel), operands, packed: &[], scratch: 0, fallible: true }
    }

    /// A kernel that knows how to run several sequences at once, and cannot fail.
    fn batched(operands: &'static [&'static str], kernel: impl Kernel + 'static) -> Self {
        Self { kernel: Box::new(kernel), operands, packed: &[], scratch: 0, fallible: false }
    }

    fn packed(mut self, names: &'static [&'static str]) -> Self {
        self.packed = names;
        self
    }

    fn scratch(mut self, numbers: usize) -> Self {
        self.scratch = numbers;
        self
    }
}

/// Where an optional parameter is among the operands, given those that are named before it.
fn position(node: &Node<'_>, operands: &[&str], name: &str) -> Option<usize> {
    let before = operands.iter().take_while(|n| **n != name);
    node.has(name).then(|| before.filter(|n| node.has(n)).count())
}

/// The kernel of an operation, or what is missing.
pub(super) fn lower(node: &Node<'_>) -> Result<Lowered, String> {
    type Family = fn(&Node<'_>) -> Result<Option<Lowered>, String>;
    const FAMILIES: [Family; 18] = [
        elementwise::lower,
        activation::lower,
        reduction::lower,
        linear::lower,
        attention::lower,
        conv::lower,
        pooling::lower,
        normalization::lower,
        reshape::lower,
        slice::lower,
        join::lower,
        gather::lower,
        creation::lower,
        resize::lower,
        quantization::lower,
        recurrent::lower,
        detection::lower,
        classifier::lower,
    ];
    for family in FAMILIES {
        if let Some(lowered) = family(node)? {
            return Ok(lowered);
        }
    }
    Err(node.op.to_owned())
}
