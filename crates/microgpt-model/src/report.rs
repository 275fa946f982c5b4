//! What a training run leaves behind beside the weights.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// One training step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// From 1.
    pub step: usize,
    /// Mean negative log likelihood of the step's predictions, in nats.
    pub loss: f32,
    /// The learning rate that the step used.
    pub learning_rate: f64,
    /// Predictions that the loss is the mean of.
    pub tokens: usize,
}

/// One evaluation of what is held out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Steps done by then.
    pub step: usize,
    /// Mean negative log likelihood of every held-out prediction, in nats.
    pub loss: f32,
}

/// A training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingReport {
    /// Where the text came from.
    pub corpus: String,
    /// Documents, or windows of running text, trained on.
    pub train_documents: usize,
    /// Documents, or windows of running text, held out.
    pub held_out_documents: usize,
    /// Seed of the weights, of the order of documents and of what was dropped.
    pub seed: u64,
    /// Standard deviation of the initial weights.
    pub init_std: f32,
    /// Steps done; fewer than were asked for if training stopped early.
    pub steps: usize,
    /// The step whose weights were kept.
    #[serde(default)]
    pub kept_step: usize,
    /// Examples a step.
    pub batch_size: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How it fell: `linear`, `cosine` or `constant`.
    #[serde(default)]
    pub schedule: String,
    /// Steps over which it rose before.
    #[serde(default)]
    pub warmup: usize,
    /// Weight decay.
    #[serde(default)]
    pub weight_decay: f64,
    /// Share of activations that were dropped.
    #[serde(default)]
    pub dropout: f64,
    /// Length that gradients were scaled down to.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// burn's backend.
    pub backend: String,
    /// Mean of the last 50 steps' losses (all, if there were fewer), in nats.
    pub train_loss: f32,
    /// Mean negative log likelihood of every held-out prediction with the weights that were kept, in nats; `None` without any.
    pub held_out_loss: Option<f32>,
    /// What was held out, evaluated on the way.
    #[serde(default)]
    pub evaluations: Vec<Evaluation>,
    /// Wall time of the steps, without evaluations.
    pub seconds: f64,
    /// Predictions trained on a second.
    pub tokens_per_second: f64,
    /// Every step. Kept in `metrics.jsonl`, not in the report's own file.
    #[serde(skip)]
    pub history: Vec<StepMetrics>,
}

impl TrainingReport {
    pub(crate) fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("a report serializes into memory");
        json.push('\n');
        json
    }
}

/// One JSON object a line, with at least `step` and `loss`.
pub(crate) fn metrics_jsonl(history: &[StepMetrics]) -> String {
    history.iter().fold(String::new(), |mut text, step| {
        let line = serde_json::to_string(step).expect("numbers serialize into memory");
        writeln!(text, "{line}").expect("writing to a string");
        text
    })
}
