#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod atomic;
mod blob;
pub mod bundle;
mod dtype;
mod elements;
mod error;
mod interface;
mod manifest;
pub mod mil;
pub mod ops;
mod package;
mod paths;
mod proto;
mod shape;

pub use atomic::AtomicDir;
pub use blob::{Blob, BlobFile, BlobWriter};
pub use bundle::Bundle;
pub use dtype::DType;
pub use error::{Error, Result};
pub use interface::{AllowedShapes, DimRange, Feature, Interface};
pub use package::{Metadata, Package, PackageWriter};
pub use shape::Shape;
