//! Why a package cannot be judged, or evidence not be read.

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The package is not sound.
    #[error(transparent)]
    Package(#[from] mlpackage::Error),
    /// A row of a corpus is not what it should be.
    #[error("{origin}: line {line}: {reason}")]
    Corpus {
        /// Where the rows come from.
        origin: String,
        /// From 1.
        line: usize,
        /// What was found and expected.
        reason: String,
    },
    /// A report that was read does not hold together.
    #[error("{reason}")]
    Report {
        /// What was found and expected.
        reason: String,
    },
    /// What was read is no plan of Core ML's.
    #[error("no recorded plan of this package: {reason}")]
    Plan {
        /// What was found and expected.
        reason: String,
    },
    /// Something that only Core ML can do.
    #[error(
        "{what} is part of Core ML: run this on a Mac with macOS 15; a plan that was recorded there is read anywhere (--plan)"
    )]
    NeedsMac {
        /// What it is.
        what: &'static str,
    },
    /// Core ML refused, or said something that makes no report.
    #[error("Core ML: {what}")]
    CoreMl {
        /// In its words.
        what: String,
    },
}
