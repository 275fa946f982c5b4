//! Tables of the exported variants: placement, parity, speed and energy.

use ane_floor::PlacementReport;
use maud::{Markup, html};
use serde_json::Value;

use super::super::first_run::{FirstRun, Variant};
use super::json::{fixed, scientific};

pub(super) fn variants(report: &FirstRun) -> Markup {
    html! {
        section {
            h2 { "Variants" }
            @if report.variants.is_empty() { p.soft { "no variants were exported" } }
            table {
                thead {
                    tr {
                        th { "variant" } th { "conv_ane" } th { "compute_ane" } th { "measured" } th { "predicted" }
                        th { "error from f16" } th { "cosine" } th { "tokens/s, coreml" }
                    }
                }
                tbody {
                    @for variant in &report.variants {
                        @let against = against_f16(variant);
                        tr {
                            td { (variant.name) }
                            (placement(variant.measured.as_ref()))
                            td { (variant.predicted.as_ref().map_or("-".to_owned(), |r| r.verdict.to_string())) }
                            td.number { (scientific(&against["largest_error"])) }
                            td.number { (against["cosine"].as_f64().map_or("-".to_owned(), |v| format!("{v:.6}"))) }
                            td.number { (speed(variant, "cpu-and-ane")) }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn placement(report: Option<&PlacementReport>) -> Markup {
    match report {
        Some(report) => html! {
            td.number { (report.residency.conv_ane) } td.number { (report.residency.compute_ane) }
            td class=[report.pass.then_some("done")] { (report.verdict) }
        },
        None => html! { td { "-" } td { "-" } td { "-" } },
    }
}

pub(super) fn speed(variant: &Variant, engine: &str) -> String {
    // A result of mil-cpu must not be shown as Core ML's, whatever the file is called.
    let core_ml = |found: &Value| found["engine"].as_str().is_some_and(|name| name.starts_with("coreml"));
    let bench = variant.benches.iter().find(|(name, found)| name == engine && core_ml(found));
    bench
        .and_then(|(_, found)| found["decode"]["tokens_per_second"].as_f64())
        .map_or("-".to_owned(), |v| format!("{v:.0}"))
}

/// Returns the parity of the engine with mil-cpu in f16.
fn against_f16(variant: &Variant) -> &Value {
    const NONE: &Value = &Value::Null;
    let checks = variant.verify.as_ref().and_then(|found| found["checks"].as_array());
    let check = checks.into_iter().flatten().find(|check| {
        check["name"].as_str().is_some_and(|n| n.starts_with("coreml") && n.ends_with("against mil-cpu f16"))
    });
    check.map_or(NONE, |check| &check["parity"])
}

pub(super) fn engines(report: &FirstRun) -> Markup {
    let rows = || {
        report.variants.iter().flat_map(|v| v.benches.iter().map(move |(engine, found)| (v, engine, found)))
    };
    html! {
        section {
            h2 { "Speed and energy" }
            @if rows().next().is_none() { p.soft { "not measured" } }
            table {
                thead { tr { th { "variant" } th { "engine" } th { "tokens/s" } th { "median, ms" } th { "99 %, ms" } th { "load, ms" } th { "energy" } } }
                tbody {
                    @for (variant, engine, found) in rows() {
                        @let decode = &found["decode"];
                        tr {
                            td { (variant.name) } td { (found["engine"].as_str().unwrap_or(engine)) }
                            td.number { (fixed(&decode["tokens_per_second"], 0)) }
                            td.number { (fixed(&decode["p50_ms"], 4)) } td.number { (fixed(&decode["p99_ms"], 4)) }
                            td.number { (fixed(&found["load_ms"], 1)) }
                            td { (energy(&found["energy"])) }
                        }
                    }
                }
            }
        }
    }
}

fn energy(found: &Value) -> String {
    match (found["measured"]["mj_per_token"].as_f64(), found["not_measured"].as_str()) {
        (Some(each), _) => {
            let ane = found["measured"]["decoding"]["ane"].as_f64();
            let ane = ane.map_or("not reported".to_owned(), |milliwatts| format!("{milliwatts:.0} mW"));
            format!("{each:.3} mJ per token, ANE {ane}")
        }
        (None, Some(reason)) => reason.to_owned(),
        (None, None) => "-".to_owned(),
    }
}
