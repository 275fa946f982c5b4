//! Reports as text, for the terminal and for model cards.

use std::fmt;

use crate::device::Verdict;
use crate::findings::{PlacementFinding, PlacementFindingKind};
use crate::laws::megabytes;
use crate::report::PlacementReport;
use crate::scaling::Scaling;

/// Findings of one kind that are printed; the rest are counted.
const LISTED: usize = 6;
/// Operations that are listed for a hazard.
const NAMED: usize = 3;

impl fmt::Display for PlacementReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kilobytes = |bytes: u64| format!("{:.1} kB", bytes as f64 / 1e3);
        writeln!(f, "{}: {} ({})", self.package, self.verdict, self.basis)?;
        writeln!(
            f,
            "  conv_ane={} compute_ane={} cost_ane={:.0} % ({}), confidence {:.2}",
            self.residency.conv_ane,
            self.residency.compute_ane,
            100.0 * self.cost_ane,
            self.basis,
            self.confidence
        )?;
        let several = self.functions.len() > 1;
        for function in &self.functions {
            let name = if several { format!("{}: ", function.name) } else { String::new() };
            writeln!(f, "  {name}{} by {}: {}", function.outcome, function.rule, function.reason)?;
            for opinion in function.opinions.iter().filter(|o| o.law != function.rule) {
                let relation = if opinion.opinion.outcome == function.outcome { "also" } else { "but" };
                let outcome = opinion.opinion.outcome;
                writeln!(f, "    {relation} {} by {}: {}", outcome, opinion.law, opinion.opinion.reason)?;
            }
            if let Some(decided) = function.opinions.iter().find(|o| o.law == function.rule) {
                for (side, rows) in [("for", &decided.evidence_for), ("against", &decided.evidence_against)] {
                    let rows: Vec<String> = rows
                        .iter()
                        .map(|row| format!("{} ({}, {})", row.row, row.placed, row.source))
                        .collect();
                    if !rows.is_empty() {
                        writeln!(f, "    nearest {side}: {}", rows.join("; "))?;
                    }
                }
            }
        }
        writeln!(
            f,
            "  compiled size, estimated: {} (weights {}, program {}, descriptions {})",
            megabytes(self.compiled_bytes),
            megabytes(self.compiled.weights),
            kilobytes(self.compiled.program),
            kilobytes(self.compiled.descriptions)
        )?;
        for kind in [
            PlacementFindingKind::KeptOff,
            PlacementFindingKind::Island,
            PlacementFindingKind::Hazard,
            PlacementFindingKind::Doubt,
        ] {
            let label = match kind {
                PlacementFindingKind::KeptOff => "kept off",
                PlacementFindingKind::Island => "island",
                PlacementFindingKind::Hazard => "hazard",
                PlacementFindingKind::Doubt | PlacementFindingKind::Disagreement => "note",
            };
            // Islands with the same text are printed once.
            let mut found: Vec<(&PlacementFinding, usize)> = Vec::new();
            for finding in self.findings.iter().filter(|finding| finding.kind == kind) {
                let same = |known: &PlacementFinding| {
                    known.function == finding.function && known.text == finding.text
                };
                match found.iter_mut().find(|(known, _)| kind == PlacementFindingKind::Island && same(known))
                {
                    Some((_, times)) => *times += 1,
                    None => found.push((finding, 1)),
                }
            }
            for (finding, times) in found.iter().take(LISTED) {
                let name = if several { format!("{}: ", finding.function) } else { String::new() };
                let which = match finding.operations.as_slice() {
                    at if kind == PlacementFindingKind::Hazard && !at.is_empty() => {
                        let named = at.iter().take(NAMED).filter_map(|&i| self.operations.get(i));
                        let named: Vec<&str> = named.map(|o| o.name.as_str()).collect();
                        let more = at.len().saturating_sub(NAMED);
                        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                        format!(" ({}{more})", named.join(", "))
                    }
                    _ => String::new(),
                };
                let times = if *times > 1 { format!(" ({times} such islands)") } else { String::new() };
                writeln!(f, "  {label}: {name}{}{which}{times}", finding.text)?;
            }
            if found.len() > LISTED {
                writeln!(f, "  {label}: {} more; the JSON report lists them all", found.len() - LISTED)?;
            }
        }
        for change in &self.changes {
            let name = if several { format!("{}: ", change.function) } else { String::new() };
            let edits: Vec<String> = change.edits.iter().map(|edit| edit.describe()).collect();
            writeln!(
                f,
                "  to change: {name}{}; predicted then: {}, {}",
                edits.join(", and "),
                change.predicted,
                change.reason
            )?;
        }
        let Some(scalings) = &self.scalings else { return Ok(()) };
        writeln!(f, "  to reach the floor, the cheapest: {}", line(scalings.cheapest))?;
        writeln!(f, "    in the experiment's proportions: {}", line(scalings.balanced))?;
        writeln!(f, "    width only: {}", line(scalings.width))?;
        writeln!(f, "    depth only: {}", line(scalings.depth))
    }
}

fn line(scaling: Option<Scaling>) -> String {
    let Some(s) = scaling else { return "none up to 96 layers and a width of 8192".to_owned() };
    let checked = match s.predicted {
        Some(Verdict::Ane) => ", exported and predicted: ANE".to_owned(),
        Some(other) => format!(", exported and predicted: {other}"),
        None => String::new(),
    };
    format!(
        "n_embd {}, n_head {}, n_layer {} ({:.1} M weights, {} INT8{checked})",
        s.n_embd,
        s.n_head,
        s.n_layer,
        s.weights as f64 / 1e6,
        megabytes(s.int8_bytes)
    )
}
