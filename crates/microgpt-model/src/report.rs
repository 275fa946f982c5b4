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

/// A training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingReport {
    /// Where the documents came from.
    pub corpus: String,
    /// Documents trained on.
    pub train_documents: usize,
    /// Documents held out.
    pub held_out_documents: usize,
    /// Seed of the weights and of the order of documents.
    pub seed: u64,
    /// Standard deviation of the initial weights.
    pub init_std: f32,
    /// Steps.
    pub steps: usize,
    /// Documents a step.
    pub batch_size: usize,
    /// Learning rate of the first step; it falls linearly to 0.
    pub learning_rate: f64,
    /// burn's backend.
    pub backend: String,
    /// Mean of the last 50 steps' losses (all, if there were fewer), in nats.
    pub train_loss: f32,
    /// Mean negative log likelihood of every prediction in the held-out documents, in nats; `None` without any.
    pub held_out_loss: Option<f32>,
    /// Wall time of the steps.
    pub seconds: f64,
    /// Predictions trained on a second.
    pub tokens_per_second: f64,
    /// Every step. Kept in `metrics.jsonl`, not in the report's own file.
    #[serde(skip)]
    pub history: Vec<StepMetrics>,
}

impl TrainingReport {
    /// One JSON object a line, with at least `step` and `loss`.
    pub(crate) fn metrics_jsonl(&self) -> String {
        self.history.iter().fold(String::new(), |mut text, step| {
            let line = serde_json::to_string(step).expect("numbers serialize into memory");
            writeln!(text, "{line}").expect("writing to a string");
            text
        })
    }

    pub(crate) fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("a report serializes into memory");
        json.push('\n');
        json
    }
}
