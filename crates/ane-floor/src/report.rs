//! The placement report, predicted or measured.

use std::fmt;

use ane_bundle::Architecture;
use mlpackage::Package;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compiled_size::CompiledSize;
use crate::corpus::PlacementCorpus;
use crate::device::{Device, Verdict};
use crate::error::{Error, Result};
use crate::features::Features;
use crate::findings::{self, PlacementFinding};
use crate::function_report::FunctionReport;
use crate::laws::FLOOR_BYTES;
use crate::op_context::OpContext;
use crate::placed_operation::PlacedOperation;
use crate::placement;
use crate::residency::Residency;
use crate::scaling::Scalings;
use crate::suggestion::{self, Change};

/// Version of the report's fields.
pub const REPORT_VERSION: u32 = 1;

/// The origin of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Predicted by laws; nothing was run.
    Predicted,
    /// Measured by `MLComputePlan` on a Mac.
    Measured,
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Predicted => "predicted",
            Self::Measured => "measured",
        })
    }
}

/// Where a package's operations run, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlacementReport {
    /// [`REPORT_VERSION`].
    pub report_version: u32,
    /// The name of the package.
    pub package: String,
    /// The origin of the report.
    pub basis: Basis,
    /// The placement of the package as a whole.
    pub verdict: Verdict,
    /// The confidence of the verdict, 0 to 1: the lowest of the functions.
    pub confidence: f64,
    /// Totals.
    pub residency: Residency,
    /// Share of the cost of all functions that is on the Neural Engine, 0 to 1.
    pub cost_ane: f64,
    /// Whether there is a convolution, and everything is on the Neural Engine.
    pub pass: bool,
    /// Estimated compiled size.
    pub compiled: CompiledSize,
    /// Sum of [`compiled`](Self::compiled), in bytes.
    pub compiled_bytes: u64,
    /// The functions, with the opinions of the laws.
    pub functions: Vec<FunctionReport>,
    /// Findings about the functions.
    pub findings: Vec<PlacementFinding>,
    /// Edits that would place functions that are not placed as a whole, where any are known.
    pub changes: Vec<Change>,
    /// Larger decoders that would reach the floor; `None` if it is reached, or the decoder's dimensions are
    /// unknown.
    pub scalings: Option<Scalings>,
    /// Every operation except constants, function by function, in order.
    pub operations: Vec<PlacedOperation>,
}

/// Returns the name of a package, which is that of its folder.
pub(crate) fn name(package: &Package) -> String {
    package.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl PlacementReport {
    /// Predicts the placement of a package by the laws.
    ///
    /// `decoder` has the dimensions that could be scaled, if they are known, as for a bundle.
    ///
    /// # Errors
    ///
    /// [`Error::Package`] with the first rule of MIL that the package violates: a package that Core ML would
    /// not load has no placement.
    pub fn predict(package: &Package, decoder: Option<&Architecture>) -> Result<Self> {
        package.require_sound()?;
        let compiled = CompiledSize::estimate(package);
        let ints = package.blob_ints();
        let corpus = PlacementCorpus::built_in();
        let mut operations: Vec<PlacedOperation> = Vec::new();
        let (mut functions, mut findings, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        let mut regions = 0;
        for (name, function) in &package.program().functions {
            let contexts = OpContext::list(name, function, &ints)?;
            let features = Features::of(&contexts, function.states().count() > 0, &compiled);
            let first = operations.len();
            let placed = placement::place(name, &contexts, &features, first, regions);
            let report = FunctionReport::new(name, features, &placed, corpus);
            findings.append(&mut findings::of(&report, &contexts, &placed.operations, first));
            if placed.operations.iter().any(|o| o.device != Device::Ane) {
                changes.extend(suggestion::cheapest(name, &contexts, &report.features, &compiled));
            }
            regions = placed.operations.iter().map(|o| o.region + 1).max().unwrap_or(regions);
            operations.extend(placed.operations);
            functions.push(report);
        }
        let below_floor = |f: &FunctionReport| {
            f.features.is_shard() && f.features.int8_bytes.is_some_and(|b| b < FLOOR_BYTES)
        };
        let scalings = decoder
            .filter(|_| functions.iter().any(below_floor))
            .map(|decoder| Scalings::search(decoder, &compiled, FLOOR_BYTES));
        let mut report = Self {
            report_version: REPORT_VERSION,
            package: name(package),
            basis: Basis::Predicted,
            verdict: Verdict::Unknown,
            confidence: functions.iter().map(|f| f.confidence).fold(1.0, f64::min),
            residency: Residency::of(&operations),
            cost_ane: 0.0,
            pass: false,
            compiled_bytes: compiled.total(),
            compiled,
            functions,
            findings,
            changes,
            scalings,
            operations,
        };
        report.total();
        Ok(report)
    }

    /// Computes the totals from the operations: counts, cost, verdict.
    pub(crate) fn total(&mut self) {
        self.residency = Residency::of(&self.operations);
        self.pass = self.residency.passes();
        let cost = |only: fn(&PlacedOperation) -> bool| {
            self.operations.iter().filter(|o| only(o)).fold(0.0, |sum, o| sum + o.cost)
        };
        let all = cost(|_| true);
        self.cost_ane = if all > 0.0 { (cost(|o| o.device == Device::Ane) / all).min(1.0) } else { 0.0 };
        let compute = self.residency.compute_ane;
        let all_on = |device: Device| self.operations.iter().all(|o| o.device == device);
        self.verdict = match () {
            () if self.functions.iter().any(|f| f.outcome == Verdict::Error) => Verdict::Error,
            () if self.operations.is_empty() => Verdict::Unknown,
            () if compute.ane == compute.total => Verdict::Ane,
            () if compute.ane > 0 => Verdict::Mixed,
            () if all_on(Device::Gpu) => Verdict::Gpu,
            () if self.operations.iter().any(|o| o.device == Device::Unknown) => Verdict::Unknown,
            () => Verdict::Cpu,
        };
    }

    /// Returns the JSON Schema of a report.
    pub fn schema() -> String {
        let schema = schemars::schema_for!(Self);
        serde_json::to_string_pretty(&schema).expect("a schema serializes") + "\n"
    }

    /// Checks that a report is consistent: its version, its values, its totals, and every index into its
    /// list.
    ///
    /// # Errors
    ///
    /// [`Error::Report`] with the first inconsistency.
    pub fn check(&self) -> Result<()> {
        if self.report_version != REPORT_VERSION {
            return inconsistent(format!(
                "it has version {}, this program reads {REPORT_VERSION}",
                self.report_version
            ));
        }
        check_share("confidence", self.confidence)?;
        check_share("cost_ane", self.cost_ane)?;
        check_text("package", &self.package)?;
        for i in 0..self.operations.len() {
            self.check_operation(i)?;
        }
        self.check_totals()?;
        let pointed = self.findings.iter().flat_map(|f| &f.operations).find(|&&o| o >= self.operations.len());
        match pointed {
            Some(at) => {
                inconsistent(format!("a finding is about operation {at} of {}", self.operations.len()))
            }
            None => Ok(()),
        }
    }

    /// Checks the values and indices of an operation.
    fn check_operation(&self, i: usize) -> Result<()> {
        let PlacedOperation { name, function, region, confidence, cost, sources, .. } = &self.operations[i];
        check_text("operation", name)?;
        check_share(&format!("confidence of operation {name}"), *confidence)?;
        check_share(&format!("cost of operation {name}"), *cost)?;
        if *region >= self.operations.len() {
            return inconsistent(format!(
                "operation {name} is in region {region} of {} operations",
                self.operations.len()
            ));
        }
        if !self.functions.iter().any(|f| f.name == *function) {
            return inconsistent(format!(
                "operation {name} is in function {function:?}, which is not in the report"
            ));
        }
        match sources.iter().find(|&&s| s >= i) {
            Some(source) => inconsistent(format!(
                "operation {i}, {name}, has the source {source}, which is not before it"
            )),
            None => Ok(()),
        }
    }

    /// Checks that the totals are those of the operations.
    fn check_totals(&self) -> Result<()> {
        let counted = Residency::of(&self.operations);
        if counted != self.residency {
            let (conv, compute) = (counted.conv_ane, counted.compute_ane);
            return inconsistent(format!(
                "its operations result in conv_ane={conv} compute_ane={compute}, but it states other counts"
            ));
        }
        let mut summed = self.clone();
        summed.total();
        if (summed.verdict, summed.pass) != (self.verdict, self.pass) {
            let (verdict, pass) = (summed.verdict, summed.pass);
            return inconsistent(format!(
                "its operations result in the verdict {verdict}, pass {pass}, but it states others"
            ));
        }
        Ok(())
    }

    /// Returns the operations of a function.
    pub fn operations_of<'a>(&'a self, function: &'a str) -> impl Iterator<Item = &'a PlacedOperation> {
        self.operations.iter().filter(move |o| o.function == function)
    }
}

fn inconsistent(reason: String) -> Result<()> {
    Err(Error::Report { reason })
}

/// Checks that a value is from 0 to 1, with an allowance for rounding.
fn check_share(what: &str, value: f64) -> Result<()> {
    match (0.0..=1.0 + 1e-6).contains(&value) {
        true => Ok(()),
        false => inconsistent(format!("{what} is {value:e}, expected 0 to 1")),
    }
}

fn check_text(what: &str, text: &str) -> Result<()> {
    match text.chars().any(char::is_control) {
        true => inconsistent(format!("{what} {text:?} holds a control character")),
        false => Ok(()),
    }
}
