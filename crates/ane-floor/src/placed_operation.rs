//! An operation of a report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::Device;

/// An operation, where it runs, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlacedOperation {
    /// The function.
    pub function: String,
    /// Name of its first output, or of the operation where it writes a state.
    pub name: String,
    /// Its type.
    pub op: String,
    /// Where it runs.
    pub device: Device,
    /// The law, or the measurement, that says so.
    pub rule: String,
    /// Why, in a sentence.
    pub reason: String,
    /// How sure that is, 0 to 1: by the record of the law on sources that it was not made from, less where the graph is near
    /// the law's threshold.
    pub confidence: f64,
    /// Its share of the function's cost, 0 to 1.
    pub cost: f64,
    /// The operations that it takes its values from, by their place in the report's list.
    pub sources: Vec<usize>,
    /// The region that it is in: operations of one device that can run without another device in between. Numbers are in
    /// order of execution.
    pub region: usize,
}
