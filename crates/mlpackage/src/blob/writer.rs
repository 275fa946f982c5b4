//! Writing of weight files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::record::{ALIGNMENT, Record, header};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::mil::BlobInts;

/// Writes a weight file blob by blob. Memory use depends on the largest tensor, not on the model.
#[derive(Debug)]
pub struct BlobWriter {
    path: PathBuf,
    file: BufWriter<File>,
    position: u64,
    /// The type and the number of the elements of each blob, by offset.
    blobs: BTreeMap<u64, (DType, usize)>,
    /// Written integer constants, which the checker needs to infer shapes.
    pub(crate) ints: BlobInts,
}

impl BlobWriter {
    /// Creates the file, with a header that counts no blobs yet. Never truncates an existing file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file already exists or cannot be created.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::create_new(path).map_err(|e| Error::io("create", path, e))?;
        let mut writer = Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 20, file),
            position: 0,
            blobs: BTreeMap::new(),
            ints: BlobInts::default(),
        };
        writer.put(&header(0))?;
        Ok(writer)
    }

    /// Appends `elements` packed elements of `dtype` and returns the offset of their record.
    ///
    /// # Errors
    ///
    /// [`Error::Blob`] if `dtype` cannot be stored or `data` does not have the size of `elements` packed
    /// elements; [`Error::Io`].
    pub fn write(&mut self, dtype: DType, elements: usize, data: &[u8]) -> Result<u64> {
        let offset = self.position.next_multiple_of(ALIGNMENT);
        let bad = |reason| Error::Blob { path: self.path.clone(), offset, is_cut: false, reason };
        let number =
            dtype.blob_number().ok_or_else(|| bad(format!("{dtype} cannot be stored in a weight file")))?;
        if dtype.packed_bytes(elements) != Some(data.len()) {
            return Err(bad(format!("{} bytes given for {elements} elements of {dtype}", data.len())));
        }
        let start = offset + ALIGNMENT;
        let record = Record { dtype, elements, data: start..start + data.len() as u64 }.to_bytes(number);
        let gap = (offset - self.position) as usize;
        self.put(&[0u8; ALIGNMENT as usize][..gap])?;
        self.put(&record)?;
        self.put(data)?;
        self.blobs.insert(offset, (dtype, elements));
        Ok(offset)
    }

    /// Returns the type and the number of the elements of the blob at `offset`.
    pub(crate) fn written(&self, offset: u64) -> Option<(DType, usize)> {
        self.blobs.get(&offset).copied()
    }

    /// Writes the number of blobs into the header and closes the file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], for example if the disk is full.
    pub fn finish(mut self) -> Result<()> {
        let io = |e| Error::io("write", &self.path, e);
        self.file.seek(SeekFrom::Start(0)).map_err(io)?;
        self.file.write_all(&header(self.blobs.len() as u32)).map_err(io)?;
        self.file.flush().map_err(io)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}
