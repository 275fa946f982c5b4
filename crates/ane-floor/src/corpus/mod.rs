//! The corpus of known placements: one published measurement or statement per row, as its source gave it.
//!
//! None of it was measured by this project, and rows contradict each other; a law that is based on it has to
//! allow for that. The rows are in `corpus/placements.jsonl`, one JSON object per line, described by
//! `corpus/schema.json`; `null` means that the source does not state it.

mod graph;
mod machine;
mod placement;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use mlpackage::counted;

pub use self::graph::{Family, Graph, GraphDtype, WeightFormat};
pub use self::machine::RecordedMachine;
pub use self::placement::{How, Placed, Placement};
pub use crate::device::Verdict;
use crate::error::{Error, Result};

/// The built-in rows.
const BUILT_IN: &str = include_str!("../../corpus/placements.jsonl");

/// The JSON Schema of a row.
pub const SCHEMA: &str = include_str!("../../corpus/schema.json");

/// A corpus of placements.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacementCorpus {
    rows: Vec<Placement>,
}

impl PlacementCorpus {
    /// Returns the built-in corpus.
    ///
    /// # Panics
    ///
    /// Never; a test reads the built-in rows.
    pub fn built_in() -> &'static Self {
        static CORPUS: LazyLock<PlacementCorpus> = LazyLock::new(|| {
            PlacementCorpus::from_jsonl("the built-in corpus", BUILT_IN)
                .expect("the built-in corpus is sound")
        });
        &CORPUS
    }

    /// Reads rows, one JSON object per line, and validates them.
    ///
    /// # Errors
    ///
    /// [`Error::Corpus`] with the invalid line and the reason.
    pub fn from_jsonl(origin: &str, text: &str) -> Result<Self> {
        let mut ids = BTreeSet::new();
        let mut rows: Vec<Placement> = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let bad = |reason: String| Error::Corpus {
                origin: origin.to_owned(),
                line: number + 1,
                reason,
                source: None,
            };
            let row: Placement = serde_json::from_str(line).map_err(|e| Error::Corpus {
                origin: origin.to_owned(),
                line: number + 1,
                reason: e.to_string(),
                source: Some(e.into()),
            })?;
            row.check().map_err(|reason| bad(format!("{}: {reason}", row.id)))?;
            if !ids.insert(row.id.clone()) {
                return Err(bad(format!("{}: another row has this id", row.id)));
            }
            rows.push(row);
        }
        Ok(Self { rows })
    }

    /// Appends another corpus, which comes from `origin`.
    ///
    /// # Errors
    ///
    /// [`Error::Corpus`] if both have a row with the same id.
    pub fn joined(mut self, origin: &str, other: Self) -> Result<Self> {
        for (i, row) in other.rows.into_iter().enumerate() {
            if self.rows.iter().any(|r| r.id == row.id) {
                let reason = format!("{}: the corpus already has a row with this id", row.id);
                return Err(Error::Corpus { origin: origin.to_owned(), line: i + 1, reason, source: None });
            }
            self.rows.push(row);
        }
        Ok(self)
    }

    /// Adds a row, replacing an earlier one with the same id.
    ///
    /// # Errors
    ///
    /// [`Error::Corpus`] if the row is invalid.
    pub fn with(mut self, row: Placement) -> Result<Self> {
        let earlier = self.rows.iter().position(|r| r.id == row.id);
        let line = earlier.unwrap_or(self.rows.len()) + 1;
        row.check().map_err(|reason| Error::Corpus {
            origin: "a new row".into(),
            line,
            reason: format!("{}: {reason}", row.id),
            source: None,
        })?;
        match earlier {
            Some(i) => self.rows[i] = row,
            None => self.rows.push(row),
        }
        Ok(self)
    }

    /// Serializes the rows, one JSON object per line.
    pub fn to_jsonl(&self) -> String {
        self.rows.iter().map(Placement::to_line).collect()
    }

    /// Returns the rows that are evidence, excluding predictions, in order.
    pub fn evidence(&self) -> impl Iterator<Item = &Placement> {
        self.rows.iter().filter(|row| row.how != How::Predicted)
    }

    /// Returns all rows, in the order of the file.
    pub fn rows(&self) -> &[Placement] {
        &self.rows
    }
}

/// Formats the rows as a table: outcome, weights, summary, source.
impl fmt::Display for PlacementCorpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<7}  {:>9}  {:<12}  graph (source)", "placed", "weights", "stored as")?;
        for Placement { graph, placed, source, remark, .. } in &self.rows {
            let bytes = graph.weight_bytes.map_or("-".into(), |b| format!("{:.2} MB", b as f64 / 1e6));
            let stored = match (graph.dtype, graph.quantization) {
                (Some(GraphDtype::Fp32), _) => "fp32".to_owned(),
                (_, Some(weights)) => weights.to_string(),
                (_, None) => "-".to_owned(),
            };
            let tokens = graph.tokens.map_or(String::new(), |t| format!(", T = {t}"));
            let states = if graph.stateful == Some(true) { ", stateful" } else { "" };
            let remark = remark.as_ref().map_or(String::new(), |remark| format!("; {remark}"));
            let summary = &graph.summary;
            writeln!(
                f,
                "{:<7}  {bytes:>9}  {stored:<12}  {summary}{tokens}{states} ({source}){remark}",
                placed.device
            )?;
        }
        let sources: BTreeSet<&str> = self.rows.iter().map(|row| row.source.as_str()).collect();
        writeln!(f, "{} from {}", counted(self.rows.len(), "row"), counted(sources.len(), "source"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::residency::Count;

    #[test]
    fn the_built_in_corpus_is_complete() {
        assert_eq!(PlacementCorpus::built_in().rows().len(), 58);
    }

    /// The two points of Experiment 27, exactly as published.
    #[test]
    fn experiment_27_is_as_published() {
        let corpus = PlacementCorpus::built_in();
        let row = |id: &str| corpus.rows().iter().find(|row| row.id == id).unwrap();
        let (original, scaled) = (row("exp27-original"), row("exp27-scaled"));
        assert_eq!(original.placed.device, Verdict::Cpu);
        assert_eq!((original.graph.convs, original.graph.weight_bytes), (Some(7), Some(30_000)));
        assert_eq!(scaled.placed.device, Verdict::Ane);
        assert_eq!(scaled.placed.conv_ane, Some(Count { ane: 37, total: 37 }));
        assert_eq!(scaled.placed.compute_ane, Some(Count { ane: 260, total: 260 }));
        // 37 convolutions: 6 layers of 12 C^2, and 27 rows of the LM head.
        assert_eq!(scaled.graph.multiply_adds, Some(6 * 12 * 512 * 512 + 27 * 512));
        assert_eq!(scaled.graph.weight_bytes, Some(19_070_000));
    }

    #[test]
    fn rows_that_contradict_themselves_are_named() {
        let sound = BUILT_IN.lines().nth(1).unwrap();
        let refused = |from: &str, to: &str| {
            assert!(sound.contains(from), "{sound}");
            PlacementCorpus::from_jsonl("t", &sound.replace(from, to)).unwrap_err().to_string()
        };
        assert_eq!(
            refused(r#""ane": 37"#, r#""ane": 36"#),
            "t: line 1: exp27-scaled: placed.conv_ane is 36/37, which contradicts ANE"
        );
        assert!(refused(r#""ane-book, Experiment 27""#, r#"" ""#).contains("source is empty"));
        assert!(refused(r#""tokens": 1"#, r#""tokens": 0"#).contains("graph.tokens is 0"));
        assert!(refused("18888192", "7").contains("the anchor has 1048576"));
        assert!(refused(r#""how": "plan""#, r#""how": "guess""#).contains("unknown variant `guess`"));
        assert!(refused(r#""source":"#, r#""sauce":"#).contains("unknown field `sauce`"));
        let twice = format!("{sound}\n\n{sound}");
        let error = PlacementCorpus::from_jsonl("t", &twice).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("another row has this id"), "{error}");
    }

    /// The schema has exactly the fields and enum values of the types.
    #[test]
    fn the_schema_describes_the_rows() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
        let names = |value: &serde_json::Value| -> BTreeSet<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        let row = serde_json::to_value(&PlacementCorpus::built_in().rows()[1]).unwrap();
        assert_eq!(names(&schema["properties"]), names(&row));
        for part in ["graph", "machine", "placed"] {
            let described = &schema["properties"][part];
            assert_eq!(names(&described["properties"]), names(&row[part]), "{part}");
            assert_eq!(described["additionalProperties"], false);
        }
        let words = |path: &str| -> Vec<String> {
            let described = schema.pointer(path).unwrap()["enum"].as_array().unwrap();
            described.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
        };
        let read = |words: Vec<String>, field: &str| {
            for word in words {
                let mut changed = row.clone();
                *changed.pointer_mut(field).unwrap() = word.clone().into();
                changed["placed"]["conv_ane"] = serde_json::Value::Null;
                changed["placed"]["compute_ane"] = serde_json::Value::Null;
                PlacementCorpus::from_jsonl("t", &changed.to_string())
                    .unwrap_or_else(|e| panic!("{word}: {e}"));
            }
        };
        for field in ["how", "graph/family", "graph/dtype", "graph/quantization", "placed/device"] {
            let schema_path = format!("/properties/{}", field.replace('/', "/properties/"));
            read(words(&schema_path), &format!("/{field}"));
        }
    }
}
