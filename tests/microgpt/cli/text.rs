//! `chat` and `generate`: prompts, answers, and texts that end early.

use std::fs;

use serde_json::Value;

use crate::common::command::{microgpt, ok, refused, with_input, workspace};

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
