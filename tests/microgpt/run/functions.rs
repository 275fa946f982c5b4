//! Several functions of a package that run on one state.

use std::fs;
use std::path::Path;

use microgpt_ane::mlpackage::builder::FunctionBuilder;
use microgpt_ane::mlpackage::mil::{Opset, Program, Value};
use microgpt_ane::mlpackage::{DType, Description, PackageWriter};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{read, write};
use crate::common::command::{ok, refused};

/// Writes two functions: `prefill` adds the rows of `x [3, 2]` to a total, `decode` adds `gain * x [2]`; both
/// return the total.
fn two_functions(path: &Path) {
    let mut writer = PackageWriter::create(path).unwrap();
    let mut functions = Vec::new();
    for name in ["decode", "prefill"] {
        let mut f = FunctionBuilder::new(name, Opset::CoreML8, writer.weights());
        let rows = name == "prefill";
        let x =
            if rows { f.input("x", DType::Fp16, [3, 2]) } else { f.input("x", DType::Fp16, [2]) }.unwrap();
        let total = f.state("total", DType::Fp16, [2]).unwrap();
        let before = f.read_state("before", &total).unwrap();
        let added = if rows {
            let sum = f.op("reduce_sum", "added").arg("x", &x).value("axes", Value::ints([1], [0]));
            sum.value("keep_dims", Value::bool(false)).one()
        } else {
            let gain = f.input("gain", DType::Fp16, [1]).unwrap();
            f.op("mul", "added").arg("x", &x).arg("y", &gain).one()
        };
        let after = f.op("add", "after").arg("x", &before).arg("y", &added.unwrap()).one().unwrap();
        f.write_state(&total, &after).unwrap();
        let sum = f.op("identity", "sum").arg("x", &after).one().unwrap();
        f.output(&sum);
        functions.push((name, f.finish()));
    }
    let program = Program::new(functions);
    let mut description = Description::of(&program);
    description.set_default_function("decode");
    writer.finish_with(&program, &description).unwrap();
}

#[test]
fn several_functions_run_on_one_state() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    two_functions(&at("p.mlpackage"));
    let prefill: (&str, &[usize], &[f32]) = ("prefill/x", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let decode: (&str, &[usize], &[f32]) = ("decode/x", &[2, 2], &[1.0, 1.0, 2.0, 2.0]);
    // Only decode has a gain.
    let gain: (&str, &[usize], &[f32]) = ("gain", &[2, 1], &[1.0, 10.0]);
    write(&at("x.safetensors"), &[prefill, decode, gain]);
    let run = ["run", "p.mlpackage", "--inputs", "x.safetensors", "--out", "y.safetensors"];
    let printed = ok(dir.path(), &[&run[..], &["--function", "prefill,decode=2"]].concat());
    for words in ["prefill: 1 call,", "decode: 2 calls,", "prefill/sum: ", "decode/sum: "] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    assert_eq!(read(&at("y.safetensors"), "prefill/sum"), (vec![2], vec![9.0, 12.0]));
    assert_eq!(read(&at("y.safetensors"), "decode/sum"), (vec![2, 2], vec![10.0, 13.0, 30.0, 33.0]));
    // In the other order, prefill continues from decode's state.
    ok(dir.path(), &[&run[..], &["--function", "decode=2", "--function", "prefill"]].concat());
    assert_eq!(read(&at("y.safetensors"), "decode/sum").1, [1.0, 1.0, 21.0, 21.0]);
    assert_eq!(read(&at("y.safetensors"), "prefill/sum").1, [30.0, 33.0]);
    // A single function keeps its plain names, however its steps are given.
    write(&at("x.safetensors"), &[("x", decode.1, decode.2), gain]);
    for arguments in
        [&["--steps", "2"][..], &["--function", "decode=2"], &["--function", "decode", "--steps", "2"]]
    {
        ok(dir.path(), &[&run[..], arguments].concat());
        assert_eq!(read(&at("y.safetensors"), "sum").1, [1.0, 1.0, 21.0, 21.0]);
    }
    let plan = ok(dir.path(), &["run", "p.mlpackage", "--function", "prefill,decode", "--plan"]);
    assert!(plan.contains("function prefill\n") && plan.contains("function decode\n"), "{plan}");
}

/// A decoder written by coremltools with two functions that share a cache reproduces PyTorch's results for
/// the prompt and the following tokens, within the 2e-3 of the largest value that its conformance case allows
/// with fp16 rounding.
#[test]
fn a_decoder_of_two_functions_runs_as_its_engine_does() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let case = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("crates/ane-runtime/tests/conformance/model_llama_fp16_plain.safetensors");
    let bytes = fs::read(&case).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut stacked: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for name in ["token", "position", "mask"] {
        let of = |step: usize| file.tensor(&format!("{step}.in.{name}")).unwrap();
        let first = of(0);
        stacked.push((
            format!("prefill/{name}"),
            first.dtype(),
            first.shape().to_vec(),
            first.data().to_vec(),
        ));
        let shape = [&[6], of(1).shape()].concat();
        let data = (1..7).flat_map(|step| of(step).data().to_vec()).collect();
        stacked.push((format!("decode/{name}"), first.dtype(), shape, data));
    }
    let views = stacked.iter().map(|(name, dtype, shape, data)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize_to_file(views, None, &at("x.safetensors")).unwrap();
    let package = case.with_extension("mlpackage");
    let run = ["run", package.to_str().unwrap(), "--inputs", "x.safetensors", "--out", "y.safetensors"];
    ok(dir.path(), &[&run[..], &["--function", "prefill,decode=6", "--numerics", "f16"]].concat());
    let expected = |step: usize| -> Vec<f32> {
        let tensor = file.tensor(&format!("{step}.out.result")).unwrap();
        tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let close = |found: &[f32], expected: &[f32]| {
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
        found.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() <= 2e-3 * largest, "{a} {b}"));
    };
    close(&read(&at("y.safetensors"), "prefill/result").1, &expected(0));
    let (shape, decoded) = read(&at("y.safetensors"), "decode/result");
    assert_eq!(shape, [6, 1, 1, 24]);
    close(&decoded, &(1..7).flat_map(expected).collect::<Vec<f32>>());
}

#[test]
fn errors_of_several_functions_name_the_function() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    two_functions(&at("p.mlpackage"));
    let rows: (&str, &[usize], &[f32]) = ("prefill/x", &[3, 2], &[0.0; 6]);
    let x: (&str, &[usize], &[f32]) = ("decode/x", &[2], &[0.0; 2]);
    let gain: (&str, &[usize], &[f32]) = ("decode/gain", &[1], &[0.0; 1]);
    let refuse = |functions: &str, tensors: &[(&str, &[usize], &[f32])], words: &[&str]| {
        write(&at("x.safetensors"), tensors);
        let run = [
            "run",
            "p.mlpackage",
            "--inputs",
            "x.safetensors",
            "--out",
            "y.safetensors",
            "--function",
            functions,
        ];
        refused(dir.path(), &run, words);
        assert!(!at("y.safetensors").exists());
    };
    refuse(
        "prefill,decode",
        &[rows, x],
        &["input gain of decode is missing", "tensor<fp16, [1]>", "decode/gain in x.safetensors"],
    );
    refuse("prefill,decode=4", &[rows, x], &["input gain of decode is missing", "with a leading axis of 4"]);
    refuse("prefill,decode", &[rows, ("x", x.1, x.2), gain], &["tensor x", "prefill/x or decode/x"]);
    refuse("prefill,decode", &[rows, x, gain, ("gain", gain.1, gain.2)], &["input gain of decode", "tensor"]);
    refuse(
        "prefill,decode",
        &[rows, x, gain, ("scale", gain.1, gain.2)],
        &["tensor scale", "prefill/x, tensor<fp16, [3, 2]>"],
    );
    refuse("prefill,decode", &[rows, x, gain, ("encode/x", x.1, x.2)], &["tensor encode/x", "decode/gain"]);
    refuse(
        "prefill,decode",
        &[("prefill/x", &[2, 2], &[0.0; 4]), x, gain],
        &["function prefill", "input x", "[2, 2]", "[3, 2]"],
    );
    refuse(
        "prefill,decode=2",
        &[rows, x, gain],
        &["call 0 of decode", "tensor decode/gain: shape [1]", "leading axis of 2", "tensor<fp16, [1]>"],
    );
    refuse("prefill,encode", &[rows], &["no function \"encode\"", "prefill"]);
    refuse("prefill,prefill", &[rows], &["prefill is given twice"]);
    refuse("prefill,decode=0", &[rows], &["expected a number from 1 on"]);
    refuse("prefill,,decode", &[rows], &["FUNCTION=STEPS"]);
    let run = [
        "run",
        "p.mlpackage",
        "--inputs",
        "x.safetensors",
        "--out",
        "y.safetensors",
        "--function",
        "prefill,decode",
    ];
    refused(
        dir.path(),
        &[&run[..], &["--steps", "2"]].concat(),
        &["--steps 2 is for one function", "--function prefill=2"],
    );
}
