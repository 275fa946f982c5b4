//! Faults in the folder, the manifest and the model as a whole.

use std::fs;

use super::draft::WEIGHTS;
use super::fault::{Fault, fault, in_fixture, refused};
use crate::finding::Rule;
use crate::proto;

pub(super) const FAULTS: &[Fault] = &[
    refused("no manifest", "Manifest.json", |d| fs::remove_file(d.folder.join("Manifest.json")).unwrap()),
    refused("manifest that is not JSON", "Manifest.json", |d| {
        fs::write(d.folder.join("Manifest.json"), "{").unwrap();
    }),
    refused("manifest of the future", "fileFormatVersion 2.0.0", |d| d.manifest("1.0.0", "2.0.0")),
    refused("manifest with an invalid version", "is not a version", |d| d.manifest("1.0.0", "one")),
    refused("manifest without entries", "itemInfoEntries", |d| d.manifest("itemInfoEntries", "items")),
    refused("entry without an author", "author", |d| d.manifest("\"author\"", "\"writer\"")),
    refused("root model not listed", "is not among itemInfoEntries", |d| {
        let path = d.folder.join("Manifest.json");
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json["rootModelIdentifier"] = "another".into();
        fs::write(path, json.to_string()).unwrap();
    }),
    refused("model path that leads outside", "must stay inside", |d| {
        d.manifest("com.apple.CoreML/model.mlmodel", "../../model.mlmodel");
    }),
    refused("model path that leads nowhere", "missing.mlmodel", |d| {
        d.manifest("com.apple.CoreML/model.mlmodel", "com.apple.CoreML/missing.mlmodel");
    }),
    refused("no description", "it has no description", |d| d.model.description = None),
    refused("no program", "it holds no ML Program", |d| d.model.ml_program = None),
    fault("an item that nothing needs", Rule::ManifestItemUnneeded, "Data/com.apple.CoreML/tables", |d| {
        d.manifest("com.apple.CoreML/weights", "com.apple.CoreML/tables");
    }),
    fault("an item that a constant needs", Rule::ManifestItem, "Data/com.apple.CoreML/weights", |d| {
        fs::remove_dir_all(d.folder.join(WEIGHTS).parent().unwrap()).unwrap();
    }),
    fault("an item outside the package", Rule::ManifestItem, "must stay inside", |d| {
        d.manifest("com.apple.CoreML/weights", "../../weights");
    }),
    in_fixture("control_flow", "a folder of no weights", Rule::ManifestItemUnneeded, "weights", |d| {
        d.list("com.apple.CoreML/weights");
    }),
    fault("weights not in the manifest", Rule::WeightsUnlisted, "does not list", |d| {
        d.manifest("com.apple.CoreML/weights", "com.apple.CoreML/model.mlmodel");
    }),
    fault("specification too old", Rule::SpecificationVersion, "needs specificationVersion 9", |d| {
        d.model.specification_version = 8;
    }),
    fault("a specification of the future", Rule::SpecificationVersion, "is 11, known are 6 to 10", |d| {
        d.model.specification_version = 11;
    }),
    fault("program version 2", Rule::ProgramVersion, "version 2", |d| d.program().version = 2),
    fault("no functions", Rule::FunctionDescription, "no functions", |d| d.program().functions.clear()),
    fault("an unknown opset", Rule::Opset, "\"CoreML4\"", |d| d.function().opset = "CoreML4".into()),
    fault("no block for the opset", Rule::Block, "no block for its opset", |d| {
        let block = d.function().block_specializations.remove("CoreML8").unwrap();
        d.function().block_specializations.insert("CoreML7".into(), block);
    }),
    fault("a second block", Rule::Block, "CoreML9 in addition", |d| {
        d.function().block_specializations.insert("CoreML9".into(), proto::Block::default());
    }),
];
