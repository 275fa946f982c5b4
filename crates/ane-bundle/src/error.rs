//! Errors of bundles.

use std::path::{Path, PathBuf};

use mlpackage::BoxError;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error names the bundle and the field or file in it, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the bundle cannot be read, or a package in it is invalid.
    #[error(transparent)]
    Package(#[from] mlpackage::Error),
    /// The bundle cannot be written.
    #[error(transparent)]
    Output(#[from] atomic_output::Error),
    /// The bundle is incomplete or changed, or this version cannot read it.
    #[error("bundle {}: {field}: {reason}", path.display())]
    Invalid {
        /// The bundle's folder.
        path: PathBuf,
        /// The field of `bundle.json`, or the file, that is wrong.
        field: String,
        /// What was found and expected.
        reason: String,
        /// The error that revealed it, if there is one.
        source: Option<BoxError>,
    },
}

impl Error {
    pub(crate) fn invalid(path: &Path, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { path: path.to_owned(), field: field.into(), reason: reason.into(), source: None }
    }

    /// Returns the error about a field or file whose reason is the message of `error`.
    pub(crate) fn revealed(path: &Path, field: impl Into<String>, error: impl Into<BoxError>) -> Self {
        let error = error.into();
        let reason = error.to_string();
        Self::Invalid { path: path.to_owned(), field: field.into(), reason, source: Some(error) }
    }
}
