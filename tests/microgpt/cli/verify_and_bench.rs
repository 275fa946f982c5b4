//! `verify` with its dump, `run` on that dump, and `bench`.

use std::fs;

use serde_json::Value;

use crate::common::command::{ok, refused, workspace};

/// The dump holds the inputs and logits for comparison with other executors.
#[test]
fn dump_holds_every_step() {
    let dir = workspace();
    ok(dir.path(), &["verify", "bundle", "--dump", "dump.safetensors"]);
    let bytes = fs::read(dir.path().join("dump.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| tensors.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("x"), [16, 1, 16, 1, 1]);
    assert_eq!(shape("attn_mask"), [16, 1, 1, 1, 16]);
    assert_eq!(shape("kv_write"), [16, 1, 1, 16, 1]);
    assert_eq!(shape("logits_f32"), [16, 27]);
    assert_eq!(shape("logits_f16"), [16, 27]);
}

/// Every input of the function is dumped: the position as integers, and the caches that the host holds.
#[test]
fn dump_holds_what_each_cache_update_takes() {
    let dir = workspace();
    let dump = |cache_update: &str| {
        ok(dir.path(), &["export", "ckpt", "--out", "bundle", "--no-verify", "--cache-update", cache_update]);
        ok(dir.path(), &["verify", "bundle", "--engine", "mil-cpu", "--dump", "dump.safetensors"]);
        fs::read(dir.path().join("dump.safetensors")).unwrap()
    };
    let bytes = dump("slice-update");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = tensors.names();
    names.sort_unstable();
    assert_eq!(names, ["attn_mask", "logits_f16", "logits_f32", "position", "x"]);
    let position = tensors.tensor("position").unwrap();
    assert_eq!((position.dtype(), position.shape()), (safetensors::Dtype::I32, &[16, 1][..]));
    let positions: Vec<u8> = (0..16i32).flat_map(i32::to_le_bytes).collect();
    assert_eq!(position.data(), positions);

    let bytes = dump("host");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = tensors.names();
    names.sort_unstable();
    let expected = ["attn_mask", "k_cache_0", "kv_write", "logits_f16", "logits_f32", "v_cache_0", "x"];
    assert_eq!(names, expected);
    for name in ["k_cache_0", "v_cache_0"] {
        let cache = tensors.tensor(name).unwrap();
        assert_eq!((cache.dtype(), cache.shape()), (safetensors::Dtype::F32, &[16, 1, 4, 16, 4][..]));
        let values: Vec<f32> =
            cache.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        for (step, caches) in values.chunks_exact(4 * 16 * 4).enumerate() {
            // Before a step, exactly the previous positions have been written.
            let written = |row: &&[f32]| row.iter().any(|v| *v != 0.0);
            assert_eq!(caches.chunks_exact(4).filter(written).count(), 4 * step, "{name}, step {step}");
        }
    }
}

/// The package of a bundle, run on the inputs that `verify --dump` wrote, produces bit-identical logits; one
/// state carries over from step to step.
#[test]
fn run_runs_a_package_on_tensors_from_a_file() {
    let dir = workspace();
    let at = |name: &str| dir.path().join(name);
    ok(dir.path(), &["verify", "bundle", "--dump", "dump.safetensors"]);
    let bytes = fs::read(at("dump.safetensors")).unwrap();
    let dump = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let inputs = dump.iter().filter(|(name, _)| !name.starts_with("logits"));
    safetensors::serialize_to_file(inputs, None, &at("x.safetensors")).unwrap();
    let package = "bundle/decoder-00.mlpackage";
    for (numerics, expected) in [("f32", "logits_f32"), ("f16", "logits_f16")] {
        let run = ["run", package, "--inputs", "x.safetensors", "--out", "y.safetensors"];
        let printed = ok(dir.path(), &[run.as_slice(), &["--steps", "16", "--numerics", numerics]].concat());
        assert!(printed.contains("16 calls") && printed.contains("B of workspace"), "{printed}");
        let bytes = fs::read(at("y.safetensors")).unwrap();
        let outputs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let logits = outputs.tensor("logits").unwrap();
        assert_eq!(logits.shape(), [16, 1, 27, 1, 1]);
        assert_eq!(logits.data(), dump.tensor(expected).unwrap().data(), "{numerics}");
    }
    let plan = ok(dir.path(), &["run", package, "--plan"]);
    assert!(plan.contains("softmax(x: b") && plan.contains("return b"), "{plan}");
    let refuse = |arguments: &[&str], words: &[&str]| {
        let run = ["run", package, "--inputs", "x.safetensors", "--out", "z.safetensors"];
        refused(dir.path(), &[run.as_slice(), arguments].concat(), words);
        assert!(!at("z.safetensors").exists());
    };
    refuse(&["--steps", "15"], &["x.safetensors", "expected a leading axis of 15"]);
    refuse(&[], &["input", "shape [16, 1,", "expected [1,"]);
    refuse(&["--steps", "16", "--function", "encode"], &["no function \"encode\"", "main"]);
    refuse(&["--hazards", "--engine", "coreml"], &["--engine mil-cpu"]);
    let inside = format!("{package}/y.safetensors");
    refused(
        dir.path(),
        &["run", package, "--inputs", "x.safetensors", "--out", &inside],
        &["it is inside", "a .mlpackage"],
    );
    refused(
        dir.path(),
        &["run", package, "--inputs", ".", "--out", "z.safetensors"],
        &["--inputs . is a folder", "expected a safetensors file"],
    );
    fs::create_dir(at("folder")).unwrap();
    let run = ["run", package, "--inputs", "x.safetensors", "--steps", "16", "--out", "folder"];
    refused(dir.path(), &run, &["folder", "not a regular file, so it is not replaced"]);
    // A value that fp16 cannot hold is not rounded silently.
    let tenth: Vec<u8> = 0.1f32.to_le_bytes().repeat(256);
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![16, 1, 1, 16, 1], &tenth).unwrap();
    let kept = ["x", "attn_mask"].map(|name| (name, dump.tensor(name).unwrap()));
    let inputs = kept.into_iter().chain([("kv_write", view)]);
    safetensors::serialize_to_file(inputs, None, &at("x.safetensors")).unwrap();
    refuse(&["--steps", "16"], &["tensor kv_write: element 0 is 0.1", "fp16 cannot hold exactly"]);
    fs::write(at("x.safetensors"), "{}").unwrap();
    refuse(&[], &["x.safetensors is a JSON file", "expected a safetensors file"]);
    fs::write(at("x.safetensors"), [0; 16]).unwrap();
    refuse(&[], &["x.safetensors", "not a whole safetensors file"]);
}

#[test]
fn verify_searches_for_hazards_on_request() {
    let dir = workspace();
    assert!(ok(dir.path(), &["verify", "bundle", "--hazards"]).contains("no hazards in fp16"));
    let json = ok(dir.path(), &["verify", "bundle", "--hazards", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["hazards"], serde_json::json!([]));
    assert_eq!(json["pass"], true);
}

/// The test requires that everything is measured and consistent; it does not judge the speed.
#[test]
fn bench_measures_a_bundle() {
    let dir = workspace();
    let short = ["bench", "bundle", "--seconds", "0", "--names", "3", "--batch", "2", "--threads", "1"];
    let text = ok(dir.path(), &short);
    for line in [
        "engine        mil-cpu (fast)",
        "stream floor ",
        "batch         2 sequences",
        "names         3 names",
        "1535",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    let json = ok(dir.path(), &[&short[..], &["--numerics", "f32", "--json"]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["engine"], "mil-cpu (f32)");
    // 12 * 16 * 16 for a layer and 27 * 16 for the head.
    assert_eq!(json["multiply_adds_a_token"], 3504);
    let number =
        |at: &str| json.pointer(at).and_then(Value::as_f64).unwrap_or_else(|| panic!("{at}: {json}"));
    for at in [
        "/load_ms",
        "/stream_floor_ms",
        "/byte_products_a_second",
        "/decode/tokens_per_second",
        "/batch/arithmetic_bound",
    ] {
        assert!(number(at) > 0.0, "{at}: {json}");
    }
    assert!(number("/decode/p50_ms") <= number("/decode/p99_ms"));
    assert_eq!(number("/names/names"), 3.0);
    // Every name has at least the step that begins it, and at most a context of 16.
    assert!((3.0..=48.0).contains(&number("/names/tokens")), "{json}");
    let none = ok(dir.path(), &["bench", "bundle", "--seconds", "0", "--names", "0", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&none).unwrap()["names"], Value::Null);
}

#[test]
fn bench_refuses_what_cannot_be_measured() {
    let dir = workspace();
    for (arguments, words) in [
        (["bench", "bundle", "--seconds", "-1"], "seconds"),
        (["bench", "bundle", "--seconds", "nan"], "--seconds NaN is not between"),
        (["bench", "bundle", "--batch", "0"], "0 is not in"),
        (["bench", "bundle", "--threads", "0"], "0 is not in"),
        (["bench", "bundle", "--numerics", "int4"], "[possible values: f32, f16, fast]"),
        (["bench", "ckpt", "--names", "1"], "checkpoint"),
    ] {
        refused(dir.path(), &arguments, &[words]);
    }
}
