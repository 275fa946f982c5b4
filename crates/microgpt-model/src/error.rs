//! What can be wrong with a config, a corpus, a tokenizer, a checkpoint or a training run.

use std::io;
use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error names the file or field, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, such as "read".
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A checkpoint cannot be written to its destination.
    #[error(transparent)]
    Output(#[from] atomic_output::Error),
    /// Another process trains in this folder.
    #[error("another process is training in {}: wait until it is done, or stop it", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A field of a config has a value that makes no model.
    #[error("config: {field}: {reason}")]
    Config {
        /// The field.
        field: &'static str,
        /// What was found and expected.
        reason: String,
    },
    /// A file of a checkpoint is not what it should be.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        reason: String,
    },
    /// A tensor of a checkpoint is missing or not what the config says.
    #[error("{}: tensor {tensor}: {reason}", path.display())]
    Tensor {
        /// The safetensors file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What was found and expected.
        reason: String,
    },
    /// A text has a character that the tokenizer does not know.
    #[error(
        "character {character:?} at position {position} of {text:?} is not in the vocabulary of {vocabulary:?}"
    )]
    UnknownCharacter {
        /// The character.
        character: char,
        /// Its index, in characters.
        position: usize,
        /// The text.
        text: String,
        /// Every character that the tokenizer knows.
        vocabulary: String,
    },
    /// A corpus has nothing to train on, or cannot be read as text.
    #[error("corpus {origin}: {reason}")]
    Corpus {
        /// The file, or what the corpus is called.
        origin: String,
        /// What was found and expected.
        reason: String,
    },
    /// An option of a training run makes no sense.
    #[error("training: {option}: {reason}")]
    Training {
        /// The option.
        option: &'static str,
        /// What was found and expected.
        reason: String,
    },
    /// The loss became infinite or NaN.
    #[error(
        "the loss became {loss} at step {step}: try --learning-rate {}, now {learning_rate}, or --init-std {}, now {init_std}",
        a_tenth(*learning_rate),
        a_tenth(f64::from(*init_std))
    )]
    Diverged {
        /// The step, from 1.
        step: usize,
        /// The loss.
        loss: f32,
        /// The learning rate that the run began with.
        learning_rate: f64,
        /// Standard deviation of the weights that it began with.
        init_std: f32,
    },
}

/// A tenth of a number, in one digit.
fn a_tenth(number: f64) -> f64 {
    format!("{:.0e}", number / 10.0).parse().unwrap_or(number)
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source }
    }

    #[cfg(feature = "train")]
    pub(crate) fn occupied(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        let path = path.as_ref().to_owned();
        atomic_output::Error::Occupied { path, reason: reason.into() }.into()
    }

    pub(crate) fn file(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_owned(), reason: reason.into() }
    }
}
