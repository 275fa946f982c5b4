//! The crate's integration tests. They are one binary, because each binary is linked separately.
#![allow(clippy::unwrap_used)]

mod foreign_packages;
mod page;
mod prediction;
mod recorded_plans;
