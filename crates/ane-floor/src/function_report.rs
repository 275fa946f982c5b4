//! What the laws say of a function, in a report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::accuracy::Accuracy;
use crate::corpus::Corpus;
use crate::device::Outcome;
use crate::evidence::{self, Evidence};
use crate::features::Features;
use crate::laws::{self, Opinion};
use crate::placement::Placement;

/// Rows of evidence on each side of a law's opinion.
const EVIDENCE: usize = 2;

/// A function, and what the laws say of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionReport {
    /// Its name.
    pub name: String,
    /// What laws looked at.
    pub features: Features,
    /// Where the graph goes as a whole, before laws that keep single operations off.
    pub outcome: Outcome,
    /// The law that decided.
    pub rule: String,
    /// Why, in a sentence.
    pub reason: String,
    /// How sure it is, 0 to 1.
    pub confidence: f64,
    /// What every law says that says anything, the one that decided included.
    pub opinions: Vec<LawOpinion>,
}

/// What a law says of a function, and what stands for and against it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LawOpinion {
    /// Name of the law.
    pub law: String,
    /// What the law says in general.
    pub says: String,
    /// Who found it.
    pub source: String,
    /// What it says of this graph.
    pub opinion: Opinion,
    /// The law's record on sources that it was not made from, 0 to 1.
    pub record: f64,
    /// The nearest rows that were placed as it says.
    pub evidence_for: Vec<Evidence>,
    /// The nearest rows that were not.
    pub evidence_against: Vec<Evidence>,
}

impl FunctionReport {
    pub(crate) fn new(name: &str, features: Features, placed: &Placement, corpus: &Corpus) -> Self {
        let accuracy = Accuracy::built_in();
        let opinions: Vec<LawOpinion> = laws::all()
            .into_iter()
            .filter_map(|law| {
                let opinion = law.graph(&features)?;
                let card = law.card();
                let [evidence_for, evidence_against] =
                    evidence::nearest(corpus, &features, law, opinion.outcome, EVIDENCE);
                Some(LawOpinion {
                    law: card.name.to_owned(),
                    says: card.says.to_owned(),
                    source: card.source.to_owned(),
                    opinion,
                    record: accuracy.record(law),
                    evidence_for,
                    evidence_against,
                })
            })
            .collect();
        let (outcome, rule, reason) = match &placed.decided {
            Some((law, opinion)) => (opinion.outcome, (*law).to_owned(), opinion.reason.clone()),
            None => (Outcome::Unknown, "none".to_owned(), "no law is about such a graph".to_owned()),
        };
        let confidence = match &placed.decided {
            Some((law, opinion)) => {
                laws::named(law).map_or(0.5, |law| accuracy.confidence(law, opinion, &features))
            }
            None => 0.5,
        };
        Self { name: name.to_owned(), features, outcome, rule, reason, confidence, opinions }
    }
}
