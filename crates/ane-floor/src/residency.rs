//! Where operations are placed, counted as the ane-book counts.

use std::fmt;

use mlpackage::mil::Program;
use serde::{Deserialize, Serialize};

/// A compute device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The Neural Engine.
    Ane,
    /// The CPU.
    Cpu,
    /// The GPU.
    Gpu,
    /// Not known. Counts as not the Neural Engine.
    Unknown,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ane => "ANE",
            Self::Cpu => "CPU",
            Self::Gpu => "GPU",
            Self::Unknown => "unknown",
        })
    }
}

/// An operation and its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlacedOperation {
    /// The function.
    pub function: String,
    /// Name of its first output, or of the state that it writes.
    pub name: String,
    /// Its type.
    pub op: String,
    /// Where it runs.
    pub device: Device,
    /// Name of the rule, or of the measurement, that says so.
    pub reason: String,
}

/// How many of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// On the Neural Engine.
    pub ane: usize,
    /// In all.
    pub total: usize,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ane, self.total)
    }
}

/// Totals over the top-level operations of every function, defined as the ane-book defines them, so that figures compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Residency {
    /// Over operations named `conv`, `ios18.conv` or `ios18.convolution`.
    pub conv_ane: Count,
    /// Over operations whose name begins with neither `const` nor `ios18.constexpr`: reshape, cast, read_state and
    /// write_state count.
    pub compute_ane: Count,
}

impl Residency {
    /// Counts.
    pub fn of(operations: &[PlacedOperation]) -> Self {
        let count = |counts: fn(&str) -> bool| {
            let counted = || operations.iter().filter(|o| counts(&o.op));
            Count { ane: counted().filter(|o| o.device == Device::Ane).count(), total: counted().count() }
        };
        Self { conv_ane: count(is_conv), compute_ane: count(is_compute) }
    }

    /// Whether there is a convolution, and everything is on the Neural Engine.
    pub fn passes(&self) -> bool {
        let all = |c: Count| c.ane == c.total;
        self.conv_ane.total > 0 && all(self.conv_ane) && all(self.compute_ane)
    }
}

fn is_conv(op: &str) -> bool {
    matches!(op, "conv" | "ios18.conv" | "ios18.convolution")
}

fn is_compute(op: &str) -> bool {
    !op.starts_with("const") && !op.starts_with("ios18.constexpr")
}

/// Every operation of a program that is more than a constant, placed by `place`.
pub(crate) fn place(
    program: &Program,
    place: impl Fn(&mlpackage::mil::Operation) -> (Device, String),
) -> Vec<PlacedOperation> {
    let mut placed = Vec::new();
    for (function, f) in &program.functions {
        for operation in f.block.operations.iter().filter(|o| is_compute(&o.op)) {
            let (device, reason) = place(operation);
            let name = operation.outputs.first().map(|o| o.name.clone());
            let own_name =
                || operation.attributes.get("name").and_then(|v| v.as_str()).unwrap_or("?").to_owned();
            placed.push(PlacedOperation {
                function: function.clone(),
                name: name.unwrap_or_else(own_name),
                op: operation.op.clone(),
                device,
                reason,
            });
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(op: &str, device: Device) -> PlacedOperation {
        PlacedOperation {
            function: "main".into(),
            name: "v".into(),
            op: op.into(),
            device,
            reason: String::new(),
        }
    }

    #[test]
    fn counts_as_the_ane_book_counts() {
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
