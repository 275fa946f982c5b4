//! MIL blob storage, version 2: the format of a package's weight files.
//!
//! ```text
//! 0    u32 number of blobs, u32 version = 2, 7 x u64 reserved                  64-byte header
//!      for every blob, at the next multiple of 64:
//! +0   u32 0xDEADBEEF, u32 element type, u64 bytes, u64 absolute offset of the data,
//!      u64 padding bits (sub-byte types only), 4 x u64 reserved                64-byte record
//! +64  the data; the gap up to the next multiple of 64 is zero, and nothing follows the last blob
//! ```
//!
//! Everything is little endian. A program refers to a blob by the offset of its *record*.
//!
//! [`BlobWriter`] writes zeros to reserved fields and gaps, but a reader must not rely on them. coremltools
//! before version 8 left the reserved fields uninitialized, which for whole-byte types include the padding
//! bits (`struct blob_metadata` in coremltools' `mlmodel/src/MILBlob/Blob/StorageFormat.hpp`). Other writers
//! align blobs to memory pages.

mod contents;
mod file;
mod record;
#[cfg(test)]
mod tests;
mod writer;

pub use file::{Blob, BlobFile, StoredBlob};
pub use writer::BlobWriter;

/// The name by which a program refers to the package's weight file.
pub(crate) const WEIGHT_BLOB_NAME: &str = "@model_path/weights/weight.bin";
