//! What the pictures of this crate share.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// A chart of numbers against numbers, as SVG.
pub(crate) type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws the names of the lines into the upper right corner.
///
/// # Errors
///
/// If the library cannot draw them.
pub(crate) fn legend<'a>(chart: &mut Chart<'a>) -> Result<(), Box<dyn std::error::Error>> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(|error| error.to_string().into())
}
