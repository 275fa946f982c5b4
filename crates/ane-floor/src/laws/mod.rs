//! Placement laws, one per file: what the law states, where it comes from, and the evidence against it.
//!
//! A law may apply to whole graphs ([`Law::graph`]), to single operations ([`Law::operation`]), or to hazards
//! of operations that are placed ([`Law::hazard`]). Outside its scope it returns `None`. Laws may disagree;
//! `decision.rs` determines which one decides.

mod anchor_and_work;
mod bytes;
mod dtype;
mod floor;
mod never;
mod numerics;
mod operations;
mod quantization;
mod shapes;
mod states;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::Verdict;
use crate::features::Features;
use crate::op_context::OpContext;

pub use anchor_and_work::{AnchorAndWork, Fitted, TERMS, Term};
pub use bytes::{ByteCeiling, PACKAGE_BYTES, PROGRAM_BYTES, PackageCeiling};
pub use dtype::ElementType;
pub use floor::{FLOOR_BYTES, Floor, Reading};
pub use never::NeverPlaced;
pub use numerics::Fp16Range;
pub use operations::{OPERATION_CEILING, OperationCeiling};
pub use quantization::BlockwiseInt4;
pub use shapes::Shapes;
pub use states::States;

/// A placement law.
pub trait Law: Send + Sync {
    /// Describes the law.
    fn card(&self) -> &'static Card;

    /// Returns where a whole graph is placed; `None` if the law does not apply to such a graph, or too little
    /// is known about it.
    fn graph(&self, features: &Features) -> Option<Opinion> {
        let _ = features;
        None
    }

    /// Returns why an operation stays off the Neural Engine; `None` if this law does not keep it off.
    fn operation(&self, context: &OpContext<'_>) -> Option<String> {
        let _ = context;
        None
    }

    /// Returns a hazard of an operation that is placed; `contexts` are those of all operations of its function.
    fn hazard(&self, context: &OpContext<'_>, contexts: &[OpContext<'_>]) -> Option<String> {
        let _ = (context, contexts);
        None
    }
}

/// The description of a law.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Card {
    /// Its name, used in reports.
    pub name: &'static str,
    /// What it states, in a sentence.
    pub says: &'static str,
    /// Its source.
    pub source: &'static str,
    /// Sources of the corpus that the law was made from: being right about their rows does not support it.
    pub made_from: &'static [&'static str],
    /// Published statements for and against the law that are not rows of the corpus.
    pub statements: &'static [Statement],
}

/// A published statement about a law.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Statement {
    /// Whether it supports the law.
    pub supports: bool,
    /// The statement.
    pub text: &'static str,
    /// Its source.
    pub source: &'static str,
}

impl Statement {
    const fn supporting(text: &'static str, source: &'static str) -> Self {
        Self { supports: true, text, source }
    }

    const fn opposing(text: &'static str, source: &'static str) -> Self {
        Self { supports: false, text, source }
    }
}

/// A law's opinion on a graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Opinion {
    /// Where the graph is placed.
    pub outcome: Verdict,
    /// The reason, in a sentence.
    pub reason: String,
    /// The margin: 0.5 at the law's threshold, near 1 far from it.
    #[serde(rename = "clearance")]
    pub margin: f64,
}

impl Opinion {
    /// Creates an opinion on one side of a threshold that is known to a factor of about 1.4. The margin is a
    /// logistic function of the logarithm of `value / threshold`.
    pub(crate) fn at_threshold(outcome: Verdict, reason: String, value: f64, threshold: f64) -> Self {
        let octaves = (value.max(1.0) / threshold).log2().abs();
        Self { outcome, reason, margin: 1.0 / (1.0 + (-2.0 * octaves).exp()) }
    }
}

/// Returns every law: first those that decide placements, in order of precedence.
pub fn all() -> impl Iterator<Item = &'static dyn Law> {
    let laws: [&dyn Law; _] = [
        &ElementType,
        &NeverPlaced,
        &Shapes,
        &OperationCeiling,
        &ByteCeiling,
        &BlockwiseInt4,
        &Floor::OF_SHARDS,
        AnchorAndWork::built_in(),
        &PackageCeiling,
        &States,
        &Fp16Range,
    ];
    laws.into_iter()
}

/// Returns the law with the given name.
pub fn named(name: &str) -> Option<&'static dyn Law> {
    all().into_iter().find(|law| law.card().name == name)
}

/// Formats a size in decimal megabytes, as Experiment 27 does, or in kilobytes if it is small.
pub(crate) fn megabytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.2} MB", bytes as f64 / 1e6),
    }
}
