//! Training that is killed at any moment resumes as if nothing had happened.
//!
//! `MICROGPT_KILLS=200 cargo test --release --test kills resume::` kills it two hundred times.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const SAVE_EVERY: usize = 20;
const STEPS: usize = 2_000;

/// Returns the command that begins a run: a small model, and a recipe that uses everything that a state has
/// to keep.
fn begin(out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_microgpt"));
    command.args(["train", "--n-layer", "2", "--batch-size", "3", "--dropout", "0.1", "--keep-best"]);
    command.args(["--evaluate-every", "250", "--weight-decay", "0.1", "--clip-norm", "1"]);
    command.args(["--steps", &STEPS.to_string(), "--save-every", &SAVE_EVERY.to_string(), "--out"]).arg(out);
    command
}

fn resume(out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_microgpt"));
    command.args(["train", "--save-every", &SAVE_EVERY.to_string(), "--resume"]).arg(out);
    command
}

/// Runs a command to its end.
fn finish(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Kills the process after a while. Returns the newest state that it reported as saved, and the one that it
/// reported resuming from.
fn kill_after(mut command: Command, time: Duration) -> (Option<usize>, Option<usize>) {
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let errors = BufReader::new(child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        let number = |line: &str, before: &str, after: &str| {
            line.split_once(before)?.1.split_once(after)?.0.parse::<usize>().ok()
        };
        let (mut saved, mut from) = (None, None);
        for line in errors.lines().map_while(Result::ok) {
            assert!(!line.starts_with("error") && !line.starts_with("warning"), "{line}");
            saved = number(&line, "step ", ": saved").or(saved);
            from = number(&line, "resuming after step ", " of").or(from);
        }
        (saved, from)
    });
    std::thread::sleep(time);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

#[test]
fn kills_lose_no_more_than_an_interval_and_change_nothing() {
    let kills: usize = std::env::var("MICROGPT_KILLS").map_or(10, |kills| kills.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (expected, out) = (dir.path().join("expected"), dir.path().join("out"));
    finish(begin(&expected));

    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut newest = None;
    let mut rounds = 0;
    for kill in 0..kills {
        let command = if newest.is_some() { resume(&out) } else { begin(&out) };
        let (saved, from) = kill_after(command, Duration::from_micros(rng.random_range(1_000..400_000)));
        // The next run must resume from the state that was reported as saved, or a newer one.
        assert!(from.is_none_or(|from| newest.is_none_or(|newest| from >= newest)), "kill {kill}");
        newest = saved.or(from).or(newest);
        if out.join("training/report.json").is_file() {
            compare(&expected, &out);
            // The run ended before the kill: start again.
            fs::remove_dir_all(&out).unwrap();
            newest = None;
            rounds += 1;
        } else if newest.is_none() && out.exists() {
            // Killed between saving the state and reporting it.
            newest = Some(0);
        }
    }
    finish(if newest.is_some() { resume(&out) } else { begin(&out) });
    compare(&expected, &out);
    println!("{kills} kills, {} runs to the end", rounds + 1);
    // Partial files of killed processes are gone.
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["expected", "out"]);
}

/// Compares models, losses and evaluations bit by bit.
fn compare(expected: &Path, out: &Path) {
    for name in ["config.json", "tokenizer.json", "model.safetensors", "metrics.jsonl"] {
        assert!(fs::read(expected.join(name)).unwrap() == fs::read(out.join(name)).unwrap(), "{name}");
    }
    let report = |folder: &Path| -> serde_json::Value {
        let bytes = fs::read(folder.join("training/report.json")).unwrap();
        let mut report: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        for time in ["seconds", "tokens_per_second"] {
            report.as_object_mut().unwrap().remove(time);
        }
        report
    };
    assert_eq!(report(expected), report(out));
}
