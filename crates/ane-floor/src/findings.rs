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
    sites: &[OpContext<'_>],
    operations: &[PlacedOperation],
    first: usize,
) -> Vec<PlacementFinding> {
    let mut findings = Vec::new();
    let mut add = |kind: PlacementFindingKind, text: String, operations: Vec<usize>| {
        findings.push(PlacementFinding { kind, function: function.name.clone(), text, operations });
    };
    let decided = function.outcome;
    if decided == Verdict::Ane {
        let mut kept_off: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        for (i, o) in operations.iter().enumerate().filter(|(_, o)| o.device != Device::Ane) {
            kept_off.entry((&o.rule, &o.reason)).or_default().push(i);
        }
        for ((rule, reason), at) in kept_off {
            let text = format!(
                "{} on the CPU by {rule}: {reason}",
                names(at.iter().map(|&i| operations[i].op.as_str()))
            );
            add(PlacementFindingKind::KeptOff, text, at.iter().map(|i| i + first).collect());
        }
        for at in islands(operations, first) {
            add(
                PlacementFindingKind::Island,
                crossing(operations, &at),
                at.iter().map(|i| i + first).collect(),
            );
        }
    }
    let mut hazards: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, site) in sites.iter().enumerate() {
        for law in laws::all() {
            if let Some(text) = law.hazard(site, sites) {
                hazards.entry(format!("{}: {text}", law.card().name)).or_default().push(i + first);
            }
        }
    }
    for (text, at) in hazards {
        add(PlacementFindingKind::Hazard, text, at);
    }
    for opinion in function.opinions.iter().filter(|o| o.opinion.outcome != decided) {
        let text = format!("{} says {}: {}", opinion.law, opinion.opinion.outcome, opinion.opinion.reason);
        add(PlacementFindingKind::Disagreement, text, Vec::new());
    }
    if function.rule == laws::Floor::OF_SHARDS.card().name
        && let Some(int8) = function.features.int8_bytes
    {
        if int8.abs_diff(FLOOR_BYTES) < FLOOR_BYTES / 5 {
            let text =
                "within 20 % of a floor that is only known as \"about 14 MB\", from two points".to_owned();
            add(PlacementFindingKind::Doubt, text, Vec::new());
        }
        let stored = function.features.stored_bytes.unwrap_or(0);
        if stored > int8 / 2 * 3 {
            let text = format!(
                "the weights are stored wider than INT8 ({}); the law was found for INT8, and is applied to their INT8 size",
                megabytes(stored)
            );
            add(PlacementFindingKind::Doubt, text, Vec::new());
        }
    }
    findings
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
    let mut takes: BTreeMap<usize, bool> = BTreeMap::new();
    let mut gives: BTreeMap<usize, bool> = BTreeMap::new();
    for (i, operation) in operations.iter().enumerate() {
        if operation.device != Device::Ane {
            members.entry(operation.region).or_default().push(i);
        }
        for source in operation.sources.iter().map(|&s| &operations[s - first]) {
            match (source.device == Device::Ane, operation.device == Device::Ane) {
                (true, false) => drop(takes.insert(operation.region, true)),
                (false, true) => drop(gives.insert(source.region, true)),
                _ => {}
            }
        }
    }
    members.retain(|region, _| takes.contains_key(region) && gives.contains_key(region));
    members.into_values().collect()
}
