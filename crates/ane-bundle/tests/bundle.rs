//! Bundles that are written by hand: what opens, what is refused, and what a writer may replace.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::path::Path;

use ane_bundle::{
    Architecture, BUNDLE, BUNDLE_FORMAT_VERSION, Bundle, BundleManifest, DecodeInterface, EmbeddingTables,
    Error, Exporter, FileDigest, HostCache, Shard, TokenizerFile,
};
use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Opset, Program};
use mlpackage::{DType, Metadata, PackageWriter};
use serde_json::Value;

/// Returns a manifest of a model with one layer. The other files are not interpreted by this crate.
fn manifest(host_caches: Vec<HostCache>) -> BundleManifest {
    BundleManifest {
        format_version: BUNDLE_FORMAT_VERSION,
        architecture: Architecture {
            model_type: "microgpt".into(),
            vocab_size: 27,
            n_embd: 16,
            n_head: 4,
            n_layer: 1,
            context_length: 16,
            parameters: 4192,
        },
        shards: vec![Shard {
            package: "decoder-00.mlpackage".into(),
            function: "main".into(),
            first_layer: 0,
            layers: 1,
            states: if host_caches.is_empty() { 2 } else { 0 },
            lm_head_slices: 1,
        }],
        interface: DecodeInterface {
            embedding: "x".into(),
            attn_mask: "attn_mask".into(),
            kv_write: "kv_write".into(),
            logits: "logits".into(),
            host_caches,
        },
        embeddings: EmbeddingTables {
            file: "embeddings.safetensors".into(),
            token: "wte".into(),
            position: "wpe".into(),
        },
        tokenizer: TokenizerFile { file: "tokenizer.json".into(), bos_token_id: 26 },
        exporter: Exporter {
            name: "by hand".into(),
            version: "1".into(),
            quantization: "none".into(),
            options: BTreeMap::new(),
        },
        files: BTreeMap::new(),
    }
}

fn write_package(path: &Path) {
    let mut writer = PackageWriter::create(path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    let x = f.input("x", DType::Fp16, [1, 16]).unwrap();
    let weight = f.weight_fp16("w", [1, 16], &[half::f16::ONE; 16]).unwrap();
    let y = f.op("add", "logits").arg("x", &x).arg("y", &weight).one().unwrap();
    f.output(&y);
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();
}

/// Writes a bundle atomically, as an exporter does.
fn write_bundle(out: &Path, host_caches: Vec<HostCache>) {
    let dir = BUNDLE.create(out).unwrap();
    write_package(&dir.path().join("decoder-00.mlpackage"));
    fs::write(dir.path().join("embeddings.safetensors"), "tables").unwrap();
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    let mut manifest = manifest(host_caches);
    manifest.files = BundleManifest::digest_folder(dir.path()).unwrap();
    manifest.write(dir.path()).unwrap();
    dir.commit().unwrap();
}

fn caches() -> Vec<HostCache> {
    let cache = |kind: &str| HostCache { cache: format!("{kind}_cache_0"), new: format!("{kind}_new_0") };
    vec![cache("k"), cache("v")]
}

#[test]
fn what_is_written_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("bundle");
    write_bundle(&out, Vec::new());
    let bundle = Bundle::open(&out).unwrap();
    let mut expected = manifest(Vec::new());
    expected.files = bundle.manifest().files.clone();
    assert_eq!(*bundle.manifest(), expected);
    // Manifest.json, model.mlmodel, weight.bin, the tables and the tokenizer.
    assert_eq!(expected.files.len(), 5);
    let package = bundle.package(&bundle.manifest().shards[0]).unwrap();
    assert!(package.check().is_empty());
}

/// Flips a bit of each file, cuts a byte off, and removes the file; each change is detected.
#[test]
fn a_changed_file_is_noticed_by_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("bundle");
    write_bundle(&out, Vec::new());
    let files: Vec<String> = Bundle::open(&out).unwrap().manifest().files.keys().cloned().collect();
    assert_eq!(files.len(), 5);
    for file in files {
        let path = out.join(&file);
        let bytes = fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        fs::write(&path, &changed).unwrap();
        let error = Bundle::open(&out).unwrap_err().to_string();
        assert!(error.contains("SHA-256") && error.contains(&file), "{error}");
        fs::write(&path, &changed[1..]).unwrap();
        assert!(Bundle::open(&out).unwrap_err().to_string().contains("bytes, expected"));
        fs::remove_file(&path).unwrap();
        assert!(Bundle::open(&out).unwrap_err().to_string().contains(&file));
        fs::write(&path, bytes).unwrap();
    }
    fs::write(out.join("decoder-00.mlpackage/Data/extra.bin"), "unlisted").unwrap();
    let error = Bundle::open(&out).unwrap_err().to_string();
    assert!(error.contains("extra.bin\" is in the bundle but not listed"), "{error}");
}

/// Invalid fields of `bundle.json`, each refused by name.
#[test]
fn a_manifest_that_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("bundle");
    write_bundle(&out, Vec::new());
    let path = out.join("bundle.json");
    let sound = fs::read_to_string(&path).unwrap();
    let cases = [
        ("\"format_version\": 1", "\"format_version\": 2", "format_version: 2, this version reads 1"),
        ("\"n_head\": 4", "\"n_head\": 3", "architecture.n_head: 3 does not divide"),
        ("\"n_embd\": 16", "\"n_embd\": 0", "architecture.n_embd: 0 is not between 1 and 2^20"),
        ("\"n_embd\": 16", "\"n_embd\": 18446744073709551615", "architecture.n_embd"),
        ("\"n_layer\": 1", "\"n_layer\": 2", "shards: they hold 1 layer, the architecture has 2"),
        ("\"first_layer\": 0", "\"first_layer\": 1", "shards[0].first_layer: 1, expected 0"),
        ("\"lm_head_slices\": 1", "\"lm_head_slices\": 0", "shards[0].lm_head_slices: 0"),
        ("\"bos_token_id\": 26", "\"bos_token_id\": 27", "bos_token_id: 27 is outside the vocabulary of 27"),
        (
            "\"package\": \"decoder-00.mlpackage\"",
            "\"package\": \"../checkpoint\"",
            "../checkpoint: it must stay inside",
        ),
        ("\"file\": \"tokenizer.json\"", "\"file\": \"/etc/passwd\"", "\"/etc/passwd\" is not listed"),
    ];
    for (from, to, named) in cases {
        assert!(sound.contains(from), "{from}");
        fs::write(&path, sound.replace(from, to)).unwrap();
        let error = Bundle::open(&out).unwrap_err().to_string();
        assert!(error.contains(named), "{to}: {error}");
    }
    for broken in ["", "{", "[]", "{\"format_version\": 1}"] {
        fs::write(&path, broken).unwrap();
        let error = Bundle::open(&out).unwrap_err();
        assert!(error.to_string().contains("bundle.json"), "{broken}");
        assert!(error.source().is_some(), "{error:?} keeps the parser's error");
    }
}

/// Host caches that do not match the model, each refused by name.
#[test]
fn host_caches_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("bundle");
    write_bundle(&out, caches());
    Bundle::open(&out).unwrap();
    let path = out.join("bundle.json");
    let sound: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 9] = [
        ("interface.host_caches: found 1, expected 2 for 1 layer", |m| {
            m["interface"]["host_caches"].as_array_mut().unwrap().truncate(1);
        }),
        ("interface.host_caches[1].cache: \"k_cache_0\"", |m| {
            m["interface"]["host_caches"][1]["cache"] = "k_cache_0".into();
        }),
        ("interface.host_caches[0].cache: \"x\"", |m| m["interface"]["host_caches"][0]["cache"] = "x".into()),
        ("interface.host_caches[0].cache: \"\"", |m| m["interface"]["host_caches"][0]["cache"] = "".into()),
        ("interface.host_caches[1].new: \"k_new_0\"", |m| {
            m["interface"]["host_caches"][1]["new"] = "k_new_0".into();
        }),
        ("interface.host_caches[0].new: \"logits\"", |m| {
            m["interface"]["host_caches"][0]["new"] = "logits".into();
        }),
        ("shards[0].states: 2, expected 0", |m| m["shards"][0]["states"] = 2.into()),
        ("interface.host_caches[0]: missing field `new`", |m| {
            m["interface"]["host_caches"][0].as_object_mut().unwrap().remove("new");
        }),
        ("interface.host_caches[0].old: unknown field `old`", |m| {
            m["interface"]["host_caches"][0]["old"] = "k_old_0".into();
        }),
    ];
    for (named, change) in cases {
        let mut manifest = sound.clone();
        change(&mut manifest);
        fs::write(&path, manifest.to_string()).unwrap();
        let error = Bundle::open(&out).unwrap_err().to_string();
        assert!(error.contains(named), "{named}: {error}");
    }
}

/// A bundle replaces an earlier bundle, but nothing that a person put there.
#[test]
fn only_an_earlier_bundle_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("bundle");
    write_bundle(&out, Vec::new());
    write_bundle(&out, caches());
    assert_eq!(Bundle::open(&out).unwrap().manifest().interface.host_caches.len(), 2);

    fs::write(out.join("notes.txt"), "years of work").unwrap();
    let refused = BUNDLE.create(&out).map(drop).unwrap_err().to_string();
    assert!(refused.contains("holds notes.txt, which would be lost"), "{refused}");

    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.tex"), "years of work").unwrap();
    let refused = BUNDLE.create(&other).map(drop).unwrap_err().to_string();
    assert!(refused.contains("has no bundle.json"), "{refused}");
    assert_eq!(fs::read_to_string(other.join("thesis.tex")).unwrap(), "years of work");
}

#[test]
fn a_missing_file_keeps_its_io_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = Bundle::open(dir.path().join("nothing")).unwrap_err();
    assert!(matches!(&error, Error::Package(mlpackage::Error::Io { .. })), "{error:?}");
    let source = error.source().and_then(|e| e.downcast_ref::<std::io::Error>()).unwrap();
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
}

/// A device has no end, and a pipe has no contents until something writes to it.
#[cfg(unix)]
#[test]
fn only_regular_files_have_digests() {
    let error = FileDigest::of("/dev/zero").unwrap_err().to_string();
    assert!(error.contains("/dev/zero") && error.contains("not a regular file"), "{error}");
}
