//! An operation of a report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::Device;

/// An operation, where it runs, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlacedOperation {
    /// Name of its function.
    pub function: String,
    /// Name of its first result or, without results, of the operation.
    pub name: String,
    /// Its type.
    pub op: String,
    /// Where it runs.
    pub device: Device,
    /// The law, or the measurement, that determined the device.
    pub rule: String,
    /// The reason, in a sentence.
    pub reason: String,
    /// The confidence, 0 to 1: the record of the law, mostly on sources that it was not made from, or less
    /// near the law's threshold.
    pub confidence: f64,
    /// Its share of the function's cost, 0 to 1.
    pub cost: f64,
    /// The operations that it depends on, as indices into the report's list.
    pub sources: Vec<usize>,
    /// Its region: operations of one device that can run without another device in between. Regions are
    /// numbered in order of execution.
    pub region: usize,
}
