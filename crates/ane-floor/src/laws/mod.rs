//! Placement laws, each a file: what it says, where it comes from, what stands against it.
//!
//! A law may speak of whole graphs ([`Law::graph`]), of single operations ([`Law::operation`]), or of what may go wrong where
//! an operation is placed ([`Law::hazard`]). It says nothing where it is not about. Laws disagree; `decision.rs`
//! says which one decides.

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

use crate::device::Outcome;
use crate::features::Features;
use crate::site::Site;

pub use anchor_and_work::{AnchorAndWork, Fitted, TERMS, Term};
pub use bytes::{ByteCeiling, PACKAGE_BYTES, PROGRAM_BYTES, PackageCeiling};
pub use dtype::ElementType;
pub use floor::{FLOOR_BYTES, Floor, Reading};
pub use never::NeverPlaced;
pub use numerics::Numerics;
pub use operations::{OPERATION_CEILING, OperationCeiling};
pub use quantization::BlockwiseInt4;
pub use shapes::Shapes;
pub use states::States;

/// A law of placement.
pub trait Law: Send + Sync {
    /// What it is.
    fn card(&self) -> &'static Card;

    /// Where a whole graph goes; `None` if the law is not about such a graph, or too little is known of it.
    fn graph(&self, features: &Features) -> Option<Opinion> {
        let _ = features;
        None
    }

    /// Why an operation stays off the Neural Engine; `None` if this law does not keep it off.
    fn operation(&self, site: &Site<'_>) -> Option<String> {
        let _ = site;
        None
    }

    /// What may go wrong with an operation that is placed there; `sites` are all of its function.
    fn hazard(&self, site: &Site<'_>, sites: &[Site<'_>]) -> Option<String> {
        let _ = (site, sites);
        None
    }
}

/// What a law is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Card {
    /// Its name, by which reports refer to it.
    pub name: &'static str,
    /// What it says, in a sentence.
    pub says: &'static str,
    /// Who found it.
    pub source: &'static str,
    /// Sources of the corpus whose rows it was made from: right on them is no merit.
    pub made_from: &'static [&'static str],
    /// Published statements for and against it that are no rows of the corpus.
    pub statements: &'static [Statement],
}

/// A published statement about a law.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Statement {
    /// Whether it supports the law.
    pub supports: bool,
    /// What it states.
    pub text: &'static str,
    /// Who states it.
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

/// What a law says of a graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Opinion {
    /// Where it goes.
    pub outcome: Outcome,
    /// Why, in a sentence.
    pub reason: String,
    /// How far the graph is from where the law changes its mind: 0.5 there, near 1 far from it.
    pub clearance: f64,
}

impl Opinion {
    /// An opinion on one side of a threshold that is known no better than to a factor of about 1.4: `value` over it is
    /// turned into a clearance by a logistic curve on its logarithm.
    pub(crate) fn at_threshold(outcome: Outcome, reason: String, value: f64, threshold: f64) -> Self {
        let octaves = (value.max(1.0) / threshold).log2().abs();
        Self { outcome, reason, clearance: 1.0 / (1.0 + (-2.0 * octaves).exp()) }
    }
}

/// Every law, those that decide first.
pub fn all() -> [&'static dyn Law; 11] {
    [
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
        &Numerics,
    ]
}

/// The law of that name.
pub fn named(name: &str) -> Option<&'static dyn Law> {
    all().into_iter().find(|law| law.card().name == name)
}

/// Decimal megabytes, as Experiment 27 states sizes; kilobytes where those would say nothing.
pub(crate) fn megabytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.2} MB", bytes as f64 / 1e6),
    }
}
