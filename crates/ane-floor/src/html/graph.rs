//! A function's operations, drawn from top to bottom in order of dependency, coloured by device.

use std::collections::HashSet;

use maud::{Markup, html};
use mlpackage::counted;

use super::class;
use crate::device::Device;
use crate::placed_operation::PlacedOperation;

const NODE: (usize, usize) = (132, 24);
const GAP: (usize, usize) = (14, 16);
const MARGIN: usize = 12;
/// Maximum number of operations that are drawn; the table below lists all of them.
const DRAWN: usize = 4_000;

/// Assigns a row and column to each operation: below all of its sources, as close as possible above its first
/// user, and under its first source if there is room.
fn layout(operations: &[PlacedOperation], first: usize) -> Vec<(usize, usize)> {
    let sources = |i: usize| {
        let known = operations[i].sources.iter().filter_map(move |source| source.checked_sub(first));
        known.filter(move |&source| source < i)
    };
    let mut rows: Vec<usize> = Vec::with_capacity(operations.len());
    for i in 0..operations.len() {
        rows.push(sources(i).map(|source| rows[source] + 1).max().unwrap_or(0));
    }
    // Backwards: an operation moves down to just above its first user, so that a state is read where it is
    // used.
    let mut least: Vec<Option<usize>> = vec![None; operations.len()];
    for i in (0..operations.len()).rev() {
        if let Some(taker) = least[i] {
            rows[i] = taker - 1;
        }
        for source in sources(i) {
            least[source] = Some(least[source].map_or(rows[i], |row| row.min(rows[i])));
        }
    }
    let mut places: Vec<(usize, usize)> = Vec::with_capacity(operations.len());
    let mut taken: HashSet<(usize, usize)> = HashSet::new();
    for (i, &row) in rows.iter().enumerate() {
        let above = sources(i).filter(|&source| rows[source] + 1 == row);
        let wanted = above.map(|source| places[source].1).min().unwrap_or(0);
        let column = (wanted..).find(|column| !taken.contains(&(row, *column))).unwrap_or(wanted);
        taken.insert((row, column));
        places.push((row, column));
    }
    places
}

/// Describes an operation in its tooltip.
pub(super) fn describe(operation: &PlacedOperation) -> String {
    let PlacedOperation { name, op, device, rule, reason, confidence, cost, .. } = operation;
    format!(
        "{op} {name}\n{device} by {rule}: {reason}\nconfidence {confidence:.2}, {:.2} % of the cost",
        100.0 * cost
    )
}

/// Draws the graph. `operations` are those of one function, starting at index `first` of the report's list.
pub(super) fn draw(operations: &[PlacedOperation], first: usize) -> Markup {
    let drawn = &operations[..operations.len().min(DRAWN)];
    let places = layout(drawn, first);
    let rows = places.iter().map(|p| p.0 + 1).max().unwrap_or(0);
    let columns = places.iter().map(|p| p.1 + 1).max().unwrap_or(0);
    let (step_x, step_y) = (NODE.0 + GAP.0, NODE.1 + GAP.1);
    let at = |(row, column): (usize, usize)| (MARGIN + column * step_x, MARGIN + row * step_y);
    let (width, height) = (2 * MARGIN + columns * step_x, 2 * MARGIN + rows * step_y);
    html! {
        div.scroll {
            svg.graph width=(width) height=(height) viewBox=(format!("0 0 {width} {height}")) role="img"
                aria-label=(format!("{}, coloured by device", counted(drawn.len(), "operation"))) {
                @for (operation, place) in drawn.iter().zip(&places) {
                    @for source in operation.sources.iter().filter_map(|s| places.get(s.checked_sub(first)?)) {
                        path d=(edge(at(*source), at(*place))) {}
                    }
                }
                @for (operation, place) in drawn.iter().zip(&places) {
                    @let (x, y) = at(*place);
                    g class={ "node " (class(operation.device)) } tabindex="0" {
                        title { (describe(operation)) }
                        rect x=(x) y=(y) width=(NODE.0) height=(NODE.1) rx="6" {}
                        text x=(x + 8) y=(y + 16) { (label(operation)) }
                    }
                }
            }
        }
        @if drawn.len() < operations.len() {
            p.soft { "The first " (DRAWN) " of " (operations.len()) " operations are drawn; the table lists all." }
        }
    }
}

/// Labels an operation with a letter for its device, for readers who do not see colours, and the beginning of
/// its type.
fn label(operation: &PlacedOperation) -> String {
    let letter = match operation.device {
        Device::Ane => 'A',
        Device::Cpu => 'C',
        Device::Gpu => 'G',
        Device::Unknown => '?',
    };
    let op: String = operation.op.chars().take(17).collect();
    format!("{letter} {op}")
}

/// Draws an edge from the lower side of one node to the upper side of another.
fn edge((x0, y0): (usize, usize), (x1, y1): (usize, usize)) -> String {
    let (x0, y0, x1) = (x0 + NODE.0 / 2, y0 + NODE.1, x1 + NODE.0 / 2);
    let bend = (y1.saturating_sub(y0) / 2).max(6);
    format!("M{x0} {y0}C{x0} {} {x1} {} {x1} {y1}", y0 + bend, y1.saturating_sub(bend))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_do_not_overlap_and_sources_are_above() {
        let with =
            |sources: &[usize]| PlacedOperation { sources: sources.to_vec(), ..PlacedOperation::default() };
        // A diamond, a skip, and one that only the last one uses; the operations start at index 10 of their
        // list.
        let operations =
            [with(&[]), with(&[10]), with(&[10]), with(&[11, 12]), with(&[]), with(&[10, 13, 14])];
        let places = layout(&operations, 10);
        assert_eq!(places, [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]);
    }
}
