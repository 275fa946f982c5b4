//! Every command names what a path holds, and advises one next command, which works.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::command::{microgpt, ok, workspace};

/// Every command with a model argument, marked by MODEL.
const COMMANDS: &[&[&str]] = &[
    &["verify", "MODEL"],
    &["verify", "bundle", "--checkpoint", "MODEL"],
    &["floor", "MODEL"],
    &["chat", "MODEL"],
    &["bench", "MODEL"],
    &["settle", "MODEL"],
    &["generate", "MODEL"],
    &["export", "MODEL", "--out", "exported"],
    &["inspect", "MODEL"],
    &["inspect", "--check", "MODEL"],
    &["inspect", "--mil", "MODEL"],
    &["run", "MODEL", "--inputs", "x.safetensors", "--out", "y.safetensors"],
    &["train", "--init", "MODEL", "--steps", "1", "--out", "trained"],
];

/// Checks that every command that refuses `model` prints all of `words` and none of `never`. Returns how many
/// refuse.
fn everywhere(dir: &Path, model: &str, words: &[&str], never: &[&str]) -> usize {
    let mut refused = 0;
    for command in COMMANDS {
        let arguments: Vec<&str> = command.iter().map(|a| if *a == "MODEL" { model } else { *a }).collect();
        // `run` refuses a package only for lack of inputs.
        if arguments[0] == "run" && model.ends_with(".mlpackage") {
            continue;
        }
        let ran = microgpt(dir, &arguments);
        if ran.code == 0 {
            ["exported", "trained"].iter().for_each(|made| drop(fs::remove_dir_all(dir.join(made))));
            continue;
        }
        refused += 1;
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.err);
        for word in words {
            assert!(ran.err.contains(word), "{arguments:?}: {:?} lacks {word:?}", ran.err);
        }
        for word in [never, &["os error", "no such folder", "missing field"]].concat() {
            assert!(!ran.err.contains(word), "{arguments:?}: {:?} has {word:?}", ran.err);
        }
        let named =
            ran.err.matches(&format!("{model} is ")).count() + ran.err.matches(&format!("{model}: ")).count();
        assert!(named <= 1, "the path is named twice: {:?}", ran.err);
        assert!(!dir.join("exported").exists() && !dir.join("trained").exists());
    }
    refused
}

#[test]
fn models_of_other_kinds_are_named_by_their_type() {
    let dir = workspace();
    let dir = dir.path();
    for (folder, config, words) in [
        (
            "llama",
            r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}"#,
            ["llama", "LlamaForCausalLM"],
        ),
        ("qwen", r#"{"model_type": "qwen3", "n_embd": 8}"#, ["qwen3", "microgpt"]),
        ("old", r#"{"architectures": ["GPT2LMHeadModel"], "n_head": 12}"#, ["GPT2LMHeadModel", "microgpt"]),
    ] {
        fs::create_dir(dir.join(folder)).unwrap();
        fs::write(dir.join(folder).join("config.json"), config).unwrap();
        fs::write(dir.join(folder).join("model.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
        if folder != "old" {
            let refused = everywhere(dir, folder, &[&words[..], &["only"]].concat(), &["microgpt export"]);
            assert_eq!(refused, COMMANDS.len());
        }
        let ran = microgpt(dir, &["export", folder, "--out", "exported"]);
        assert!(ran.code == 2 && words.iter().all(|word| ran.err.contains(word)), "{}", ran.err);
        assert!(!ran.err.contains("missing field"), "{}", ran.err);
    }
    let mut gguf =
        b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x14\0\0\0\0\0\0\0general.architecture".to_vec();
    gguf.extend(b"\x08\0\0\0\x06\0\0\0\0\0\0\0gemma3");
    fs::write(dir.join("x.gguf"), gguf).unwrap();
    let refused =
        everywhere(dir, "x.gguf", &["x.gguf is a GGUF file", "gemma3", "only"], &["microgpt export"]);
    assert_eq!(refused, COMMANDS.len());
}

#[test]
fn a_run_that_is_not_finished_is_finished_first() {
    let dir = workspace();
    let dir = dir.path();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_microgpt"))
        .current_dir(dir)
        .args(["train", "--steps", "1000000", "--save-every", "5", "--out", "run"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !dir.join("run/training").is_dir() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let words =
        ["run is a training run that is not finished", "microgpt train --resume run", "run/training/step-"];
    assert_eq!(everywhere(dir, "run", &words, &["microgpt export"]), COMMANDS.len());
    // Both suggestions work.
    let said = microgpt(dir, &["floor", "run"]).err;
    let state = said.split(['`', ',', ' ']).find(|word| word.starts_with("run/training/step-")).unwrap();
    ok(dir, &["export", state, "--out", "of-state", "--no-verify"]);
    let step: usize = state.rsplit('-').next().unwrap().parse().unwrap();
    ok(dir, &["train", "--resume", "run", "--steps", &(step + 5).to_string()]);
    ok(dir, &["export", "run", "--out", "of-run", "--no-verify"]);
}

/// Each of the program's three kinds, passed where another is expected: the advice names a command that
/// accepts it.
#[test]
fn own_kinds_get_advice_that_works() {
    let dir = workspace();
    let dir = dir.path();
    let package = "bundle/decoder-00.mlpackage";
    everywhere(dir, "ckpt", &["ckpt is a checkpoint", "microgpt export ckpt --out bundle"], &[]);
    everywhere(dir, package, &["decoder-00.mlpackage is a .mlpackage"], &["microgpt export"]);
    common::copy(&dir.join(package), &dir.join("x.mlpackage"));
    let refused = everywhere(
        dir,
        "x.mlpackage",
        &["x.mlpackage is a .mlpackage", "microgpt run x.mlpackage"],
        &["the bundle that it is in"],
    );
    assert_eq!(refused, COMMANDS.len() - 5, "floor, run and the three forms of inspect accept it");
    let said = microgpt(dir, &["generate", package]).err;
    assert!(said.contains("give the bundle around it, bundle"), "{said}");
    let said = microgpt(dir, &["export", "bundle", "--out", "exported"]).err;
    assert!(said.contains("bundle is a bundle") && said.contains("microgpt chat bundle"), "{said}");
    let run = ["run", "bundle", "--inputs", "x.safetensors", "--out", "y.safetensors"];
    let said = microgpt(dir, &run).err;
    assert!(said.contains("give a package in it, such as bundle/decoder-00.mlpackage"), "{said}");
    // A file inside one of them.
    for (part, whole) in [
        ("ckpt/model.safetensors", "it belongs to ckpt, a checkpoint"),
        ("ckpt/config.json", "it belongs to ckpt, a checkpoint"),
        ("bundle/embeddings.safetensors", "it belongs to bundle, a bundle"),
        (
            "bundle/decoder-00.mlpackage/Data/com.apple.CoreML/model.mlmodel",
            "it belongs to bundle/decoder-00.mlpackage",
        ),
    ] {
        assert_eq!(everywhere(dir, part, &[whole], &[]), COMMANDS.len());
    }
    let said = microgpt(dir, &["floor", "."]).err;
    assert!(said.contains("./bundle in it is a bundle: give that"), "{said}");
}

#[test]
fn files_of_other_formats_are_named() {
    let dir = workspace();
    let dir = dir.path();
    fs::create_dir(dir.join("empty")).unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    for (name, bytes, words) in [
        ("photo.png", &b"\x89PNG\r\n\x1a\n\0\0"[..], &["photo.png is a PNG image", "expected"][..]),
        ("notes.txt", b"Dear diary", &["notes.txt is a text file"]),
        ("model.onnx", b"\x08\x08\x12\x07pytorch\x3a\x01\x00", &["model.onnx is an ONNX model"]),
        ("lfs", pointer.as_bytes(), &["Git LFS pointer", "git lfs pull"]),
        ("nothing", b"", &["nothing is an empty file"]),
    ] {
        fs::write(dir.join(name), bytes).unwrap();
        assert_eq!(everywhere(dir, name, words, &[]), COMMANDS.len(), "{name}");
    }
    assert_eq!(everywhere(dir, "empty", &["empty is an empty folder with no bundle"], &[]), COMMANDS.len());
    for (path, words) in [
        ("photo.png", "photo.png is a PNG image"),
        ("nowhere", "nothing at this path"),
        ("bundle", "is a bundle"),
    ] {
        let ran = microgpt(dir, &["train", "--resume", path]);
        assert!(
            ran.code == 2 && ran.err.contains(words) && !ran.err.contains("no such folder"),
            "{}",
            ran.err
        );
    }
    assert_eq!(everywhere(dir, "nowhere", &["nowhere: there is nothing at this path"], &[]), COMMANDS.len());
}
