#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod export;
mod placement;
mod reference;
mod verification;

pub use error::{Error, Result};
pub use export::{Exported, export, export_with_progress};
pub use placement::predict_placement;
pub use reference::BurnReference;
pub use verification::{Check, Transcript, Verification, VerifyOptions, verify};

// Re-exports the crates that a user of the whole path needs.
pub use {ane_bundle, ane_export, ane_floor, ane_runtime, microgpt_model, mlpackage};
