//! The report of a package from its plan.

use std::collections::{BTreeMap, HashMap};

use mlpackage::Package;

use super::PlannedOperation;
use crate::device::{Device, Verdict};
use crate::error::{Error, Result};
use crate::findings::{self, PlacementFindingKind};
use crate::function_report::FunctionReport;
use crate::placed_operation::PlacedOperation;
use crate::placement;
use crate::report::{Basis, PlacementReport};
use crate::residency::computes;

/// The rule of measured operations.
const RULE: &str = "MLComputePlan";

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
        let mut operations = placed_by_plan(&report.operations, plan);
        if operations.is_empty() {
            return Err(Error::CoreMl { what: "the plan has no operation that computes".into() });
        }
        normalize(&mut operations);
        placement::number_regions(&mut operations);
        report.basis = Basis::Measured;
        report.confidence = 1.0;
        report.changes.clear();
        report.scalings = None;
        // Hazards do not depend on the plan, but their operation indices refer to the program's list and are
        // cleared.
        report.findings.retain(|f| f.kind == PlacementFindingKind::Hazard);
        report.findings.iter_mut().for_each(|f| f.operations.clear());
        report.functions.iter_mut().for_each(|function| decide_by_plan(function, &operations));
        report.findings.extend(findings::islands_of(&operations));
        report.operations = operations;
        report.total();
        Ok(report)
    }
}

/// Places the operations of a plan that compute, where the plan prefers them.
fn placed_by_plan(predicted: &[PlacedOperation], plan: &[PlannedOperation]) -> Vec<PlacedOperation> {
    let by_name: HashMap<(&str, &str), &PlacedOperation> =
        predicted.iter().map(|o| ((o.function.as_str(), o.name.as_str()), o)).collect();
    let mut operations: Vec<PlacedOperation> = Vec::new();
    let mut indices: HashMap<(String, String), usize> = HashMap::new();
    let mut unnamed = Unnamed::new(predicted, plan);
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
        let original = by_name.get(&(function, name.as_str()));
        let sources = original.map_or(&[][..], |o| o.sources.as_slice()).iter();
        let source = |&i: &usize| {
            let source = &predicted[i];
            indices.get(&(source.function.clone(), source.name.clone())).copied()
        };
        let mut sources: Vec<usize> = sources.filter_map(source).collect();
        sources.sort_unstable();
        indices.insert((function.to_owned(), name.clone()), operations.len());
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
    operations
}

/// Replaces a function's predicted outcome with that of its operations in the plan.
fn decide_by_plan(function: &mut FunctionReport, operations: &[PlacedOperation]) {
    let own = || operations.iter().filter(|o| o.function == function.name);
    let on_ane = own().filter(|o| o.device == Device::Ane).count();
    let outcome = match (on_ane, own().count()) {
        (_, 0) => Verdict::Unknown,
        (placed, all) if placed == all => Verdict::Ane,
        (0, _) if own().all(|o| o.device == Device::Gpu) => Verdict::Gpu,
        (0, _) if own().any(|o| o.device == Device::Unknown) => Verdict::Unknown,
        (0, _) => Verdict::Cpu,
        _ => Verdict::Mixed,
    };
    let reason = format!("{on_ane} of {} operations are planned for the Neural Engine", own().count());
    function.outcome = outcome;
    function.rule = RULE.to_owned();
    function.reason = reason;
    function.confidence = 1.0;
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
fn normalize(operations: &mut [PlacedOperation]) {
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
