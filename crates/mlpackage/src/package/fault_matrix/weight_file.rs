//! Faults in the weight file and in references to it. The record of `w` is at 64, that of `w4`, the last, at
//! 320.

use std::fs;

use super::draft::WEIGHTS;
use super::fault::{Fault, fault};
use crate::finding::Rule;
use crate::mil::{Value, value_to_proto};

pub(super) const FAULTS: &[Fault] = &[
    fault("no weight file", Rule::WeightPath, "weight.bin", |d| {
        fs::remove_dir_all(d.folder.join(WEIGHTS).parent().unwrap()).unwrap();
    }),
    fault("a file without @model_path", Rule::WeightPath, "does not begin with @model_path/", |d| {
        d.blob("w").file_name = "weights/weight.bin".into();
    }),
    fault("a file outside", Rule::WeightPath, "must stay inside", |d| {
        d.blob("w").file_name = "@model_path/../weight.bin".into();
    }),
    fault("a file shorter than its header", Rule::WeightIncomplete, "shorter than its header", |d| {
        d.weights.truncate(63);
    }),
    fault("a folder in place of the file", Rule::WeightIncomplete, "not a regular file", |d| {
        fs::remove_file(d.folder.join(WEIGHTS)).unwrap();
        fs::create_dir(d.folder.join(WEIGHTS)).unwrap();
    }),
    #[cfg(unix)]
    fault("a link that leads outside", Rule::WeightIncomplete, "leads outside", |d| {
        let elsewhere = d.folder.with_extension("weights");
        fs::rename(d.folder.join(WEIGHTS), &elsewhere).unwrap();
        std::os::unix::fs::symlink(elsewhere, d.folder.join(WEIGHTS)).unwrap();
    }),
    fault("a file of the future", Rule::WeightFile, "version 3, expected 2", |d| d.patch(4, &[3])),
    fault("more blobs counted than there are", Rule::WeightFile, "blob 4 of 4", |d| d.patch(0, &[4])),
    fault("fewer blobs counted than there are", Rule::WeightFile, "follows the 2 blobs", |d| {
        d.patch(0, &[2])
    }),
    fault("bytes after the last blob", Rule::WeightLayout, "5 bytes follow the 3 blobs", |d| {
        d.weights.extend([0; 5]);
    }),
    fault("a gap that is not zero", Rule::WeightLayout, "gap before it is not zero", |d| {
        d.patch(64 + 64 + 24, &[1]);
    }),
    fault("a file cut short", Rule::WeightIncomplete, "reach past the file", |d| {
        let len = d.weights.len();
        d.weights.truncate(len - 1);
    }),
    fault("no sentinel", Rule::BlobRecord, "expected 0xdeadbeef", |d| d.patch(64, &[0])),
    fault("the offset of the data", Rule::BlobRecord, "no record here", |d| d.blob("w").offset = 128),
    fault("an offset between two records", Rule::BlobRecord, "multiples of 64", |d| {
        d.blob("w").offset = 65;
    }),
    fault("an offset outside", Rule::WeightIncomplete, "outside the file", |d| d.blob("w").offset = 1 << 40),
    fault("an unknown element type", Rule::BlobRecord, "unknown element type 99", |d| {
        d.patch(68, &[99]);
    }),
    fault("data that are not aligned", Rule::BlobRecord, "not a multiple of 64", |d| d.patch(80, &[129])),
    fault("data outside the file", Rule::WeightIncomplete, "reach past the file", |d| d.patch(86, &[1])),
    fault("too many padding bits", Rule::BlobRecord, "not a whole number of int4", |d| d.patch(344, &[9])),
    fault("padding bits that are not zero", Rule::WeightLayout, "padding bits are not zero", |d| {
        let last = d.weights.len() - 1;
        d.weights[last] |= 0xf0;
    }),
    fault("another element type", Rule::BlobType, "6 elements of fp32", |d| d.patch(68, &[2])),
    fault("another number of elements", Rule::BlobType, "11 elements of fp16", |d| d.patch(72, &[22])),
    fault("the offset of another blob", Rule::BlobType, "9 elements of int8", |d| d.blob("w").offset = 192),
    fault("a blob that nothing uses", Rule::BlobUnused, "used by no constant", |d| {
        let value = Value::fp16s([3, 4, 1, 1], &[half::f16::ONE; 12]);
        *d.constant("w") = value_to_proto(&value);
    }),
];
