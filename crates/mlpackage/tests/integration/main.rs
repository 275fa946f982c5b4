//! The crate's integration tests. They are one binary, because each binary is linked separately.
#![allow(clippy::unwrap_used)]

mod builder;
mod documented_rules;
mod every_operation;
mod fixtures;
mod package;
mod registry;
mod text;
