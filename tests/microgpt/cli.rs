//! The `microgpt` command as scripts see it: exit codes, output, and files left behind.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common;
use crate::common::command::{microgpt, ok, refused, with_input, workspace};

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_command_has_help() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["train", "export", "floor", "verify", "generate", "chat", "bench", "inspect", "run"] {
        assert!(ok(dir.path(), &[command, "--help"]).contains("Usage: microgpt"), "{command}");
    }
    assert_eq!(microgpt(dir.path(), &[]).code, 2);
    assert_eq!(microgpt(dir.path(), &["train"]).code, 2);
    assert_eq!(microgpt(dir.path(), &["traim"]).code, 2);
}

/// The commands that scripts rely on, one after the other.
#[test]
fn the_whole_path() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("names.txt"), "anna\nben\ncleo\ndora\nemil\nfay\ngus\nhanna\nida\njon\n").unwrap();
    let data = ["--preset", "original", "--data", "names.txt", "--steps", "5", "--seed", "42"];
    let out = ok(dir, &[&["train"], &data[..], &["--out", "ckpt"]].concat());
    assert!(out.contains("for 5 steps of 1 on 9 documents from names.txt"), "{out}");
    let metrics = fs::read_to_string(dir.join("ckpt/metrics.jsonl")).unwrap();
    let steps: Vec<Value> = metrics.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(steps.len(), 5);
    assert_eq!(steps[4]["step"], 5);
    assert!(steps[4]["loss"].as_f64().unwrap() > 0.0);

    for quantize in ["none", "int8-per-tensor", "int8-per-channel"] {
        let out = ok(dir, &["export", "ckpt", "--out", "bundle", "--quantize", quantize]);
        assert!(out.contains("argmax 16/16"), "{out}");
        assert!(ok(dir, &["verify", "bundle", "--checkpoint", "ckpt"]).contains("ok"));
        let floor = ok(dir, &["floor", "bundle"]);
        assert!(floor.contains("CPU (predicted)") && floor.contains("conv_ane=0/7"), "{floor}");
        assert!(!floor.contains("measured"));
    }
    assert_eq!(ok(dir, &["floor", "bundle/decoder-00.mlpackage"]).matches("CPU (predicted)").count(), 1);
    let texts = ok(dir, &["generate", "bundle", "--prompt", "an", "-n", "5", "--seed", "1"]);
    assert_eq!(texts.lines().count(), 5);
    assert!(texts.lines().all(|l| l.starts_with("an")), "{texts}");
    assert_eq!(texts, ok(dir, &["generate", "bundle", "--prompt", "an", "-n", "5", "--seed", "1"]));
    assert_eq!(ok(dir, &["generate", "ckpt", "--prompt", "an", "-n", "2"]).lines().count(), 2);
    for path in ["ckpt", "bundle", "bundle/decoder-00.mlpackage"] {
        assert!(!ok(dir, &["inspect", path]).is_empty());
    }
    assert!(ok(dir, &["inspect", "--mil", "bundle"]).contains("func main<ios18>"), "MIL text");
    assert_eq!(names(dir), ["bundle", "ckpt", "names.txt"], "nothing else is left behind");
}

#[test]
fn json_is_what_a_program_can_read() {
    let dir = workspace();
    let dir = dir.path();
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&ok(dir, arguments)).unwrap() };
    let trained = json(&["train", "--steps", "2", "--out", "other", "--json"]);
    assert_eq!((&trained["steps"], &trained["seed"]), (&2.into(), &42.into()));
    let exported = json(&["export", "ckpt", "--out", "other-bundle", "--json"]);
    assert_eq!(exported["verification"]["pass"], true);
    let floor = json(&["floor", "bundle", "--json"]);
    assert_eq!(floor[0]["basis"], "predicted");
    assert_eq!(floor[0]["verdict"], "cpu");
    assert_eq!(floor[0]["residency"]["conv_ane"]["total"], 7);
    let verified = json(&["verify", "bundle", "--checkpoint", "ckpt", "--json"]);
    assert_eq!(verified["checks"][0]["parity"]["positions"], 16);
    let generated = json(&["generate", "bundle", "-n", "3", "--json"]);
    assert_eq!(generated["texts"].as_array().unwrap().len(), 3);
    assert_eq!(json(&["inspect", "bundle", "--json"])["kind"], "bundle");
    assert_eq!(json(&["inspect", "ckpt", "--json"])["parameters"], 4_192);
}

#[test]
fn a_gate_that_fails_is_exit_code_1() {
    let dir = workspace();
    let dir = dir.path();
    let ran = microgpt(dir, &["floor", "bundle", "--require", "ane"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    ok(dir, &["train", "--steps", "3", "--out", "other", "--seed", "7"]);
    let ran = microgpt(dir, &["verify", "bundle", "--checkpoint", "other"]);
    assert_eq!(ran.code, 1, "another model's checkpoint: {}", ran.out);
    assert!(ran.out.contains("FAIL"), "{}", ran.out);
}

#[test]
fn chat_answers_piped_lines_and_survives_mistakes() {
    let dir = workspace();
    let mut input = b"ka\nK\n\xff\xfe\n".to_vec();
    input.extend(vec![b'a'; 200_000]);
    input.extend(b"\n/temperature 0\n/n 1\njo\n/nonsense\n");
    let ran = with_input(dir.path(), &["chat", "bundle", "-n", "2"], input);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.out.lines().filter(|l| l.starts_with("  ka")).count(), 2, "{}", ran.out);
    assert_eq!(ran.out.lines().filter(|l| l.starts_with("  jo")).count(), 1, "{}", ran.out);
    assert!(ran.out.contains("! character 'K' at position 0"), "{}", ran.out);
    assert!(ran.out.contains("! that is not UTF-8"), "{}", ran.out);
    assert!(ran.out.contains("! a line has at most 65536 bytes"), "{}", ran.out);
    assert!(ran.out.contains("! no command /nonsense"), "{}", ran.out);
}

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

#[test]
fn prompts_and_options_that_make_no_sense_are_named() {
    let dir = workspace();
    let dir = dir.path();
    refused(dir, &["generate", "bundle", "--prompt", "kA"], &["'A'", "position 1", "vocabulary"]);
    refused(dir, &["generate", "bundle", "--prompt", "aaaaaaaaaaaaaaaa"], &["17 tokens", "context of 16"]);
    refused(dir, &["generate", "bundle", "--temperature", "nan"], &["temperature"]);
    refused(dir, &["generate", "bundle", "--temperature=-1"], &["temperature"]);
    refused(dir, &["generate", "bundle", "--top-p", "1.5"], &["top-p"]);
    refused(dir, &["generate", "bundle", "--top-k", "0"], &["top-k"]);
    refused(dir, &["export", "ckpt", "--out", "out", "--quantize", "int3"], &["int3", "int8-per-tensor"]);
    refused(dir, &["train", "--out", "out", "--n-head", "3"], &["n_head"]);
    refused(dir, &["train", "--out", "out", "--steps", "0"], &["steps"]);
    refused(dir, &["train", "--out", "out", "--backend", "cuda"], &["cuda", "flex"]);
    refused(dir, &["train", "--out", "out", "--data", "nowhere.txt"], &["nowhere.txt"]);
    fs::write(dir.join("empty.txt"), "\n\n").unwrap();
    refused(dir, &["train", "--out", "out", "--data", "empty.txt"], &["empty.txt"]);
    assert!(!dir.join("out").exists());
}

/// Zero texts are an error, so that a script notices.
#[test]
fn nothing_to_do_is_refused() {
    let dir = workspace();
    for arguments in [
        &["generate", "bundle", "-n", "0"][..],
        &["generate", "bundle", "--max-tokens", "0"],
        &["generate", "ckpt", "-n", "0"],
        &["chat", "bundle", "-n", "0"],
        &["generate", "bundle", "-n", "many"],
    ] {
        refused(dir.path(), arguments, &["at least 1"]);
    }
}

/// A text cut by the context looks like one that the model ended, so it is reported.
#[test]
fn a_full_context_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // Running text has no end that a model could learn.
    fs::write(dir.join("text.txt"), "la ".repeat(400)).unwrap();
    let train =
        ["train", "--data", "text.txt", "--packed", "--steps", "50", "--block-size", "16", "--out", "ckpt"];
    ok(dir, &train);
    ok(dir, &["export", "ckpt", "--out", "bundle", "--no-verify"]);
    let ran = microgpt(dir, &["generate", "bundle", "-n", "2", "--prompt", "la"]);
    assert_eq!((ran.code, ran.out.lines().count()), (0, 2), "{}", ran.err);
    for words in ["2 of 2 texts end", "the context of 16 tokens is full", "--block-size 32"] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    let ran = microgpt(dir, &["generate", "bundle", "-n", "1", "--json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["ended"], serde_json::json!(["context-full"]));
    assert!(ran.err.contains("the text ends because"), "{}", ran.err);
    let ran = microgpt(dir, &["generate", "bundle", "-n", "1", "--max-tokens", "1", "--json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(json["ended"] == serde_json::json!(["limit"]) && !ran.err.contains("is full"), "{}", ran.out);
    let chat = ["chat", "bundle", "-n", "1"];
    let ran = with_input(dir, &chat, "la\nl\n");
    assert_eq!(ran.err.matches("the context of 16 tokens is full").count(), 1, "once: {}", ran.err);
    assert!(!ran.out.contains("is full"), "{}", ran.out);
}

/// Texts of several lines are separated; texts of one line are printed one per line.
#[test]
fn texts_of_several_lines_have_a_line_between_them() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("verse.txt"), "oh\nmy\n".repeat(200)).unwrap();
    let train = ["train", "--data", "verse.txt", "--packed", "--steps", "150", "--batch-size", "4"];
    ok(dir, &[&train[..], &["--block-size", "16", "--out", "ckpt"]].concat());
    ok(dir, &["export", "ckpt", "--out", "bundle", "--no-verify"]);
    for model in ["ckpt", "bundle"] {
        let texts = ok(dir, &["generate", model, "--prompt", "oh", "-n", "3", "--seed", "1"]);
        assert_eq!(texts.lines().filter(|line| *line == "---").count(), 2, "{texts}");
        assert_eq!(texts.split("---\n").filter(|text| text.starts_with("oh\nmy\n")).count(), 3, "{texts}");
    }
    let ran = with_input(dir, &["chat", "bundle", "-n", "2"], "oh\n");
    assert_eq!(ran.out.lines().filter(|line| *line == "  ---").count(), 1, "{}", ran.out);
    assert!(ran.out.lines().all(|line| line.starts_with("  ")), "{}", ran.out);
}

/// A script does not read the refusals in the output, so the exit code must report them.
#[test]
fn a_piped_chat_without_any_answer_fails() {
    let dir = workspace();
    let chat = |lines: &str| with_input(dir.path(), &["chat", "bundle"], lines);
    for lines in ["K\nÄ\n", "/nonsense\n", "aaaaaaaaaaaaaaaa\n"] {
        let ran = chat(lines);
        assert_eq!(ran.code, 2, "{lines:?}: {}", ran.out);
        assert!(ran.err.contains("no line could be answered") && ran.out.starts_with('!'), "{}", ran.err);
    }
    for lines in ["K\nka\n", "", "/quit\n", "/n 2\n"] {
        assert_eq!(chat(lines).code, 0, "{lines:?}");
    }
}

/// The error names the missing folder, and no temporary file that the user does not know.
#[test]
fn a_missing_folder_is_named_before_the_work() {
    let dir = workspace();
    ok(dir.path(), &["verify", "bundle", "--dump", "x.safetensors"]);
    let package = "bundle/decoder-00.mlpackage";
    for arguments in [
        &["floor", "bundle", "--html", "nodir/x"][..],
        &["verify", "bundle", "--dump", "nodir/x"],
        &["run", package, "--inputs", "x.safetensors", "--out", "nodir/x"],
        &["floor", "refit", "--out", "nodir/x"],
    ] {
        let ran = microgpt(dir.path(), arguments);
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains("write nodir/x: there is no folder nodir"), "{}", ran.err);
        assert!(!ran.err.contains(".tmp") && !ran.err.contains("partial"), "{}", ran.err);
        assert!(ran.out.is_empty(), "{}", ran.out);
    }
}

/// Existing files are not destroyed, and a failed write leaves nothing.
#[test]
fn outputs_never_destroy_and_never_remain_half() {
    let dir = workspace();
    let dir = dir.path();
    fs::create_dir(dir.join("thesis")).unwrap();
    fs::write(dir.join("thesis/chapter-1.txt"), "years of work").unwrap();
    refused(dir, &["export", "ckpt", "--out", "thesis"], &["thesis", "not replaced"]);
    refused(dir, &["train", "--steps", "1", "--out", "thesis"], &["thesis", "not replaced"]);
    fs::write(dir.join("file"), "").unwrap();
    refused(dir, &["export", "ckpt", "--out", "file/bundle"], &["file"]);
    refused(dir, &["train", "--steps", "1", "--out", "file/ckpt"], &["file"]);
    refused(dir, &["export", "ckpt", "--out", "/proc/bundle"], &["/proc"]);
    refused(dir, &["verify", "bundle", "--dump", "file/dump.safetensors"], &["file/dump.safetensors"]);
    assert_eq!(names(&dir.join("thesis")), ["chapter-1.txt"]);
    assert_eq!(names(dir), ["bundle", "ckpt", "file", "thesis"]);
    // Its own earlier output is replaced.
    ok(dir, &["export", "ckpt", "--out", "bundle", "--no-verify", "--quantize", "none"]);
    assert!(ok(dir, &["inspect", "bundle"]).contains("none"));
}

/// Every write to /dev/full fails, as on a full disk (Linux). A failure to write standard output is an error.
#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let dir = workspace();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_microgpt"))
        .current_dir(dir.path())
        .args(["inspect", "bundle"])
        .stdout(full)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
}

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

/// Folders of other programs with a file of the same name, and the user's notes beside an output, are never
/// replaced.
#[test]
fn folders_with_foreign_files_are_never_replaced() {
    let dir = workspace();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir_all(at("llama/.git")).unwrap();
    fs::write(at("llama/config.json"), r#"{"model_type": "llama"}"#).unwrap();
    let train = |out: &str, words: &[&str]| {
        refused(dir.path(), &["train", "--steps", "2", "--out", out], words);
    };
    train("llama", &["llama", "config.json", "not replaced"]);
    fs::write(at("ckpt/NOTES.md"), "keep").unwrap();
    train("ckpt", &["NOTES.md, which would be lost"]);
    fs::create_dir(at("web")).unwrap();
    fs::write(at("web/bundle.json"), "{}").unwrap();
    refused(
        dir.path(),
        &["export", "ckpt", "--out", "web"],
        &["bundle.json was not written by this program"],
    );
    refused(dir.path(), &["export", "ckpt", "--out", "ckpt"], &["ckpt"]);
    fs::write(at("bundle/thesis.tex"), "years").unwrap();
    refused(dir.path(), &["export", "ckpt", "--out", "bundle"], &["thesis.tex, which would be lost"]);
    assert!(at("llama/.git").is_dir() && at("ckpt/NOTES.md").is_file() && at("bundle/thesis.tex").is_file());
    // A refusal creates no folders.
    refused(dir.path(), &["train", "--out", "a/b/c", "--n-embd", "15"], &["n_head"]);
    assert!(!at("a").exists());
}

/// `--dump` follows links, and replaces only regular files.
#[cfg(target_os = "linux")]
#[test]
fn dump_replaces_files_only() {
    let dir = workspace();
    let at = |path: &str| dir.path().join(path);
    fs::write(at("d.partial"), "keep").unwrap();
    ok(dir.path(), &["verify", "bundle", "--dump", "d"]);
    assert_eq!(fs::read_to_string(at("d.partial")).unwrap(), "keep");
    std::os::unix::fs::symlink("target", at("link")).unwrap();
    ok(dir.path(), &["verify", "bundle", "--dump", "link"]);
    assert_eq!(fs::read(at("target")).unwrap(), fs::read(at("d")).unwrap());
    fs::create_dir(at("folder")).unwrap();
    refused(dir.path(), &["verify", "bundle", "--dump", "folder"], &["folder", "is not replaced"]);
    refused(
        dir.path(),
        &["verify", "bundle", "--dump", "bundle/tokenizer.json"],
        &["it is inside", "bundle, a bundle"],
    );
    assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("target"));
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

/// Files that a user keeps at any depth of a bundle, package or checkpoint are never lost to a new one.
#[test]
fn files_of_the_user_inside_an_output_refuse_its_replacement() {
    let dir = workspace();
    let at = |path: &str| dir.path().join(path);
    let export = ["export", "ckpt", "--out", "bundle", "--no-verify"];
    let train = ["train", "--steps", "1", "--out", "ckpt", "--force"];
    let data = "decoder-00.mlpackage/Data/com.apple.CoreML";
    common::copy(&at("bundle/decoder-00.mlpackage"), &at("bundle/mine.mlpackage"));
    refused(dir.path(), &export, &["bundle exists and holds mine.mlpackage/", "would be lost"]);
    fs::remove_dir_all(at("bundle/mine.mlpackage")).unwrap();
    for (command, output, name) in [
        (&export[..], "bundle", "notes.txt".to_owned()),
        (&export, "bundle", format!("{data}/notes.txt")),
        (&export, "bundle", format!("{data}/weights/old.bin")),
        (&export, "bundle", ".hidden".to_owned()),
        (&train, "ckpt", "notes.txt".to_owned()),
        (&train, "ckpt", "training/notes.txt".to_owned()),
        (&train, "ckpt", "training/last/notes.txt".to_owned()),
    ] {
        let file = at(output).join(&name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "mine").unwrap();
        refused(dir.path(), command, &[&format!("{output} exists and holds {name}"), "would be lost"]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        fs::remove_file(file).unwrap();
    }
    fs::write(at("bundle/decoder-00.mlpackage/.DS_Store"), "").unwrap();
    ok(dir.path(), &export);
    ok(dir.path(), &train);
}

/// Every option that writes a file refuses one that belongs to a model, and one that the same command reads.
#[test]
fn an_option_that_writes_a_file_never_damages_another() {
    let dir = workspace();
    let at = |path: &str| dir.path().join(path);
    fs::write(at("reports.json"), ok(dir.path(), &["floor", "bundle", "--json"])).unwrap();
    let rows = "{\"n_layer\": 1}\n";
    fs::write(at("rows.jsonl"), rows).unwrap();
    for path in ["steps", "results"] {
        fs::create_dir_all(at("report").join(path)).unwrap();
    }
    let files = ["bundle/bundle.json", "ckpt/model.safetensors", "reports.json", "rows.jsonl"];
    let before = files.map(|file| fs::read(at(file)).unwrap());
    let package = "bundle/decoder-00.mlpackage";
    let manifest = format!("{package}/Manifest.json");
    for (command, words) in [
        (&["floor", "bundle", "--html", "bundle/bundle.json"][..], "--html"),
        (&["floor", "bundle", "--html", "ckpt/page.html"], "--html"),
        (&["floor", "bundle", "--measure", "--save-plan", "bundle/plan.json"], "--save-plan"),
        (&["floor", "bundle", "--plan", "p.json", "--rows", "bundle/tokenizer.json"], "--rows"),
        (&["floor", "refit", "--out", "ckpt/model.safetensors"], "--out"),
        (&["floor", "discover", "--out", "ckpt"], "--out"),
        (&["floor", "discover", "--write-only", "--out", "bundle/probes"], "--out"),
        (&["floor", "discover", "--measure", "bundle"], "--measure"),
        (&["verify", "bundle", "--dump", "ckpt/model.safetensors"], "--dump"),
        (&["verify", "bundle", "--dump", &manifest], "--dump"),
        (&["run", package, "--inputs", "x", "--out", "bundle/bundle.json"], "--out"),
        (&["run", package, "--inputs", "x", "--out-image", "y=ckpt/y.png"], "--out-image y"),
        (&["field-report", "report", "--html", "bundle/page.html"], "--html"),
        (&["export", "ckpt", "--out", "ckpt/bundle"], "--out"),
        (&["export", "ckpt", "--out", &format!("{package}/bundle")], "--out"),
        (&["train", "--steps", "1", "--out", "bundle/ckpt"], "--out"),
    ] {
        refused(dir.path(), command, &[words, "it is inside", "whose files must stay as they are"]);
    }
    for (command, words) in [
        (
            &["floor", "bundle", "--baseline", "reports.json", "--html", "reports.json"][..],
            "--baseline names",
        ),
        (&["floor", "bundle", "--html", "./reports.json", "--measured", "reports.json"], "--measured names"),
        (&["floor", "bundle", "--plan", "reports.json", "--rows", "reports.json"], "--plan names"),
        (&["floor", "bundle", "--plan", "p.json", "--html", "o", "--rows", "o"], "--html names"),
        (&["floor", "refit", "--with", "rows.jsonl", "--out", "rows.jsonl"], "--with names"),
        (&["field-report", "report", "--html", "report/results/page.html"], "among the results"),
        (&["run", package, "--inputs", "reports.json", "--out", "reports.json"], "--inputs names"),
    ] {
        refused(dir.path(), command, &[words, "name another"]);
    }
    assert_eq!(files.map(|file| fs::read(at(file)).unwrap()), before);
    assert!(!at("bundle/probes").exists() && !at("ckpt/bundle").exists());
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
