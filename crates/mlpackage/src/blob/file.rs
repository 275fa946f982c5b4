//! Weight files that are mapped into memory.

#![allow(unsafe_code, reason = "maps a file")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::record::{Damage, Record, VERSION, u32_at};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::files;
use crate::mil::elements;

/// A memory-mapped weight file. Its contents are validated on access. Clones share the map.
#[derive(Clone, Debug)]
pub struct BlobFile {
    pub(super) path: PathBuf,
    pub(super) map: Arc<Mmap>,
}

/// One blob of a [`BlobFile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob<'a> {
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub elements: usize,
    /// The packed elements.
    pub data: &'a [u8],
}

impl Blob<'_> {
    /// Converts elements to f32, beginning with element `start`, until `out` is full. The conversion of types
    /// of up to 16 bits is lossless.
    ///
    /// # Panics
    ///
    /// If the blob has fewer elements, or [its type is not numeric](DType::is_number).
    pub fn read(&self, start: usize, out: &mut [f32]) {
        assert!(start + out.len() <= self.elements, "{} from {start} of {}", out.len(), self.elements);
        elements::read(self.dtype, self.data, start, out);
    }
}

/// A blob that keeps its file mapped. Clones share the map.
#[derive(Clone, Debug)]
pub struct StoredBlob {
    file: BlobFile,
    record: Record,
}

impl StoredBlob {
    /// Returns the blob.
    pub fn blob(&self) -> Blob<'_> {
        self.file.blob_of(&self.record)
    }
}

impl BlobFile {
    /// Maps a weight file and checks its header.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Blob`] if the file is too short or of another version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        files::regular_file_size(path)?;
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        // SAFETY: the map is private to this value and only read. As with every mapped file, a process that
        // truncates the file can cause this process to crash; packages are replaced by rename, never
        // truncated in place.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io("map", path, e))?;
        files::refuse_pointer(path, &map)?;
        Self::check_header(Self { path: path.to_owned(), map: Arc::new(map) })
    }

    /// Creates a weight file in memory.
    #[cfg(fuzzing)]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let path = PathBuf::from("weight.bin");
        let mut map =
            memmap2::MmapMut::map_anon(bytes.len().max(1)).map_err(|e| Error::io("map", &path, e))?;
        map[..bytes.len()].copy_from_slice(bytes);
        let map = map.make_read_only().map_err(|e| Error::io("map", &path, e))?;
        Self::check_header(Self { path, map: Arc::new(map) })
    }

    fn check_header(this: Self) -> Result<Self> {
        let path = this.path.as_path();
        let bad = |is_cut, reason| Error::Blob { path: path.to_owned(), offset: 0, is_cut, reason };
        let short =
            || format!("the file is cut short: {} bytes, shorter than its header of 64", this.map.len());
        let header = this.map.get(..64).ok_or_else(|| bad(true, short()))?;
        let version = u32_at(header, 4);
        if version != VERSION {
            return Err(bad(false, format!("version {version}, expected {VERSION}")));
        }
        Ok(this)
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of blobs according to the header.
    pub fn count(&self) -> u32 {
        u32_at(&self.map, 0)
    }

    /// Returns the contents of the file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.map
    }

    /// Returns the size of the file in bytes.
    pub fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// Returns every blob that the header counts, with the offset of its record, in file order.
    ///
    /// # Errors
    ///
    /// [`Error::Blob`] if a counted record is missing or damaged, or if there are more records than the
    /// header counts.
    pub fn blobs(&self) -> Result<Vec<(u64, Blob<'_>)>> {
        self.contents().map(|contents| contents.blobs)
    }

    /// Returns the blob whose record is at `offset`.
    ///
    /// # Errors
    ///
    /// [`Error::Blob`] if there is no record, it points outside the file, or its fields are inconsistent.
    pub fn blob(&self, offset: u64) -> Result<Blob<'_>> {
        self.record(offset).map(|record| self.blob_of(&record))
    }

    /// Returns the blob whose record is at `offset`, as a value that keeps the file mapped.
    ///
    /// # Errors
    ///
    /// As [`blob`](Self::blob).
    pub fn stored(&self, offset: u64) -> Result<StoredBlob> {
        Ok(StoredBlob { file: self.clone(), record: self.record(offset)? })
    }

    /// Returns the offset of the data of the blob whose record is at `offset`.
    pub(crate) fn data_offset(&self, offset: u64) -> Result<u64> {
        self.record(offset).map(|record| record.data.start)
    }

    /// Returns the record at `offset`.
    pub(super) fn record(&self, offset: u64) -> Result<Record> {
        Record::read(&self.map, offset).map_err(|Damage { is_cut, reason }| Error::Blob {
            path: self.path.clone(),
            offset,
            is_cut,
            reason,
        })
    }

    /// Returns the blob that a record of this file describes.
    pub(super) fn blob_of(&self, record: &Record) -> Blob<'_> {
        let data = &self.map[record.data.start as usize..record.data.end as usize];
        Blob { dtype: record.dtype, elements: record.elements, data }
    }
}
