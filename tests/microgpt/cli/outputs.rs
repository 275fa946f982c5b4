//! Outputs: what is replaced, what is kept, and what a failed write leaves.

use std::fs;
use std::path::Path;

use super::names;
use crate::common;
use crate::common::command::{microgpt, ok, refused, workspace};

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
