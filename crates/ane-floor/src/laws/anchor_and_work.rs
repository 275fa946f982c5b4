//! The law of anchor and work, fitted to the corpus.
//!
//! Going to the Neural Engine has a price, and a graph pays it with what it brings: weights to stream, a convolution or matrix
//! product large enough to carry the rest (the *anchor*), depth, states. Each term earns, none costs:
//!
//! ```text
//! score = -price + a log10(1 + INT8 bytes / 1 M) + b log10(1 + anchor multiply-adds / 1 M) + c log2(layers) + d [has states]
//! ```
//!
//! A graph goes to the Neural Engine if its score is above 0. Price and terms are fitted by logistic regression on the rows of
//! the corpus that tell enough, with terms kept at 0 or above (a negative one would say that more work is less reason), and a
//! small ridge, as some rows could be told apart at any steepness. `corpus/anchor_and_work.json` is the fit, with the rows it was made from;
//! `microgpt floor refit` makes it anew, and a test holds the file to the corpus.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::{Card, Law, Opinion, Statement};
use crate::corpus::{Corpus, Dtype, Family, Placement, Weights};
use crate::device::Outcome;
use crate::features::Features;

/// The committed fit.
const BUILT_IN: &str = include_str!("../../corpus/anchor_and_work.json");

/// Bytes and multiply-adds are counted in millions: a few of either are where graphs begin to be placed.
const UNIT: f64 = 1e6;
/// Strength of the ridge on the terms, in rows.
const RIDGE: f64 = 0.1;
/// The fit changes by less than this in a sweep when it is done.
const DONE: f64 = 1e-10;
const MAX_SWEEPS: usize = 20_000;

/// What earns.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    /// Its name in the fitted table.
    pub name: &'static str,
    /// What it is, in the field's words.
    pub what: &'static str,
    value: fn(&Features) -> f64,
    /// The raw quantity at which a term of this value stands.
    raw: fn(f64) -> Option<f64>,
}

/// The terms, in the order of the fit.
pub const TERMS: [Term; 4] = [
    Term {
        name: "weights",
        what: "weights that are multiplied with, in INT8: a tenfold beyond 1 MB",
        value: |f| logarithm(if f.is_anchored() { f.int8_bytes.unwrap_or(0) } else { 0 }),
        raw: |value| Some((10f64.powf(value) - 1.0) * UNIT),
    },
    Term {
        name: "anchor",
        what: "multiply-adds of the largest convolution or product: a tenfold beyond 1 M",
        value: |f| logarithm(f.anchor.unwrap_or(0)),
        raw: |value| Some((10f64.powf(value) - 1.0) * UNIT),
    },
    Term {
        name: "depth",
        what: "layers: a doubling",
        value: |f| (f.depth.unwrap_or(1).max(1) as f64).log2(),
        raw: |value| Some(value.exp2()),
    },
    Term {
        name: "states",
        what: "states: having any",
        value: |f| f64::from(u8::from(f.stateful == Some(true))),
        raw: |_| None,
    },
];

fn logarithm(quantity: u64) -> f64 {
    (1.0 + quantity as f64 / UNIT).log10()
}

/// The fit: what the price is, and what each term earns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitted {
    /// What a graph must earn.
    pub price: f64,
    /// What a unit of each term earns, in the order of [`TERMS`].
    pub earns: [f64; TERMS.len()],
    /// The rows that it was fitted to.
    pub rows: Vec<String>,
}

/// The law.
#[derive(Clone, Debug, PartialEq)]
pub struct AnchorAndWork {
    fitted: Fitted,
}

const CARD: Card = Card {
    name: "anchor-and-work",
    says: "a graph goes to the Neural Engine if its weights, its largest product, its depth and its states earn the price",
    source: "fitted to this corpus",
    // Every row that it can be: accuracy is counted leaving each source out of the fit in turn.
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
    /// The law as it was fitted to the corpus that comes with the crate.
    ///
    /// # Panics
    ///
    /// Never: a test reads the fit.
    pub fn built_in() -> &'static Self {
        static LAW: LazyLock<AnchorAndWork> = LazyLock::new(|| AnchorAndWork {
            fitted: serde_json::from_str(BUILT_IN).expect("the committed fit is sound"),
        });
        &LAW
    }

    /// Fits the law to the rows of a corpus that tell enough, leaving out those of which `skip` is true.
    pub fn fit(corpus: &Corpus, skip: impl Fn(&Placement) -> bool) -> Self {
        let rows: Vec<&Placement> = corpus.evidence().filter(|r| tells_enough(r) && !skip(r)).collect();
        let values: Vec<[f64; TERMS.len()]> =
            rows.iter().map(|r| values(&Features::from(&r.graph))).collect();
        let placed: Vec<bool> = rows.iter().map(|r| r.placed.device == Outcome::Ane).collect();
        let (price, earns) = logistic(&values, &placed);
        Self { fitted: Fitted { price, earns, rows: rows.iter().map(|r| r.id.clone()).collect() } }
    }

    /// The fit.
    pub fn fitted(&self) -> &Fitted {
        &self.fitted
    }

    /// What a graph earns beyond the price.
    pub fn score(&self, features: &Features) -> f64 {
        let values = values(features);
        values.iter().zip(&self.fitted.earns).map(|(v, e)| v * e).sum::<f64>() - self.fitted.price
    }

    /// How much of a term, in bytes, multiply-adds or layers, earns the price by itself; `None` if it cannot.
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
        let earned = if earned.is_empty() { "nothing".to_owned() } else { earned.join(", ") };
        let outcome = if score > 0.0 { Outcome::Ane } else { Outcome::Cpu };
        let than = if score > 0.0 { "more" } else { "no more" };
        let reason = format!("it earns {earned}: {than} than the price of {:.2}", self.fitted.price);
        Some(Opinion { outcome, reason, clearance: 1.0 / (1.0 + (-score.abs()).exp()) })
    }
}

/// INT4 with a scale a block and fp32 are matters of other laws, and so is everything above the ceilings.
fn applies(features: &Features) -> bool {
    // Depth and states by themselves say too little: a row that tells neither bytes nor work would teach that four layers of
    // any size are placed.
    (features.int8_bytes.is_some() || features.work.is_some())
        && features.dtype != Some(Dtype::Fp32)
        && features.weights != Some(Weights::Int4PerBlock)
        && features.family != Family::Any
}

/// Whether a row can be learned from: it was placed on one of the two devices, it is a row for this law, and not above a ceiling.
fn tells_enough(row: &Placement) -> bool {
    let features = Features::from(&row.graph);
    let within =
        super::ByteCeiling.graph(&features).is_none() && super::OperationCeiling.graph(&features).is_none();
    matches!(row.placed.device, Outcome::Ane | Outcome::Cpu) && within && applies(&features)
}

fn values(features: &Features) -> [f64; TERMS.len()] {
    TERMS.map(|term| (term.value)(features))
}

/// Logistic regression with terms of at least 0 and a ridge on them, by coordinate descent: each step minimises a parabola that
/// lies above the loss (its curvature is at most a quarter), so that no step makes the fit worse.
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
        AnchorAndWork::fit(Corpus::built_in(), |_| false)
    }

    /// 1e-6: the file has what the fit converges to, to 1e-10 a sweep.
    #[test]
    fn the_committed_fit_is_that_of_the_corpus() {
        let (built_in, refitted) = (AnchorAndWork::built_in().fitted(), refitted());
        assert_eq!(built_in.rows, refitted.fitted.rows);
        assert!((built_in.price - refitted.fitted.price).abs() < 1e-6, "{built_in:?}\n{refitted:?}");
        for (a, b) in built_in.earns.iter().zip(&refitted.fitted.earns) {
            assert!((a - b).abs() < 1e-6, "{built_in:?}\n{refitted:?}");
        }
    }

    /// With one term and two groups of rows the regression has a solution by hand: without a ridge the price is the logit of the share
    /// at 0, and the term the difference of logits. 600 of 800 and 200 of 800 rows are so many that the ridge moves it by less than 0.01.
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
        // Turned round, the term would be negative, and is 0.
        let turned: Vec<bool> = placed.iter().map(|p| !p).collect();
        assert_eq!(logistic(&values, &turned).1, [0.0; 4]);
    }

    #[test]
    fn more_of_anything_is_never_less_reason() {
        let law = AnchorAndWork::built_in();
        assert!(law.fitted().earns.iter().all(|e| *e >= 0.0));
        assert!(law.fitted().price > 0.0, "a graph of nothing stays on the CPU");
    }
}
