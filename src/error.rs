//! Errors of the steps that need several crates.

use std::io;
use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate: that of one of its steps, or two parts that do not fit together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The package is invalid.
    #[error(transparent)]
    Package(#[from] mlpackage::Error),
    /// The bundle is invalid.
    #[error(transparent)]
    Bundle(#[from] ane_bundle::Error),
    /// The checkpoint is invalid.
    #[error(transparent)]
    Checkpoint(#[from] microgpt_model::Error),
    /// The export failed.
    #[error(transparent)]
    Export(#[from] ane_export::Error),
    /// A program cannot be loaded or run.
    #[error(transparent)]
    Runtime(#[from] ane_runtime::Error),
    /// The placement cannot be predicted.
    #[error(transparent)]
    Placement(#[from] ane_floor::Error),
    /// The bundle was exported from another checkpoint.
    #[error(
        "checkpoint {}: vocab_size, n_embd, n_head, n_layer and block_size are {found:?}, the bundle has {expected:?}",
        path.display()
    )]
    OtherCheckpoint {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The checkpoint's dimensions, in this order.
        found: Vec<usize>,
        /// The bundle's dimensions.
        expected: Vec<usize>,
    },
    /// There is no temporary folder for a larger decoder, whose placement is predicted.
    #[error("make a temporary folder for a larger decoder")]
    TemporaryFolder(#[source] io::Error),
    /// A larger decoder, whose placement is predicted, cannot be exported.
    #[error("export a larger decoder to try it")]
    LargerDecoder(#[source] ane_export::Error),
}
