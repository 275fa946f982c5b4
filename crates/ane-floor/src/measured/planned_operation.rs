//! An operation of a compute plan.

use crate::device::Device;

/// An operation of a compute plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedOperation {
    /// Its position in the program, such as `functions.main.block.operations[3]`; longer for operations
    /// within blocks.
    pub path: String,
    /// Its type, with or without Core ML's opset prefix (`ios18.conv`).
    pub op: String,
    /// Names of its results.
    pub outputs: Vec<String>,
    /// The device that it is planned for; `None` if the plan does not state one.
    pub preferred: Option<Device>,
    /// The devices that it could run on.
    pub supported: Vec<Device>,
    /// Its share of the cost, as estimated by Core ML.
    pub cost: Option<f64>,
}

impl PlannedOperation {
    /// Returns its function, if it is not within a nested block.
    pub(super) fn function(&self) -> Option<&str> {
        let (function, index) = self.path.strip_prefix("functions.")?.split_once(".block.operations[")?;
        index.strip_suffix(']').filter(|index| index.bytes().all(|b| b.is_ascii_digit())).map(|_| function)
    }

    /// Returns its type without the opset.
    pub(super) fn bare_op(&self) -> &str {
        self.op.split_once('.').map_or(&self.op, |(_, op)| op)
    }
}
