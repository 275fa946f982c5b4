//! burn's own dashboard, fed by our training loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use burn_train::Interrupter;
use burn_train::logger::TrainingProgressLogger as _;
use burn_train::metric::{
    MetricAttributes, MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry,
    SerializedEntry,
};
use burn_train::renderer::tui::TuiMetricsRendererWrapper;
use burn_train::renderer::{MetricState, MetricsRenderer as _, MetricsRendererTraining as _};
use microgpt_model::{Progress, Trainer};

/// The dashboard is drawn ten times a second; more points would only wait in its queue.
const TICK: Duration = Duration::from_millis(100);

/// Shows curves of the losses and the learning rate, and the progress.
pub(super) struct Dashboard {
    renderer: TuiMetricsRendererWrapper,
    interrupter: Interrupter,
    loss: MetricId,
    learning_rate: MetricId,
    steps: usize,
    /// Losses since the last point.
    losses: Vec<f64>,
    shown: Instant,
}

impl Dashboard {
    pub(super) fn new(trainer: &Trainer) -> Self {
        let interrupter = Interrupter::new();
        let mut renderer = TuiMetricsRendererWrapper::new(interrupter.clone(), None);
        let mut register = |name: &str, unit: &str, higher_is_better: bool| {
            let metric_id = MetricId::new(Arc::new(name.to_owned()));
            renderer.register_metric(MetricDefinition {
                metric_id: metric_id.clone(),
                name: Arc::new(name.to_owned()),
                description: None,
                attributes: MetricAttributes::Numeric(NumericAttributes {
                    unit: Some(unit.to_owned()),
                    higher_is_better,
                }),
            });
            metric_id
        };
        let loss = register("Loss", "nats per token", false);
        let learning_rate = register("Learning rate", "", true);
        let steps = trainer.training().steps;
        renderer.start(0, 0, Some(steps), Some("microgpt train"));
        renderer.start_split("train", steps);
        let (losses, shown) = (Vec::new(), Instant::now());
        Self { renderer, interrupter, loss, learning_rate, steps, losses, shown }
    }

    pub(super) fn asks_to_stop(&self) -> bool {
        self.interrupter.should_stop()
    }

    pub(super) fn show(&mut self, progress: Progress) {
        let number = |metric: &MetricId, value: f64| {
            let text = SerializedEntry::new(format!("{value:.4}"), value.to_string());
            MetricState::Numeric(MetricEntry::new(metric.clone(), text), Some(NumericEntry::Value(value)))
        };
        match progress {
            Progress::Step(metrics) => {
                self.losses.push(f64::from(metrics.loss));
                if self.shown.elapsed() < TICK && metrics.step < self.steps {
                    return;
                }
                self.shown = Instant::now();
                let mean = self.losses.iter().sum::<f64>() / self.losses.len() as f64;
                self.losses.clear();
                self.renderer.update_train(number(&self.loss, mean));
                self.renderer.update_train(number(&self.learning_rate, metrics.learning_rate));
                self.renderer.update_split(metrics.step.min(self.steps));
            }
            Progress::Evaluated(evaluation) => {
                self.renderer.update_valid(number(&self.loss, f64::from(evaluation.loss)));
            }
            Progress::Saved { .. } => self.renderer.log_event_training("states saved".to_owned()),
            Progress::Evaluation { .. } => {}
        }
    }
}
