//! Why a package cannot be judged.

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The package is not sound.
    #[error(transparent)]
    Package(#[from] mlpackage::Error),
}
