//! Every command names what a path holds, and advises one next command, which works.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use microgpt_ane::microgpt_model::{Corpus, GptConfig, Preset, Tokenizer, Trainer, TrainingConfig};
use microgpt_ane::mlpackage::builder::FunctionBuilder;
use microgpt_ane::mlpackage::mil::{Opset, Program};
use microgpt_ane::mlpackage::{
    ColorSpace, DType, Description, FeatureType, ImageSize, ImageType, PackageWriter,
};

use crate::common;
use crate::common::command::{microgpt, ok, workspace};

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

/// Writes a run that was stopped after step 2, with states of steps 1 and 2.
fn stopped_run(folder: &Path) {
    let corpus = Corpus::built_in();
    let tokenizer = Tokenizer::characters(corpus.documents());
    let config = GptConfig::preset(Preset::Original, tokenizer.vocab_size());
    let training = TrainingConfig { steps: 4, ..TrainingConfig::preset(Preset::Original) };
    let mut trainer = Trainer::new(&corpus, config, tokenizer, None, training).unwrap();
    for _ in 0..2 {
        trainer.step().unwrap();
        trainer.save(folder).unwrap();
    }
}

/// Writes a package with an input of image type and, on request, a tensor.
fn of_images(path: &Path, with_tensor: bool) {
    let mut writer = PackageWriter::create(path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    let x = f.input("photo", DType::Fp32, [1, 3, 2, 2]).unwrap();
    let y = f.op("relu", "y").arg("x", &x).one().unwrap();
    f.output(&y);
    if with_tensor {
        let x = f.input("more", DType::Fp32, [2]).unwrap();
        let y = f.op("relu", "z").arg("x", &x).one().unwrap();
        f.output(&y);
    }
    let program = Program::new([("main", f.finish())]);
    let mut description = Description::of(&program);
    let image = ImageType::new(ColorSpace::Rgb, ImageSize::new(2, 2));
    description.interface_mut("main").unwrap().inputs[0].ty = FeatureType::from(&image);
    writer.finish_with(&program, &description).unwrap();
}

/// Every command that the advice names, run with every kind of path: none is refused. Only the file names that stand
/// for the user's own, such as X.safetensors, are missing.
#[test]
fn every_advised_command_works() {
    let dir = workspace();
    let dir = dir.path();
    let at = |name: &str| dir.join(name);
    common::copy(&at("bundle/decoder-00.mlpackage"), &at("x.mlpackage"));
    of_images(&at("image.mlpackage"), false);
    of_images(&at("both.mlpackage"), true);
    // A neural network in a package, which `run` cannot read.
    common::copy(&at("x.mlpackage"), &at("network.mlpackage"));
    let model = at("network.mlpackage/Data/com.apple.CoreML/model.mlmodel");
    fs::write(model, b"\x08\x04\x12\x00\xa2\x1f\x00").unwrap();
    fs::create_dir(at("empty.mlpackage")).unwrap();
    for (folder, name, text) in [
        ("broken-bundle", "bundle.json", "{"),
        ("broken-config", "config.json", "{\"model_type\": \"microgpt\"}"),
        ("llama", "config.json", "{\"model_type\": \"llama\"}"),
        ("llama", "letter.txt", "Dear reader"),
        ("ckpt", "letter.txt", "Dear reader"),
    ] {
        fs::create_dir_all(at(folder)).unwrap();
        fs::write(at(folder).join(name), text).unwrap();
    }
    for (folder, gone) in [("no-weights", "model.safetensors"), ("no-tokenizer", "tokenizer.json")] {
        common::copy(&at("ckpt"), &at(folder));
        fs::remove_file(at(folder).join(gone)).unwrap();
    }
    for folder in ["run", "run-of-sound-weights", "run-of-nothing"] {
        stopped_run(&at(folder));
    }
    for state in ["training/step-000001", "training/step-000002"] {
        fs::write(at("run-of-sound-weights").join(state).join("state.json"), "{}").unwrap();
        fs::write(at("run-of-nothing").join(state).join("model.safetensors"), "").unwrap();
    }
    for inner in ["ckpt", "run", "x.mlpackage"] {
        common::copy(&at(inner), &at("around").join(inner).join(inner));
    }
    let mut advised = BTreeSet::new();
    for path in [
        "ckpt",
        "bundle",
        "bundle/decoder-00.mlpackage",
        "x.mlpackage",
        "image.mlpackage",
        "both.mlpackage",
        "network.mlpackage",
        "empty.mlpackage",
        "broken-bundle",
        "broken-config",
        "no-weights",
        "no-tokenizer",
        "run",
        "run/training",
        "run/config.json",
        "run-of-sound-weights",
        "run-of-nothing",
        "llama",
        "llama/config.json",
        "llama/letter.txt",
        "ckpt/letter.txt",
        "ckpt/model.safetensors",
        "around/ckpt",
        "around/run",
        "around/x.mlpackage",
        "around",
    ] {
        let resume = ["train", "--resume", path];
        let over = ["train", "--steps", "1", "--out", path];
        let given = |command: &&[&str]| {
            command.iter().map(|a| if *a == "MODEL" { path } else { *a }.to_owned()).collect()
        };
        let mut commands: Vec<Vec<String>> = COMMANDS.iter().map(given).collect();
        commands.extend([&resume[..], &over].map(|command| command.iter().map(|a| a.to_string()).collect()));
        for command in commands {
            let scratch = tempfile::tempdir().unwrap();
            let ran = if command.iter().any(|a| a == "--out" || a == "--resume") {
                common::copy(dir, scratch.path());
                microgpt(scratch.path(), &command.iter().map(String::as_str).collect::<Vec<_>>())
            } else {
                microgpt(dir, &command.iter().map(String::as_str).collect::<Vec<_>>())
            };
            if ran.code != 2 {
                continue;
            }
            let is_letter = path.ends_with("letter.txt");
            assert!(!is_letter || !ran.err.contains("it belongs to"), "{command:?}: {}", ran.err);
            let quoted = ran.err.split('`').skip(1).step_by(2).filter_map(|c| c.strip_prefix("microgpt "));
            // The names of commands without arguments, and the advice for those who have no model yet.
            let quoted = quoted.filter(|c| c.contains(' ') && *c != "train --out ckpt");
            advised.extend(quoted.map(|advice| (advice.to_owned(), format!("{command:?}: {}", ran.err))));
        }
    }
    let mut seen = BTreeSet::new();
    for (advice, cause) in advised {
        if !seen.insert(advice.clone()) {
            continue;
        }
        let scratch = tempfile::tempdir().unwrap();
        common::copy(dir, scratch.path());
        let mut arguments: Vec<&str> = advice.split(' ').collect();
        if arguments[0] == "train" && !arguments.contains(&"--resume") {
            arguments.extend(["--steps", "1"]);
        }
        let ran = microgpt(scratch.path(), &arguments);
        let wants_files = arguments.iter().any(|a| a.ends_with("X.safetensors") || a.ends_with("X.png"));
        let is_only_missing = wants_files
            && ["X.safetensors", "X.png"].iter().any(|file| ran.err.contains(file))
            && (ran.err.contains("no such file") || ran.err.contains("No such file"));
        assert!(ran.code != 2 || is_only_missing, "`{advice}` is refused: {}\nafter {cause}", ran.err);
    }
    for expected in [
        "train --resume run",
        "export run-of-sound-weights/training/step-000002 --out bundle",
        "train --init run-of-sound-weights/training/step-000002 --out NEW",
        "train --out NEW",
        "run image.mlpackage --image photo=X.png --out Y.safetensors",
        "run both.mlpackage --image photo=X.png --inputs X.safetensors --out Y.safetensors",
    ] {
        assert!(seen.contains(expected), "{expected} is not among {seen:?}");
    }
    for never in ["network.mlpackage", "broken-bundle", "no-weights", "no-tokenizer", "llama"] {
        assert!(!seen.iter().any(|advice| advice.contains(never)), "{never}: {seen:?}");
    }
}

/// The folder around a package is named by its path, not by that of the current folder.
#[test]
fn the_bundle_around_the_current_folder_is_named() {
    let dir = workspace();
    let said = microgpt(&dir.path().join("bundle/decoder-00.mlpackage"), &["chat", "."]).err;
    let bundle = dir.path().canonicalize().unwrap().join("bundle");
    assert!(said.contains(&format!("give the bundle around it, {}", bundle.display())), "{said}");
    let said = microgpt(&dir.path().join("bundle"), &["chat", "decoder-00.mlpackage"]).err;
    assert!(said.contains("give the bundle around it, .\n"), "{said}");
}
