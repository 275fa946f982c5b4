#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bundle;
mod check;
mod digest;
mod error;
mod manifest;

pub use bundle::Bundle;
pub use digest::FileDigest;
pub use error::{Error, Result};
pub use manifest::{
    Architecture, BUNDLE, BUNDLE_FORMAT_VERSION, BUNDLE_MANIFEST, BundleManifest, DecodeInterface,
    EmbeddingTables, Exporter, HostCache, Shard, TokenizerFile,
};
