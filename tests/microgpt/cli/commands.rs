//! The commands as a whole: help, the path from training to text, JSON, and the exit code of a gate.

use std::fs;

use serde_json::Value;

use super::names;
use crate::common::command::{microgpt, ok, workspace};

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
