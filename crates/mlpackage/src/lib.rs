#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod blob;
pub mod builder;
pub mod check;
mod counted;
mod decode_budget;
mod dim_range;
mod dtype;
mod error;
pub mod files;
mod finding;
mod folder_kind;
#[cfg(fuzzing)]
pub mod fuzzing;
mod git_lfs;
mod image;
mod interface;
mod manifest;
pub mod mil;
mod named_enum;
pub mod ops;
mod package;
mod proto;
mod shape;

pub use blob::{Blob, BlobFile, BlobWriter, StoredBlob};
pub use counted::counted;
pub use dim_range::DimRange;
pub use dtype::DType;
pub use error::{BoxError, Error, Result};
pub use finding::{Fault, Finding, Rule, Severity};
pub use folder_kind::FolderKind;
pub use git_lfs::GitLfsPointer;
pub use image::{ColorSpace, ImageSize, ImageSizes, ImageType};
pub use interface::{AllowedShapes, ArrayType, DefaultValue, Feature, FeatureType, Interface, OtherType};
pub use named_enum::UnknownName;
pub use package::{Description, Metadata, Package, PackageEdit, PackageWriter, model_type};
pub use shape::Shape;
