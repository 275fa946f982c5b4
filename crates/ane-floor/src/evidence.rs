//! The rows of the corpus that are nearest to a graph.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::corpus::{Corpus, Family};
use crate::decision::excluded;
use crate::device::Outcome;
use crate::features::Features;
use crate::laws::Law;

/// A row, as reports refer to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Its id in the corpus.
    pub row: String,
    /// What it was.
    pub summary: String,
    /// Where it was placed.
    pub placed: Outcome,
    /// Who says so.
    pub source: String,
}

/// The nearest rows to a graph that were placed as `outcome` says, and the nearest that were not; at most `count` of each. Only rows
/// that `law` speaks of, and that no other law rules out before it can: a program that is too long says nothing about one that is
/// too small. A law about the Neural Engine is contradicted by any row that was not wholly there, and the other way round.
pub fn nearest(
    corpus: &Corpus,
    features: &Features,
    law: &dyn Law,
    outcome: Outcome,
    count: usize,
) -> [Vec<Evidence>; 2] {
    let mut rows: Vec<(f64, bool, Evidence)> = Vec::new();
    for row in corpus.evidence().filter(|row| row.placed.device != Outcome::Unknown) {
        let of_row = Features::from(&row.graph);
        let ruled_out = excluded(&of_row).is_some_and(|by| by != law.card().name);
        if law.graph(&of_row).is_none() || ruled_out {
            continue;
        }
        let supports = (row.placed.device == Outcome::Ane) == (outcome == Outcome::Ane);
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

/// What a feature that one side does not tell adds: as much as a difference of tenfold.
const UNTOLD: f64 = 1.0;

/// How unlike two graphs are. A tenfold of bytes or of work is 1, a doubling of layers a half; another dtype or way of storing
/// weights, and states on one side alone, are 1 each, another family is 2,
/// and 4 where only one side has anything to multiply.
fn distance(a: &Features, b: &Features) -> f64 {
    let scale = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => ((1.0 + a as f64 / 1e5).log10() - (1.0 + b as f64 / 1e5).log10()).abs(),
        _ => UNTOLD,
    };
    let layers = |f: &Features| f.depth.map(|d| (d.max(1) as f64).log2());
    let depth = layers(a).zip(layers(b)).map_or(UNTOLD, |(a, b)| (a - b).abs() / 2.0);
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
