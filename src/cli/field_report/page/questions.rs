//! The questions that only a Mac can answer, with the answers that there are.

use maud::{Markup, html};
use serde_json::Value;

use super::super::first_run::{FirstRun, Sweep, Variant};
use super::json::{percent_encoded, scientific, words};
use super::variants::{placement, speed};

pub(super) fn questions(report: &FirstRun) -> Markup {
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

/// Renders a question that only a Mac can answer, with the answer if there is one.
fn question(title: &str, found: Option<Markup>) -> Markup {
    html! {
        h3 { (title) }
        @match found {
            Some(found) => (found),
            None => p.soft { "not measured" },
        }
    }
}

fn settled(report: &FirstRun, question: &str) -> Option<Markup> {
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

/// Renders the variants whose names differ from the default's only in this part.
fn differing(report: &FirstRun, part: usize, head: &[&str]) -> Markup {
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

fn sweeps(report: &FirstRun) -> Option<Markup> {
    (!report.sweeps.is_empty()).then(|| {
        html! {
            @for Sweep { name, table, picture } in &report.sweeps {
                h4 { (name) }
                // As an image, not inline: the picture comes from an untrusted file.
                @if let Some(picture) = picture { img alt="the boundary" src={ "data:image/svg+xml," (percent_encoded(picture)) }; }
                pre { (table) }
            }
        }
    })
}

fn conformance(report: &FirstRun) -> Option<Markup> {
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
