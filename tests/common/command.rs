//! Runs the `microgpt` command as a script does.

use std::path::Path;

use assert_cmd::Command;

/// The result of a run.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `microgpt` in `dir` and checks that it did not panic.
pub(crate) fn microgpt(dir: &Path, arguments: &[&str]) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_microgpt")).current_dir(dir).args(arguments))
}

pub(crate) fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ran =
        Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) };
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
    ran
}

/// Runs a command that must succeed; returns its standard output.
pub(crate) fn ok(dir: &Path, arguments: &[&str]) -> String {
    let ran = microgpt(dir, arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.out, ran.err);
    ran.out
}

/// Runs a command that must be refused with exit code 2 and a message that contains all of `words`.
#[track_caller]
pub(crate) fn refused(dir: &Path, arguments: &[&str], words: &[&str]) {
    let ran = microgpt(dir, arguments);
    assert_eq!(ran.code, 2, "{arguments:?}: {}{}", ran.out, ran.err);
    assert!(ran.err.matches("os error").count() <= 1, "a cause is reported twice: {:?}", ran.err);
    for word in words {
        assert!(ran.err.contains(word), "{arguments:?}: {:?} lacks {word:?}", ran.err);
    }
}

/// A folder with `ckpt` and its export `bundle`.
pub(crate) fn workspace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    super::copy(super::trained(), &dir.path().join("ckpt"));
    ok(dir.path(), &["export", "ckpt", "--out", "bundle", "--no-verify"]);
    dir
}
