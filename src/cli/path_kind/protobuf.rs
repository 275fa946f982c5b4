//! Recognizes ONNX and Core ML models, which have no magic bytes, by the fields of their protobuf message.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};

use super::PathKind::{self, *};

/// Limit of the fields of a protobuf message that are examined.
const FIELDS: usize = 64;

/// Recognizes ONNX and Core ML models, which have no magic bytes. Both begin with a small version in field 1.
/// Then `ModelProto` of ONNX has its graph in field 7, and `Model` of Core ML its model in a field from 200
/// on.
pub(super) fn kind_of(file: &mut BufReader<File>, len: u64) -> io::Result<Option<PathKind>> {
    file.rewind()?;
    let mut at = 0;
    for index in 0..FIELDS {
        let Some(tag) = varint(file, &mut at)? else { return Ok(None) };
        let (field, wire) = (tag >> 3, tag & 7);
        match (index, field, wire) {
            (0, 1, 0) => match varint(file, &mut at)? {
                Some(1..=64) => continue,
                _ => return Ok(None),
            },
            (0, ..) => return Ok(None),
            (_, 7, 2) => return Ok(Some(Onnx)),
            (_, 200.., 2) => return Ok(mlpackage::model_type(field).map(|_| MlModel { field })),
            _ => {}
        }
        let skipped = match wire {
            0 => varint(file, &mut at)?.map(|_| 0),
            1 => Some(8),
            2 => varint(file, &mut at)?,
            5 => Some(4),
            _ => None,
        };
        let next = skipped.and_then(|skipped| at.checked_add(skipped)).filter(|next| *next < len);
        let Some(next) = next else { return Ok(None) };
        file.seek(SeekFrom::Start(next))?;
        at = next;
    }
    Ok(None)
}

/// Reads a varint of protobuf; `None` at the end of the file, or if the bytes are not a varint.
fn varint(file: &mut BufReader<File>, at: &mut u64) -> io::Result<Option<u64>> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        if file.read(&mut byte)? == 0 {
            return Ok(None);
        }
        *at += 1;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn kind(bytes: &[u8]) -> PathKind {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, bytes).unwrap();
        PathKind::of(&path).unwrap()
    }

    /// `ir_version`, `producer_name`, `graph` of ONNX; `specificationVersion`, an empty `description` and the
    /// field of an ML Program or a neural network of Core ML. A graph larger than the read buffer is skipped,
    /// not read.
    #[test]
    fn models_without_magic_bytes_are_recognized_by_their_fields() {
        assert_eq!(kind(b"\x08\x08\x12\x07pytorch\x3a\x01\x00"), Onnx);
        assert_eq!(kind(b"\x08\x09\x12\x00\xb2\x1f\x01\x00"), MlModel { field: 502 });
        let mut large = b"\x08\x04\x12\x80\x80\x01".to_vec();
        large.extend([0; 16_384]);
        large.extend(b"\xa2\x1f\x00\x00");
        assert_eq!(kind(&large), MlModel { field: 500 });
        assert_eq!(kind(&large[..8_000]), UnknownFile);
        assert!(PathKind::MlModel { field: 500 }.to_string().contains("a neural network"));
    }
}
