//! Reports as text, for the terminal and for model cards.

use std::fmt;

use crate::device::Verdict;
use crate::findings::{PlacementFinding, PlacementFindingKind};
use crate::function_report::FunctionReport;
use crate::laws::megabytes;
use crate::report::PlacementReport;
use crate::scaling::{Scaling, Scalings};

/// Findings of one kind that are printed; the rest are counted.
const LISTED: usize = 6;
/// Operations that are listed for a hazard.
const NAMED: usize = 3;

impl fmt::Display for PlacementReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_totals(self, f)?;
        for function in &self.functions {
            write_decision(self, function, f)?;
        }
        write_compiled_size(self, f)?;
        for kind in [
            PlacementFindingKind::KeptOff,
            PlacementFindingKind::Island,
            PlacementFindingKind::Hazard,
            PlacementFindingKind::Doubt,
        ] {
            write_findings(self, kind, f)?;
        }
        write_changes(self, f)?;
        self.scalings.as_ref().map_or(Ok(()), |scalings| write_scalings(scalings, f))
    }
}

/// Returns a function's name as the start of a line; empty if the report has only one function.
fn prefix(report: &PlacementReport, function: &str) -> String {
    if report.functions.len() > 1 { format!("{function}: ") } else { String::new() }
}

/// Writes the verdict and the shares on the Neural Engine.
fn write_totals(report: &PlacementReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{}: {} ({})", report.package, report.verdict, report.basis)?;
    writeln!(
        f,
        "  conv_ane={} compute_ane={} cost_ane={:.0} % ({}), confidence {:.2}",
        report.residency.conv_ane,
        report.residency.compute_ane,
        100.0 * report.cost_ane,
        report.basis,
        report.confidence
    )
}

/// Writes the rule that decided on a function, the other laws' opinions, and the rule's nearest evidence.
fn write_decision(
    report: &PlacementReport,
    function: &FunctionReport,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let name = prefix(report, &function.name);
    writeln!(f, "  {name}{} by {}: {}", function.outcome, function.rule, function.reason)?;
    for opinion in function.opinions.iter().filter(|o| o.law != function.rule) {
        let relation = if opinion.opinion.outcome == function.outcome { "also" } else { "but" };
        let outcome = opinion.opinion.outcome;
        writeln!(f, "    {relation} {} by {}: {}", outcome, opinion.law, opinion.opinion.reason)?;
    }
    let Some(decided) = function.opinions.iter().find(|o| o.law == function.rule) else { return Ok(()) };
    for (side, rows) in [("for", &decided.evidence_for), ("against", &decided.evidence_against)] {
        let rows: Vec<String> =
            rows.iter().map(|row| format!("{} ({}, {})", row.row, row.placed, row.source)).collect();
        if !rows.is_empty() {
            writeln!(f, "    nearest {side}: {}", rows.join("; "))?;
        }
    }
    Ok(())
}

fn write_compiled_size(report: &PlacementReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let kilobytes = |bytes: u64| format!("{:.1} kB", bytes as f64 / 1e3);
    writeln!(
        f,
        "  compiled size, estimated: {} (weights {}, program {}, descriptions {})",
        megabytes(report.compiled_bytes),
        megabytes(report.compiled.weights),
        kilobytes(report.compiled.program),
        kilobytes(report.compiled.descriptions)
    )
}

/// Writes the first findings of a kind, and the number of the others.
fn write_findings(
    report: &PlacementReport,
    kind: PlacementFindingKind,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let label = match kind {
        PlacementFindingKind::KeptOff => "kept off",
        PlacementFindingKind::Island => "island",
        PlacementFindingKind::Hazard => "hazard",
        PlacementFindingKind::Doubt | PlacementFindingKind::Disagreement => "note",
    };
    let findings = distinct(report, kind);
    for (finding, times) in findings.iter().take(LISTED) {
        let name = prefix(report, &finding.function);
        let operations = match kind {
            PlacementFindingKind::Hazard => first_names(report, &finding.operations),
            _ => String::new(),
        };
        let times = if *times > 1 { format!(" ({times} such islands)") } else { String::new() };
        writeln!(f, "  {label}: {name}{}{operations}{times}", finding.text)?;
    }
    if findings.len() > LISTED {
        writeln!(f, "  {label}: {} more; the JSON report lists them all", findings.len() - LISTED)?;
    }
    Ok(())
}

/// Returns the findings of a kind with their counts. Islands with the same text are one entry.
fn distinct(report: &PlacementReport, kind: PlacementFindingKind) -> Vec<(&PlacementFinding, usize)> {
    let mut entries: Vec<(&PlacementFinding, usize)> = Vec::new();
    for finding in report.findings.iter().filter(|finding| finding.kind == kind) {
        let same =
            |earlier: &PlacementFinding| earlier.function == finding.function && earlier.text == finding.text;
        let is_island = kind == PlacementFindingKind::Island;
        match entries.iter_mut().find(|(earlier, _)| is_island && same(earlier)) {
            Some((_, times)) => *times += 1,
            None => entries.push((finding, 1)),
        }
    }
    entries
}

/// Lists the names of the first operations in parentheses; empty if there are none.
fn first_names(report: &PlacementReport, operations: &[usize]) -> String {
    if operations.is_empty() {
        return String::new();
    }
    let first = operations.iter().take(NAMED).filter_map(|&i| report.operations.get(i));
    let names: Vec<&str> = first.map(|o| o.name.as_str()).collect();
    let more = match operations.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(" ({}{more})", names.join(", "))
}

fn write_changes(report: &PlacementReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for change in &report.changes {
        let name = prefix(report, &change.function);
        let edits: Vec<String> = change.edits.iter().map(|edit| edit.describe()).collect();
        writeln!(
            f,
            "  to change: {name}{}; predicted then: {}, {}",
            edits.join(", and "),
            change.predicted,
            change.reason
        )?;
    }
    Ok(())
}

fn write_scalings(scalings: &Scalings, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const BOTH: &str = "96 layers and a width of 8192";
    writeln!(f, "  to reach the floor, the cheapest: {}", line(scalings.cheapest, BOTH))?;
    writeln!(f, "    in the experiment's proportions: {}", line(scalings.balanced, BOTH))?;
    writeln!(f, "    width only: {}", line(scalings.width, "a width of 8192"))?;
    writeln!(f, "    depth only: {}", line(scalings.depth, "96 layers"))
}

/// Describes a scaled decoder; `searched` is the limit of the search.
fn line(scaling: Option<Scaling>, searched: &str) -> String {
    let Some(s) = scaling else { return format!("none up to {searched}") };
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
