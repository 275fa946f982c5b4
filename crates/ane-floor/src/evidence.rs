//! The rows of the corpus nearest to a graph.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::corpus::{Family, PlacementCorpus};
use crate::decision::excluded;
use crate::device::Verdict;
use crate::features::Features;
use crate::laws::Law;

/// A row of the corpus, as listed in reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Its id in the corpus.
    pub row: String,
    /// A summary of its graph.
    pub summary: String,
    /// Where it was placed.
    pub placed: Verdict,
    /// The row's source.
    pub source: String,
}

/// Returns the rows nearest to a graph that support `outcome`, and the nearest that contradict it; at most
/// `count` of each.
///
/// Only rows are considered that `law` applies to and that no other law excludes first: a program that is too
/// long is no evidence about one that is too small. A row supports an ANE outcome if it was placed wholly
/// there, and any other outcome if it was not.
pub fn nearest(
    corpus: &PlacementCorpus,
    features: &Features,
    law: &dyn Law,
    outcome: Verdict,
    count: usize,
) -> [Vec<Evidence>; 2] {
    let mut rows: Vec<(f64, bool, Evidence)> = Vec::new();
    for row in corpus.evidence().filter(|row| row.placed.device != Verdict::Unknown) {
        let of_row = Features::from(&row.graph);
        let ruled_out = excluded(&of_row).is_some_and(|by| by != law.card().name);
        if law.graph(&of_row).is_none() || ruled_out {
            continue;
        }
        let supports = (row.placed.device == Verdict::Ane) == (outcome == Verdict::Ane);
        let evidence = Evidence {
            row: row.id.clone(),
            summary: row.graph.summary.clone(),
            placed: row.placed.device,
            source: row.source.clone(),
        };
        rows.push((distance(features, &of_row), supports, evidence));
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    [true, false].map(|wanted| {
        rows.iter()
            .filter(|(_, supports, _)| *supports == wanted)
            .take(count)
            .map(|(.., e)| e.clone())
            .collect()
    })
}

/// Distance of a feature that is unknown on one side: as much as a factor of ten.
const UNKNOWN: f64 = 1.0;

/// Returns how different two graphs are.
///
/// A factor of ten in bytes, work or anchor counts 1, a factor of two in layers a half. A different element
/// type, form of the weights, or statefulness counts 1 each. A different family counts 2, or 1 if one is
/// `Any`, or 4 if only one has anything to multiply.
fn distance(a: &Features, b: &Features) -> f64 {
    let scale = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => ((1.0 + a as f64 / 1e5).log10() - (1.0 + b as f64 / 1e5).log10()).abs(),
        _ => UNKNOWN,
    };
    let layers = |f: &Features| f.depth.map(|d| (d.max(1) as f64).log2());
    let depth = layers(a).zip(layers(b)).map_or(UNKNOWN, |(a, b)| (a - b).abs() / 2.0);
    let family = match (a.family, b.family) {
        (a, b) if a == b => 0.0,
        (Family::Any, _) | (_, Family::Any) => 1.0,
        (Family::Elementwise, _) | (_, Family::Elementwise) => 4.0,
        _ => 2.0,
    };
    let differs = |same: bool| if same { 0.0 } else { 1.0 };
    scale(a.int8_bytes, b.int8_bytes)
        + scale(a.work, b.work)
        + scale(a.anchor, b.anchor)
        + depth
        + family
        + differs(a.dtype == b.dtype)
        + differs(a.weights == b.weights)
        + differs(a.stateful == b.stateful)
}
