#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod export;
pub mod placement;
pub mod reference;
pub mod verification;

// Re-exports the crates that a user of the whole path needs.
pub use {ane_export, ane_floor, ane_runtime, microgpt_model, mlpackage};
