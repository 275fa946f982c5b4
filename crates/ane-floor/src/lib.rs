#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accuracy;
mod baseline;
mod change;
mod comparison;
mod compiled_size;
pub mod corpus;
mod decision;
mod device;
pub mod discovery;
mod error;
pub mod evidence;
mod features;
mod findings;
mod function_report;
pub mod html;
pub mod laws;
pub mod measured;
mod placed_operation;
mod placement;
mod report;
mod residency;
mod row;
mod scaling;
mod site;
mod text;
mod weight;

pub use accuracy::Accuracy;
pub use baseline::regressions;
pub use change::{Change, Edit};
pub use comparison::{Comparison, Pair};
pub use compiled_size::CompiledSize;
pub use device::{Device, Outcome};
pub use error::{Error, Result};
pub use evidence::Evidence;
pub use features::Features;
pub use findings::{Finding, FindingKind};
pub use function_report::{FunctionReport, LawOpinion};
pub use placed_operation::PlacedOperation;
pub use report::{Basis, PlacementReport, REPORT_VERSION};
pub use residency::{Count, Residency};
pub use scaling::{Scaling, Scalings};
pub use site::Site;
pub use weight::Weight;
