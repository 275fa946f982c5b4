//! Trains a microGPT with microGPT's own recipe: Adam, a falling learning rate, documents wrapped in BOS.
//!
//! The loop is our own: burn's learner resumes at epoch boundaries, while a run here must resume from any
//! step, bit for bit. Everything that a step depends on follows from its number and the seed: the examples,
//! the learning rate and the dropout masks.

mod adam;
mod config;
mod loss;
mod memory;
mod resume;
#[cfg(test)]
mod resume_tests;
mod save;
mod schedule;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod trained;
mod trainer;

use std::ops::ControlFlow;
use std::path::PathBuf;

use crate::config::GptConfig;
use crate::corpus::Corpus;
use crate::error::Result;
use crate::report::{Evaluation, StepMetrics};
use crate::tokenizer::Tokenizer;

pub use self::config::TrainingConfig;
pub use self::resume::{Resumed, SkippedState};
pub use self::save::SaveEvery;
pub use self::schedule::Schedule;
pub use self::trained::Trained;
pub use self::trainer::Trainer;

/// Progress of a training run.
#[derive(Clone, Copy, Debug)]
pub enum Progress {
    /// A step is done.
    Step(StepMetrics),
    /// Part of the held-out examples has been evaluated.
    Evaluation {
        /// Examples evaluated so far.
        done: usize,
        /// Number of held-out examples.
        total: usize,
    },
    /// The held-out examples were evaluated.
    Evaluated(Evaluation),
    /// The state after a step was saved to disk.
    Saved {
        /// Steps done.
        step: usize,
    },
}

/// Trains a character model on a corpus, starting from random weights.
///
/// `config` returns the model's dimensions for a vocabulary size, which follows from the corpus:
/// `|vocab_size| GptConfig::preset(Preset::Original, vocab_size)`.
///
/// [`Trainer`] also trains step by step, from given weights or with another tokenizer, and keeps its state on
/// disk.
///
/// # Errors
///
/// [`Error::Config`](crate::Error::Config) or [`Error::Training`](crate::Error::Training) for an invalid
/// option; [`Error::Diverged`](crate::Error::Diverged).
pub fn train(
    corpus: &Corpus,
    config: impl FnOnce(usize) -> GptConfig,
    training: &TrainingConfig,
    mut progress: impl FnMut(Progress),
) -> Result<Trained> {
    let tokenizer = Tokenizer::characters(corpus.documents());
    let config = config(tokenizer.vocab_size());
    let trainer = Trainer::new(corpus, config, tokenizer, None, training.clone())?;
    let ended = trainer.run(None, |_, told| {
        progress(told);
        ControlFlow::Continue(())
    })?;
    match ended {
        Ended::Trained(trained) => Ok(*trained),
        Ended::Stopped { .. } => unreachable!("nobody asked to stop"),
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// The run was completed.
    Trained(Box<Trained>),
    /// The run was stopped by its `progress` callback.
    Stopped {
        /// Steps done.
        step: usize,
    },
}

/// Where and how often a run saves its state.
#[derive(Clone, Debug, PartialEq)]
pub struct SaveTo {
    /// The checkpoint's folder.
    pub folder: PathBuf,
    /// How often to save.
    pub every: SaveEvery,
}

/// Amount of training and held-out data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingSizes {
    /// Documents, or windows of running text, per epoch.
    pub examples: usize,
    /// Predictions per epoch.
    pub tokens: usize,
    /// Documents longer than the context, which are truncated to it.
    pub cut: usize,
    /// The context, in tokens, that would hold the longest document; for running text, the context itself.
    pub longest: usize,
    /// Documents, or windows of running text, held out.
    pub held_out: usize,
}
