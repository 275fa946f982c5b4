//! `microgpt train` as a user types it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const TEXT: &str = "It was a bright cold day in April, and the clocks were striking thirteen. ";

fn microgpt(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_microgpt")).current_dir(dir).args(arguments).output().unwrap()
}

fn ok(dir: &Path, arguments: &[&str]) -> String {
    let output = microgpt(dir, arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap() + &error
}

fn refused(dir: &Path, arguments: &[&str], words: &[&str]) {
    let output = microgpt(dir, arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    assert!(words.iter().all(|word| error.contains(word)), "{arguments:?}: {error}");
}

/// Running text in byte pairs, all the way to a chat in letters that the text does not have.
#[test]
fn running_text_in_byte_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("text.txt"), TEXT.repeat(40)).unwrap();
    let train = ["train", "--data", "text.txt", "--packed", "--tokenizer", "bpe", "--vocab-size", "300"];
    let shape = ["--steps", "60", "--batch-size", "4", "--block-size", "24", "--out", "ckpt"];
    let out = ok(dir, &[&train[..], &shape].concat());
    assert!(out.contains("300 tokens: 256 bytes, 43 merged from pairs, and BOS"), "{out}");
    let svg = fs::read_to_string(dir.join("ckpt/loss.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("polyline") && svg.contains("held out"));
    let out = ok(dir, &["export", "ckpt", "--out", "bundle"]);
    assert!(out.contains("argmax 24/24"), "{out}");
    let text = ok(dir, &["generate", "bundle", "--prompt", "It was é", "--temperature", "0"]);
    assert!(text.starts_with("It was é"), "{text}");
    // Another run replaces what is there, picture and all.
    ok(dir, &["train", "--steps", "2", "--out", "ckpt"]);
    assert!(fs::read_to_string(dir.join("ckpt/loss.svg")).unwrap().contains("built-in names"));
}

#[test]
fn trains_on_from_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ok(dir, &["train", "--steps", "30", "--out", "first"]);
    let out =
        ok(dir, &["train", "--init", "first", "--steps", "1", "--learning-rate", "1e-9", "--out", "second"]);
    assert!(out.contains("trained 4192 parameters for 1 step "), "{out}");
    let weights = |name: &str| fs::read(dir.join(name).join("model.safetensors")).unwrap();
    let (first, second) = (weights("first"), weights("second"));
    assert_eq!(first.len(), second.len());
    let header = 8 + u64::from_le_bytes(first[..8].try_into().unwrap()) as usize;
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes[header..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let moved = floats(&first).iter().zip(floats(&second)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(moved < 1e-6, "a step of 1e-9 moves nothing by more than rounding: {moved}");
    fs::write(dir.join("digits.txt"), "11\n11\n").unwrap();
    refused(dir, &["train", "--init", "first", "--data", "digits.txt", "--out", "x"], &["'1'", "vocabulary"]);
    refused(dir, &["train", "--init", "nowhere", "--out", "x"], &["nowhere"]);
    refused(dir, &["train", "--init", "first", "--n-embd", "32", "--out", "x"], &["--n-embd"]);
}

#[test]
fn a_run_that_is_finished_is_not_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ok(dir, &["train", "--steps", "4", "--save-every", "2", "--out", "ckpt"]);
    assert!(!dir.join("ckpt/training/step-000002").exists());
    refused(dir, &["train", "--resume", "ckpt"], &["ckpt", "finished", "--init"]);
    refused(dir, &["train", "--resume", "nowhere"], &["nowhere"]);
    refused(dir, &["train", "--resume", "ckpt", "--steps", "9"], &["--resume", "--steps"]);
}

/// What stops a run, and what it leaves.
#[cfg(unix)]
#[test]
fn a_signal_saves_and_ends_a_run() {
    let dir = tempfile::tempdir().unwrap();
    for signal in ["INT", "TERM"] {
        let out = dir.path().join(signal);
        let mut child = Command::new(env!("CARGO_BIN_EXE_microgpt"))
            .args(["train", "--steps", "1000000", "--save-every", "100", "--json", "--out"])
            .arg(&out)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Until it trains, and takes signals.
        let mut told = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(": saved") {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut told, &mut line).unwrap() > 0, "it ended");
        }
        drop(told);
        let kill = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        assert!(output.stdout.is_empty(), "no report of what is not finished");
        let states = fs::read_dir(out.join("training")).unwrap().count();
        assert!((1..=2).contains(&states), "{states}");
        refused(dir.path(), &["train", "--out", signal], &["not finished", "--resume"]);
        refused(dir.path(), &["export", signal, "--out", "x"], &["not finished", "--resume"]);
    }
}

/// What comes in the way while a run goes on does not cost its result.
#[test]
fn a_result_that_finds_no_place_is_put_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut child = Command::new(env!("CARGO_BIN_EXE_microgpt"))
        .current_dir(dir)
        .args(["train", "--steps", "3000", "--out", "ckpt"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut told, &mut line).unwrap();
    fs::create_dir(dir.join("ckpt")).unwrap();
    fs::write(dir.join("ckpt/thesis.tex"), "").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(dir.join("ckpt/thesis.tex").is_file());
    assert!(ok(dir, &["inspect", "ckpt.finished"]).contains("4192"));
}

#[test]
fn texts_of_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (name, text) in [("empty", &b""[..]), ("blank", b" \n\n"), ("latin1", b"ren\xe9\n"), ("one", b"ada")]
    {
        fs::write(dir.join(name), text).unwrap();
    }
    let train = |file: &'static str, more: &[&'static str]| {
        [&["train", "--steps", "2", "--out", "out", "--data", file], more].concat()
    };
    refused(dir, &train("empty", &[]), &["empty", "no document"]);
    refused(dir, &train("blank", &["--packed"]), &["blank", "no text"]);
    refused(dir, &train("latin1", &[]), &["latin1", "line 1 is not UTF-8"]);
    refused(dir, &train("one", &[]), &["held_out", "--held-out"]);
    ok(dir, &train("one", &["--held-out", "0"]));
    ok(dir, &train("one", &["--held-out", "0.4", "--packed", "--tokenizer", "bpe"]));
    fs::write(dir.join("long"), format!("{}\nshort\n", "ab".repeat(40))).unwrap();
    let out = ok(dir, &train("long", &["--held-out", "0"]));
    assert!(out.contains("1 documents are longer than the context of 16"), "{out}");
    refused(dir, &["train", "--packed", "--out", "x"], &["--data"]);
    refused(dir, &train("one", &["--tokenizer", "bpe", "--vocab-size", "256"]), &["vocab_size", "257"]);
    refused(dir, &train("one", &["--vocab-size", "300"]), &["--vocab-size", "bpe"]);
}

#[test]
fn options_of_the_recipe_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let train = |more: &[&'static str]| [&["train", "--steps", "2", "--out", "out"], more].concat();
    refused(dir, &train(&["--dropout", "1"]), &["dropout", "1 is not"]);
    refused(dir, &train(&["--weight-decay", "-1"]), &["weight_decay", "-1"]);
    refused(dir, &train(&["--accumulate", "2"]), &["accumulate", "batch of 1"]);
    refused(dir, &train(&["--devices", "2"]), &["devices", "accumulate"]);
    refused(dir, &train(&["--schedule", "stairs"]), &["stairs", "linear, cosine or constant"]);
    refused(dir, &train(&["--keep-best"]), &["keep_best", "--evaluate-every"]);
    refused(dir, &train(&["--patience", "3"]), &["patience", "--keep-best"]);
    refused(dir, &train(&["--warmup", "3"]), &["warmup", "2 steps"]);
    refused(dir, &train(&["--backend", "cuda"]), &["cuda", "--features cuda"]);
    ok(dir, &["train", "--preset", "compact", "--steps", "2", "--keep-best", "false", "--out", "out"]);
    ok(dir, &["train", "--preset", "compact", "--steps", "2", "--evaluate-every", "0", "--out", "out"]);
    // A short run of a preset whose own recipe is long.
    ok(dir, &["train", "--preset", "compact", "--steps", "3", "--batch-size", "4", "--out", "out"]);
    ok(
        dir,
        &[
            "train",
            "--preset",
            "compact",
            "--steps",
            "1",
            "--batch-size",
            "4",
            "--held-out",
            "0",
            "--out",
            "out",
        ],
    );
}

#[test]
fn a_text_that_was_moved_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("names.txt"), "ada\nbob\ncy\ndora\n").unwrap();
    // A run that is killed after its first state.
    let mut child = Command::new(env!("CARGO_BIN_EXE_microgpt"))
        .current_dir(dir)
        .args(["train", "--data", "names.txt", "--steps", "1000000", "--save-every", "1", "--out", "ckpt"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !dir.join("ckpt/training").is_dir() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fs::rename(dir.join("names.txt"), dir.join("moved.txt")).unwrap();
    refused(dir, &["train", "--resume", "ckpt"], &["names.txt", "cannot be read"]);
    refused(dir, &["train", "--resume", "ckpt", "--data", "ckpt/config.json"], &["was changed"]);
}
