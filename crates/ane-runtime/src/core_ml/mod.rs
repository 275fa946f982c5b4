//! Core ML: the engine `coreml` on a Mac, and what of it is plain logic and works anywhere.
//!
//! | | |
//! |---|---|
//! | [`ComputeUnits`] | which devices Core ML may choose from |
//! | [`CompileCache`] | compiled packages, each compiled once: by content and system |
//! | [`advice`] | what to do about an error of Core ML's |
//! | [`LoadStep`] | what a load is at, for a line of progress: a first one can take minutes |
//! | `CoreMl` | the engine; compiled for Apple targets alone |

mod advice;
#[cfg(target_os = "macos")]
mod arrays;
mod cache_key;
mod compile_cache;
mod compiled;
mod compute_units;
#[cfg(target_os = "macos")]
mod engine;
#[cfg(target_os = "macos")]
mod model;
mod progress;
// What only the engine uses is tested on every machine.
#[cfg(any(test, target_os = "macos"))]
mod strided;

pub use advice::advice;
pub use cache_key::CacheKey;
pub use compile_cache::CompileCache;
pub use compiled::Compiled;
pub use compute_units::ComputeUnits;
#[cfg(target_os = "macos")]
pub use engine::CoreMl;
pub use progress::{LoadObserver, LoadStep};
