//! Parts shared by this crate's charts.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// A chart with two numeric axes, as SVG.
pub(crate) type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws the legend in the upper right corner.
///
/// # Errors
///
/// If plotting fails.
pub(crate) fn legend<'a>(chart: &mut Chart<'a>) -> Result<(), Box<dyn std::error::Error>> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(|error| error.to_string().into())
}
