//! The kernels of all operations, in f32 and i32, written for clarity: the semantics of MIL come before speed
//! here.
//!
//! Every element is a word of four bytes: an f32 for fp16 and fp32, an i32 for integers of every width, 0 or
//! 1 for bools. A kernel that only moves elements therefore works for all types.

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
mod strided;

use mlpackage::ops::Args;
use mlpackage::{DType, Shape};

use super::compressed::Packed;
pub(super) use creation::is_non_zero;
pub(super) use strided::MAX_RANK;

/// An operation of which everything but the values of operands is known. A kernel is lowered from it.
pub(super) struct Node<'a> {
    /// Type of the operation.
    pub(super) op: &'a str,
    pub(super) args: Args<'a>,
    /// Type and shape of each result.
    pub(super) results: Vec<(DType, Shape)>,
}

impl Node<'_> {
    /// Returns the shape of an argument.
    fn shape(&self, name: &str) -> Result<Shape, String> {
        Ok(self.args.shape(name)?)
    }

    /// Returns the shape of the first result.
    fn result(&self) -> Shape {
        self.results[0].1.clone()
    }

    /// Returns the element type of an argument.
    fn dtype(&self, name: &str) -> Result<DType, String> {
        Ok(self.args.ty(name)?.dtype)
    }

    /// Returns whether an argument is bound.
    fn has(&self, name: &str) -> bool {
        self.args.get(name).is_some()
    }

    /// Returns the axis that an argument names, or `default` if it is missing.
    fn axis(&self, name: &str, shape: &Shape, default: i32) -> Result<usize, String> {
        let axis = self.args.int(name)?.unwrap_or(default);
        shape.axis(axis).ok_or_else(|| format!("{name} {axis} is outside of {shape}"))
    }
}

/// An operand of a call.
#[derive(Clone, Copy)]
pub(super) enum Operand<'a> {
    /// One element in each word.
    Words(&'a [u32]),
    /// A constant as it is stored.
    Packed(&'a Packed),
}

impl Operand<'_> {
    /// Returns `len` elements from `start`, unpacked into `buffer` if the operand is packed.
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

/// Returns the elements of two slices in pairs.
///
/// # Panics
///
/// Panics if the slices differ in length. A plain `zip` would leave the rest of the result unchanged.
fn pairs<'o, 'x, T, U>(out: &'o mut [T], x: &'x [U]) -> impl Iterator<Item = (&'o mut T, &'x U)> {
    assert_eq!(out.len(), x.len(), "a result has an element for each of the operand");
    out.iter_mut().zip(x)
}

/// The arguments of a kernel call.
pub(super) struct Call<'a, 'r> {
    /// In the order of [`Lowered::operands`].
    pub(super) operands: &'a [Operand<'a>],
    /// A slice of the right length for each result.
    pub(super) results: &'a mut [&'r mut [u32]],
    /// States that are read and written in place.
    pub(super) states: &'a mut [&'r mut [u32]],
    /// Scratch memory of [`Lowered::scratch`] elements.
    pub(super) scratch: &'a mut [f32],
}

impl<'a> Call<'a, '_> {
    /// Returns the words of an operand.
    fn words(&self, i: usize) -> &'a [u32] {
        match self.operands[i] {
            Operand::Words(words) => words,
            Operand::Packed(_) => unreachable!("only what Lowered::packed names stays packed"),
        }
    }

    /// Returns the elements of an operand of floats.
    pub(super) fn f32(&self, i: usize) -> &'a [f32] {
        bytemuck::cast_slice(self.words(i))
    }

    /// Returns the elements of an operand of integers.
    fn i32(&self, i: usize) -> &'a [i32] {
        bytemuck::cast_slice(self.words(i))
    }

    /// Returns the elements of an optional operand; `None` if it is missing.
    fn maybe(&self, i: Option<usize>) -> Option<&'a [f32]> {
        i.map(|i| self.f32(i))
    }

    /// Returns whether all `calls` read operand `i` from the same memory. This is true of constants.
    fn share(calls: &[Self], i: usize) -> bool {
        calls.windows(2).all(|pair| match (pair[0].operands[i], pair[1].operands[i]) {
            (Operand::Words(a), Operand::Words(b)) => std::ptr::eq(a, b),
            (Operand::Packed(a), Operand::Packed(b)) => std::ptr::eq(a, b),
            _ => false,
        })
    }

    /// Returns the first result as words.
    fn out(&mut self) -> &mut [u32] {
        self.results[0]
    }

    /// Returns the first result as floats.
    pub(super) fn out_f32(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.results[0])
    }

    /// Returns the first result as integers.
    fn out_i32(&mut self) -> &mut [i32] {
        bytemuck::cast_slice_mut(self.results[0])
    }
}

/// The outcome of a kernel. An error is one that only the values show, such as an index out of range.
pub(super) type Outcome = Result<(), String>;

/// An operation with parsed parameters.
pub(super) trait Kernel: Send + Sync {
    /// Computes the results.
    fn run(&self, call: &mut Call<'_, '_>) -> Outcome;

    /// Computes the results of several sequences, which share every packed operand.
    fn run_batch(&self, calls: &mut [Call<'_, '_>]) -> Outcome {
        calls.iter_mut().try_for_each(|call| self.run(call))
    }

    /// Returns whether the result is `weight [d_out, d_in]` times each row of `x [.., d_in]`, plus `bias`,
    /// and nothing else.
    ///
    /// The kernel answers this because lowering has checked every parameter: strides, padding, groups,
    /// element types.
    fn is_matrix_product(&self) -> bool {
        false
    }
}

impl<F: Fn(&mut Call<'_, '_>) -> Outcome + Send + Sync> Kernel for F {
    fn run(&self, call: &mut Call<'_, '_>) -> Outcome {
        self(call)
    }
}

/// A kernel and the parameters that it reads as operands. All other parameters were parsed into the kernel.
pub(super) struct Lowered {
    pub(super) kernel: Box<dyn Kernel>,
    /// Names of the parameters. A variadic one stands for all of its bindings, a missing one for none.
    pub(super) operands: &'static [&'static str],
    /// Parameters whose constants may stay packed.
    pub(super) packed: &'static [&'static str],
    /// Number of f32 elements of scratch memory.
    pub(super) scratch: usize,
    /// Whether the call can fail.
    pub(super) fallible: bool,
}

impl Lowered {
    /// Creates a kernel that cannot fail.
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

    /// Creates a kernel that can fail.
    fn fallible(
        operands: &'static [&'static str],
        kernel: impl Fn(&mut Call<'_, '_>) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        Self { kernel: Box::new(kernel), operands, packed: &[], scratch: 0, fallible: true }
    }

    /// Creates a kernel that runs several sequences at once and cannot fail.
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

/// Returns the index of an optional parameter among the operands, which depends on those that are bound
/// before it.
fn position(node: &Node<'_>, operands: &[&str], name: &str) -> Option<usize> {
    let before = operands.iter().take_while(|n| **n != name);
    node.has(name).then(|| before.filter(|n| node.has(n)).count())
}

/// Returns the kernel of an operation, or what the engine lacks.
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
