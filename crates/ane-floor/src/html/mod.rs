//! Reports as a page: one file that works offline, in light and dark mode, on a phone, and without its
//! script.

mod graph;
mod size_bar;
mod tables;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::device::{Device, Verdict};
use crate::evidence::Evidence;
use crate::findings::{PlacementFinding, PlacementFindingKind};
use crate::function_report::{FunctionReport, LawOpinion};
use crate::laws::megabytes;
use crate::placed_operation::PlacedOperation;
use crate::report::PlacementReport;
use crate::scaling::Scaling;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Renders reports as a page. If `measured` has a report of the same package, or there is one report on each
/// side, it is shown beside the prediction, operation by operation.
pub fn page(reports: &[PlacementReport], measured: &[PlacementReport]) -> String {
    let title = reports
        .first()
        .map_or("placement".to_owned(), |r| format!("{}: {} ({})", r.package, r.verdict, r.basis));
    let beside = |report: &PlacementReport| match (reports, measured) {
        ([_], [only]) => Some(only),
        _ => measured.iter().find(|m| m.package == report.package),
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // The page fetches nothing, and no text in a report can change that.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    @for report in reports { (report_sections(report, beside(report))) }
                    p.soft {
                        "Predicted placements come from laws with the evidence shown here, not from a run. "
                        "For the laws and their accuracy, run microgpt floor laws and microgpt floor accuracy."
                    }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
    .into_string()
}

/// Class of a device in the style sheet.
fn class(device: Device) -> &'static str {
    match device {
        Device::Ane => "ane",
        Device::Cpu => "cpu",
        Device::Gpu => "gpu",
        Device::Unknown => "unknown",
    }
}

fn outcome_class(outcome: Verdict) -> &'static str {
    match outcome {
        Verdict::Ane => "ane",
        Verdict::Cpu => "cpu",
        Verdict::Gpu => "gpu",
        Verdict::Mixed => "mixed",
        Verdict::Error => "error",
        Verdict::Unknown => "unknown",
    }
}

fn chip(outcome: Verdict) -> Markup {
    html! { span class={ "chip " (outcome_class(outcome)) } { (outcome) } }
}

/// Renders the sections about one report.
fn report_sections(report: &PlacementReport, measured: Option<&PlacementReport>) -> Markup {
    html! {
        (summary(report, measured))
        section {
            h2 { "Size against the floor and the ceilings" }
            div.wide { (size_bar::draw(report.compiled.int8_equivalent(), report.compiled_bytes)) }
        }
        @if !report.changes.is_empty() || report.scalings.is_some() { (changes(report)) }
        (findings(report))
        section {
            h2 { "Opinions of the laws" }
            @for function in &report.functions {
                @if report.functions.len() > 1 { h3 { (function.name) } }
                @for opinion in &function.opinions { (law(opinion, function)) }
            }
        }
        @if let Some(measured) = measured { (tables::side_by_side(report, measured)) }
        (graphs(report))
        section {
            details {
                summary { "All " (report.operations.len()) " operations" }
                (tables::all_operations(report))
            }
        }
    }
}

/// Renders the verdict, what decided, and the totals.
fn summary(report: &PlacementReport, measured: Option<&PlacementReport>) -> Markup {
    html! {
        header {
            h1 { (report.package) }
            p class={ "verdict " (outcome_class(report.verdict)) } { (report.verdict) }
            p {
                (report.basis) ", confidence " (format!("{:.2}", report.confidence))
                @if let Some(measured) = measured { "; " (measured.basis) ": " (chip(measured.verdict)) }
            }
            @for function in &report.functions {
                p { @if report.functions.len() > 1 { b { (function.name) ": " } }
                    "by " b { (function.rule) } ": " (function.reason) }
            }
            div.tiles {
                (tile("conv_ane", &report.residency.conv_ane.to_string(), "convolutions on the ANE"))
                (tile("compute_ane", &report.residency.compute_ane.to_string(), "operations on the ANE"))
                (tile("cost_ane", &format!("{:.0} %", 100.0 * report.cost_ane), "of the estimated cost"))
                (tile("compiled", &megabytes(report.compiled_bytes), "estimated"))
            }
        }
    }
}

/// Renders all findings except disagreements, which the laws' opinions show.
fn findings(report: &PlacementReport) -> Markup {
    let listed = || report.findings.iter().filter(|f| f.kind != PlacementFindingKind::Disagreement);
    html! {
        @if listed().next().is_some() {
            section {
                h2 { "Findings" }
                ul { @for finding in listed() { (finding_item(report, finding)) } }
            }
        }
    }
}

fn finding_item(report: &PlacementReport, finding: &PlacementFinding) -> Markup {
    html! {
        li {
            span.kind { (kind(finding.kind)) ": " }
            @if report.functions.len() > 1 { (finding.function) ": " }
            (finding.text)
            @if finding.operations.len() > 1 { span.soft { " (" (finding.operations.len()) " operations)" } }
        }
    }
}

/// Renders the graph of each function.
fn graphs(report: &PlacementReport) -> Markup {
    html! {
        section {
            h2 { "The graph, by device" }
            p.soft { (legend(report)) "operations. Point at one, or tap it, to see its reason." }
            @for function in &report.functions {
                @let first = report.operations.iter().position(|o| o.function == function.name).unwrap_or(0);
                @let operations: Vec<PlacedOperation> = report.operations_of(&function.name).cloned().collect();
                @if report.functions.len() > 1 { h3 { (function.name) } }
                (graph::draw(&operations, first))
            }
            output id="picked" { "No operation selected." }
        }
    }
}

fn tile(name: &str, value: &str, what: &str) -> Markup {
    html! { div.tile { span.soft { (name) } b { (value) } span.soft { (what) } } }
}

fn kind(kind: PlacementFindingKind) -> &'static str {
    match kind {
        PlacementFindingKind::KeptOff => "kept off",
        PlacementFindingKind::Island => "island",
        PlacementFindingKind::Hazard => "hazard",
        PlacementFindingKind::Disagreement => "disagreement",
        PlacementFindingKind::Doubt => "note",
    }
}

fn changes(report: &PlacementReport) -> Markup {
    html! {
        section {
            h2 { "What to change" }
            ul {
                @for change in &report.changes {
                    li {
                        @if report.functions.len() > 1 { (change.function) ": " }
                        (change.edits.iter().map(|e| e.describe()).collect::<Vec<_>>().join(", and "))
                        "; predicted then: " (chip(change.predicted)) " " (change.reason)
                    }
                }
                @if let Some(scalings) = &report.scalings {
                    (scaling_item("the cheapest decoder above the floor", scalings.cheapest))
                    (scaling_item("in the experiment's proportions", scalings.balanced))
                    (scaling_item("width only", scalings.width))
                    (scaling_item("depth only", scalings.depth))
                }
            }
        }
    }
}

/// Renders a scaled decoder; nothing if there is none.
fn scaling_item(label: &str, scaling: Option<Scaling>) -> Markup {
    html! {
        @if let Some(s) = scaling {
            li {
                (label) ": n_embd " (s.n_embd) ", n_head " (s.n_head) ", n_layer " (s.n_layer) ", "
                (megabytes(s.int8_bytes)) " in INT8"
                @if let Some(predicted) = s.predicted { "; exported and predicted: " (chip(predicted)) }
            }
        }
    }
}

fn law(opinion: &LawOpinion, function: &FunctionReport) -> Markup {
    let decided = opinion.law == function.rule;
    html! {
        div.law {
            p {
                (chip(opinion.opinion.outcome)) " " b { (opinion.law) }
                @if decided { " (decides)" }
                @if opinion.opinion.outcome != function.outcome { " (disagrees)" }
            }
            p { (opinion.opinion.reason) }
            p.soft { (opinion.says) " (" (opinion.source) "); record " (format!("{:.2}", opinion.record)) }
            div.evidence {
                (evidence("Nearest for", &opinion.evidence_for))
                (evidence("Nearest against", &opinion.evidence_against))
            }
        }
    }
}

/// Renders the rows of the corpus on one side; nothing if there are none.
fn evidence(side: &str, rows: &[Evidence]) -> Markup {
    html! {
        @if !rows.is_empty() {
            div {
                p.soft { (side) }
                ul { @for row in rows { li { (chip(row.placed)) " " (row.summary) span.soft { " (" (row.source) ")" } } } }
            }
        }
    }
}

fn legend(report: &PlacementReport) -> Markup {
    let count = |device: Device| report.operations.iter().filter(|o| o.device == device).count();
    html! {
        @for device in [Device::Ane, Device::Cpu, Device::Gpu, Device::Unknown] {
            @if count(device) > 0 { span class=(class(device)) { b { "\u{25a0} " } } (device) " " (count(device)) " " }
        }
    }
}
