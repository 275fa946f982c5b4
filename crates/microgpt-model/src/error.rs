//! Errors of configs, corpora, tokenizers, checkpoints and training runs.

use std::io;
use std::path::{Path, PathBuf};

/// An error of another library.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. It names the file or field, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation of the file system failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// The operation, such as "read".
        action: &'static str,
        /// The file or folder.
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
    /// A field of a config has an invalid value.
    #[error("config: {field}: {reason}")]
    Config {
        /// The field.
        field: &'static str,
        /// What was found and expected.
        reason: String,
    },
    /// A file of a checkpoint is invalid.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        reason: String,
        /// The error that revealed it, if there is one.
        source: Option<BoxError>,
    },
    /// A tensor of a checkpoint is missing or does not match the config.
    #[error("{}: tensor {tensor}: {reason}", path.display())]
    Tensor {
        /// The safetensors file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What was found and expected.
        reason: String,
        /// The error that revealed it, if there is one.
        source: Option<BoxError>,
    },
    /// A text has a character that is not in the tokenizer's vocabulary.
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
        /// The tokenizer's vocabulary.
        vocabulary: String,
    },
    /// A corpus has no text to train on, or cannot be read as text.
    #[error("corpus {origin}: {reason}")]
    Corpus {
        /// The file, or the name of the corpus.
        origin: String,
        /// What was found and expected.
        reason: String,
        /// The error that revealed it, if there is one.
        source: Option<BoxError>,
    },
    /// An option of a training run is invalid.
    #[error("training: {option}: {reason}")]
    Training {
        /// The option.
        option: &'static str,
        /// What was found and expected.
        reason: String,
    },
    /// The loss became infinite or NaN.
    #[error(
        "the loss became {loss} at step {step}: try a learning rate of {} instead of {learning_rate}, or initial weights of standard \
         deviation {} instead of {init_std}",
        a_tenth(*learning_rate),
        a_tenth(f64::from(*init_std))
    )]
    Diverged {
        /// The step, counted from 1.
        step: usize,
        /// The loss.
        loss: f32,
        /// The highest learning rate of the run.
        learning_rate: f64,
        /// Standard deviation of the initial weights.
        init_std: f32,
    },
}

/// Returns a tenth of a number, rounded to one significant digit: a suggestion is no more precise than that.
pub fn a_tenth(number: f64) -> f64 {
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
        Self::File { path: path.as_ref().to_owned(), reason: reason.into(), source: None }
    }

    /// Names the path that a file has after the commit, not the hidden one at which it was written.
    pub(crate) fn at_final_path(mut self, dir: &atomic_output::AtomicDir) -> Self {
        if let Self::Io { path, .. } | Self::File { path, .. } | Self::Tensor { path, .. } = &mut self {
            *path = dir.final_path(&*path);
        }
        self
    }

    /// Returns the error for a file that is `what`, as `error` reveals.
    pub(crate) fn file_because(path: impl AsRef<Path>, what: &str, error: impl Into<BoxError>) -> Self {
        let error = error.into();
        let reason = if what.is_empty() { error.to_string() } else { format!("{what}: {error}") };
        Self::File { path: path.as_ref().to_owned(), reason, source: Some(error) }
    }
}
