//! `cargo run --example chat` with piped input, as in a script.

use std::path::Path;
use std::process::Command;

use crate::common::command::output_of;

/// Cargo builds the examples before it runs the tests, beside the binaries.
fn chat() -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_microgpt"));
    let name = format!("chat{}", std::env::consts::EXE_SUFFIX);
    Command::new(binary.parent().unwrap().join("examples").join(name))
}

#[test]
fn trains_exports_judges_and_answers() {
    let output = output_of(&mut chat(), "ka\n\n/quit\n");
    let out = String::from_utf8(output.stdout).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("CPU (predicted)") && out.contains("conv_ane=0/7"), "{out}");
    // Three completions of `ka`, three from nothing; each of letters only.
    let completions: Vec<&str> = out.lines().filter_map(|l| l.strip_prefix("  ")).collect();
    let completions: Vec<&str> = completions
        .into_iter()
        .filter(|l| !l.is_empty() && l.chars().all(|c| c.is_ascii_lowercase()))
        .collect();
    assert_eq!(completions.len(), 6, "{out}");
    assert_eq!(completions.iter().filter(|l| l.starts_with("ka")).count(), 3, "{out}");
    assert!(out.contains("6 completions"), "{out}");
}

#[test]
fn a_bundle_that_is_not_there_is_named() {
    let output = chat().args(["--bundle", "nowhere"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("nowhere"));
}
