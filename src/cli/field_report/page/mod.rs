//! Renders the page as one self-contained file.

mod json;
mod questions;
mod variants;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::questions::questions;
use self::variants::{engines, variants};
use super::first_run::FirstRun;

const STYLE: &str = include_str!("style.css");

/// Renders the page of a report.
pub(crate) fn page(report: &FirstRun) -> String {
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

fn steps(report: &FirstRun) -> Markup {
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
