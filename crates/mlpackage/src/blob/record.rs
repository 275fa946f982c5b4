//! The header of a weight file, and the records that describe its blobs.

use std::ops::Range;

use crate::dtype::DType;

/// Records and data begin at multiples of this many bytes, which is also the size of the header and of a record.
pub(super) const ALIGNMENT: u64 = 64;
/// The first field of every record.
pub(super) const SENTINEL: u32 = 0xDEAD_BEEF;
/// The version of the format.
pub(super) const VERSION: u32 = 2;

/// Returns the header of a file of `count` blobs.
pub(super) fn header(count: u32) -> [u8; 64] {
    let mut header = [0u8; 64];
    header[..4].copy_from_slice(&count.to_le_bytes());
    header[4..8].copy_from_slice(&VERSION.to_le_bytes());
    header
}

/// The record of one blob.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) dtype: DType,
    pub(super) elements: usize,
    /// The bytes of the file that hold the packed elements.
    pub(super) data: Range<u64>,
}

/// Why no record can be read.
pub(super) struct Damage {
    /// Whether the record, or its data, are outside the file.
    pub(super) is_cut: bool,
    pub(super) reason: String,
}

impl Record {
    /// Returns the number of bits of the last byte that belong to no element.
    pub(super) fn padding_bits(&self) -> u64 {
        (self.data.end - self.data.start) * 8 - (self.elements * self.dtype.bits()) as u64
    }

    /// Encodes the record; `element_type` is the number of its element type.
    pub(super) fn to_bytes(&self, element_type: u32) -> [u8; 64] {
        let padding_bits = if self.dtype.bits() < 8 { self.padding_bits() } else { 0 };
        let mut record = [0u8; 64];
        record[..4].copy_from_slice(&SENTINEL.to_le_bytes());
        record[4..8].copy_from_slice(&element_type.to_le_bytes());
        record[8..16].copy_from_slice(&(self.data.end - self.data.start).to_le_bytes());
        record[16..24].copy_from_slice(&self.data.start.to_le_bytes());
        record[24..32].copy_from_slice(&padding_bits.to_le_bytes());
        record
    }

    /// Decodes the record at `offset` of a file, and checks that its data are inside the file.
    pub(super) fn read(file: &[u8], offset: u64) -> Result<Self, Damage> {
        let bad = |reason: String| Damage { is_cut: false, reason };
        let cut = |reason: String| {
            let reason = format!("{reason}: it is cut short, or the offset is wrong");
            Damage { is_cut: true, reason }
        };
        let len = file.len() as u64;
        if !offset.is_multiple_of(ALIGNMENT) || offset < ALIGNMENT {
            return Err(bad(format!("records are at multiples of {ALIGNMENT}, beginning at {ALIGNMENT}")));
        }
        if offset.checked_add(ALIGNMENT).is_none_or(|end| end > len) {
            return Err(cut(format!("outside the file of {len} bytes")));
        }
        let record = &file[offset as usize..(offset + ALIGNMENT) as usize];
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
        // For whole-byte types the field is reserved, and coremltools before version 8 left it uninitialized.
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
        Ok(Self { dtype, elements: (bits / dtype.bits() as u64) as usize, data: start..start + size })
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}
