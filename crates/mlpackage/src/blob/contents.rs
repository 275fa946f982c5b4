//! The blobs that a weight file holds, and how its layout deviates from the usual one.

use std::ops::Range;

use super::file::{Blob, BlobFile};
use super::record::{ALIGNMENT, SENTINEL};
use crate::error::{Error, Result};

/// The contents of a [`BlobFile`].
#[derive(Debug, Default)]
pub(crate) struct Contents<'a> {
    /// Every blob that the header counts, with the offset of its record.
    pub(crate) blobs: Vec<(u64, Blob<'a>)>,
    /// Deviations from coremltools' layout, each with its offset. They do not affect the value of any
    /// constant.
    pub(crate) unusual: Vec<(u64, String)>,
}

impl BlobFile {
    /// Returns the same as [`blobs`](Self::blobs), and the deviations from the usual layout.
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
            let record = self.record(offset).map_err(|error| match error {
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
            let (start, padding, blob) = (record.data.start, record.padding_bits(), self.blob_of(&record));
            if start != offset + ALIGNMENT {
                unusual(format!("its data are at {start}, not after its record"));
            }
            if padding > 0 && blob.data.last().is_some_and(|last| last >> (8 - padding) != 0) {
                unusual(format!("its {padding} padding bits are not zero"));
            }
            record_end = offset + ALIGNMENT;
            end = end.max(record_end).max(record.data.end);
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
}
