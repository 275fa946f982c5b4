//! Tables of operations: those of one report, and those of two side by side.

use maud::{Markup, html};

use super::{class, tile};
use crate::comparison::{Comparison, Pair};
use crate::placed_operation::PlacedOperation;
use crate::report::PlacementReport;

/// Renders every operation with its device in both reports; differences are marked.
pub(super) fn side_by_side(predicted: &PlacementReport, measured: &PlacementReport) -> Markup {
    let comparison = Comparison::of(predicted, measured);
    let (differ, shared) = (comparison.differing(), comparison.shared());
    let alone = comparison.operations.len() - shared;
    html! {
        section {
            h2 { (predicted.basis) " beside " (measured.basis) }
            p { (differ) " of " (shared) " operations differ"
                @if alone > 0 { "; " (alone) " are in only one of the two reports" } "." }
            div.tiles {
                (tile("conv_ane", &format!("{} / {}", predicted.residency.conv_ane, measured.residency.conv_ane), "predicted / beside"))
                (tile("compute_ane", &format!("{} / {}", predicted.residency.compute_ane, measured.residency.compute_ane), "predicted / beside"))
                (tile("cost_ane", &format!("{:.0} / {:.0} %", 100.0 * predicted.cost_ane, 100.0 * measured.cost_ane), "predicted / beside"))
            }
            details open[differ > 0] {
                summary { "Operation by operation" }
                div.scroll {
                    table {
                        thead { tr { th { "operation" } th { "type" } th { (predicted.basis) } th { (measured.basis) } th.number { "cost" } th { "plan" } } }
                        tbody { @for pair in &comparison.operations { (pair_row(pair)) } }
                    }
                }
            }
        }
    }
}

fn pair_row(pair: &Pair<'_>) -> Markup {
    html! {
        tr class=[pair.differs().then_some("differs")] {
            td { (pair.operation().name) } td { (pair.operation().op) }
            (device_cell(pair.predicted)) (device_cell(pair.measured))
            @match pair.measured {
                Some(m) => { td.number { (format!("{:.2} %", 100.0 * m.cost)) } td { (m.reason) } }
                None => { td.number { "-" } td { "-" } }
            }
        }
    }
}

fn device_cell(operation: Option<&PlacedOperation>) -> Markup {
    match operation {
        Some(o) => html! { td class=(class(o.device)) { (o.device) } },
        None => html! { td.unknown { "-" } },
    }
}

/// Renders every operation of a report, with a field that filters them.
pub(super) fn all_operations(report: &PlacementReport) -> Markup {
    html! {
        input type="search" data-filter="" hidden placeholder="type, name, device or reason" aria-label="filter the table";
        div.scroll {
            table {
                thead { tr { th { "operation" } th { "type" } th { "device" } th { "by" } th { "reason" } th.number { "confidence" } th.number { "cost" } } }
                tbody { @for operation in &report.operations { (operation_row(operation)) } }
            }
        }
    }
}

fn operation_row(o: &PlacedOperation) -> Markup {
    html! {
        tr {
            td { (o.name) } td { (o.op) } td class=(class(o.device)) { (o.device) } td { (o.rule) } td { (o.reason) }
            td.number { (format!("{:.2}", o.confidence)) } td.number { (format!("{:.2} %", 100.0 * o.cost)) }
        }
    }
}
