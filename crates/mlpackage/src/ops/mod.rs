//! The table of MIL operations that builder, checker, text form and executor share.
//!
//! A row says which parameters an operation takes, which of them must be constants, since which opset it exists, and
//! how the types of its results follow from its arguments. Rows are grouped in files by what the operations do.

mod activation;
mod args;
mod constexpr;
mod control;
mod creation;
mod elementwise;
mod gather;
mod join;
mod kind;
mod linear;
mod normalization;
mod pooling;
mod quantization;
mod reduction;
mod reshape;
mod resize;
mod slice;
mod spatial;
mod spec;
mod state;
mod unknown;

use std::collections::HashMap;
use std::sync::LazyLock;

pub use args::{Arg, Args, BlockTypes};
pub use kind::Kind;
pub use slice::{SliceBounds, SliceRange};
pub use spec::{Default, Inferred, OpSpec, Param};
pub(crate) use unknown::unknown;

/// Every operation in the table, except `const`, whose type is that of its attribute `val`.
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
        join::OPS,
        gather::OPS,
        creation::OPS,
        resize::OPS,
        quantization::OPS,
        constexpr::OPS,
        state::OPS,
        control::OPS,
    ]
    .into_iter()
    .flatten()
}

/// The row of the operation called `name`.
pub fn lookup(name: &str) -> Option<&'static OpSpec> {
    static BY_NAME: LazyLock<HashMap<&str, &OpSpec>> =
        LazyLock::new(|| all().map(|op| (op.name, op)).collect());
    BY_NAME.get(name).copied()
}

/// Operations that Core ML has and the table has not: lists, recurrent layers and what ends a classifier or detector.
/// Programs with them are read, written and printed; their types are taken as declared.
const UNCHECKED: [&str; 14] = [
    "affine",
    "classify",
    "crop_resize",
    "gru",
    "list_gather",
    "list_length",
    "list_read",
    "list_scatter",
    "list_write",
    "lstm",
    "make_list",
    "non_maximum_suppression",
    "random_categorical",
    "rnn",
];

/// Whether Core ML has the operation and the table has not, so that its types are taken as declared.
pub fn is_unchecked(name: &str) -> bool {
    UNCHECKED.contains(&name)
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
