//! Errors of placement reports and of evidence.

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The package is invalid.
    #[error(transparent)]
    Package(#[from] mlpackage::Error),
    /// A file of the package cannot be read.
    #[error(transparent)]
    File(#[from] ane_bundle::Error),
    /// A row of a corpus is invalid.
    #[error("{origin}: line {line}: {reason}")]
    Corpus {
        /// The source of the rows.
        origin: String,
        /// The line, counted from 1.
        line: usize,
        /// What was found and expected.
        reason: String,
        /// The error that revealed it, if there is one.
        source: Option<mlpackage::BoxError>,
    },
    /// A report is inconsistent.
    #[error("{reason}")]
    Report {
        /// What was found and expected.
        reason: String,
    },
    /// A recorded plan is invalid, or belongs to another package.
    #[error("not a recorded plan that can be used here: {reason}")]
    Plan {
        /// What was found and expected.
        reason: String,
        /// The error that revealed it, if there is one.
        source: Option<mlpackage::BoxError>,
    },
    /// An operation that needs Core ML.
    #[error(
        "{what} is part of Core ML: run this on a Mac with macOS 15; a plan that was recorded there is read anywhere"
    )]
    NeedsMac {
        /// The operation.
        what: &'static str,
    },
    /// Core ML failed, or returned a plan without a usable operation.
    #[error("Core ML: {what}")]
    CoreMl {
        /// Core ML's message, or what is wrong with the plan.
        what: String,
    },
}
