//! Findings: what a reader of a report should know beyond its totals.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::{Device, Verdict};
use crate::function_report::FunctionReport;
use crate::laws::{self, FLOOR_BYTES, Law as _, megabytes};
use crate::op_context::OpContext;
use crate::placed_operation::PlacedOperation;

/// A finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlacementFinding {
    /// Its kind.
    pub kind: PlacementFindingKind,
    /// The function that it is about.
    pub function: String,
    /// The finding, in a sentence.
    pub text: String,
    /// The operations that it is about, as indices into the report's list.
    pub operations: Vec<usize>,
}

/// Kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlacementFindingKind {
    /// Operations that a law keeps off the Neural Engine.
    KeptOff,
    /// Operations on another device between two regions on the Neural Engine: every call crosses over and
    /// back.
    Island,
    /// A numeric or other hazard of operations that are placed.
    Hazard,
    /// A law that disagrees with the one that decided.
    Disagreement,
    /// A reason that makes the verdict less certain.
    Doubt,
}

/// Lists operation types with their counts.
fn names<'a>(operations: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    operations.for_each(|op| *counts.entry(op).or_default() += 1);
    let listed: Vec<String> =
        counts.iter().map(|(op, n)| if *n == 1 { (*op).to_owned() } else { format!("{n} {op}") }).collect();
    listed.join(", ")
}

/// Returns the findings of a function; `operations` are its own, starting at index `first` of the report's
/// list.
pub(crate) fn of(
    function: &FunctionReport,
    contexts: &[OpContext<'_>],
    operations: &[PlacedOperation],
    first: usize,
) -> Vec<PlacementFinding> {
    let mut findings = Vec::new();
    if function.outcome == Verdict::Ane {
        findings.extend(kept_off(function, operations, first));
        findings.extend(islands(operations, first).into_iter().map(|at| PlacementFinding {
            kind: PlacementFindingKind::Island,
            function: function.name.clone(),
            text: crossing(operations, &at),
            operations: at.iter().map(|i| i + first).collect(),
        }));
    }
    findings.extend(hazards(function, contexts, first));
    findings.extend(disagreements(function));
    findings.extend(doubts(function));
    findings
}

/// Returns the operations that are not on the Neural Engine, by the rule and reason that keep them off.
fn kept_off(
    function: &FunctionReport,
    operations: &[PlacedOperation],
    first: usize,
) -> Vec<PlacementFinding> {
    let mut kept_off: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (i, o) in operations.iter().enumerate().filter(|(_, o)| o.device != Device::Ane) {
        kept_off.entry((&o.rule, &o.reason)).or_default().push(i);
    }
    let finding = |((rule, reason), at): ((&str, &str), Vec<usize>)| PlacementFinding {
        kind: PlacementFindingKind::KeptOff,
        function: function.name.clone(),
        text: format!(
            "{} on the CPU by {rule}: {reason}",
            names(at.iter().map(|&i| operations[i].op.as_str()))
        ),
        operations: at.iter().map(|i| i + first).collect(),
    };
    kept_off.into_iter().map(finding).collect()
}

/// Returns the hazards that laws find in operations, each with all of its operations.
fn hazards(function: &FunctionReport, contexts: &[OpContext<'_>], first: usize) -> Vec<PlacementFinding> {
    let mut hazards: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, context) in contexts.iter().enumerate() {
        for law in laws::all() {
            if let Some(text) = law.hazard(context, contexts) {
                hazards.entry(format!("{}: {text}", law.card().name)).or_default().push(i + first);
            }
        }
    }
    let finding = |(text, operations)| PlacementFinding {
        kind: PlacementFindingKind::Hazard,
        function: function.name.clone(),
        text,
        operations,
    };
    hazards.into_iter().map(finding).collect()
}

/// Returns the opinions that differ from the outcome.
fn disagreements(function: &FunctionReport) -> impl Iterator<Item = PlacementFinding> {
    function.opinions.iter().filter(|o| o.opinion.outcome != function.outcome).map(|opinion| {
        PlacementFinding {
            kind: PlacementFindingKind::Disagreement,
            function: function.name.clone(),
            text: format!("{} says {}: {}", opinion.law, opinion.opinion.outcome, opinion.opinion.reason),
            operations: Vec::new(),
        }
    })
}

/// Returns the reasons to doubt the floor's decision.
fn doubts(function: &FunctionReport) -> Vec<PlacementFinding> {
    let decided_by_floor = function.rule == laws::Floor::OF_SHARDS.card().name;
    let Some(int8) = function.features.int8_bytes.filter(|_| decided_by_floor) else { return Vec::new() };
    let mut texts = Vec::new();
    if int8.abs_diff(FLOOR_BYTES) < FLOOR_BYTES / 5 {
        texts
            .push("within 20 % of a floor that is only known as \"about 14 MB\", from two points".to_owned());
    }
    let stored = function.features.stored_bytes.unwrap_or(0);
    if stored > int8 / 2 * 3 {
        texts.push(format!(
            "the weights are stored wider than INT8 ({}); the law was found for INT8, and is applied to their INT8 size",
            megabytes(stored)
        ));
    }
    let finding = |text| PlacementFinding {
        kind: PlacementFindingKind::Doubt,
        function: function.name.clone(),
        text,
        operations: Vec::new(),
    };
    texts.into_iter().map(finding).collect()
}

fn crossing(operations: &[PlacedOperation], at: &[usize]) -> String {
    format!(
        "an island off the Neural Engine, between two regions on it: {}; every call crosses over and back",
        names(at.iter().map(|&i| operations[i].op.as_str()))
    )
}

/// Returns the islands of a whole report.
pub(crate) fn islands_of(operations: &[PlacedOperation]) -> Vec<PlacementFinding> {
    let finding = |at: Vec<usize>| PlacementFinding {
        kind: PlacementFindingKind::Island,
        function: operations[at[0]].function.clone(),
        text: crossing(operations, &at),
        operations: at,
    };
    islands(operations, 0).into_iter().map(finding).collect()
}

/// Returns the regions off the Neural Engine that have a source and a user on it. `first` is the index of the
/// first operation in the report's list.
fn islands(operations: &[PlacedOperation], first: usize) -> Vec<Vec<usize>> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut entered: BTreeMap<usize, bool> = BTreeMap::new();
    let mut left: BTreeMap<usize, bool> = BTreeMap::new();
    for (i, operation) in operations.iter().enumerate() {
        if operation.device != Device::Ane {
            members.entry(operation.region).or_default().push(i);
        }
        for source in operation.sources.iter().map(|&s| &operations[s - first]) {
            match (source.device == Device::Ane, operation.device == Device::Ane) {
                (true, false) => drop(entered.insert(operation.region, true)),
                (false, true) => drop(left.insert(source.region, true)),
                _ => {}
            }
        }
    }
    members.retain(|region, _| entered.contains_key(region) && left.contains_key(region));
    members.into_values().collect()
}
