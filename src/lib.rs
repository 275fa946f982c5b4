#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod benchmark;
pub mod boundary_picture;
mod chart;
pub mod energy;
pub mod export;
pub mod image_file;
pub mod loss_curve;
pub mod mac_report;
pub mod memory;
pub mod placement;
pub mod probe;
pub mod reference;
pub mod verification;

// Re-exports the crates that a user of the whole path needs.
pub use {ane_bundle, ane_export, ane_floor, ane_runtime, microgpt_model, mlpackage};
