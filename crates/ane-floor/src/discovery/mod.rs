//! The search for the floor: decoders of many sizes, each placed by an oracle, and the boundary between them.
//!
//! A *line* fixes everything of a decoder except its width: layers, tokens per call, form of the weights.
//! Wider decoders have more work, so placement flips at one width of a line, if at all; it is found by
//! bisection between the narrowest and the widest. The oracle decides where a package is placed: the laws on
//! any machine, `MLComputePlan` on a Mac.

mod boundary;
mod probe;
mod sweep;

use std::collections::BTreeMap;
use std::fmt;

use mlpackage::counted;
use serde::{Deserialize, Serialize};

pub use self::boundary::Boundary;
pub use self::probe::Probe;
pub use self::sweep::{Configuration, Sweep};
use crate::device::Verdict;
use crate::report::{Basis, PlacementReport};

/// The result of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discovery {
    /// The kind of oracle.
    pub basis: Basis,
    /// The probes, in the order of probing.
    pub probes: Vec<Probe>,
    /// The boundary of each line.
    pub boundaries: Vec<Boundary>,
}

/// Searches every line of a sweep, by bisection or, if `exhaustive`, through every width.
///
/// `probe` builds the package of a configuration and has it placed. `law` names a law whose opinion is used
/// instead of the verdict of all; if no law has this name, every outcome is unknown.
///
/// # Errors
///
/// The first error of `probe`.
pub fn search<E>(
    sweep: &Sweep,
    exhaustive: bool,
    law: Option<&str>,
    mut probe: impl FnMut(&Configuration) -> Result<PlacementReport, E>,
) -> Result<Discovery, E> {
    let mut discovery = Discovery { basis: Basis::Predicted, probes: Vec::new(), boundaries: Vec::new() };
    for line in sweep.lines().filter(|line| !line.is_empty()) {
        let mut placed: Vec<Option<(bool, u64)>> = vec![None; line.len()];
        let mut last = (Verdict::Unknown, String::new());
        let mut at = |i: usize, discovery: &mut Discovery| -> Result<bool, E> {
            if let Some((placed, _)) = placed[i] {
                return Ok(placed);
            }
            let report = probe(&line[i])?;
            discovery.basis = report.basis;
            let seen = Probe::new(&line[i], &report, law);
            let on_ane = seen.outcome == Verdict::Ane;
            if i + 1 == line.len() {
                last = (seen.outcome, seen.rule.clone());
            }
            placed[i] = Some((on_ane, seen.int8_bytes));
            discovery.probes.push(seen);
            Ok(on_ane)
        };
        let (mut low, mut high) = (0, line.len() - 1);
        let (narrowest, widest) = (at(low, &mut discovery)?, at(high, &mut discovery)?);
        if exhaustive {
            for i in 0..line.len() {
                at(i, &mut discovery)?;
            }
        } else if narrowest != widest {
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                if at(middle, &mut discovery)? == narrowest { low = middle } else { high = middle }
            }
        }
        let known = placed.iter().enumerate();
        let known = known.filter_map(|(i, p)| p.map(|(on, bytes)| (line[i].n_embd, on, bytes)));
        let Configuration { n_layer, tokens, quantization, .. } = line[0].clone();
        let known: Vec<_> = known.collect();
        discovery.boundaries.push(Boundary::of_line((n_layer, tokens, quantization), &known, last));
    }
    Ok(discovery)
}

impl Discovery {
    /// Computes the boundaries from probes in any order.
    pub fn of_probes(basis: Basis, probes: Vec<Probe>) -> Self {
        let mut lines: BTreeMap<(usize, usize, String), Vec<&Probe>> = BTreeMap::new();
        for probe in &probes {
            let Configuration { n_layer, tokens, quantization, .. } = &probe.configuration;
            lines.entry((*n_layer, *tokens, quantization.clone())).or_default().push(probe);
        }
        let boundary =
            |((n_layer, tokens, quantization), mut line): ((usize, usize, String), Vec<&Probe>)| {
                line.sort_by_key(|probe| probe.configuration.n_embd);
                let known =
                    line.iter().map(|p| (p.configuration.n_embd, p.outcome == Verdict::Ane, p.int8_bytes));
                let widest =
                    line.last().map_or((Verdict::Unknown, String::new()), |p| (p.outcome, p.rule.clone()));
                Boundary::of_line((n_layer, tokens, quantization), &known.collect::<Vec<_>>(), widest)
            };
        let boundaries = lines.into_iter().map(boundary).collect();
        Self { basis, probes, boundaries }
    }

    /// Serializes the probes as rows of a corpus, one JSON object per line.
    pub fn rows(&self) -> String {
        self.probes.iter().map(Probe::row_text).collect()
    }
}

/// Formats one line per boundary.
impl fmt::Display for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>7} {:>3}  {:<17} {:>18}  {:>18}   ({})",
            "n_layer", "T", "weights", "not on the ANE", "on the ANE", self.basis
        )?;
        let side = |side: Option<(usize, u64)>| match side {
            Some((width, bytes)) => format!("{width} ({:.2} MB)", bytes as f64 / 1e6),
            None => "-".to_owned(),
        };
        for b in &self.boundaries {
            let (outcome, rule) = &b.widest;
            let turned = match (b.turned, b.above) {
                (true, _) => "  but wider ones are not".to_owned(),
                (false, None) => format!("  the widest: {outcome} by {rule}"),
                _ => String::new(),
            };
            writeln!(
                f,
                "{:>7} {:>3}  {:<17} {:>18}  {:>18}{turned}",
                b.n_layer,
                b.tokens,
                b.quantization,
                side(b.below),
                side(b.above)
            )?;
        }
        writeln!(
            f,
            "{} probed, {}; widths with their size in INT8",
            counted(self.probes.len(), "package"),
            counted(self.boundaries.len(), "line")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(n_embd: Vec<usize>) -> Sweep {
        Sweep { n_embd, n_layer: vec![1, 2], tokens: vec![1], quantization: vec!["int8".into()] }
    }

    /// Returns a report for a package that is placed or not.
    fn report(placed: bool) -> PlacementReport {
        let device = if placed { "ane" } else { "cpu" };
        let json = serde_json::json!({
            "report_version": 1, "package": "p", "basis": "predicted", "verdict": device, "confidence": 0.5,
            "residency": { "conv_ane": { "ane": usize::from(placed), "total": 1 },
                           "compute_ane": { "ane": usize::from(placed), "total": 1 } },
            "cost_ane": 0.0, "pass": placed,
            "compiled": { "weights": 0, "program": 0, "descriptions": 0, "weight_elements": 0 }, "compiled_bytes": 0,
            "functions": [], "findings": [], "changes": [], "scalings": null, "operations": []
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn widths_are_searched_in_ascending_order() {
        let lines: Vec<_> = sweep(vec![64, 32, 64]).lines().collect();
        assert!(!lines.is_empty());
        for line in lines {
            assert_eq!(line.iter().map(|c| c.n_embd).collect::<Vec<_>>(), [32, 64]);
        }
    }

    #[test]
    fn bisection_finds_what_every_width_would() {
        let widths: Vec<usize> = (1..=64).map(|i| 32 * i).collect();
        for threshold in (0..=66).map(|i| 32 * i) {
            let oracle = |c: &Configuration| Ok::<_, ()>(report(c.n_embd * c.n_layer >= threshold));
            let found = search(&sweep(widths.clone()), false, None, oracle).unwrap();
            let all = search(&sweep(widths.clone()), true, None, oracle).unwrap();
            assert_eq!(found.boundaries, all.boundaries, "{threshold}");
            // The order of probes does not matter.
            let backwards = all.probes.iter().rev().cloned().collect();
            assert_eq!(Discovery::of_probes(Basis::Predicted, backwards).boundaries, all.boundaries);
            // Both ends, and six halvings of 63 gaps.
            assert!(found.probes.len() <= 2 * (2 + 6), "{}", found.probes.len());
            assert_eq!(all.probes.len(), 2 * 64);
        }
    }

    #[test]
    fn a_line_with_two_boundaries_is_reported() {
        let widths: Vec<usize> = (1..=8).map(|i| 32 * i).collect();
        let island = |c: &Configuration| Ok::<_, ()>(report((96..=160).contains(&c.n_embd)));
        let found = search(&sweep(widths), true, None, island).unwrap();
        assert_eq!(found.boundaries[0].below.unwrap().0, 64);
        assert_eq!(found.boundaries[0].above.unwrap().0, 96);
        assert!(found.boundaries[0].turned);
        assert!(found.to_string().contains("but wider ones are not"));
    }

    /// A row written from a prediction can be read, but is not evidence.
    #[test]
    fn predicted_rows_are_no_evidence() {
        let found = search(&sweep(vec![32, 64]), true, None, |_| Ok::<_, ()>(report(true))).unwrap();
        let corpus = crate::corpus::PlacementCorpus::from_jsonl("rows", &found.rows()).unwrap();
        assert_eq!(corpus.rows().len(), 4);
        assert_eq!(corpus.evidence().count(), 0);
    }
}
