//! Measured placement: a report like the laws', from the `MLComputePlan` of a compiled package.
//!
//! The conversion of a plan to a report is plain logic that runs anywhere; only making the plan needs a Mac.
//! A plan is Core ML's intention, not a trace of a run.

#[cfg(target_os = "macos")]
mod core_ml;
mod recorded_plan;

use std::collections::{BTreeMap, HashMap};

use mlpackage::Package;

pub use recorded_plan::{
    DeviceUsage, PlannedDevice, RecordedCost, RecordedOperation, RecordedOperationPlan, RecordedOutput,
    RecordedPlan, RecordedProgramPlan,
};

#[cfg(target_os = "macos")]
use crate::corpus::RecordedMachine;
use crate::device::{Device, Verdict};
use crate::error::{Error, Result};
use crate::findings::{self, PlacementFindingKind};
use crate::placed_operation::PlacedOperation;
use crate::placement;
use crate::report::{Basis, PlacementReport};
use crate::residency::computes;

/// The rule of measured operations.
const RULE: &str = "MLComputePlan";

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
    /// Its function, if it is not within a nested block.
    fn function(&self) -> Option<&str> {
        let (function, place) = self.path.strip_prefix("functions.")?.split_once(".block.operations[")?;
        place.strip_suffix(']').filter(|index| index.bytes().all(|b| b.is_ascii_digit())).map(|_| function)
    }

    /// Its type without the opset.
    fn bare_op(&self) -> &str {
        self.op.split_once('.').map_or(&self.op, |(_, op)| op)
    }
}

/// Compiles a package and records Core ML's plan for the CPU and the Neural Engine.
///
/// # Errors
///
/// [`Error::NeedsMac`] on other systems; [`Error::CoreMl`] with Core ML's message; [`Error::Package`] for an
/// invalid package.
pub fn record(package: &Package) -> Result<RecordedPlan> {
    package.require_sound()?;
    #[cfg(target_os = "macos")]
    return Ok(RecordedPlan {
        package: crate::report::name(package),
        program: Some(recorded_plan::program_of(package)?),
        machine: RecordedMachine::this(),
        compute_units: core_ml::COMPUTE_UNITS.0.to_owned(),
        plan: core_ml::plan(package)?,
    });
    #[cfg(not(target_os = "macos"))]
    Err(Error::NeedsMac { what: "MLComputePlan" })
}

/// Records Core ML's plan of a package, and returns its report.
///
/// # Errors
///
/// As for [`record`] and [`PlacementReport::measured`].
pub fn measure(package: &Package) -> Result<PlacementReport> {
    record(package)?.report(package)
}

impl PlacementReport {
    /// Creates the report of a package from its plan.
    ///
    /// Operations are those of the plan: Core ML may have merged, split or renamed some of the program's. The
    /// laws' opinions are kept beside them.
    ///
    /// # Errors
    ///
    /// As for [`predict`](Self::predict), and [`Error::CoreMl`] for a plan without an operation that
    /// computes.
    pub fn measured(package: &Package, plan: &[PlannedOperation]) -> Result<Self> {
        let mut report = Self::predict(package, None)?;
        let predicted: HashMap<(&str, &str), &PlacedOperation> =
            report.operations.iter().map(|o| ((o.function.as_str(), o.name.as_str()), o)).collect();
        let mut operations: Vec<PlacedOperation> = Vec::new();
        let mut places: HashMap<(String, String), usize> = HashMap::new();
        let mut unnamed = Unnamed::new(&report.operations, plan);
        for planned in plan {
            let Some(function) = planned.function() else { continue };
            let op = planned.bare_op();
            if !computes(&planned.op) || !computes(op) {
                continue;
            }
            let name = match planned.outputs.first() {
                Some(output) => output.clone(),
                None => unnamed.next(function, op).unwrap_or_else(|| format!("{op}_{}", operations.len())),
            };
            // The plan has no data flow; for operations that kept their names, it is taken from the program.
            let before = predicted.get(&(function, name.as_str()));
            let sources = before.map_or(&[][..], |o| o.sources.as_slice()).iter();
            let source = |&i: &usize| {
                let source = &report.operations[i];
                places.get(&(source.function.clone(), source.name.clone())).copied()
            };
            let mut sources: Vec<usize> = sources.filter_map(source).collect();
            sources.sort_unstable();
            places.insert((function.to_owned(), name.clone()), operations.len());
            operations.push(PlacedOperation {
                function: function.to_owned(),
                name,
                op: op.to_owned(),
                device: planned.preferred.unwrap_or_default(),
                rule: RULE.to_owned(),
                reason: reason(planned),
                confidence: 1.0,
                cost: planned.cost.unwrap_or(0.0),
                sources,
                region: 0,
            });
        }
        if operations.is_empty() {
            return Err(Error::CoreMl { what: "the plan has no operation that computes".into() });
        }
        normalise(&mut operations);
        report.basis = Basis::Measured;
        report.confidence = 1.0;
        report.changes.clear();
        report.scalings = None;
        // Hazards do not depend on the plan, but their operation indices refer to the program's list and are
        // cleared.
        report.findings.retain(|f| f.kind == PlacementFindingKind::Hazard);
        report.findings.iter_mut().for_each(|f| f.operations.clear());
        placement::number_regions(&mut operations);
        for function in &mut report.functions {
            let own = || operations.iter().filter(|o| o.function == function.name);
            let on_ane = own().filter(|o| o.device == Device::Ane).count();
            function.outcome = match (on_ane, own().count()) {
                (_, 0) => Verdict::Unknown,
                (placed, all) if placed == all => Verdict::Ane,
                (0, _) if own().all(|o| o.device == Device::Gpu) => Verdict::Gpu,
                (0, _) if own().any(|o| o.device == Device::Unknown) => Verdict::Unknown,
                (0, _) => Verdict::Cpu,
                _ => Verdict::Mixed,
            };
            function.rule = RULE.to_owned();
            function.reason =
                format!("{on_ane} of {} operations are planned for the Neural Engine", own().count());
            function.confidence = 1.0;
        }
        report.findings.extend(findings::islands_of(&operations));
        report.operations = operations;
        report.total();
        Ok(report)
    }
}

/// Names for operations of a plan without results, such as `write_state`: those of the program's operations
/// of that type, in order, if their number is the same.
struct Unnamed<'r> {
    /// By function and type, the last one first.
    names: HashMap<(&'r str, &'r str), Vec<&'r str>>,
}

impl<'r> Unnamed<'r> {
    fn new(predicted: &'r [PlacedOperation], plan: &'r [PlannedOperation]) -> Self {
        let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
        for planned in plan.iter().filter(|planned| planned.outputs.is_empty()) {
            if let Some(function) = planned.function() {
                *counts.entry((function, planned.bare_op())).or_default() += 1;
            }
        }
        let mut names: HashMap<(&str, &str), Vec<&str>> = HashMap::new();
        for o in predicted.iter().rev() {
            names.entry((&o.function, &o.op)).or_default().push(&o.name);
        }
        names.retain(|kind, names| counts.get(kind) == Some(&names.len()));
        Self { names }
    }

    fn next(&mut self, function: &'r str, op: &'r str) -> Option<String> {
        self.names.get_mut(&(function, op))?.pop().map(str::to_owned)
    }
}

fn reason(planned: &PlannedOperation) -> String {
    let supported: Vec<String> = planned.supported.iter().map(ToString::to_string).collect();
    match planned.preferred {
        None => "the plan does not state a device".into(),
        Some(_) if supported.is_empty() => "preferred by the plan".into(),
        Some(_) => format!("preferred by the plan; supported: {}", supported.join(", ")),
    }
}

/// Scales the costs of each function to shares of 1; without costs in the plan, all shares are equal.
fn normalise(operations: &mut [PlacedOperation]) {
    let mut totals: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    for operation in operations.iter() {
        let (cost, count) = totals.entry(operation.function.clone()).or_default();
        *cost += operation.cost;
        *count += 1;
    }
    for operation in operations {
        let (cost, count) = totals[&operation.function];
        operation.cost = if cost > 0.0 { operation.cost / cost } else { 1.0 / count as f64 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(
        path: &str,
        op: &str,
        output: Option<&str>,
        preferred: Option<Device>,
        cost: f64,
    ) -> PlannedOperation {
        PlannedOperation {
            path: path.to_owned(),
            op: op.to_owned(),
            outputs: output.map(str::to_owned).into_iter().collect(),
            preferred,
            supported: vec![Device::Cpu, Device::Ane],
            cost: Some(cost),
        }
    }

    fn fixture(name: &str) -> Package {
        let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../mlpackage/tests/fixtures");
        Package::open(fixtures.join(name)).unwrap()
    }

    /// A hand-written plan of a package whose functions are `double` and `single`, each with a convolution
    /// and a relu.
    #[test]
    fn a_plan_becomes_a_report() {
        let package = fixture("multifunction.mlpackage");
        let predicted = PlacementReport::predict(&package, None).unwrap();
        let at = |function: &str, i: usize| format!("functions.{function}.block.operations[{i}]");
        let mut plan = Vec::new();
        for (i, o) in predicted.operations.iter().enumerate() {
            plan.push(planned(&at(&o.function, 2 * i), "const", Some("c"), None, 0.0));
            let device = if o.function == "double" { Device::Ane } else { Device::Cpu };
            let op = format!("ios18.{}", o.op);
            plan.push(planned(&at(&o.function, 2 * i + 1), &op, Some(&o.name), Some(device), 3.0));
        }
        // An operation within a block is not counted.
        plan.push(planned(
            "functions.single.block.operations[9].blocks[0].operations[0]",
            "add",
            Some("b"),
            Some(Device::Ane),
            1.0,
        ));
        let report = PlacementReport::measured(&package, &plan).unwrap();
        report.check().unwrap();
        assert_eq!((report.basis, report.verdict), (Basis::Measured, Verdict::Mixed));
        assert_eq!(report.residency.conv_ane.to_string(), "1/2");
        assert_eq!(report.residency.compute_ane.to_string(), "2/4");
        let outcomes: Vec<_> = report.functions.iter().map(|f| (f.name.as_str(), f.outcome)).collect();
        assert_eq!(outcomes, [("double", Verdict::Ane), ("single", Verdict::Cpu)]);
        assert!((report.cost_ane - 0.5).abs() < 1e-12);
        assert_eq!(report.operations[0].reason, "preferred by the plan; supported: CPU, ANE");
        // The data flow is the program's.
        for (m, p) in report.operations.iter().zip(&predicted.operations) {
            assert_eq!((&m.name, &m.op, &m.sources), (&p.name, &p.op, &p.sources));
        }
    }

    #[test]
    fn what_a_plan_does_not_say_is_unknown_and_counts_as_not_placed() {
        let package = fixture("multifunction.mlpackage");
        let plan = [
            planned("functions.single.block.operations[0]", "conv", Some("renamed"), Some(Device::Ane), 0.0),
            planned("functions.single.block.operations[1]", "relu", None, None, 0.0),
        ];
        let report = PlacementReport::measured(&package, &plan).unwrap();
        assert_eq!(report.residency.compute_ane.to_string(), "1/2");
        assert_eq!(report.operations[1].device, Device::Unknown);
        assert_eq!(report.operations[1].name, "relu_1");
        assert!((report.cost_ane - 0.5).abs() < 1e-12, "no costs: equal shares");
        let error = PlacementReport::measured(&package, &[]).unwrap_err().to_string();
        assert!(error.contains("no operation that computes"), "{error}");
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn elsewhere_it_says_what_to_do() {
        let error = measure(&fixture("multifunction.mlpackage")).unwrap_err().to_string();
        assert!(error.contains("MLComputePlan") && error.contains("a Mac"), "{error}");
    }
}
