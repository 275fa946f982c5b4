//! Core ML: the engine `coreml` on a Mac, and the parts of it that are plain logic and work anywhere.
//!
//! | | |
//! |---|---|
//! | [`ComputeUnits`] | which devices Core ML may choose from |
//! | `CompileCache` | compiled packages, keyed by content and system, each compiled once |
//! | [`advice`] | hints for Core ML errors |
//! | [`LoadStep`] | a step of a load, for progress display: a first load can take minutes |
//! | `CoreMl` | the engine; compiled only for Apple targets |
//!
//! The engine and the cache need the crate's feature `coreml`, which is on by default.

#[cfg(all(target_os = "macos", feature = "coreml"))]
mod arrays;
#[cfg(feature = "coreml")]
mod cache_key;
#[cfg(feature = "coreml")]
mod compile_cache;
#[cfg(feature = "coreml")]
mod compiled;
mod compute_units;
#[cfg(all(target_os = "macos", feature = "coreml"))]
mod engine;
#[cfg(all(target_os = "macos", feature = "coreml"))]
mod model;
mod progress;
// Only the engine uses this, but it is tested on every machine.
#[cfg(all(feature = "coreml", any(test, target_os = "macos")))]
mod strided;

pub use crate::advice::advice;
#[cfg(feature = "coreml")]
pub use cache_key::CacheKey;
#[cfg(feature = "coreml")]
pub use compile_cache::CompileCache;
#[cfg(feature = "coreml")]
pub use compiled::Compiled;
pub use compute_units::ComputeUnits;
#[cfg(all(target_os = "macos", feature = "coreml"))]
pub use engine::CoreMl;
pub use progress::{LoadObserver, LoadStep};
