//! Errors of writing an output.

use std::io;
use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an output cannot be written. Its destination is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an action.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// The action, such as "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The destination exists and must not be replaced.
    #[error("{} exists and {reason}, so it is not replaced: choose another destination, or move it away first", path.display())]
    Occupied {
        /// The destination.
        path: PathBuf,
        /// Why it must not be replaced.
        reason: String,
    },
    /// A process was killed while it replaced the destination, and something else has taken that name since.
    #[error(
        "{} was being replaced when a process was killed, and exists again: its earlier content is in {}, its successor in {}: \
         move what you want to keep elsewhere, and remove both",
        path.display(), earlier.display(), successor.display()
    )]
    Interrupted {
        /// The destination.
        path: PathBuf,
        /// The folder that was moved aside.
        earlier: PathBuf,
        /// The finished folder that was to replace it.
        successor: PathBuf,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source }
    }
}
