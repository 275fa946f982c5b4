//! Settings of a training run.

use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use crate::config::Preset;
use crate::device::Backend;
use crate::error::{Error, Result};
use crate::weights::{INIT_STD, WIDE_INIT_STD};

/// Settings of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Number of steps.
    pub steps: usize,
    /// Examples per step: documents, or windows of running text. All predictions of a step have equal weight.
    pub batch_size: usize,
    /// Parts into which a step's examples are divided and computed one after the other: less memory, same
    /// result. With dropout, each part draws its own masks.
    pub accumulate: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// Steps over which the learning rate first rises to its highest value.
    pub warmup: usize,
    /// Decoupled weight decay (AdamW): each step multiplies the weights by `1 - learning_rate *
    /// weight_decay`. 0 in microGPT.
    pub weight_decay: f64,
    /// Share of activations dropped during training. 0 in microGPT.
    pub dropout: f64,
    /// Largest norm of the gradients; longer ones are scaled down to it. `None`: no clipping.
    pub clip_norm: Option<f64>,
    /// Share of the corpus held out, in `[0, 1)`.
    pub held_out: f64,
    /// Whether documents are shuffled before the split, and again for every epoch.
    pub shuffle: bool,
    /// Steps between evaluations on the held-out part; 0: only at the end.
    pub evaluate_every: usize,
    /// Whether the result has the weights of the best evaluation instead of the last ones.
    pub keep_best: bool,
    /// Number of evaluations without improvement after which training stops; 0: never.
    pub patience: usize,
    /// Standard deviation of the initial weights.
    pub init_std: f32,
    /// Seed of the initial weights, the order of documents and the dropout masks.
    pub seed: u64,
    /// burn's backend.
    pub backend: Backend,
    /// Number of the backend's devices that share a step's work.
    pub devices: usize,
}

impl TrainingConfig {
    /// Returns the recipe of a preset.
    ///
    /// The original preset uses microGPT's own recipe. The scaled one has larger batches, a lower learning
    /// rate and smaller initial weights, without which a model of that width starts at a loss of 37 and
    /// learns slowly. The compact one adds regularization and keeps the weights that are best on the held-out
    /// documents.
    pub fn preset(preset: Preset) -> Self {
        let microgpt = Self {
            steps: 1_000,
            batch_size: 1,
            accumulate: 1,
            learning_rate: 0.01,
            schedule: Schedule::Linear,
            warmup: 0,
            weight_decay: 0.0,
            dropout: 0.0,
            clip_norm: None,
            held_out: 0.1,
            shuffle: true,
            evaluate_every: 0,
            keep_best: false,
            patience: 0,
            init_std: INIT_STD,
            seed: 42,
            backend: Backend::default(),
            devices: 1,
        };
        match preset {
            Preset::Original => microgpt,
            Preset::Scaled => Self {
                steps: 5_000,
                batch_size: 32,
                learning_rate: 1e-3,
                init_std: WIDE_INIT_STD,
                ..microgpt
            },
            Preset::Compact => Self {
                steps: 12_000,
                batch_size: 64,
                learning_rate: 2e-3,
                schedule: Schedule::Cosine,
                warmup: 200,
                weight_decay: 0.1,
                dropout: 0.15,
                clip_norm: Some(1.0),
                evaluate_every: 500,
                keep_best: true,
                patience: 8,
                init_std: WIDE_INIT_STD,
                ..microgpt
            },
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        let bad = |option, reason: String| Err(Error::Training { option, reason });
        if self.steps == 0 {
            return bad("steps", "0, expected at least 1".into());
        }
        if self.batch_size == 0 || self.batch_size > 1 << 16 {
            return bad("batch_size", format!("{} is not between 1 and 65536", self.batch_size));
        }
        if self.accumulate == 0 || self.accumulate > self.batch_size {
            let reason = format!("{} is not between 1 and the batch of {}", self.accumulate, self.batch_size);
            return bad("accumulate", reason);
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            return bad("learning_rate", format!("{} is not above 0 and at most 1", self.learning_rate));
        }
        if self.warmup > self.steps {
            return bad("warmup", format!("{} is more than the {} steps", self.warmup, self.steps));
        }
        for (option, share) in [("weight_decay", self.weight_decay), ("dropout", self.dropout)] {
            if !(0.0..1.0).contains(&share) {
                return bad(option, format!("{share} is not at least 0 and below 1"));
            }
        }
        if let Some(clip) = self.clip_norm.filter(|clip| !(*clip > 0.0 && clip.is_finite())) {
            return bad("clip_norm", format!("{clip} is not above 0 and finite"));
        }
        if !(self.init_std > 0.0 && self.init_std.is_finite()) {
            return bad("init_std", format!("{} is not above 0 and finite", self.init_std));
        }
        if self.keep_best && (self.evaluate_every == 0 || self.held_out == 0.0) {
            let reason = "needs evaluations: set evaluate_every, and held_out above 0".to_owned();
            return bad("keep_best", reason);
        }
        if self.patience > 0 && !self.keep_best {
            return bad("patience", "needs keep_best".into());
        }
        Ok(())
    }

    /// Returns the learning rate of a step, counted from 0.
    pub(super) fn learning_rate_at(&self, step: usize) -> f64 {
        self.learning_rate * self.schedule.share(step, self.steps, self.warmup)
    }
}
