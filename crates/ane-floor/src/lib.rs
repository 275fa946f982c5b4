#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod baseline;
mod comparison;
mod compiled_size;
pub mod corpus;
mod corpus_row;
mod decision;
mod device;
pub mod discovery;
mod error;
pub mod evaluation;
pub mod evidence;
mod features;
mod findings;
mod function_report;
pub mod html;
pub mod laws;
pub mod measured;
mod op_context;
mod placed_operation;
mod placement;
mod products;
mod report;
mod residency;
mod scaling;
mod suggestion;
mod text;
mod weight_info;

pub use baseline::regressions;
pub use comparison::{Comparison, Pair};
pub use compiled_size::CompiledSize;
pub use device::{Device, Verdict};
pub use error::{Error, Result};
pub use evaluation::Accuracy;
pub use evidence::Evidence;
pub use features::Features;
pub use findings::{PlacementFinding, PlacementFindingKind};
pub use function_report::{FunctionReport, LawOpinion};
pub use op_context::OpContext;
pub use placed_operation::PlacedOperation;
pub use report::{Basis, PlacementReport, REPORT_VERSION};
pub use residency::{Count, Residency};
pub use scaling::{Scaling, Scalings};
pub use suggestion::{Change, Suggestion};
pub use weight_info::Weight;
