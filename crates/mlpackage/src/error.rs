//! What can be wrong with a package, a bundle or a program that is being built.

use std::io;
use std::path::{Path, PathBuf};

use crate::finding::Finding;
use crate::git_lfs::GitLfsPointer;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error names the file and the thing in it, what was found and what was expected.
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
    /// Git left a pointer where a file should be.
    #[error(
        "{}: a Git LFS pointer stands in place of this file{}: fetch it with `git lfs pull`",
        path.display(),
        pointer.bytes.map_or(String::new(), |bytes| format!(", whose {bytes} bytes were not downloaded"))
    )]
    GitLfsPointer {
        /// The file.
        path: PathBuf,
        /// What stands there.
        pointer: GitLfsPointer,
    },
    /// What was given as a package is something else.
    #[error("{}: {reason}", path.display())]
    NoPackage {
        /// The file or folder.
        path: PathBuf,
        /// What was found and expected.
        reason: String,
    },
    /// An output cannot be written to its destination.
    #[error(transparent)]
    Output(#[from] atomic_output::Error),
    /// `Manifest.json` of a package is not as Core ML wants it.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What was found and expected.
        reason: String,
    },
    /// `model.mlmodel` cannot be understood.
    #[error("{}: {reason}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        reason: String,
    },
    /// A weight file, or a record in it, is damaged.
    #[error("{}: blob at offset {offset}: {reason}", path.display())]
    Blob {
        /// The weight file.
        path: PathBuf,
        /// Byte offset of the record.
        offset: u64,
        /// What was found and expected.
        reason: String,
    },
    /// A program or its description breaks a rule.
    #[error("{0}")]
    Rule(Box<Finding>),
    /// A bundle is not whole, or not one that this version reads.
    #[error("bundle {}: {field}: {reason}", path.display())]
    Bundle {
        /// The bundle's folder.
        path: PathBuf,
        /// The field of `bundle.json`, or the file, that is wrong.
        field: String,
        /// What was found and expected.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source }
    }
}

impl From<Finding> for Error {
    fn from(finding: Finding) -> Self {
        Self::Rule(Box::new(finding))
    }
}
