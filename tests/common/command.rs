//! Runs the `microgpt` command as a script does.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The result of a run.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `microgpt` in `dir` and checks that it did not panic.
pub(crate) fn microgpt(dir: &Path, arguments: &[&str]) -> Ran {
    with_input(dir, arguments, "")
}

/// Runs `microgpt` in `dir` with a text on its standard input, and checks that it did not panic.
pub(crate) fn with_input(dir: &Path, arguments: &[&str], input: impl AsRef<[u8]> + Send) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_microgpt"));
    let output = output_of(command.current_dir(dir).args(arguments), input);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ran =
        Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) };
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
    ran
}

/// Runs a command to its end with a text on its standard input.
pub(crate) fn output_of(command: &mut Command, input: impl AsRef<[u8]> + Send) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A command that ends without reading its input closes the pipe.
        scope.spawn(move || stdin.write_all(input.as_ref()).ok());
        child.wait_with_output().unwrap()
    })
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

/// Creates a folder with `ckpt` and its export `bundle`.
pub(crate) fn workspace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    super::copy(super::trained(), &dir.path().join("ckpt"));
    ok(dir.path(), &["export", "ckpt", "--out", "bundle", "--no-verify"]);
    dir
}
