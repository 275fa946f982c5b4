//! Findings for what the format allows and Core ML is reported to refuse are counted separately and block
//! nothing.

use std::path::Path;

use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Opset, Program, Value};
use mlpackage::{DType, Metadata, PackageWriter};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};

use crate::common::command::{microgpt, ok};

/// Writes `y = scale * x` for int8 `x`, with a scale for each of three channels, the second of which is
/// negative.
fn write(folder: &Path) {
    let mut writer = PackageWriter::create(folder.join("p.mlpackage")).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML7, writer.weights());
    let x = f.input("x", DType::Fp32, [1, 3]).unwrap();
    let whole = f.op("cast", "whole").arg("x", &x).value("dtype", Value::string("int8")).one().unwrap();
    let scale = Value::fp32s([3], [0.5, -0.25, 2.0]);
    let y = f.op("dequantize", "y").arg("input", &whole).value("scale", scale).value("axis", Value::int(1));
    let y = y.one().unwrap();
    f.output(&y);
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();
}

#[test]
fn a_reported_refusal_is_counted_apart_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir);
    let text = ok(dir, &["inspect", "--check", "p.mlpackage"]);
    let reason =
        "refused[refused-scale]: function main, operation dequantize -> %y: argument scale holds -0.25 at 1";
    for words in [reason, "webnn issue 822", "p.mlpackage: 0 errors, 0 warnings, 1 reported refusal\n"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&ok(dir, &["inspect", "--check", "--json", "p.mlpackage"])).unwrap();
    let counts = ["errors", "refused", "warnings"].map(|count| json[0][count].as_u64().unwrap());
    assert_eq!(counts, [0, 1, 0]);
    let finding = &json[0]["findings"][0];
    assert_eq!((&finding["severity"], &finding["rule"]), (&"refused".into(), &"refused-scale".into()));
    assert!(finding["source"].as_str().unwrap().contains("webmachinelearning/webnn issue 822"));

    let bytes: Vec<u8> = [4f32, 8.0, -3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let x = TensorView::new(Dtype::F32, vec![1, 3], &bytes).unwrap();
    serialize_to_file([("x", x)], None, &dir.join("x.safetensors")).unwrap();
    ok(dir, &["run", "p.mlpackage", "--inputs", "x.safetensors", "--out", "y.safetensors"]);
    let bytes = std::fs::read(dir.join("y.safetensors")).unwrap();
    let y = SafeTensors::deserialize(&bytes).unwrap();
    let y = y
        .tensor("y")
        .unwrap()
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect::<Vec<_>>();
    assert_eq!(y, [2.0, -2.0, -6.0]);
    assert_eq!(microgpt(dir, &["floor", "p.mlpackage"]).code, 0);
}

/// git and zip drop an empty weights folder; the manifest still lists it.
#[test]
fn an_empty_folder_that_was_dropped_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir);
    let weights = dir.join("p.mlpackage/Data/com.apple.CoreML/weights");
    if weights.exists() {
        std::fs::remove_dir_all(weights).unwrap();
    }
    let text = ok(dir, &["inspect", "--check", "p.mlpackage"]);
    assert!(text.contains("warning[manifest-item-unneeded]"), "{text}");
    assert!(text.contains("0 errors, 1 warning, 1 reported refusal"), "{text}");
    ok(dir, &["inspect", "p.mlpackage"]);
    ok(dir, &["run", "p.mlpackage", "--plan"]);
}
