//! Draws the boundary that a search found: width against layers.

use std::collections::BTreeMap;

use ane_floor::discovery::Discovery;
use plotters::prelude::*;

use crate::cli::chart::legend;

const SIZE: (u32, u32) = (900, 560);

/// Layers and width.
type Points = Vec<(f64, f64)>;

/// Draws the narrowest widths that were placed on the Neural Engine, as SVG text. Each form of the weights
/// and number of tokens has a line; coinciding lines are drawn once.
///
/// # Errors
///
/// If plotting fails.
pub(crate) fn draw(found: &Discovery) -> Result<String, Box<dyn std::error::Error>> {
    let lines = lines(found);
    let points = || lines.iter().flat_map(|(_, points)| points);
    let right = points().map(|p| p.0).fold(1.0, f64::max) + 0.5;
    let top = points().map(|p| p.1).fold(64.0, f64::max) * 1.15;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let caption = format!("narrowest decoder on the Neural Engine ({})", found.basis);
        let mut chart = ChartBuilder::on(&area)
            .margin(16)
            .caption(caption, ("sans-serif", 18))
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(0.5..right, 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc("n_layer")
            .y_desc("n_embd")
            .x_labels((right.ceil() as usize).clamp(2, 32))
            .x_label_formatter(&|n| {
                if (n - n.round()).abs() < 1e-6 { format!("{n:.0}") } else { String::new() }
            })
            .y_label_formatter(&|n| format!("{n:.0}"))
            .light_line_style(WHITE)
            .draw()?;
        for (i, (names, points)) in lines.iter().enumerate() {
            let color = Palette99::pick(i).to_rgba();
            let label = match names.as_slice() {
                [one] => one.clone(),
                [first, .., last] => format!("{first} to {last}: {} lines in one", names.len()),
                [] => String::new(),
            };
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(3))?
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
        }
        legend(&mut chart)?;
        area.present()?;
    }
    Ok(svg)
}

/// Returns the lines with the names of each. Coinciding lines become one with several names.
fn lines(found: &Discovery) -> Vec<(Vec<String>, Points)> {
    let mut lines: BTreeMap<(usize, &str), Points> = BTreeMap::new();
    for boundary in &found.boundaries {
        if let Some((width, _)) = boundary.above {
            let line = lines.entry((boundary.tokens, &boundary.quantization)).or_default();
            line.push((boundary.n_layer as f64, width as f64));
        }
    }
    let mut shared: Vec<(Vec<String>, Points)> = Vec::new();
    for ((tokens, quantization), mut points) in lines {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let name = format!("{quantization}, T = {tokens}");
        match shared.iter_mut().find(|(_, same)| *same == points) {
            Some((names, _)) => names.push(name),
            None => shared.push((vec![name], points)),
        }
    }
    shared
}
