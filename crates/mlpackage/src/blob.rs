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
//! before version 8 left the reserved fields uninitialised, which for whole-byte types include the padding
//! bits (`struct blob_metadata` in coremltools' `mlmodel/src/MILBlob/Blob/StorageFormat.hpp`). Other writers
//! align blobs to memory pages.

#![allow(unsafe_code, reason = "maps a file")]

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::files;
use crate::mil::BlobInts;
use crate::mil::elements;

const ALIGNMENT: u64 = 64;
const SENTINEL: u32 = 0xDEAD_BEEF;
const VERSION: u32 = 2;

/// The name by which a program refers to the package's weight file.
pub(crate) const WEIGHT_BLOB_NAME: &str = "@model_path/weights/weight.bin";

/// Writes a weight file blob by blob. Memory use depends on the largest tensor, not on the model.
#[derive(Debug)]
pub struct BlobWriter {
    path: PathBuf,
    file: BufWriter<File>,
    position: u64,
    count: u32,
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
            count: 0,
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
        let padding_bits = if dtype.bits() < 8 { data.len() * 8 - elements * dtype.bits() } else { 0 };
        let mut record = [0u8; 64];
        record[..4].copy_from_slice(&SENTINEL.to_le_bytes());
        record[4..8].copy_from_slice(&number.to_le_bytes());
        record[8..16].copy_from_slice(&(data.len() as u64).to_le_bytes());
        record[16..24].copy_from_slice(&(offset + ALIGNMENT).to_le_bytes());
        record[24..32].copy_from_slice(&(padding_bits as u64).to_le_bytes());
        let gap = (offset - self.position) as usize;
        self.put(&[0u8; ALIGNMENT as usize][..gap])?;
        self.put(&record)?;
        self.put(data)?;
        self.count += 1;
        Ok(offset)
    }

    /// Writes the number of blobs into the header and closes the file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], for example if the disk is full.
    pub fn finish(mut self) -> Result<()> {
        let io = |e| Error::io("write", &self.path, e);
        self.file.seek(SeekFrom::Start(0)).map_err(io)?;
        self.file.write_all(&header(self.count)).map_err(io)?;
        self.file.flush().map_err(io)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

fn header(count: u32) -> [u8; 64] {
    let mut header = [0u8; 64];
    header[..4].copy_from_slice(&count.to_le_bytes());
    header[4..8].copy_from_slice(&VERSION.to_le_bytes());
    header
}

/// A memory-mapped weight file. Its contents are validated on access. Clones share the map.
#[derive(Clone, Debug)]
pub struct BlobFile {
    path: PathBuf,
    map: Arc<Mmap>,
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
    /// Returns the number of bits of the last byte that belong to no element.
    fn padding_bits(&self) -> usize {
        self.data.len() * 8 - self.elements * self.dtype.bits()
    }

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

/// The contents of a [`BlobFile`].
#[derive(Debug, Default)]
pub(crate) struct Contents<'a> {
    /// Every blob that the header counts, with the offset of its record.
    pub(crate) blobs: Vec<(u64, Blob<'a>)>,
    /// Deviations from coremltools' layout, each with its offset. They do not affect the value of any
    /// constant.
    pub(crate) unusual: Vec<(u64, String)>,
}

/// A blob that keeps its file mapped. Clones share the map.
#[derive(Clone, Debug)]
pub struct StoredBlob {
    file: BlobFile,
    dtype: DType,
    elements: usize,
    range: Range<usize>,
}

impl StoredBlob {
    /// Returns the blob.
    pub fn blob(&self) -> Blob<'_> {
        let data = &self.file.map[self.range.clone()];
        Blob { dtype: self.dtype, elements: self.elements, data }
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

    /// As [`blobs`](Self::blobs), with deviations from the usual layout.
    pub(crate) fn contents(&self) -> Result<Contents<'_>> {
        let mut contents = Contents::default();
        // The end of the last record, and the end of all data so far.
        let (mut record_end, mut end) = (ALIGNMENT, ALIGNMENT);
        let (mut ahead, mut behind) = (0..0, 0..0);
        for _ in 0..self.count() {
            let expected = end.next_multiple_of(ALIGNMENT);
            let found =
                self.record_from(expected, &mut ahead).or_else(|| self.record_from(record_end, &mut behind));
            let offset = found.unwrap_or(expected);
            let blob = self.blob(offset).map_err(|error| match error {
                Error::Blob { path, reason, is_cut, .. } => {
                    let number = contents.blobs.len() + 1;
                    let reason = format!("{reason}; this is blob {number} of {}", self.count());
                    // Without a record, the count may be wrong instead.
                    let is_cut = is_cut && found.is_some();
                    Error::Blob { path, offset, is_cut, reason }
                }
                other => other,
            })?;
            let mut unusual = |reason: String| contents.unusual.push((offset, reason));
            match self.map.get(end as usize..offset as usize) {
                Some(gap) if gap.iter().any(|&b| b != 0) => unusual("the gap before it is not zero".into()),
                _ if offset != expected => unusual(format!("it was expected at offset {expected}")),
                _ => {}
            }
            let (start, padding) = (self.data_offset(offset)?, blob.padding_bits());
            if start != offset + ALIGNMENT {
                unusual(format!("its data are at {start}, not after its record"));
            }
            if padding > 0 && blob.data.last().is_some_and(|last| last >> (8 - padding) != 0) {
                unusual(format!("its {padding} padding bits are not zero"));
            }
            record_end = offset + ALIGNMENT;
            end = end.max(record_end).max(start + blob.data.len() as u64);
            contents.blobs.push((offset, blob));
        }
        let bad =
            |offset, reason| Err(Error::Blob { path: self.path.clone(), offset, is_cut: false, reason });
        if let Some(offset) = self.record_from(end.next_multiple_of(ALIGNMENT), &mut ahead) {
            return bad(offset, format!("a record follows the {} blobs that are counted", self.count()));
        }
        if end < self.bytes() {
            let reason =
                format!("{} bytes follow the {} blobs that are counted", self.bytes() - end, self.count());
            contents.unusual.push((end, reason));
        }
        Ok(contents)
    }

    /// Finds the first record at or after `offset`, at a multiple of 64, provided that only zeros precede it. `zeros`
    /// remembers the zeros that the last search passed: a damaged file may have long runs of them, and many records.
    fn record_from(&self, offset: u64, zeros: &mut Range<usize>) -> Option<u64> {
        let start = usize::try_from(offset).ok()?;
        let rest = self.map.get(start..)?;
        if !zeros.contains(&start) {
            *zeros = start..start + rest.iter().position(|&b| b != 0).unwrap_or(rest.len());
        }
        let found = offset + (zeros.end - start) as u64 / ALIGNMENT * ALIGNMENT;
        let begins = self.map[found as usize..].starts_with(&SENTINEL.to_le_bytes());
        begins.then_some(found)
    }

    /// Returns the blob whose record is at `offset`, as a value that keeps the file mapped.
    ///
    /// # Errors
    ///
    /// As [`blob`](Self::blob).
    pub fn stored(&self, offset: u64) -> Result<StoredBlob> {
        let blob = self.blob(offset)?;
        let start = u64_at(&self.map, offset as usize + 16) as usize;
        let range = start..start + blob.data.len();
        Ok(StoredBlob { file: self.clone(), dtype: blob.dtype, elements: blob.elements, range })
    }

    /// Returns the offset of the data of the blob whose record is at `offset`.
    pub(crate) fn data_offset(&self, offset: u64) -> Result<u64> {
        self.blob(offset).map(|_| u64_at(&self.map, offset as usize + 16))
    }

    /// Returns the blob whose record is at `offset`.
    ///
    /// # Errors
    ///
    /// [`Error::Blob`] if there is no record, it points outside the file, or its fields are inconsistent.
    pub fn blob(&self, offset: u64) -> Result<Blob<'_>> {
        let error = |is_cut, reason| Error::Blob { path: self.path.clone(), offset, is_cut, reason };
        let bad = |reason: String| error(false, reason);
        let cut = |reason: String| error(true, format!("{reason}: it is cut short, or the offset is wrong"));
        let len = self.map.len() as u64;
        if !offset.is_multiple_of(ALIGNMENT) || offset < ALIGNMENT {
            return Err(bad(format!("records are at multiples of {ALIGNMENT}, beginning at {ALIGNMENT}")));
        }
        if offset.checked_add(ALIGNMENT).is_none_or(|end| end > len) {
            return Err(cut(format!("outside the file of {len} bytes")));
        }
        let record = &self.map[offset as usize..(offset + ALIGNMENT) as usize];
        let sentinel = u32_at(record, 0);
        if sentinel != SENTINEL {
            return Err(bad(format!("no record here: found {sentinel:#010x}, expected {SENTINEL:#010x}")));
        }
        let number = u32_at(record, 4);
        let dtype =
            DType::from_blob_number(number).ok_or_else(|| bad(format!("unknown element type {number}")))?;
        let (size, start, padding) = (u64_at(record, 8), u64_at(record, 16), u64_at(record, 24));
        if start % ALIGNMENT != 0 {
            return Err(bad(format!("data at {start}, not a multiple of {ALIGNMENT}")));
        }
        if start.checked_add(size).is_none_or(|end| end > len) {
            return Err(cut(format!("data of {size} bytes at {start} reach past the file of {len} bytes")));
        }
        // For whole-byte types the field is reserved, and coremltools before version 8 left it uninitialised.
        let padding = if dtype.bits() < 8 { padding } else { 0 };
        let bits = size
            .checked_mul(8)
            .and_then(|bits| bits.checked_sub(padding))
            .filter(|bits| padding < 8 && bits % dtype.bits() as u64 == 0)
            .ok_or_else(|| {
                bad(format!(
                    "{size} bytes with {padding} padding bits are not a whole number of {dtype} elements"
                ))
            })?;
        let data = &self.map[start as usize..(start + size) as usize];
        Ok(Blob { dtype, elements: (bits / dtype.bits() as u64) as usize, data })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (tempfile::TempDir, PathBuf, Vec<u64>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weight.bin");
        let mut w = BlobWriter::create(&path).unwrap();
        let offsets = vec![
            w.write(DType::Fp16, 3, &[0, 0x3c, 0, 0xc0, 1, 0]).unwrap(),
            // The bytes that coremltools 9.0 writes for int4 [-8, -1, 7, 1, 2].
            w.write(DType::Int4, 5, &[0xf8, 0x17, 0x02]).unwrap(),
        ];
        w.finish().unwrap();
        (dir, path, offsets)
    }

    /// 4,000 records before 64 MiB of zeros: a search of the zeros for each record would read 256 GB.
    #[test]
    fn a_long_run_of_zeros_is_searched_once() {
        const RECORDS: u32 = 4_000;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weight.bin");
        let data = ALIGNMENT * u64::from(RECORDS + 1);
        let mut bytes = vec![0; data as usize];
        bytes[..4].copy_from_slice(&RECORDS.to_le_bytes());
        bytes[4..8].copy_from_slice(&2u32.to_le_bytes());
        for record in bytes[ALIGNMENT as usize..].chunks_exact_mut(ALIGNMENT as usize) {
            record[..4].copy_from_slice(&SENTINEL.to_le_bytes());
            record[4..8].copy_from_slice(&1u32.to_le_bytes());
            record[8..16].copy_from_slice(&2u64.to_le_bytes());
            record[16..24].copy_from_slice(&data.to_le_bytes());
        }
        std::fs::write(&path, bytes).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(data + (64 << 20)).unwrap();
        let file = BlobFile::open(&path).unwrap();
        assert_eq!(file.blobs().unwrap().len(), RECORDS as usize);
    }

    /// The old weights may be in use, or be all that is left of a package.
    #[test]
    fn an_existing_file_is_never_truncated() {
        let (_dir, path, _) = written();
        let before = std::fs::read(&path).unwrap();
        assert!(BlobWriter::create(&path).unwrap_err().to_string().contains("exists"));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn bytes_are_as_coremltools_lays_them_out() {
        let (_dir, path, offsets) = written();
        assert_eq!(offsets, [64, 192]);
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes.len(), 192 + 64 + 3, "nothing follows the last blob");
        assert_eq!(&bytes[..8], &[2, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(&bytes[64..72], &[0xef, 0xbe, 0xad, 0xde, 1, 0, 0, 0]);
        assert_eq!(&bytes[72..80], &6u64.to_le_bytes());
        assert_eq!(&bytes[80..88], &128u64.to_le_bytes());
        assert_eq!(&bytes[216..224], &4u64.to_le_bytes(), "padding bits of five int4");
        assert!(bytes[134..192].iter().all(|&b| b == 0));
    }

    #[test]
    fn reads_back_what_was_written() {
        let (_dir, path, offsets) = written();
        let file = BlobFile::open(&path).unwrap();
        assert_eq!(file.count(), 2);
        let blob = file.blob(offsets[1]).unwrap();
        assert_eq!((blob.dtype, blob.elements, blob.data), (DType::Int4, 5, &[0xf8, 0x17, 0x02][..]));
    }

    /// A file like [`written`]'s with one 8-byte field replaced.
    fn damaged(at: usize, value: u64) -> String {
        let (_dir, path, offsets) = written();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        BlobFile::open(&path).and_then(|f| f.blob(offsets[1]).map(|_| ())).unwrap_err().to_string()
    }

    #[test]
    fn size_past_the_end() {
        assert!(damaged(200, 4).contains("reach past the file"));
    }

    #[test]
    fn size_overflow() {
        assert!(damaged(200, u64::MAX).contains("reach past the file"));
    }

    #[test]
    fn data_offset_unaligned() {
        assert!(damaged(208, 257).contains("not a multiple of 64"));
    }

    #[test]
    fn sentinel_missing() {
        assert!(damaged(192, 8 << 32).contains("no record here"));
    }

    #[test]
    fn element_type_unknown() {
        assert!(damaged(192, 99 << 32 | 0xDEAD_BEEF).contains("unknown element type 99"));
    }

    #[test]
    fn padding_too_large() {
        assert!(damaged(216, 9).contains("not a whole number of int4"));
    }

    /// coremltools 7 leaves reserved fields uninitialised: bytes 24 to 64 of a record for whole-byte types,
    /// 32 to 64 for the others, and 8 to 64 of the header.
    #[test]
    fn reserved_fields_mean_nothing() {
        let (_dir, path, offsets) = written();
        let mut bytes = std::fs::read(&path).unwrap();
        for range in [8..64, 64 + 24..64 + 64, 192 + 32..192 + 64] {
            bytes[range].fill(0xa5);
        }
        std::fs::write(&path, &bytes).unwrap();
        let file = BlobFile::open(&path).unwrap();
        let blob = file.blob(offsets[0]).unwrap();
        assert_eq!((blob.dtype, blob.elements, blob.data), (DType::Fp16, 3, &[0, 0x3c, 0, 0xc0, 1, 0][..]));
        let blob = file.blob(offsets[1]).unwrap();
        assert_eq!((blob.dtype, blob.elements, blob.data), (DType::Int4, 5, &[0xf8, 0x17, 0x02][..]));
        let contents = file.contents().unwrap();
        assert_eq!((contents.blobs.len(), contents.unusual.len()), (2, 0));
    }

    /// Covers every whole-byte type. All bits of the field that holds the padding of sub-byte types are set.
    #[test]
    fn only_smaller_types_have_padding_bits() {
        for &dtype in DType::ALL.iter().filter(|d| d.blob_number().is_some() && d.bits() >= 8) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("weight.bin");
            let mut w = BlobWriter::create(&path).unwrap();
            let offset = w.write(dtype, 3, &vec![7; 3 * dtype.bits() / 8]).unwrap();
            w.finish().unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[offset as usize + 24..offset as usize + 32].fill(0xff);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(BlobFile::open(&path).unwrap().blob(offset).unwrap().elements, 3, "{dtype}");
        }
    }

    /// Returns the deviations found in a file like [`written`]'s after `change`; both blobs must stay
    /// readable.
    fn unusual(change: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
        let (_dir, path, _) = written();
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        let file = BlobFile::open(&path).unwrap();
        let contents = file.contents().unwrap();
        let data: Vec<_> = contents.blobs.iter().map(|(_, blob)| blob.data[0]).collect();
        assert_eq!(data, [0, 0xf8]);
        contents.unusual.into_iter().map(|(_, reason)| reason).collect()
    }

    #[test]
    fn bytes_between_blobs_are_unusual_and_no_error() {
        assert_eq!(unusual(|_| ()), Vec::<String>::new());
        assert_eq!(unusual(|b| b[150] = 1), ["the gap before it is not zero"]);
        assert_eq!(unusual(|b| b[258] |= 0xf0), ["its 4 padding bits are not zero"]);
        assert_eq!(unusual(|b| b.extend([0; 5])), ["5 bytes follow the 2 blobs that are counted"]);
    }

    /// Blobs with an alignment of more than 64 bytes, such as a memory page.
    #[test]
    fn a_wider_gap_is_unusual_and_no_error() {
        let moved = unusual(|bytes| {
            let mut record = bytes.split_off(192);
            record[16..24].copy_from_slice(&(4096u64 + 64).to_le_bytes());
            bytes.resize(4096, 0);
            bytes.extend(record);
        });
        assert_eq!(moved, ["it was expected at offset 192"]);
    }

    /// Adjacent records, followed by the data of all of them.
    #[test]
    fn data_away_from_their_record_are_unusual_and_no_error() {
        let moved = unusual(|bytes| {
            let second = bytes[192..256].to_vec();
            let data = [bytes[128..134].to_vec(), vec![0; 58], bytes[256..].to_vec()].concat();
            bytes.truncate(128);
            bytes.extend(second);
            bytes.extend(data);
            bytes[80..88].copy_from_slice(&192u64.to_le_bytes());
            bytes[128 + 16..128 + 24].copy_from_slice(&256u64.to_le_bytes());
        });
        let expected = [
            "its data are at 192, not after its record",
            "it was expected at offset 256",
            "its data are at 256, not after its record",
        ];
        assert_eq!(moved, expected);
    }

    #[test]
    fn a_record_that_is_not_counted() {
        let (_dir, path, _) = written();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[0] = 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = BlobFile::open(&path).unwrap().blobs().unwrap_err().to_string();
        assert!(error.contains("offset 192: a record follows the 1 blobs that are counted"), "{error}");
    }

    #[test]
    fn version_of_the_future() {
        assert!(damaged(0, 3 << 32).contains("version 3"));
    }

    #[test]
    fn shorter_than_its_header() {
        let (_dir, path, _) = written();
        std::fs::write(&path, [0u8; 10]).unwrap();
        assert!(BlobFile::open(&path).unwrap_err().to_string().contains("10 bytes"));
    }

    #[test]
    fn record_outside_the_file() {
        let (_dir, path, _) = written();
        let file = BlobFile::open(&path).unwrap();
        for (offset, reason) in [
            (0, "records are at multiples of 64"),
            (63, "records are at multiples of 64"),
            (256, "outside the file"),
            (1 << 40, "outside the file"),
            (u64::MAX - 63, "outside the file"),
        ] {
            let error = file.blob(offset).unwrap_err().to_string();
            assert!(error.contains(reason), "{offset}: {error}");
        }
    }

    #[test]
    fn element_count_must_fit_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let mut w = BlobWriter::create(dir.path().join("w")).unwrap();
        let mut refused =
            |dtype, elements, data: &[u8]| w.write(dtype, elements, data).unwrap_err().to_string();
        assert!(refused(DType::Fp16, 3, &[0; 5]).contains("5 bytes given for 3 elements of fp16"));
        assert!(refused(DType::Bool, 1, &[0]).contains("bool cannot be stored in a weight file"));
    }
}
