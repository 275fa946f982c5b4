//! Errors of an export.

use std::path::PathBuf;

use mlpackage::BoxError;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error names the tensor or file, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint is invalid.
    #[error(transparent)]
    Checkpoint(#[from] microgpt_model::Error),
    /// The package cannot be written.
    #[error(transparent)]
    Package(#[from] mlpackage::Error),
    /// The bundle cannot be written, or opened again.
    #[error(transparent)]
    Bundle(#[from] ane_bundle::Error),
    /// The finished bundle cannot be moved to its destination.
    #[error(transparent)]
    Output(#[from] atomic_output::Error),
    /// A weight does not fit into fp16.
    #[error(
        "tensor {tensor}: element {element} is {value}, beyond fp16's largest number 65504: the training diverged"
    )]
    Overflow {
        /// The tensor.
        tensor: String,
        /// Index of the element, row-major.
        element: usize,
        /// The element.
        value: f32,
    },
    /// The number of tokens per call is 0, or exceeds the context.
    #[error("{tokens} tokens per call, expected 1 to {block_size}, the length of the context")]
    Tokens {
        /// The requested number of tokens.
        tokens: usize,
        /// The length of the context.
        block_size: usize,
    },
    /// An option has no value of this name.
    #[error(transparent)]
    UnknownName(#[from] mlpackage::UnknownName),
    /// The host-side tables or another file of the bundle cannot be written.
    #[error("write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: BoxError,
    },
}
