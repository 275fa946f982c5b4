//! The part of a report about one function: the opinions of the laws.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::corpus::PlacementCorpus;
use crate::device::Verdict;
use crate::evaluation::Accuracy;
use crate::evidence::{self, Evidence};
use crate::features::Features;
use crate::laws::{self, Opinion};
use crate::placement::Placement;

/// Rows of evidence listed on each side of an opinion.
const EVIDENCE: usize = 2;

/// A function, and the opinions of the laws on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionReport {
    /// Its name.
    pub name: String,
    /// The features that laws use.
    pub features: Features,
    /// Placement of the graph as a whole, before laws that keep single operations off.
    pub outcome: Verdict,
    /// The law that decided.
    pub rule: String,
    /// The reason, in a sentence.
    pub reason: String,
    /// The confidence, 0 to 1.
    pub confidence: f64,
    /// The opinions of all laws that apply, including the one that decided.
    pub opinions: Vec<LawOpinion>,
}

/// A law's opinion on a function, with evidence for and against it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LawOpinion {
    /// Name of the law.
    pub law: String,
    /// What the law states in general.
    pub says: String,
    /// The law's source.
    pub source: String,
    /// Its opinion on this graph.
    pub opinion: Opinion,
    /// The law's record, 0 to 1: mostly its accuracy on sources that it was not made from.
    pub record: f64,
    /// The nearest rows that support the opinion.
    pub evidence_for: Vec<Evidence>,
    /// The nearest rows that contradict it.
    pub evidence_against: Vec<Evidence>,
}

impl FunctionReport {
    pub(crate) fn new(name: &str, features: Features, placed: &Placement, corpus: &PlacementCorpus) -> Self {
        let accuracy = Accuracy::built_in();
        let opinions: Vec<LawOpinion> = laws::all()
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
            None => (Verdict::Unknown, "none".to_owned(), "no law applies to such a graph".to_owned()),
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
