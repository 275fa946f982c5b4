//! The blocks of decoders. A block takes values and matrices and adds operations; it is independent of any
//! architecture.

mod attention;
mod cache;
mod mlp;
mod norm;
mod projection;

pub(crate) use attention::{Attended, Attention, Heads};
pub(crate) use cache::{Cache, CacheStorage, CacheWrite};
pub(crate) use mlp::relu_mlp;
pub use norm::rms_norm;
pub(crate) use projection::project;
