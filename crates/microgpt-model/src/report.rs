//! The report of a training run.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// One training step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The step, counted from 1.
    pub step: usize,
    /// Mean negative log likelihood of the step's predictions, in nats.
    pub loss: f32,
    /// The learning rate that the step used.
    pub learning_rate: f64,
    /// Number of predictions in the step.
    pub tokens: usize,
}

/// One evaluation on the held-out part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of steps done before the evaluation.
    pub step: usize,
    /// Mean negative log likelihood of every held-out prediction, in nats.
    pub loss: f32,
}

/// Settings and results of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingReport {
    /// Name of the corpus.
    pub corpus: String,
    /// Documents, or windows of running text, trained on.
    pub train_documents: usize,
    /// Documents, or windows of running text, held out.
    pub held_out_documents: usize,
    /// Seed of the initial weights, the order of documents and the dropout masks.
    pub seed: u64,
    /// Standard deviation of the initial weights.
    pub init_std: f32,
    /// Steps done; fewer than planned if training stopped early.
    pub steps: usize,
    /// The step after which the kept weights were taken.
    #[serde(default)]
    pub kept_step: usize,
    /// Examples per step.
    pub batch_size: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The schedule of the learning rate: `linear`, `cosine` or `constant`.
    #[serde(default)]
    pub schedule: String,
    /// Steps over which the learning rate first rose.
    #[serde(default)]
    pub warmup: usize,
    /// Weight decay.
    #[serde(default)]
    pub weight_decay: f64,
    /// Share of activations dropped.
    #[serde(default)]
    pub dropout: f64,
    /// Norm to which longer gradients were scaled down.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// burn's backend.
    pub backend: String,
    /// Mean loss of the last 50 steps (or of all, if there were fewer), in nats.
    pub train_loss: f32,
    /// Mean negative log likelihood of every held-out prediction with the kept weights, in nats; `None`
    /// without evaluations.
    pub held_out_loss: Option<f32>,
    /// All evaluations of the run.
    #[serde(default)]
    pub evaluations: Vec<Evaluation>,
    /// Wall time of the steps, without evaluations.
    pub seconds: f64,
    /// Predictions trained on per second.
    pub tokens_per_second: f64,
    /// Every step. Stored in `metrics.jsonl`, not in `report.json`.
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

/// Formats steps as JSON lines, each with at least `step` and `loss`.
pub(crate) fn metrics_jsonl(history: &[StepMetrics]) -> String {
    history.iter().fold(String::new(), |mut text, step| {
        let line = serde_json::to_string(step).expect("numbers serialize into memory");
        writeln!(text, "{line}").expect("writing to a string");
        text
    })
}
