//! The law of anchor and work, fitted to the corpus.
//!
//! The law scores what a graph has: weights to stream, a convolution or matrix product large enough to carry
//! the rest (the *anchor*), depth, and states. Each term adds to the score; a threshold, the *price*, is
//! subtracted:
//!
//! ```text
//! score = -price + a log10(1 + INT8 bytes / 1 M) + b log10(1 + anchor multiply-adds / 1 M) + c log2(layers) + d [has states]
//! ```
//!
//! A graph is placed on the Neural Engine if its score is above 0. The price and the terms are fitted by
//! logistic regression on the rows of the corpus that have enough information. Terms are constrained to be at
//! least 0 (a negative one would mean that more work is less reason), with a small ridge, because some rows
//! are separable at any steepness. `corpus/anchor_and_work.json` is the fit, with the rows it was made from;
//! `microgpt floor refit` repeats the fit, and a test checks the file against the corpus.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::{Card, Law, Opinion, Statement};
use crate::corpus::{Family, GraphDtype, Placement, PlacementCorpus, WeightFormat};
use crate::device::Verdict;
use crate::features::Features;

/// The committed fit.
const BUILT_IN: &str = include_str!("../../corpus/anchor_and_work.json");

/// Bytes and multiply-adds are counted in millions: graphs begin to be placed at a few of either.
const UNIT: f64 = 1e6;
/// Strength of the ridge on the terms, in rows.
const RIDGE: f64 = 0.1;
/// The fit has converged when a sweep changes it by less than this.
const DONE: f64 = 1e-10;
const MAX_SWEEPS: usize = 20_000;

/// A term of the score.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    /// Its name in the fitted table.
    pub name: &'static str,
    /// What the term measures.
    pub what: &'static str,
    value: fn(&Features) -> f64,
    /// Converts a value of the term back to its raw quantity.
    raw: fn(f64) -> Option<f64>,
}

/// The terms, in the order of the fit.
pub const TERMS: [Term; 4] = [
    Term {
        name: "weights",
        what: "weights of convolutions and products, in INT8: per factor of ten above 1 MB",
        value: |f| logarithm(if f.is_anchored() { f.int8_bytes.unwrap_or(0) } else { 0 }),
        raw: |value| Some((10f64.powf(value) - 1.0) * UNIT),
    },
    Term {
        name: "anchor",
        what: "multiply-adds of the largest convolution or product: per factor of ten above 1 M",
        value: |f| logarithm(f.anchor.unwrap_or(0)),
        raw: |value| Some((10f64.powf(value) - 1.0) * UNIT),
    },
    Term {
        name: "depth",
        what: "layers: per doubling",
        value: |f| (f.depth.unwrap_or(1).max(1) as f64).log2(),
        raw: |value| Some(value.exp2()),
    },
    Term {
        name: "states",
        what: "1 if there are states",
        value: |f| f64::from(u8::from(f.stateful == Some(true))),
        raw: |_| None,
    },
];

fn logarithm(quantity: u64) -> f64 {
    (1.0 + quantity as f64 / UNIT).log10()
}

/// The fit: the price, and the weight of each term.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitted {
    /// The score that a graph must exceed.
    pub price: f64,
    /// What a unit of each term adds to the score, in the order of [`TERMS`].
    pub earns: [f64; TERMS.len()],
    /// The ids of the rows used for the fit.
    pub rows: Vec<String>,
}

/// The law, with its fit.
#[derive(Clone, Debug, PartialEq)]
pub struct AnchorAndWork {
    fitted: Fitted,
}

const CARD: Card = Card {
    name: AnchorAndWork::NAME,
    says: "a graph is placed on the Neural Engine if the terms of its weights, largest product, depth and states sum to more than a threshold",
    source: "fitted to this corpus",
    // The fit uses every suitable row; accuracy is computed by leaving each source out of the fit in turn.
    made_from: &[],
    statements: &[
        Statement::supporting(
            "work places a matrix product, not bytes: n = 512 is placed, n = 384 is not",
            "vx-lang, issue 435",
        ),
        Statement::supporting(
            "depth places an MLP, not the type of its operations",
            "stablehlo-coreml, pull request 110",
        ),
    ],
};

impl AnchorAndWork {
    /// Its name.
    pub const NAME: &str = "anchor-and-work";

    /// Returns the law, fitted to the built-in corpus.
    ///
    /// # Panics
    ///
    /// Never; a test reads the committed fit.
    pub fn built_in() -> &'static Self {
        static LAW: LazyLock<AnchorAndWork> = LazyLock::new(|| AnchorAndWork {
            fitted: serde_json::from_str(BUILT_IN).expect("the committed fit is sound"),
        });
        &LAW
    }

    /// Fits the law to the rows of a corpus that have enough information, except those for which `skip`
    /// returns true.
    pub fn fit(corpus: &PlacementCorpus, skip: impl Fn(&Placement) -> bool) -> Self {
        let rows: Vec<&Placement> = corpus.evidence().filter(|r| is_fitted(r) && !skip(r)).collect();
        let values: Vec<[f64; TERMS.len()]> =
            rows.iter().map(|r| values(&Features::from(&r.graph))).collect();
        let placed: Vec<bool> = rows.iter().map(|r| r.placed.device == Verdict::Ane).collect();
        let (price, earns) = logistic(&values, &placed);
        Self { fitted: Fitted { price, earns, rows: rows.iter().map(|r| r.id.clone()).collect() } }
    }

    /// Returns the fit.
    pub fn fitted(&self) -> &Fitted {
        &self.fitted
    }

    /// Returns a graph's score: the sum of its terms minus the price.
    pub fn score(&self, features: &Features) -> f64 {
        let values = values(features);
        values.iter().zip(&self.fitted.earns).map(|(v, e)| v * e).sum::<f64>() - self.fitted.price
    }

    /// Returns how much of a term, in bytes, multiply-adds or layers, exceeds the price without the other
    /// terms; `None` if no amount does.
    pub fn alone(&self, term: usize) -> Option<f64> {
        let earns = self.fitted.earns[term];
        if earns <= 0.0 || self.fitted.price <= 0.0 {
            return None;
        }
        (TERMS[term].raw)(self.fitted.price / earns).filter(|raw| *raw < 1e15)
    }
}

impl Law for AnchorAndWork {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn graph(&self, features: &Features) -> Option<Opinion> {
        if !applies(features) {
            return None;
        }
        let score = self.score(features);
        let earned: Vec<String> = values(features)
            .iter()
            .zip(&self.fitted.earns)
            .zip(&TERMS)
            .filter(|((value, earns), _)| *value * *earns >= 0.005)
            .map(|((value, earns), term)| format!("{} {:.2}", term.name, value * earns))
            .collect();
        let earned = if earned.is_empty() { "all zero".to_owned() } else { earned.join(", ") };
        let outcome = if score > 0.0 { Verdict::Ane } else { Verdict::Cpu };
        let than = if score > 0.0 { "more" } else { "no more" };
        let reason =
            format!("its terms ({earned}) sum to {than} than the threshold of {:.2}", self.fitted.price);
        Some(Opinion { outcome, reason, margin: 1.0 / (1.0 + (-score.abs()).exp()) })
    }
}

/// Returns whether the law applies to a graph. Per-block INT4 and fp32 are covered by other laws.
fn applies(features: &Features) -> bool {
    // Depth and states are not enough: a row without bytes or work would teach that four layers of any size
    // are placed.
    (features.int8_bytes.is_some() || features.work.is_some())
        && features.dtype != Some(GraphDtype::Fp32)
        && features.weights != Some(WeightFormat::Int4PerBlock)
        && features.family != Family::Any
}

/// Returns whether a row is used for the fit: it was placed wholly on one of the two devices, the law applies
/// to it, and it is not above a ceiling.
fn is_fitted(row: &Placement) -> bool {
    let features = Features::from(&row.graph);
    let within =
        super::ByteCeiling.graph(&features).is_none() && super::OperationCeiling.graph(&features).is_none();
    matches!(row.placed.device, Verdict::Ane | Verdict::Cpu) && within && applies(&features)
}

fn values(features: &Features) -> [f64; TERMS.len()] {
    TERMS.map(|term| (term.value)(features))
}

/// Fits a logistic regression by coordinate descent, with terms of at least 0 and a ridge on them. Each step
/// minimizes a parabola above the loss, whose curvature is at most a quarter, so no step makes the fit worse.
fn logistic(values: &[[f64; TERMS.len()]], placed: &[bool]) -> (f64, [f64; TERMS.len()]) {
    let (mut price, mut earns) = (0.0, [0.0; TERMS.len()]);
    let n = values.len() as f64;
    let mut scores: Vec<f64> = vec![0.0; values.len()];
    let error = |score: f64, placed: bool| 1.0 / (1.0 + (-score).exp()) - f64::from(u8::from(placed));
    for _ in 0..MAX_SWEEPS {
        let mut change: f64 = 0.0;
        let gradient: f64 =
            scores.iter().zip(placed).map(|(s, p)| error(*s, *p)).sum::<f64>() - RIDGE * price;
        let step = -gradient / (n / 4.0 + RIDGE);
        price -= step;
        scores.iter_mut().for_each(|s| *s += step);
        change = change.max(step.abs());
        for term in 0..TERMS.len() {
            let column = || values.iter().map(|row| row[term]);
            let gradient: f64 =
                scores.iter().zip(placed).zip(column()).map(|((s, p), v)| error(*s, *p) * v).sum();
            let curvature = column().map(|v| v * v).sum::<f64>() / 4.0 + RIDGE;
            let new = (earns[term] - (gradient + RIDGE * earns[term]) / curvature).max(0.0);
            let step = new - earns[term];
            earns[term] = new;
            scores.iter_mut().zip(column()).for_each(|(s, v)| *s += step * v);
            change = change.max(step.abs());
        }
        if change < DONE {
            break;
        }
    }
    (price, earns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refitted() -> AnchorAndWork {
        AnchorAndWork::fit(PlacementCorpus::built_in(), |_| false)
    }

    /// The tolerance is 1e-6; the fit converges to 1e-10 per sweep.
    #[test]
    fn the_committed_fit_is_that_of_the_corpus() {
        let (built_in, refitted) = (AnchorAndWork::built_in().fitted(), refitted());
        assert_eq!(built_in.rows, refitted.fitted.rows);
        assert!((built_in.price - refitted.fitted.price).abs() < 1e-6, "{built_in:?}\n{refitted:?}");
        for (a, b) in built_in.earns.iter().zip(&refitted.fitted.earns) {
            assert!((a - b).abs() < 1e-6, "{built_in:?}\n{refitted:?}");
        }
    }

    /// With one term and two groups of rows the solution is known: without a ridge, the price is the negative
    /// logit of the share at 0, and the term is the difference of the logits. With 600 of 800 and 200 of 800
    /// rows placed, the ridge changes it by less than 0.01.
    #[test]
    fn the_regression_finds_the_logits() {
        let mut values = Vec::new();
        let mut placed = Vec::new();
        for i in 0..800 {
            values.push([1.0, 0.0, 0.0, 0.0]);
            placed.push(i < 600);
            values.push([0.0; 4]);
            placed.push(i < 200);
        }
        let (price, earns) = logistic(&values, &placed);
        let logit = 3f64.ln();
        assert!((price - logit).abs() < 0.01 && (earns[0] - 2.0 * logit).abs() < 0.01, "{price} {earns:?}");
        // With the outcomes reversed, the term would be negative and is clamped to 0.
        let turned: Vec<bool> = placed.iter().map(|p| !p).collect();
        assert_eq!(logistic(&values, &turned).1, [0.0; 4]);
    }

    type Change = fn(&mut Features);

    /// For every graph of the corpus that the law judges: with more weights, a larger product, more layers or
    /// a state it is still placed where it was, or moves to the Neural Engine.
    #[test]
    fn more_of_anything_is_never_less_reason() {
        let changes: [(&str, Change); 4] = [
            ("weights", |f| f.int8_bytes = Some(10 * f.int8_bytes.unwrap_or(0) + 1_000_000)),
            ("anchor", |f| f.anchor = Some(10 * f.anchor.unwrap_or(0) + 1_000_000)),
            ("depth", |f| f.depth = Some(2 * f.depth.unwrap_or(1))),
            ("states", |f| f.stateful = Some(true)),
        ];
        // A fit without the constraint would give depth a negative weight.
        for law in [AnchorAndWork::built_in().clone(), refitted()] {
            let outcome = |features: &Features| law.graph(features).unwrap().outcome;
            let mut moved = Vec::new();
            let graphs =
                PlacementCorpus::built_in().evidence().map(|row| (&row.id, Features::from(&row.graph)));
            for (id, features) in graphs.filter(|(_, features)| applies(features)) {
                for (what, change) in changes {
                    let mut more = features.clone();
                    change(&mut more);
                    match (outcome(&features), outcome(&more)) {
                        (Verdict::Ane, Verdict::Ane) | (Verdict::Cpu, Verdict::Cpu) => {}
                        (Verdict::Cpu, Verdict::Ane) => moved.push(what),
                        (before, after) => panic!("{id} with more {what}: {before:?}, then {after:?}"),
                    }
                    let (less, more) = (law.score(&features), law.score(&more));
                    assert!(more >= less, "{id} with more {what}: {less}, then {more}");
                }
            }
            assert!(moved.contains(&"weights") && moved.contains(&"anchor"), "{moved:?}");
        }
    }

    #[test]
    fn a_graph_of_nothing_stays_on_the_cpu() {
        let row = PlacementCorpus::built_in().evidence().next().unwrap();
        let nothing = Features {
            family: Family::Elementwise,
            int8_bytes: Some(0),
            anchor: Some(0),
            work: Some(0),
            depth: Some(0),
            stateful: Some(false),
            ..Features::from(&row.graph)
        };
        assert_eq!(AnchorAndWork::built_in().graph(&nothing).unwrap().outcome, Verdict::Cpu);
    }
}
