//! Weight files that are written, read and damaged.

use std::fs::File;
use std::path::PathBuf;

use super::record::{ALIGNMENT, SENTINEL};
use super::{BlobFile, BlobWriter};
use crate::dtype::DType;

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

/// 4,000 records precede 64 MiB of zeros. If each record searched the zeros again, 256 GB would be read.
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

/// The earlier weights may be in use, or be the only part of a package that is left.
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

/// Returns the error for a file like [`written`]'s with one 8-byte field replaced.
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

/// coremltools 7 leaves reserved fields uninitialized: bytes 24 to 64 of a record for whole-byte types,
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

/// Blobs that are aligned to more than 64 bytes, such as to a memory page.
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
    let mut refused = |dtype, elements, data: &[u8]| w.write(dtype, elements, data).unwrap_err().to_string();
    assert!(refused(DType::Fp16, 3, &[0; 5]).contains("5 bytes given for 3 elements of fp16"));
    assert!(refused(DType::Bool, 1, &[0]).contains("bool cannot be stored in a weight file"));
}
