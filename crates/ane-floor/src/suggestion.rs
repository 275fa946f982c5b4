//! Edits to a program after which all of it is placed; each is checked by predicting the edited program.
//!
//! [`Scalings`](crate::Scalings) covers how much larger a decoder must be.

use mlpackage::DType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compiled_size::CompiledSize;
use crate::corpus::WeightFormat;
use crate::device::{Device, Verdict};
use crate::features::Features;
use crate::laws::{ByteCeiling, Law, OperationCeiling};
use crate::op_context::OpContext;
use crate::placed_operation::PlacedOperation;
use crate::placement;

/// An edit to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Suggestion {
    /// Leave to the host the operations that are kept off at the beginning or end of the program.
    LeaveToHost,
    /// Compute in fp16 instead of fp32.
    ComputeInFp16,
    /// Store INT8 weights instead of INT4 with per-block scales.
    StoreInInt8,
    /// Split the program into this many packages with about the same number of layers each.
    SplitInto(u64),
}

impl Suggestion {
    /// Describes the edit.
    pub fn describe(self) -> String {
        match self {
            Self::LeaveToHost => {
                "leave to the host the operations at its beginning and end that are kept off".into()
            }
            Self::ComputeInFp16 => "compute in fp16 (coremltools: compute_precision=FLOAT16)".into(),
            Self::StoreInInt8 => {
                "store weights in INT8 with per-tensor or per-channel scales, instead of per-block INT4"
                    .into()
            }
            Self::SplitInto(parts) => {
                format!("split it into {parts} packages with about the same number of layers each")
            }
        }
    }
}

/// A set of edits after which a whole function is placed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The function.
    pub function: String,
    /// All edits to apply.
    pub edits: Vec<Suggestion>,
    /// The predicted placement of the edited function.
    pub predicted: Verdict,
    /// The law that decides on the edited function.
    pub rule: String,
    /// The reason.
    pub reason: String,
}

/// Upper bound on the number of packages: a process can load about 120 programs.
const MOST_PARTS: u64 = 120;

/// Sets of edits, cheapest first: work on the host costs a copy; another element type or storage needs a new
/// export.
const CANDIDATES: [&[Suggestion]; 7] = [
    &[Suggestion::LeaveToHost],
    &[Suggestion::ComputeInFp16],
    &[Suggestion::StoreInInt8],
    &[Suggestion::ComputeInFp16, Suggestion::LeaveToHost],
    &[Suggestion::StoreInInt8, Suggestion::LeaveToHost],
    &[Suggestion::ComputeInFp16, Suggestion::StoreInInt8],
    &[Suggestion::ComputeInFp16, Suggestion::StoreInInt8, Suggestion::LeaveToHost],
];

/// Returns the cheapest set of edits after which the whole function is predicted to be on the Neural Engine;
/// `None` if there is none.
pub(crate) fn cheapest(
    function: &str,
    contexts: &[OpContext<'_>],
    features: &Features,
    size: &CompiledSize,
) -> Option<Change> {
    split(function, contexts, features).or_else(|| {
        CANDIDATES.into_iter().find_map(|edits| {
            let (contexts, features) = edited(contexts, features, size, edits)?;
            placed_whole(function, &contexts, &features, edits, "")
        })
    })
}

/// Returns the smallest number of parts that are each predicted to be placed, for a program above a ceiling.
/// A part is assumed to have its share of operations, bytes, work and layers, and the same largest product.
fn split(function: &str, contexts: &[OpContext<'_>], features: &Features) -> Option<Change> {
    let ceilings: [&dyn Law; 2] = [&OperationCeiling, &ByteCeiling];
    ceilings.iter().find(|law| law.graph(features).is_some())?;
    let share = |whole: Option<u64>, parts: u64| whole.map(|n| n.div_ceil(parts));
    (2..=features.depth?.min(MOST_PARTS)).find_map(|parts| {
        let part = Features {
            operations: share(features.operations, parts),
            depth: share(features.depth, parts),
            stored_bytes: share(features.stored_bytes, parts),
            int8_bytes: share(features.int8_bytes, parts),
            work: share(features.work, parts),
            ..features.clone()
        };
        placed_whole(function, contexts, &part, &[Suggestion::SplitInto(parts)], "each part: ")
    })
}

/// Predicts a function after `edits`; `None` unless all of it is on the Neural Engine.
fn placed_whole(
    function: &str,
    contexts: &[OpContext<'_>],
    features: &Features,
    edits: &[Suggestion],
    of: &str,
) -> Option<Change> {
    let placed = placement::place(function, contexts, features, 0, 0);
    let all = !placed.operations.is_empty() && placed.operations.iter().all(|o| o.device == Device::Ane);
    let (rule, opinion) = placed.decided.filter(|_| all)?;
    Some(Change {
        function: function.to_owned(),
        edits: edits.to_vec(),
        predicted: Verdict::Ane,
        rule: rule.to_owned(),
        reason: format!("{of}{}", opinion.reason),
    })
}

/// Applies the edits; `None` if one of them changes nothing.
fn edited<'a>(
    contexts: &[OpContext<'a>],
    features: &Features,
    size: &CompiledSize,
    edits: &[Suggestion],
) -> Option<(Vec<OpContext<'a>>, Features)> {
    let mut contexts = contexts.to_vec();
    let mut weights = features.weights;
    for edit in edits {
        match edit {
            Suggestion::ComputeInFp16 => {
                let mut changed = false;
                let mut halve = |dtype: &mut DType| {
                    changed |= *dtype == DType::Fp32;
                    if *dtype == DType::Fp32 {
                        *dtype = DType::Fp16;
                    }
                };
                for context in &mut contexts {
                    halve(&mut context.dtype);
                    context.inputs.iter_mut().chain(&mut context.outputs).for_each(|ty| halve(&mut ty.dtype));
                }
                changed.then_some(())?;
            }
            Suggestion::StoreInInt8 => {
                (weights? == WeightFormat::Int4PerBlock).then_some(())?;
                weights = Some(WeightFormat::Int8);
                for weight in contexts.iter_mut().filter_map(|s| s.weight.as_mut()) {
                    weight.stored = WeightFormat::Int8;
                }
            }
            Suggestion::LeaveToHost => contexts = without_ends(&contexts, features)?,
            // Not among the candidates: `split` searches for it.
            Suggestion::SplitInto(_) => return None,
        }
    }
    let stateful = features.stateful == Some(true);
    Some((contexts.clone(), Features { weights, ..Features::of(&contexts, stateful, size) }))
}

/// Removes the operations that are kept off and either depend on nothing on the Neural Engine or feed nothing on
/// it.
fn without_ends<'a>(contexts: &[OpContext<'a>], features: &Features) -> Option<Vec<OpContext<'a>>> {
    let placed: Vec<PlacedOperation> = placement::place("", contexts, features, 0, 0).operations;
    let on_ane = |i: usize| placed[i].device == Device::Ane;
    let mut after = vec![false; contexts.len()];
    let mut before = vec![false; contexts.len()];
    for (i, context) in contexts.iter().enumerate() {
        after[i] = context.sources.iter().any(|&s| on_ane(s) || after[s]);
    }
    for (i, context) in contexts.iter().enumerate().rev() {
        for &source in &context.sources {
            before[source] |= on_ane(i) || before[i];
        }
    }
    let kept: Vec<usize> = (0..contexts.len()).filter(|&i| on_ane(i) || (after[i] && before[i])).collect();
    if kept.is_empty() || kept.len() == contexts.len() {
        return None;
    }
    let mut place = vec![None; contexts.len()];
    kept.iter().enumerate().for_each(|(new, &old)| place[old] = Some(new));
    Some(
        kept.iter()
            .map(|&i| {
                let sources = contexts[i].sources.iter().filter_map(|&s| place[s]).collect();
                OpContext { sources, ..contexts[i].clone() }
            })
            .collect(),
    )
}
