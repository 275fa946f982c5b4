//! The table of MIL operations that builder, checker, text form and executor share.
//!
//! A row says which parameters an operation takes, which of them must be constants, since which opset it exists, and
//! how the types of its results follow from its arguments. Rows are grouped in files by what the operations do.

mod args;
mod constexpr;
mod elementwise;
mod linear;
mod movement;
mod normalization;
mod reduction;
mod spec;
mod state;

pub use args::{Arg, Args};
pub use movement::{SliceRange, slice_ranges};
pub use spec::{Default, Inferred, Kind, OpSpec, Param};

/// Every operation in the table, except `const`, whose type is that of its attribute `val`.
pub fn all() -> impl Iterator<Item = &'static OpSpec> {
    [
        elementwise::OPS,
        reduction::OPS,
        linear::OPS,
        normalization::OPS,
        movement::OPS,
        constexpr::OPS,
        state::OPS,
    ]
    .into_iter()
    .flatten()
}

/// The row of the operation called `name`.
pub fn lookup(name: &str) -> Option<&'static OpSpec> {
    all().find(|op| op.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_so_are_parameters() {
        let mut names: Vec<_> = all().map(|op| op.name).collect();
        let n = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), n);
        for op in all() {
            let mut params: Vec<_> = op.params.iter().map(|p| p.name).collect();
            params.sort_unstable();
            params.dedup();
            assert_eq!(params.len(), op.params.len(), "{}", op.name);
        }
    }
}
