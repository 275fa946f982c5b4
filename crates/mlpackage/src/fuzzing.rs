//! Entry points of the fuzz targets: the readers of each format, on bytes in memory. Built with `--cfg
//! fuzzing` only.

use prost::Message as _;

use crate::blob::BlobFile;
use crate::manifest::Manifest;
use crate::mil;
use crate::package::{Description, decode_model};
use crate::proto;

/// Reads `Manifest.json`.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse("Manifest.json".as_ref(), bytes) {
        let again = Manifest::parse("Manifest.json".as_ref(), &manifest.to_json());
        assert_eq!(again.expect("what was written can be read").to_json(), manifest.to_json());
    }
}

/// Reads `model.mlmodel`, checks it, prints it and writes it again.
pub fn model(bytes: &[u8]) {
    let Ok(model) = decode_model(bytes) else { return };
    let (program, mut findings) = mil::program_from_proto(model.ml_program.unwrap_or_default());
    let whole = findings.is_empty();
    let ints = mil::BlobInts::default();
    let description = Description::from_proto(model.description.unwrap_or_default(), &program, &mut findings);
    findings.extend(crate::check::program(&program, &ints));
    for finding in &findings {
        assert!(!finding.to_string().is_empty());
    }
    let _ = program.to_string();
    for (name, function) in &program.functions {
        let _ = crate::check::resolve(name, function, &ints);
        let _ = description.interface(name).map(|i| i.differences(function));
    }
    if whole {
        let encoded = mil::program_to_proto(&program).encode_to_vec();
        let message = proto::Program::decode(encoded.as_slice()).expect("what was written can be read");
        let (again, findings) = mil::program_from_proto(message);
        assert!(findings.is_empty());
        // The comparison uses bytes, because NaN is not equal to itself.
        assert_eq!(mil::program_to_proto(&again).encode_to_vec(), encoded);
    }
}

/// Reads a weight file.
pub fn blob(bytes: &[u8]) {
    let Ok(file) = BlobFile::from_bytes(bytes) else { return };
    if let Ok(blobs) = file.blobs() {
        for (offset, blob) in blobs {
            assert_eq!(file.blob(offset).expect("a blob that is listed can be read"), blob);
            let _ = crate::mil::elements::packed_to_f32(blob.dtype, blob.elements, blob.data);
        }
    }
    for offset in (0..=bytes.len() as u64).step_by(64) {
        let _ = file.blob(offset);
    }
}
