//! Errors of packages, bundles and programs under construction.

use std::io;
use std::path::{Path, PathBuf};

use crate::finding::Finding;
use crate::git_lfs::GitLfsPointer;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error names the file and the item in it, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system reported an error.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// The attempted action, such as "read".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A Git LFS pointer is in place of a file.
    #[error(
        "{}: this file is a Git LFS pointer{}: fetch the contents with `git lfs pull`",
        path.display(),
        pointer.bytes.map_or(String::new(), |bytes| format!(", whose {bytes} bytes were not downloaded"))
    )]
    GitLfsPointer {
        /// The file.
        path: PathBuf,
        /// The pointer.
        pointer: GitLfsPointer,
    },
    /// The path that was given as a package is something else.
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
    /// A package's `Manifest.json` is invalid.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What was found and expected.
        reason: String,
    },
    /// `model.mlmodel` cannot be interpreted.
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
        /// Whether the file ends too soon.
        is_cut: bool,
        /// What was found and expected.
        reason: String,
    },
    /// A program or its description breaks a rule.
    #[error("{0}")]
    Rule(Box<Finding>),
    /// A bundle is incomplete, or this version cannot read it.
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
