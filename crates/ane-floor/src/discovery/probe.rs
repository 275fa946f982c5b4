//! The placement of one decoder.

use serde::{Deserialize, Serialize};

use super::Configuration;
use crate::corpus::{Placement, RecordedMachine};
use crate::device::Verdict;
use crate::report::{Basis, PlacementReport};

/// A configuration, and where it was placed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The configuration that was probed.
    pub configuration: Configuration,
    /// Where it was placed as a whole.
    pub outcome: Verdict,
    /// The law or the measurement that determined the outcome.
    pub rule: String,
    /// Estimated size of the compiled package with its weights in INT8, in bytes.
    pub int8_bytes: u64,
    /// The resulting row of the corpus.
    pub row: Placement,
}

impl Probe {
    /// Creates a probe from a report's verdict or from one law's opinion in it.
    pub fn new(configuration: &Configuration, report: &PlacementReport, law: Option<&str>) -> Self {
        let function = report.functions.first();
        let opinion = law.map(|law| function.and_then(|f| f.opinions.iter().find(|o| o.law == law)));
        let (outcome, rule) = match (opinion, function) {
            (Some(Some(opinion)), _) => (opinion.opinion.outcome, opinion.law.clone()),
            (Some(None), _) => (Verdict::Unknown, law.unwrap_or_default().to_owned()),
            (None, Some(function)) => (report.verdict, function.rule.clone()),
            (None, None) => (report.verdict, "none".to_owned()),
        };
        let id = format!("discover-{}", configuration.id());
        let summary = format!("microGPT decode with random weights: {configuration}");
        let row = match report.basis {
            Basis::Predicted => Placement::of_prediction(id, summary, report),
            Basis::Measured => Placement::of_measurement(
                id,
                summary,
                report,
                RecordedMachine::this(),
                "microgpt floor discover",
            ),
        };
        Self {
            configuration: configuration.clone(),
            outcome,
            rule,
            int8_bytes: report.compiled.int8_equivalent(),
            row,
        }
    }

    /// Serializes the corpus row as a line.
    pub fn row_text(&self) -> String {
        self.row.to_line()
    }
}
