//! Damaged and misplaced files, which every command names.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common;
use crate::common::command::{microgpt, ok, refused, with_input, workspace};

#[test]
fn checkpoints_that_are_damaged_are_named() {
    let dir = workspace();
    let dir = dir.path();
    let export = ["export", "damaged", "--out", "out"];
    let damaged = |damage: &dyn Fn(&Path), words: &[&str]| {
        let path = dir.join("damaged");
        let _ = fs::remove_dir_all(&path);
        common::copy(&dir.join("ckpt"), &path);
        damage(&path);
        for arguments in [&export[..], &["inspect", "damaged"], &["generate", "damaged"]] {
            refused(dir, arguments, words);
        }
        assert!(!dir.join("out").exists(), "nothing is half written");
    };
    let replace = |file: &str, from: &str, to: &str| {
        let (file, from, to) = (file.to_owned(), from.to_owned(), to.to_owned());
        move |path: &Path| {
            let text = fs::read_to_string(path.join(&file)).unwrap();
            assert!(text.contains(&from), "{text}");
            fs::write(path.join(&file), text.replace(&from, &to)).unwrap();
        }
    };
    damaged(&|p| fs::remove_file(p.join("model.safetensors")).unwrap(), &["damaged/model.safetensors"]);
    let truncate = |p: &Path| {
        let bytes = fs::read(p.join("model.safetensors")).unwrap();
        fs::write(p.join("model.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    };
    damaged(&truncate, &["damaged/model.safetensors"]);
    damaged(
        &replace("config.json", "\"block_size\": 16", "\"block_size\": 32"),
        &["model.safetensors", "tensor wpe.weight", "[16, 16]", "[32, 16]"],
    );
    damaged(&replace("config.json", "\"n_head\": 4", "\"n_head\": 3"), &["config.json", "n_head", "3", "16"]);
    damaged(&replace("config.json", "{", "["), &["config.json"]);
    damaged(&replace("tokenizer.json", "{", "["), &["tokenizer.json"]);
}

#[test]
fn bundles_that_are_damaged_are_named() {
    let dir = workspace();
    let dir = dir.path();
    let weights = "decoder-00.mlpackage/Data/com.apple.CoreML/weights/weight.bin";
    let damaged = |file: &str, damage: &dyn Fn(&mut Vec<u8>), words: &[&str]| {
        let path = dir.join("damaged");
        let _ = fs::remove_dir_all(&path);
        common::copy(&dir.join("bundle"), &path);
        let mut bytes = fs::read(path.join(file)).unwrap();
        damage(&mut bytes);
        fs::write(path.join(file), bytes).unwrap();
        for command in ["verify", "floor", "generate", "chat", "inspect"] {
            refused(dir, &[command, "damaged"], words);
        }
    };
    let flip = |bytes: &mut Vec<u8>| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    };
    damaged(weights, &flip, &[weights, "SHA-256"]);
    damaged("embeddings.safetensors", &flip, &["embeddings.safetensors", "SHA-256"]);
    damaged(weights, &|b| b.truncate(100), &[weights, "100 bytes, expected"]);
    damaged("bundle.json", &|b| b.truncate(100), &["bundle.json"]);
    refused(dir, &["generate", "nowhere"], &["nowhere"]);
    refused(dir, &["verify", "nowhere"], &["nowhere"]);
    refused(dir, &["verify", "bundle", "--checkpoint", "nowhere"], &["nowhere"]);
}

/// Exit code 0: no errors; 1: errors in a readable package; 2: not a package.
#[test]
fn check_distinguishes_faults_from_other_files() {
    const PACKAGE: &str = "bundle/decoder-00.mlpackage";
    let dir = workspace();
    for path in ["bundle", PACKAGE] {
        assert!(ok(dir.path(), &["inspect", "--check", path]).contains("0 errors, 0 warnings"));
    }
    let weights = dir.path().join(PACKAGE).join("Data/com.apple.CoreML/weights/weight.bin");
    let mut bytes = fs::read(&weights).unwrap();
    bytes[64] ^= 1; // the sentinel of the first record
    fs::write(&weights, bytes).unwrap();
    let ran = microgpt(dir.path(), &["inspect", "--check", PACKAGE]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    for words in ["error[blob-record]: function ", "operation const", "0xdeadbeef", "1 error, 0 warnings"] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
    let ran = microgpt(dir.path(), &["inspect", "--check", "--json", PACKAGE]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    let finding = &json[0]["findings"][0];
    assert_eq!(
        (ran.code, &finding["rule"], &finding["severity"]),
        (1, &"blob-record".into(), &"error".into())
    );
    fs::write(dir.path().join(PACKAGE).join("Data/com.apple.CoreML/model.mlmodel"), "no protobuf").unwrap();
    refused(dir.path(), &["inspect", "--check", PACKAGE], &["model.mlmodel"]);
    refused(dir.path(), &["inspect", "--check", "nowhere"], &["nowhere"]);
}

/// A folder of another kind is named, with advice.
#[test]
fn folders_of_another_kind_are_distinguished_from_damaged_ones() {
    let dir = workspace();
    for command in [&["floor", "ckpt"][..], &["chat", "ckpt"], &["verify", "ckpt"]] {
        refused(dir.path(), command, &["ckpt is a checkpoint", "microgpt export ckpt"]);
    }
    refused(dir.path(), &["export", "bundle", "--out", "x"], &["bundle is a bundle"]);
    refused(dir.path(), &["verify", "bundle", "--checkpoint", "bundle"], &["bundle is a bundle"]);
    refused(dir.path(), &["inspect", "."], &["no bundle", "no package"]);
    refused(dir.path(), &["inspect", "ckpt", "--mil"], &["ckpt is a checkpoint"]);
    refused(dir.path(), &["train", "--out", "x", "--learning-rate", "-1"], &["learning_rate", "-1"]);
}

/// Messages name the file and the problem, in terms that the user knows.
#[test]
fn damaged_and_misplaced_files_are_described_in_plain_words() {
    let dir = workspace();
    let at = |path: &str| dir.path().join(path);
    let refuse = |command: &[&str], words: &[&str], never: &[&str]| {
        let ran = microgpt(dir.path(), command);
        assert_eq!(ran.code, 2, "{command:?}: {}", ran.err);
        for word in words {
            assert!(ran.err.contains(word), "{command:?}: {:?} lacks {word:?}", ran.err);
        }
        for word in never {
            assert!(!ran.err.contains(word), "{command:?}: {:?} has {word:?}", ran.err);
        }
    };
    for (folder, file, kind) in
        [("ckpt", "config.json", "config of a checkpoint"), ("bundle", "bundle.json", "manifest of a bundle")]
    {
        let copy = format!("{folder}-copy");
        common::copy(&at(folder), &at(&copy));
        for text in ["[]", "{}", "{\"model_type\": \"microgpt\"}"] {
            fs::write(at(&copy).join(file), text).unwrap();
            let wants = if text == "{}" && folder == "ckpt" { "model_type is missing" } else { kind };
            refuse(&["inspect", &copy], &[file, wants], &["struct ", "elements"]);
        }
    }
    common::copy(&at("bundle"), &at("gone"));
    fs::remove_file(at("gone/embeddings.safetensors")).unwrap();
    refuse(
        &["inspect", "gone"],
        &["bundle gone: embeddings.safetensors: No such file"],
        &["gone/embeddings"],
    );
    let package = "bundle/decoder-00.mlpackage";
    refuse(&["run", package, "--plan", "--function", "nope"], &["no function \"nope\"; it has main"], &["["]);
    fs::create_dir_all(at("x.mlpackage/Data")).unwrap();
    refuse(&["floor", "x.mlpackage"], &["has no Manifest.json", "copy the package again"], &["no bundle"]);
    common::copy(&at(package), &at("cut.mlpackage"));
    let model = at("cut.mlpackage/Data/com.apple.CoreML/model.mlmodel");
    let bytes = fs::read(&model).unwrap();
    fs::write(&model, &bytes[..bytes.len() - 9]).unwrap();
    refuse(&["inspect", "cut.mlpackage"], &["is damaged or cut short", "copy it again"], &[]);
    refuse(&["train", "--data", "ckpt", "--out", "x"], &["--data: ", "ckpt: it is a folder"], &["os error"]);
    fs::write(at("empty"), "").unwrap();
    refuse(&["floor", "bundle", "--baseline", "empty"], &["empty: it is empty"], &["EOF"]);
    refuse(&["run", package, "--inputs", "empty", "--out", "y"], &["empty is an empty file"], &["header"]);
    fs::write(at("ckpt-copy/config.json"), fs::read(at("ckpt/config.json")).unwrap()).unwrap();
    fs::write(at("ckpt-copy/model.safetensors"), "").unwrap();
    refuse(&["inspect", "ckpt-copy"], &["model.safetensors: it is empty"], &["header"]);
    std::os::unix::fs::symlink("bundle", at("link")).unwrap();
    refuse(&["export", "ckpt", "--out", "link"], &["link exists and is a link"], &["not a folder"]);
}

/// Text from files cannot change what a terminal shows, or its settings.
#[test]
fn control_characters_from_files_are_escaped() {
    let dir = workspace();
    let at = |path: &str| dir.path().join(path);
    let raw = |text: &str| text.contains(|c: char| c.is_control() && c != '\n' && c != '\t');
    // A title for the terminal's window, a line to overwrite, and CSI as one character.
    let hostile = "\u{1b}]0;x\u{7}\r\u{9b}31m";
    let escaped = r"\u{1b}]0;x\u{7}\u{d}\u{9b}31m";
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(at("bundle/bundle.json")).unwrap()).unwrap();
    manifest["architecture"]["model_type"] = hostile.into();
    fs::write(at("bundle/bundle.json"), manifest.to_string()).unwrap();
    let out = ok(dir.path(), &["inspect", "bundle"]);
    assert!(out.contains(escaped) && !raw(&out), "{out:?}");
    let json = ok(dir.path(), &["inspect", "bundle", "--json"]);
    assert!(!raw(&json), "{json:?}");
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["manifest"]["architecture"]["model_type"], hostile);
    let tensor = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap();
    safetensors::serialize_to_file([(hostile, tensor)], None, &at("x.safetensors")).unwrap();
    let run = ["run", "bundle/decoder-00.mlpackage", "--inputs", "x.safetensors", "--out", "y.safetensors"];
    let ran = microgpt(dir.path(), &run);
    assert!(ran.code == 2 && ran.err.contains(escaped) && !raw(&ran.err), "{:?}", ran.err);
    // A model that has learned such a character prints and answers with it.
    fs::write(at("text.txt"), "\u{1b}\n".repeat(40)).unwrap();
    ok(dir.path(), &["train", "--data", "text.txt", "--steps", "60", "--out", "esc"]);
    ok(dir.path(), &["export", "esc", "--out", "esc-bundle", "--no-verify"]);
    let out = ok(dir.path(), &["generate", "esc-bundle"]);
    assert!(out.contains(r"\u{1b}") && !raw(&out), "{out:?}");
    let ran = with_input(dir.path(), &["chat", "esc-bundle"], "\n");
    assert!(ran.out.contains(r"\u{1b}") && !raw(&ran.out), "{:?}", ran.out);
}
