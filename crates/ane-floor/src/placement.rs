//! Placement of each operation of a function: the operations that laws keep off, those that follow the graph,
//! and the resulting regions.

use crate::decision::{Laws, decide};
use crate::device::{Device, Verdict};
use crate::evaluation::Accuracy;
use crate::features::Features;
use crate::laws::{self, Law};
use crate::op_context::OpContext;
use crate::placed_operation::PlacedOperation;

/// Memory bandwidth in bytes per second of the M1's Neural Engine, the slowest known (51 to 145 GB/s on M1 to
/// M5).
const BYTES_A_SECOND: f64 = 51e9;
/// Multiply-adds per second: Apple states 11 trillion operations for the M1, two per multiply-add.
const MULTIPLY_ADDS_A_SECOND: f64 = 5.5e12;

/// Estimates the seconds that an operation takes on an M1's Neural Engine, bound by memory bandwidth or by
/// work. Only ratios of it are used.
fn seconds(context: &OpContext<'_>) -> f64 {
    (context.bytes as f64 / BYTES_A_SECOND).max(context.work as f64 / MULTIPLY_ADDS_A_SECOND)
}

/// The placement of a function.
pub(crate) struct Placement {
    pub(crate) operations: Vec<PlacedOperation>,
    /// The law that decided on the graph as a whole, and its opinion.
    pub(crate) decided: Option<(&'static str, laws::Opinion)>,
}

/// Places the operations of a function.
///
/// `first` is the length of the report's list so far, added to the indices in `sources`; `first_region` is
/// added to the region numbers.
pub(crate) fn place(
    function: &str,
    contexts: &[OpContext<'_>],
    features: &Features,
    first: usize,
    first_region: usize,
) -> Placement {
    let accuracy = Accuracy::built_in();
    let decided = decide(features, &Laws::built_in());
    let (rule, opinion) = match &decided {
        Some(decision) => (decision.law, decision.opinion.clone()),
        None => (
            "none",
            laws::Opinion {
                outcome: Verdict::Unknown,
                reason: "no law applies to such a graph".into(),
                margin: 0.5,
            },
        ),
    };
    let confidence = laws::named(rule).map_or(0.5, |law| accuracy.confidence(law, &opinion, features));
    let excluding: [&dyn Law; 3] = [&laws::ElementType, &laws::NeverPlaced, &laws::Shapes];
    let total: f64 = contexts.iter().map(seconds).sum();
    let mut operations: Vec<PlacedOperation> = contexts
        .iter()
        .map(|context| {
            let kept_off = excluding.into_iter().find_map(|law| Some((law, law.operation(context)?)));
            let (device, rule, reason, confidence) = match kept_off {
                Some((law, reason)) => (Device::Cpu, law.card().name, reason, accuracy.record(law)),
                None => (opinion.outcome.device(), rule, opinion.reason.clone(), confidence),
            };
            PlacedOperation {
                function: function.to_owned(),
                name: context.name.clone(),
                op: context.operation.op.clone(),
                device,
                rule: rule.to_owned(),
                reason,
                confidence,
                cost: if total > 0.0 { seconds(context) / total } else { 0.0 },
                sources: context.sources.clone(),
                region: 0,
            }
        })
        .collect();
    if drop_unanchored(&mut operations, contexts) > 0 {
        // Dropped operations may merge with the regions around them.
        number_regions(&mut operations);
    }
    for operation in &mut operations {
        operation.sources.iter_mut().for_each(|source| *source += first);
        operation.region += first_region;
    }
    Placement { operations, decided: decided.map(|d| (d.law, d.opinion)) }
}

/// Numbers the regions, and moves regions on the Neural Engine without a convolution or matrix product to the
/// CPU if another region has one: elementwise work follows an anchor, and is dropped without one. Returns the
/// number of moved operations.
fn drop_unanchored(operations: &mut [PlacedOperation], contexts: &[OpContext<'_>]) -> usize {
    let regions = number_regions(operations);
    let mut anchored = vec![false; regions];
    for (operation, context) in operations.iter().zip(contexts) {
        anchored[operation.region] |= context.work > 0;
    }
    if !operations.iter().any(|o| o.device == Device::Ane && anchored[o.region]) {
        return 0;
    }
    let law = laws::AnchorAndWork::built_in();
    let confidence = Accuracy::built_in().record(law);
    let mut moved = 0;
    for operation in operations.iter_mut().filter(|o| o.device == Device::Ane && !anchored[o.region]) {
        operation.device = Device::Cpu;
        operation.rule = law.card().name.to_owned();
        operation.reason = "its region has no convolution or matrix product to carry it".into();
        operation.confidence = confidence;
        moved += 1;
    }
    moved
}

/// Numbers regions in order of execution, and returns their number.
///
/// An operation shares a region with its sources if they are on the same device and no operation between them
/// is on another.
pub(crate) fn number_regions(operations: &mut [PlacedOperation]) -> usize {
    // For each operation, the largest number of device changes on a path to it. Connected operations of one
    // device with equal numbers form a region.
    let mut depth: Vec<usize> = Vec::with_capacity(operations.len());
    let mut parent: Vec<usize> = (0..operations.len()).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    for (i, operation) in operations.iter().enumerate() {
        let changes =
            |&source: &usize| depth[source] + usize::from(operations[source].device != operation.device);
        let own = operation.sources.iter().map(changes).max().unwrap_or(0);
        depth.push(own);
        for &source in &operation.sources {
            if depth[source] == own && operations[source].device == operation.device {
                let (a, b) = (root(&mut parent, source), root(&mut parent, i));
                parent[a.max(b)] = a.min(b);
            }
        }
    }
    let mut numbers = std::collections::BTreeMap::new();
    for (i, operation) in operations.iter_mut().enumerate() {
        let next = numbers.len();
        let root = root(&mut parent, i);
        operation.region = *numbers.entry(root).or_insert(next);
    }
    numbers.len()
}
