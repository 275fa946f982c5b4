//! Core ML: the engine `coreml` on a Mac, and the parts of it that are plain logic and work anywhere.
//!
//! | | |
//! |---|---|
//! | [`ComputeUnits`] | which devices Core ML may choose from |
//! | [`CompileCache`] | compiled packages, keyed by content and system, each compiled once |
//! | [`advice`] | hints for Core ML errors |
//! | [`LoadStep`] | a step of a load, for progress display: a first load can take minutes |
//! | `CoreMl` | the engine; compiled only for Apple targets |

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
// Only the engine uses this, but it is tested on every machine.
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
