//! The table of MIL operations, shared by builder, checker, text form and executor.
//!
//! An entry states an operation's parameters, which of them must be constants, the first opset that has the
//! operation, and how the types of its results are inferred. Entries are grouped in files by purpose.

mod activation;
mod args;
mod check_arguments;
mod classifier;
mod constexpr;
mod control;
mod creation;
mod detection;
mod dtype_constraint;
mod elementwise;
mod linear;
mod list;
mod normalization;
mod pooling;
mod quantization;
mod recurrent;
mod reduction;
mod reshape;
mod resize;
mod scatter_gather;
mod slice;
mod spatial;
mod spec;
mod state;
mod tensor_operation;
mod unknown;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::mil::Dim;

pub use args::{Arg, Args, BlockTypes};
pub use dtype_constraint::DTypeConstraint;
pub use slice::{SliceBounds, SliceRange, box_begin};
pub use spec::{Default, Inferred, InferredValues, OpSpec, Param};
pub(crate) use unknown::unknown;

/// Returns all operations in the table. It lacks `const`, whose type is that of its attribute `val`.
pub fn all() -> impl Iterator<Item = &'static OpSpec> {
    [
        elementwise::OPS,
        activation::OPS,
        reduction::OPS,
        linear::OPS,
        pooling::OPS,
        normalization::OPS,
        reshape::OPS,
        slice::OPS,
        tensor_operation::OPS,
        scatter_gather::OPS,
        creation::OPS,
        resize::OPS,
        quantization::OPS,
        constexpr::OPS,
        state::OPS,
        control::OPS,
        list::OPS,
        recurrent::OPS,
        detection::OPS,
        classifier::OPS,
    ]
    .into_iter()
    .flatten()
}

/// Returns the table entry of the operation called `name`.
pub fn lookup(name: &str) -> Option<&'static OpSpec> {
    static BY_NAME: LazyLock<HashMap<&str, &OpSpec>> =
        LazyLock::new(|| all().map(|op| (op.name, op)).collect());
    BY_NAME.get(name).copied()
}

/// Returns the dimensions that coremltools up to 9.0 declares for a result if they differ from the actual
/// dimensions; `None` if coremltools declares them correctly.
///
/// coremltools' inference ignores the condition of `select`. For `reshape` of an `x` with unknown dimensions,
/// it keeps the zeros of the given shape. Such packages are correct nevertheless, because the declaration
/// does not affect what an operation computes.
pub fn declared_otherwise(op: &str, args: &Args<'_>) -> Option<crate::mil::Dims> {
    match op {
        "select" => args.dims("a").ok()?.broadcast(args.dims("b").ok()?),
        "reshape" if args.dims("x").ok()?.known().is_none() => {
            let shape = args.ints_if_known("shape")?;
            let dims = shape.iter().map(|&d| usize::try_from(d).map_or(Dim::Unknown, Dim::Known));
            Some(dims.collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mil::Opset;

    #[test]
    fn names_are_unique_and_so_are_parameters() {
        let mut names: Vec<_> = all().map(|op| op.name).collect();
        let n = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), n);
        for (op, opset) in all().flat_map(|op| Opset::ALL.map(|opset| (op, opset))) {
            let mut params: Vec<_> = op.params_of(opset).map(|p| p.name).collect();
            let n = params.len();
            params.sort_unstable();
            params.dedup();
            assert_eq!(params.len(), n, "{} in {opset}", op.name);
        }
    }
}
