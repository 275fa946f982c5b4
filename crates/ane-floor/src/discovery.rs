//! The search for the floor: decoders of many sizes, each placed by an oracle, and the boundary between them.
//!
//! A *line* fixes everything of a decoder except its width: layers, tokens per call, form of the weights.
//! Wider decoders have more work, so placement flips at one width of a line, if at all; it is found by
//! bisection between the narrowest and the widest. The oracle decides where a package is placed: the laws on
//! any machine, `MLComputePlan` on a Mac.

use std::collections::BTreeMap;
use std::fmt;

use mlpackage::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::corpus::{Placement, RecordedMachine};
use crate::device::Verdict;
use crate::report::{Basis, PlacementReport};

/// A decoder to probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Its width.
    pub n_embd: usize,
    /// Its layers.
    pub n_layer: usize,
    /// Tokens per call (T).
    pub tokens: usize,
    /// The form of the weights, by the exporter's name.
    pub quantization: String,
}

impl Configuration {
    /// Returns a name that is unique in a sweep; names sort by size.
    pub fn id(&self) -> String {
        let Self { n_embd, n_layer, tokens, quantization } = self;
        format!("l{n_layer:02}-t{tokens:02}-{quantization}-e{n_embd:04}")
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n_embd, n_layer, tokens, quantization } = self;
        write!(f, "n_embd {n_embd}, n_layer {n_layer}, T {tokens}, {quantization}")
    }
}

/// The parameters of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// Widths, ascending.
    pub n_embd: Vec<usize>,
    /// Numbers of layers.
    pub n_layer: Vec<usize>,
    /// Tokens per call.
    pub tokens: Vec<usize>,
    /// Forms of the weights.
    pub quantization: Vec<String>,
}

impl Sweep {
    /// Returns every line, each from the narrowest to the widest.
    pub fn lines(&self) -> impl Iterator<Item = Vec<Configuration>> {
        self.n_layer.iter().flat_map(move |&n_layer| {
            self.tokens.iter().flat_map(move |&tokens| {
                self.quantization.iter().map(move |quantization| {
                    let at = |&n_embd: &usize| Configuration {
                        n_embd,
                        n_layer,
                        tokens,
                        quantization: quantization.clone(),
                    };
                    self.n_embd.iter().map(at).collect()
                })
            })
        })
    }

    /// Returns every configuration.
    pub fn configurations(&self) -> impl Iterator<Item = Configuration> {
        self.lines().flatten()
    }
}

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

/// The width at which placement flips along a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boundary {
    /// Number of layers.
    pub n_layer: usize,
    /// Tokens per call.
    pub tokens: usize,
    /// Form of the weights.
    pub quantization: String,
    /// The widest probe below `above` that is not wholly on the Neural Engine, with its INT8 bytes; `None` if
    /// the narrowest is.
    pub below: Option<(usize, u64)>,
    /// The narrowest probe that is wholly on the Neural Engine, with its INT8 bytes; `None` if none is.
    pub above: Option<(usize, u64)>,
    /// The outcome of the widest probe, and the law that determined it.
    pub widest: (Verdict, String),
    /// Whether a probe wider than `above` was not placed: the line then has more than one boundary, or an
    /// inverted one.
    pub turned: bool,
}

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
/// instead of the verdict of all.
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
    let mut found = Discovery { basis: Basis::Predicted, probes: Vec::new(), boundaries: Vec::new() };
    for line in sweep.lines().filter(|line| !line.is_empty()) {
        let mut placed: Vec<Option<(bool, u64)>> = vec![None; line.len()];
        let mut last = (Verdict::Unknown, String::new());
        let mut at = |i: usize, found: &mut Discovery| -> Result<bool, E> {
            if let Some((placed, _)) = placed[i] {
                return Ok(placed);
            }
            let report = probe(&line[i])?;
            found.basis = report.basis;
            let seen = Probe::new(&line[i], &report, law);
            let on_ane = seen.outcome == Verdict::Ane;
            if i + 1 == line.len() {
                last = (seen.outcome, seen.rule.clone());
            }
            placed[i] = Some((on_ane, seen.int8_bytes));
            found.probes.push(seen);
            Ok(on_ane)
        };
        let (mut low, mut high) = (0, line.len() - 1);
        let (narrowest, widest) = (at(low, &mut found)?, at(high, &mut found)?);
        if exhaustive {
            for i in 0..line.len() {
                at(i, &mut found)?;
            }
        } else if narrowest != widest {
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                if at(middle, &mut found)? == narrowest { low = middle } else { high = middle }
            }
        }
        let known = placed.iter().enumerate();
        let known = known.filter_map(|(i, p)| p.map(|(on, bytes)| (line[i].n_embd, on, bytes)));
        let Configuration { n_layer, tokens, quantization, .. } = line[0].clone();
        let known: Vec<_> = known.collect();
        found.boundaries.push(Boundary::of_line((n_layer, tokens, quantization), &known, last));
    }
    Ok(found)
}

impl Boundary {
    /// Finds the boundary from what is known along a line, narrowest first: width, whether it is on the
    /// Neural Engine, bytes.
    fn of_line(
        (n_layer, tokens, quantization): (usize, usize, String),
        known: &[(usize, bool, u64)],
        widest: (Verdict, String),
    ) -> Self {
        let known = || known.iter().copied();
        let above = known().find(|(_, on, _)| *on).map(|(width, _, bytes)| (width, bytes));
        let before = |width: usize| above.is_none_or(|(first, _)| width < first);
        let below = known().rfind(|(width, on, _)| !on && before(*width));
        let turned = above.is_some_and(|(first, _)| known().any(|(width, on, _)| !on && width > first));
        Self {
            n_layer,
            tokens,
            quantization,
            below: below.map(|(width, _, bytes)| (width, bytes)),
            above,
            widest,
            turned,
        }
    }
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
}

impl Probe {
    /// Serializes the corpus row as a line.
    pub fn row_text(&self) -> String {
        self.row.to_line()
    }
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

    /// A report for a package that is placed or not.
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
