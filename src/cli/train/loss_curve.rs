//! Draws the loss curve of a training run.

use std::path::Path;

use microgpt_model::{StepMetrics, TrainingReport};
use mlpackage::counted;
use plotters::prelude::*;

use crate::cli::chart::legend;

const SIZE: (u32, u32) = (900, 520);
const TRAINING: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const HELD_OUT: RGBColor = RGBColor(0xd9, 0x5f, 0x02);

/// Points of the training curve; each is the mean of the steps that share a pixel or two.
const POINTS: usize = 400;

/// Draws the losses of a run as SVG text.
///
/// # Errors
///
/// If plotting fails.
pub(crate) fn draw(report: &TrainingReport) -> Result<String, Box<dyn std::error::Error>> {
    let training = means(&report.history);
    let held_out: Vec<(f64, f64)> =
        report.evaluations.iter().map(|e| (e.step as f64, f64::from(e.loss))).collect();
    // The first steps of an untrained model would flatten the rest of the curve.
    let settled = report.steps as f64 / 50.0;
    let (low, high) = training
        .iter()
        .chain(&held_out)
        .filter(|(step, _)| *step > settled)
        .fold((f64::MAX, f64::MIN), |(low, high), (_, loss)| (low.min(*loss), high.max(*loss)));
    let margin = (0.05 * (high - low)).max(0.01);
    let (low, high) = (low - margin, high + margin);
    let training = training.into_iter().map(|(step, loss)| (step, loss.min(high)));
    let corpus = Path::new(&report.corpus).file_name().unwrap_or(report.corpus.as_ref()).to_string_lossy();
    // XML cannot represent control characters.
    let corpus: String = corpus.chars().filter(|c| !c.is_control()).collect();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(16)
            .caption(
                format!("{corpus}: {} of {}", counted(report.steps, "step"), report.batch_size),
                ("sans-serif", 18),
            )
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..report.steps as f64, low..high)?;
        chart
            .configure_mesh()
            .x_desc("step")
            .y_desc("loss, nats per token")
            .x_label_formatter(&|step| format!("{step:.0}"))
            .light_line_style(WHITE)
            .draw()?;
        chart
            .draw_series(LineSeries::new(training, TRAINING.stroke_width(2)))?
            .label(format!("training: {:.4} at the end", report.train_loss))
            .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], TRAINING.stroke_width(2)));
        if let Some(loss) = report.held_out_loss {
            chart
                .draw_series(LineSeries::new(held_out, HELD_OUT.stroke_width(2)).point_size(3))?
                .label(format!("held out: {loss:.4} at step {}", report.kept_step))
                .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], HELD_OUT.stroke_width(2)));
        }
        legend(&mut chart)?;
        area.present()?;
    }
    Ok(svg)
}

/// Returns the mean losses of chunks of steps, each at the last step of its chunk.
fn means(history: &[StepMetrics]) -> Vec<(f64, f64)> {
    let stretch = history.len().div_ceil(POINTS).max(1);
    let mean = |steps: &[StepMetrics]| {
        let loss = steps.iter().map(|s| f64::from(s.loss)).sum::<f64>() / steps.len() as f64;
        (steps[steps.len() - 1].step as f64, loss)
    };
    history.chunks(stretch).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: usize, loss: f32) -> StepMetrics {
        StepMetrics { step, loss, learning_rate: 0.1, tokens: 1 }
    }

    #[test]
    fn the_mean_of_a_chunk_is_at_its_last_step() {
        let history: Vec<StepMetrics> = (1..=801).map(|s| step(s, (s % 3) as f32)).collect();
        let means = means(&history);
        assert_eq!(means.len(), 267, "three steps each");
        assert!(means.iter().all(|(_, loss)| *loss == 1.0));
        assert_eq!((means[0].0, means[266].0), (3.0, 801.0));
    }
}
