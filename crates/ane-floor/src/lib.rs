#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod compiled_size;
pub mod corpus;
mod error;
pub mod laws;
mod report;
mod residency;
mod scaling;

pub use compiled_size::CompiledSize;
pub use error::{Error, Result};
pub use report::{Basis, PlacementReport};
pub use residency::{Count, Device, PlacedOperation, Residency};
pub use scaling::{Scaling, Scalings};
