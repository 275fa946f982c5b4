//! A function's operations, drawn from top to bottom in order of what they need, coloured by device.

use std::collections::HashSet;

use maud::{Markup, html};
use mlpackage::counted;

use super::class;
use crate::device::Device;
use crate::placed_operation::PlacedOperation;

const NODE: (usize, usize) = (132, 24);
const GAP: (usize, usize) = (14, 16);
const MARGIN: usize = 12;
/// More operations than anybody looks at one by one; the table below has all of them.
const DRAWN: usize = 4_000;

/// Row and column of each operation: below all that it takes its values from, as near as can be above what takes its own, and
/// under the first of its sources where there is room.
fn layout(operations: &[PlacedOperation], first: usize) -> Vec<(usize, usize)> {
    let sources = |i: usize| {
        let known = operations[i].sources.iter().filter_map(move |source| source.checked_sub(first));
        known.filter(move |&source| source < i)
    };
    let mut rows: Vec<usize> = Vec::with_capacity(operations.len());
    for i in 0..operations.len() {
        rows.push(sources(i).map(|source| rows[source] + 1).max().unwrap_or(0));
    }
    // From the end: whoever is taken from by one far below moves down to it, so that a state is read where it is used.
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

/// What is shown of an operation where it is pointed at.
pub(super) fn describe(operation: &PlacedOperation) -> String {
    let PlacedOperation { name, op, device, rule, reason, confidence, cost, .. } = operation;
    format!(
        "{op} {name}\n{device} by {rule}: {reason}\nconfidence {confidence:.2}, {:.2} % of the cost",
        100.0 * cost
    )
}

/// The picture. `operations` are those of one function, which stand in the report's list from `first` on.
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
            p.soft { "The first " (DRAWN) " of " (operations.len()) " operations are drawn; the table has all." }
        }
    }
}

/// A letter for those who do not see colours, and as much of the type as fits.
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

/// From the lower edge of one node to the upper edge of another.
fn edge((x0, y0): (usize, usize), (x1, y1): (usize, usize)) -> String {
    let (x0, y0, x1) = (x0 + NODE.0 / 2, y0 + NODE.1, x1 + NODE.0 / 2);
    let bend = (y1.saturating_sub(y0) / 2).max(6);
    format!("M{x0} {y0}C{x0} {} {x1} {} {x1} {y1}", y0 + bend, y1.saturating_sub(bend))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_drawn_on_top_of_another_and_sources_are_above() {
        let with =
            |sources: &[usize]| PlacedOperation { sources: sources.to_vec(), ..PlacedOperation::default() };
        // A diamond, a skip, and one that only the last takes from; they stand from 10 on in their list.
        let operations =
            [with(&[]), with(&[10]), with(&[10]), with(&[11, 12]), with(&[]), with(&[10, 13, 14])];
        let places = layout(&operations, 10);
        assert_eq!(places, [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]);
    }
}
