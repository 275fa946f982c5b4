//! The placement report: one type, whoever made it.

use std::fmt;

use mlpackage::Package;
use mlpackage::bundle::Architecture;
use serde::Serialize;

use crate::compiled_size::CompiledSize;
use crate::error::Result;
use crate::laws::Floor;
use crate::laws::megabytes;
use crate::residency::{Device, PlacedOperation, Residency, place};
use crate::scaling::{Scaling, Scalings};

/// Who says where operations run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// A law. Nothing was run.
    Predicted,
    /// `MLComputePlan`, on a Mac.
    Measured,
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Predicted => "predicted",
            Self::Measured => "measured",
        })
    }
}

/// Where a package's operations run, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlacementReport {
    /// The package.
    pub package: String,
    /// Who says so.
    pub basis: Basis,
    /// The device of the package as a whole.
    pub verdict: Device,
    /// Totals.
    pub residency: Residency,
    /// Whether there is a convolution, and everything is on the Neural Engine.
    pub pass: bool,
    /// Estimated compiled size.
    pub compiled: CompiledSize,
    /// Sum of [`compiled`](Self::compiled).
    pub compiled_bytes: u64,
    /// What the law of the floor says.
    pub floor: Floor,
    /// What would clear the floor; `None` if it is cleared, or the decoder's dimensions are not known.
    pub scalings: Option<Scalings>,
    /// Every operation but constants.
    pub operations: Vec<PlacedOperation>,
}

impl PlacementReport {
    /// Predicts the placement of a package by the law of the floor. `decoder` gives the dimensions that could be scaled, where
    /// they are known: those of a bundle.
    ///
    /// # Errors
    ///
    /// The first rule of MIL that the package breaks: what Core ML would not load has no placement.
    pub fn predict(package: &Package, decoder: Option<&Architecture>) -> Result<Self> {
        package.require_sound()?;
        let compiled = CompiledSize::estimate(package);
        let floor = Floor::judge(package.program(), &compiled);
        let operations = place(package.program(), |_| (floor.device, "floor".to_owned()));
        let residency = Residency::of(&operations);
        let scalings = match (floor.device, decoder) {
            (Device::Cpu, Some(decoder)) => Some(Scalings::search(decoder, &compiled, floor.floor_bytes)),
            _ => None,
        };
        Ok(Self {
            package: package.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            basis: Basis::Predicted,
            verdict: floor.device,
            residency,
            pass: residency.passes(),
            compiled_bytes: compiled.total(),
            compiled,
            floor,
            scalings,
            operations,
        })
    }
}

impl fmt::Display for PlacementReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kilobytes = |bytes: u64| format!("{:.1} kB", bytes as f64 / 1e3);
        writeln!(f, "{}: {} ({})", self.package, self.verdict, self.basis)?;
        writeln!(
            f,
            "  conv_ane={} compute_ane={} ({})",
            self.residency.conv_ane, self.residency.compute_ane, self.basis
        )?;
        writeln!(f, "  law of the floor (Experiment 27): {}", self.floor.reason)?;
        for caveat in &self.floor.caveats {
            writeln!(f, "  note: {caveat}")?;
        }
        writeln!(
            f,
            "  compiled size, estimated: {} (weights {}, program {}, descriptions {})",
            megabytes(self.compiled_bytes),
            megabytes(self.compiled.weights),
            kilobytes(self.compiled.program),
            kilobytes(self.compiled.descriptions)
        )?;
        let Some(scalings) = &self.scalings else { return Ok(()) };
        let line = |s: Option<Scaling>| match s {
            Some(s) => format!(
                "n_embd {}, n_layer {} ({:.1} M weights, {} INT8)",
                s.n_embd,
                s.n_layer,
                s.weights as f64 / 1e6,
                megabytes(s.int8_bytes)
            ),
            None => "not within 96 layers and a width of 8192".to_owned(),
        };
        writeln!(f, "  to clear the floor, the smallest: {}", line(scalings.smallest))?;
        writeln!(f, "    width alone: {}", line(scalings.width))?;
        writeln!(f, "    depth alone: {}", line(scalings.depth))
    }
}
