//! Errors of packages and of programs under construction.

use std::io;
use std::path::{Path, PathBuf};

use crate::finding::Finding;
use crate::git_lfs::GitLfsPointer;

/// An error of another library.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

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
        /// The error that revealed it, if there is one.
        source: Option<BoxError>,
    },
    /// `model.mlmodel` cannot be interpreted.
    #[error("{}: {reason}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        reason: String,
        /// The error that revealed it, if there is one.
        source: Option<BoxError>,
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
    #[error("{}{finding}", path.as_ref().map_or(String::new(), |path| format!("{}: ", path.display())))]
    Rule {
        /// The package; `None` for a program that is not yet in one.
        path: Option<PathBuf>,
        /// What is wrong.
        finding: Box<Finding>,
    },
}

impl Error {
    /// Names the package whose program or description breaks a rule.
    pub(crate) fn in_package(self, package: &Path) -> Self {
        match self {
            Self::Rule { path: None, finding } => Self::Rule { path: Some(package.to_owned()), finding },
            other => other,
        }
    }

    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source }
    }

    pub(crate) fn manifest(path: impl AsRef<Path>, reason: impl Into<Reason>) -> Self {
        let Reason { text, source } = reason.into();
        Self::Manifest { path: path.as_ref().to_owned(), reason: text, source }
    }

    pub(crate) fn model(path: impl AsRef<Path>, reason: impl Into<Reason>) -> Self {
        let Reason { text, source } = reason.into();
        Self::Model { path: path.as_ref().to_owned(), reason: text, source }
    }
}

impl From<Finding> for Error {
    fn from(finding: Finding) -> Self {
        Self::Rule { path: None, finding: Box::new(finding) }
    }
}

/// What was found and expected, and the error that revealed it.
pub(crate) struct Reason {
    text: String,
    source: Option<BoxError>,
}

impl Reason {
    /// Returns the reason that is the message of `error`.
    pub(crate) fn of(error: impl Into<BoxError>) -> Self {
        let error = error.into();
        Self { text: error.to_string(), source: Some(error) }
    }

    /// Returns the reason `text`, which an error revealed.
    pub(crate) fn because(text: impl Into<String>, error: impl Into<BoxError>) -> Self {
        Self { text: text.into(), source: Some(error.into()) }
    }
}

impl<T: Into<String>> From<T> for Reason {
    fn from(text: T) -> Self {
        Self { text: text.into(), source: None }
    }
}
