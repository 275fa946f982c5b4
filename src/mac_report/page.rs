//! Renders the page as one self-contained file.

use ane_floor::PlacementReport;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::{FieldReport, Variant};

const STYLE: &str = include_str!("style.css");

/// Renders the page of a report.
pub fn page(report: &FieldReport) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                title { "A first run on a Mac" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "A first run on a Mac" }
                    pre { (report.system) }
                    @if report.steps.iter().any(|step| step.state.starts_with("would-run")) {
                        p.failed { "This is a rehearsal: steps that need a Mac were listed, not run." }
                    }
                    (steps(report))
                    (questions(report))
                    (variants(report))
                    (engines(report))
                    @if !report.unread.is_empty() {
                        section {
                            h2 { "Files that could not be read" }
                            ul { @for file in &report.unread { li { (file) } } }
                        }
                    }
                }
            }
        }
    }
    .into_string()
}

fn steps(report: &FieldReport) -> Markup {
    let count = |state: &str| report.steps.iter().filter(|step| step.state.starts_with(state)).count();
    html! {
        section {
            h2 { "Steps" }
            p { (count("done")) " done, " (count("failed")) " failed, " (count("would-run")) " listed, not run" }
            details open[count("failed") > 0] {
                summary { "All of them" }
                table {
                    tbody {
                        @for step in &report.steps {
                            tr {
                                td { (step.name) }
                                td class=[step.state.starts_with("failed").then_some("failed")] { (step.state) }
                                td { code { (step.command) } @if !step.log.is_empty() { pre { (step.log) } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A question that only a Mac can answer, with the answer if there is one.
fn question(title: &str, found: Option<Markup>) -> Markup {
    html! {
        h3 { (title) }
        @match found {
            Some(found) => (found),
            None => p.soft { "not measured" },
        }
    }
}

fn questions(report: &FieldReport) -> Markup {
    let with = |part: fn(&Variant) -> bool| report.variants.iter().any(part);
    let measured = with(|variant| variant.measured.is_some());
    let compared = with(|variant| variant.verify.is_some());
    html! {
        section {
            h2 { "Open questions" }
            (question("Which forms of a program does Core ML's compiler accept?", settled(report, "form")))
            (question("Does an INT8 convolution reach the Neural Engine: per tensor, per channel?",
                measured.then(|| differing(report, 0, &["form of the weights", "conv_ane", "compute_ane", "verdict", "predicted"]))))
            (question("Which cache update stays on the Neural Engine, and what does each cost per token?",
                measured.then(|| differing(report, 1, &["cache update", "conv_ane", "compute_ane", "verdict", "predicted"]))))
            (question("How far are results on the device from mil-cpu in fp16?",
                compared.then(|| html! { p { "See the columns of the table of variants: largest error relative to the largest logit, and cosine." } })))
            (question("Where does placement flip, and is the ceiling a number of bytes or of operations?", sweeps(report)))
            (question("Does the epsilon of the norms survive on the device?", settled(report, "epsilon")))
            (question("Does Core ML compute what PyTorch does, operation by operation?", conformance(report)))
        }
    }
}

fn settled(report: &FieldReport, question: &str) -> Option<Markup> {
    let rows: Vec<(&str, &Value)> = report
        .settled
        .iter()
        .flat_map(|(units, found)| {
            let engine = found["engine"].as_str().unwrap_or(units);
            found["answers"].as_array().into_iter().flatten().map(move |a| (engine, a))
        })
        .filter(|(_, answer)| answer["question"] == question)
        .collect();
    (!rows.is_empty()).then(|| {
        html! {
            table {
                thead { tr { th { "engine" } th { "case" } th { "outcome" } th { "from f32" } th { "from f16" } } }
                tbody {
                    @for (units, answer) in rows {
                        @let outcome = &answer["outcome"];
                        tr {
                            td { (units) } td { (words(&answer["case"])) }
                            td { (words(&outcome["outcome"])) " " (words(&outcome["message"])) }
                            td.number { (scientific(&outcome["from_f32"])) } td.number { (scientific(&outcome["from_f16"])) }
                        }
                    }
                }
            }
        }
    })
}

/// The variants that differ from the default in this part of their name only.
fn differing(report: &FieldReport, part: usize, head: &[&str]) -> Markup {
    const DEFAULT: [&str; 4] = ["int8-per-tensor", "one-hot", "separate", "max-scaled"];
    let parts = |variant: &Variant| variant.name.split('.').map(str::to_owned).collect::<Vec<_>>();
    let chosen = report.variants.iter().filter(|variant| {
        let parts = parts(variant);
        parts.len() == DEFAULT.len() && (0..DEFAULT.len()).all(|i| i == part || parts[i] == DEFAULT[i])
    });
    html! {
        table {
            thead { tr { @for title in head { th { (title) } } th { "tokens/s, coreml" } } }
            tbody {
                @for variant in chosen {
                    tr {
                        td { (parts(variant)[part]) }
                        (placement(variant.measured.as_ref()))
                        td { (variant.predicted.as_ref().map_or("-".to_owned(), |r| r.verdict.to_string())) }
                        td.number { (speed(variant, "cpu-and-ane")) }
                    }
                }
            }
        }
    }
}

fn placement(report: Option<&PlacementReport>) -> Markup {
    match report {
        Some(report) => html! {
            td.number { (report.residency.conv_ane) } td.number { (report.residency.compute_ane) }
            td class=[report.pass.then_some("done")] { (report.verdict) }
        },
        None => html! { td { "-" } td { "-" } td { "-" } },
    }
}

fn speed(variant: &Variant, engine: &str) -> String {
    // A result of mil-cpu must not be shown as Core ML's, whatever the file is called.
    let core_ml = |found: &Value| found["engine"].as_str().is_some_and(|name| name.starts_with("coreml"));
    let bench = variant.benches.iter().find(|(name, found)| name == engine && core_ml(found));
    bench
        .and_then(|(_, found)| found["decode"]["tokens_per_second"].as_f64())
        .map_or("-".to_owned(), |v| format!("{v:.0}"))
}

fn sweeps(report: &FieldReport) -> Option<Markup> {
    (!report.sweeps.is_empty()).then(|| {
        html! {
            @for (name, table, picture) in &report.sweeps {
                h4 { (name) }
                // As an image, not inline: the picture comes from an untrusted file.
                @if let Some(picture) = picture { img alt="the boundary" src={ "data:image/svg+xml," (percent(picture)) }; }
                pre { (table) }
            }
        }
    })
}

fn conformance(report: &FieldReport) -> Option<Markup> {
    (!report.conformance.is_empty()).then(|| {
        html! {
            @for (units, found) in &report.conformance {
                @let count = |field: &str| found[field].as_array().map_or(0, Vec::len);
                p { (units) ": " (words(&found["packages"])) " packages, " (count("refused")) " refused, " (count("failures")) " failures" }
                ul {
                    @for field in ["refused", "failures"] {
                        @for line in found[field].as_array().into_iter().flatten() { li { (field) ": " (words(line)) } }
                    }
                }
            }
        }
    })
}

fn variants(report: &FieldReport) -> Markup {
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

/// The parity of the engine with mil-cpu in f16.
fn against_f16(variant: &Variant) -> &Value {
    const NONE: &Value = &Value::Null;
    let checks = variant.verify.as_ref().and_then(|found| found["checks"].as_array());
    let check = checks.into_iter().flatten().find(|check| {
        check["name"].as_str().is_some_and(|n| n.starts_with("coreml") && n.ends_with("against mil-cpu f16"))
    });
    check.map_or(NONE, |check| &check["parity"])
}

fn engines(report: &FieldReport) -> Markup {
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

/// A JSON value as text: strings without quotes, null as the empty string.
fn words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn scientific(value: &Value) -> String {
    value.as_f64().map_or("-".to_owned(), |v| format!("{v:.2e}"))
}

fn fixed(value: &Value, digits: usize) -> String {
    value.as_f64().map_or("-".to_owned(), |v| format!("{v:.digits$}"))
}

/// Percent-encodes text for a data URL.
fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
