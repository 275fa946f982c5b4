#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod blocks;
mod bundle;
mod error;
mod microgpt;
mod model_card;
mod options;
mod probe;
mod quantize;

pub use blocks::rms_norm;
pub use bundle::{StagedBundle, export, export_with_progress};
pub use error::{Error, Result};
pub use microgpt::stored_weights;
pub use options::{CacheUpdate, ExportOptions, NormForm, Projections, Quantization};
pub use probe::write_probe;
