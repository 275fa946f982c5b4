//! Trains a microGPT the way microGPT does: Adam, a learning rate that falls, documents wrapped in BOS.
//!
//! The loop is our own, as burn's learner keeps its place by the epoch and a run here must go on from any step to the bit.
//! Whatever a step depends on follows from its number and the seed: the examples, the learning rate, what is dropped.

mod adam;
mod config;
mod dropout;
mod loss;
mod memory;
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
pub(crate) use self::dropout::Dropout;
pub use self::schedule::Schedule;
pub use self::state::{Resumed, SaveEvery, SkippedState};
pub use self::trained::Trained;
pub use self::trainer::Trainer;

/// What a run tells while it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Progress {
    /// A step is done.
    Step(StepMetrics),
    /// So many of the held-out examples are evaluated.
    Evaluation {
        /// Evaluated so far.
        done: usize,
        /// All of them.
        total: usize,
    },
    /// What is held out was evaluated.
    Evaluated(Evaluation),
    /// The state after that step is on disk.
    Saved {
        /// Steps done.
        step: usize,
    },
}

/// Trains a model of characters from random weights on a corpus. `config` gives the model's dimensions from the size of the
/// vocabulary, which follows from the corpus: `|vocab_size| GptConfig::preset(Preset::Original, vocab_size)`.
///
/// [`Trainer`] does the same step by step, begins with other weights or another tokenizer, and keeps its state on disk.
///
/// # Errors
///
/// [`Error::Config`](crate::Error::Config) or [`Error::Training`](crate::Error::Training) for an option that makes no sense;
/// [`Error::Diverged`](crate::Error::Diverged).
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
    /// It went to its end.
    Trained(Box<Trained>),
    /// It was asked to stop.
    Stopped {
        /// Steps done.
        step: usize,
    },
}

/// Where a run keeps its state while it goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct SaveTo {
    /// The checkpoint's folder.
    pub folder: PathBuf,
    /// How often.
    pub every: SaveEvery,
}

/// How much there is to train on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingSizes {
    /// Documents, or windows of running text, of an epoch.
    pub examples: usize,
    /// Predictions of an epoch.
    pub tokens: usize,
    /// Documents longer than the context, whose ends are left out.
    pub cut: usize,
    /// The context that would hold the longest document, in tokens; of running text, the context itself.
    pub longest: usize,
    /// Documents, or windows of running text, that are held out.
    pub held_out: usize,
}
