//! A row of the corpus: a graph, where it was placed, and how that is known.

use serde::{Deserialize, Serialize};

use super::{Graph, RecordedMachine};
use crate::device::Verdict;
use crate::residency::Count;

/// A graph, and where it was placed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// A unique name.
    pub id: String,
    /// The graph that was placed.
    pub graph: Graph,
    /// The machine.
    pub machine: RecordedMachine,
    /// Where it was placed.
    pub placed: Placed,
    /// How that is known.
    pub how: How,
    /// The source of the row.
    pub source: String,
    /// Further information.
    pub remark: Option<String>,
}

/// Where a graph was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// The placement as a whole.
    pub device: Verdict,
    /// Its convolutions, if they were counted.
    pub conv_ane: Option<Count>,
    /// Its operations that compute, if they were counted.
    pub compute_ane: Option<Count>,
}

/// How a placement is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// `MLComputePlan`, or Xcode's display of it, shows it.
    Plan,
    /// It ran at a speed that only that device reaches.
    Timing,
    /// The source states it without saying how it is known.
    Stated,
    /// Laws predict it, and nothing was run. Such rows are not evidence: no law is fitted to or evaluated on
    /// them.
    Predicted,
}

impl Placement {
    /// Serializes the row as a line.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a row serializes") + "\n"
    }

    /// Checks the row by itself.
    pub(super) fn check(&self) -> Result<(), String> {
        let texts = [("id", &self.id), ("source", &self.source), ("graph.summary", &self.graph.summary)];
        if let Some((field, _)) = texts.into_iter().find(|(_, text)| text.trim().is_empty()) {
            return Err(format!("{field} is empty"));
        }
        let all = texts.into_iter().chain(self.remark.as_ref().map(|remark| ("remark", remark)));
        if let Some((field, text)) = all.into_iter().find(|(_, text)| text.chars().any(char::is_control)) {
            return Err(format!("{field} {text:?} holds a control character"));
        }
        if self.graph.tokens == Some(0) {
            return Err("graph.tokens is 0, expected at least 1".into());
        }
        if let (Some(anchor), Some(all)) = (self.graph.anchor_multiply_adds, self.graph.multiply_adds)
            && anchor > all
        {
            return Err(format!("the anchor has {anchor} multiply-adds, the whole graph {all}"));
        }
        let Placed { device, conv_ane, compute_ane } = self.placed;
        for (field, count) in [("conv_ane", conv_ane), ("compute_ane", compute_ane)] {
            let Some(Count { ane, total }) = count else { continue };
            let holds = match device {
                Verdict::Ane => ane == total,
                Verdict::Cpu | Verdict::Gpu | Verdict::Error => ane == 0,
                Verdict::Mixed | Verdict::Unknown => ane <= total,
            };
            if total == 0 || !holds {
                return Err(format!("placed.{field} is {ane}/{total}, which contradicts {device}"));
            }
        }
        Ok(())
    }
}
