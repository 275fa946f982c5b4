//! Why a checkpoint cannot be exported.

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error names the tensor or file, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint is not sound.
    #[error(transparent)]
    Checkpoint(#[from] microgpt_model::Error),
    /// The package or bundle cannot be written.
    #[error(transparent)]
    Package(#[from] mlpackage::Error),
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
    /// A call has no token, or more than the context.
    #[error("{tokens} tokens a call, expected 1 to the {block_size} of the context")]
    Tokens {
        /// What was asked for.
        tokens: usize,
        /// Positions of the context.
        block_size: usize,
    },
    /// An option has no such value.
    #[error("{option}: {found:?}, expected one of {expected}")]
    Option {
        /// The option.
        option: &'static str,
        /// What was given.
        found: String,
        /// What can be given.
        expected: String,
    },
    /// The host-side tables cannot be written.
    #[error("write {path}: {reason}")]
    Tables {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}
