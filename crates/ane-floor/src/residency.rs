//! Counts of placed operations, with the definitions of the experiment.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::placed_operation::PlacedOperation;

/// A count of operations on the Neural Engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Operations on the Neural Engine.
    pub ane: usize,
    /// All operations.
    pub total: usize,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ane, self.total)
    }
}

/// Totals over the top-level operations of every function, defined as in the experiment, so that figures are
/// comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Residency {
    /// Over operations of type `conv`, `ios18.conv` or `ios18.convolution`.
    pub conv_ane: Count,
    /// Over operations whose type begins with neither `const` nor `ios18.constexpr`; reshape, cast,
    /// read_state and write_state count.
    pub compute_ane: Count,
}

impl Residency {
    /// Counts operations by device.
    pub fn of(operations: &[PlacedOperation]) -> Self {
        let count = |counts: fn(&str) -> bool| {
            let counted = || operations.iter().filter(|o| counts(&o.op));
            Count { ane: counted().filter(|o| o.device == Device::Ane).count(), total: counted().count() }
        };
        Self { conv_ane: count(is_conv), compute_ane: count(computes) }
    }

    /// Returns whether there is a convolution, and everything is on the Neural Engine.
    pub fn passes(&self) -> bool {
        let all = |c: Count| c.ane == c.total;
        self.conv_ane.total > 0 && all(self.conv_ane) && all(self.compute_ane)
    }
}

fn is_conv(op: &str) -> bool {
    matches!(op, "conv" | "ios18.conv" | "ios18.convolution")
}

/// Returns whether an operation counts among those that compute.
pub(crate) fn computes(op: &str) -> bool {
    !op.starts_with("const") && !op.starts_with("ios18.constexpr")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(op: &str, device: Device) -> PlacedOperation {
        PlacedOperation { op: op.into(), device, ..PlacedOperation::default() }
    }

    #[test]
    fn counts_as_the_experiment_does() {
        let operations = [
            placed("ios18.conv", Device::Ane),
            placed("conv", Device::Cpu),
            placed("ios18.convolution", Device::Unknown),
            placed("const", Device::Ane),
            placed("constexpr_lut_to_dense", Device::Ane),
            placed("ios18.constexpr_blockwise_shift_scale", Device::Ane),
            placed("ios18.reshape", Device::Ane),
            placed("write_state", Device::Gpu),
        ];
        let residency = Residency::of(&operations);
        assert_eq!(residency.conv_ane, Count { ane: 1, total: 3 });
        assert_eq!(residency.compute_ane, Count { ane: 2, total: 5 });
        assert!(!residency.passes());
    }

    #[test]
    fn a_pass_needs_a_convolution() {
        assert!(!Residency::of(&[placed("add", Device::Ane)]).passes());
        assert!(Residency::of(&[placed("add", Device::Ane), placed("conv", Device::Ane)]).passes());
        assert!(!Residency::of(&[placed("add", Device::Cpu), placed("conv", Device::Ane)]).passes());
    }
}
