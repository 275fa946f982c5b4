//! `microgpt train` as a user runs it.

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

/// Trains on running text in byte pairs, exports, and completes a prompt with a character that the text does
/// not have.
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
    // With --force another run replaces the checkpoint, including the picture.
    ok(dir, &["train", "--steps", "2", "--out", "ckpt", "--force"]);
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
    assert!(moved < 1e-6, "a step with a rate of 1e-9 must move no weight by more than rounding: {moved}");
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
    let words = ["ckpt is finished after 4 steps", "--resume ckpt --steps 8", "--init ckpt"];
    refused(dir, &["train", "--resume", "ckpt"], &words);
    refused(dir, &["train", "--resume", "ckpt", "--steps", "4"], &["--steps 4", "has 4 steps", "--steps 8"]);
    refused(dir, &["train", "--resume", "nowhere"], &["nowhere"]);
    refused(dir, &["train", "--resume", "ckpt", "--n-layer", "2"], &["--resume", "--n-layer"]);
    // A model that was trained elsewhere has no training state.
    fs::remove_dir_all(dir.join("ckpt/training/last")).unwrap();
    refused(
        dir,
        &["train", "--resume", "ckpt", "--steps", "9"],
        &["ckpt", "no state to resume from", "a new run from its weights"],
    );
}

/// Extends the number of steps of a finished run, twice.
#[test]
fn a_run_is_trained_longer_than_was_planned() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let recipe = ["train", "--schedule", "constant", "--batch-size", "2"];
    ok(dir, &[&recipe[..], &["--steps", "30", "--out", "expected"]].concat());
    ok(dir, &[&recipe[..], &["--steps", "10", "--out", "ckpt"]].concat());
    for steps in ["20", "30"] {
        let out = ok(dir, &["train", "--resume", "ckpt", "--steps", steps]);
        assert!(out.contains(&format!("of {steps}")) && out.contains("trained 4192 parameters"), "{out}");
    }
    let read = |folder: &str, file: &str| fs::read(dir.join(folder).join(file)).unwrap();
    for file in ["model.safetensors", "metrics.jsonl"] {
        assert!(read("expected", file) == read("ckpt", file), "{file}");
    }
    assert!(dir.join("ckpt/loss.svg").is_file());
    // The last state shares the result's weights if they are the same.
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let inode = |file: &str| fs::metadata(dir.join("ckpt").join(file)).unwrap().ino();
        assert_eq!(inode("model.safetensors"), inode("training/last/model.safetensors"));
    }
}

/// Given names fit the presets' contexts, which stay unchanged; other texts get the context that they need,
/// and this is reported.
#[test]
fn the_context_follows_from_the_text() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let train = |file: &str, more: &[&str]| {
        let out =
            ok(dir, &[&["train", "--steps", "1", "--force", "--out", "out", "--data", file], more].concat());
        let config = fs::read_to_string(dir.join("out/config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        (config["block_size"].as_u64().unwrap(), out)
    };
    // The longest of Karpathy's names has 15 letters.
    fs::write(dir.join("names"), "ada\nchristiandaniel\n".repeat(5)).unwrap();
    for (preset, context) in [("original", 16), ("scaled", 64), ("compact", 32)] {
        let (found, out) = train("names", &["--preset", preset, "--batch-size", "1"]);
        assert_eq!(found, context, "{preset}");
        assert!(!out.contains("context: "), "{out}");
    }
    let line = |letters: usize| "ab".repeat(letters / 2);
    fs::write(dir.join("lines"), format!("{}\nshort\nab\n", line(40))).unwrap();
    let (found, out) = train("lines", &[]);
    assert_eq!(found, 64, "41 tokens, in a multiple of 32");
    for words in ["context: 64 tokens", "longest document has 41", "--block-size 16"] {
        assert!(out.contains(words), "{words}: {out}");
    }
    assert_eq!(train("lines", &["--block-size", "48"]).0, 48);
    // Byte pairs need fewer tokens.
    assert!(train("lines", &["--tokenizer", "bpe", "--vocab-size", "270"]).0 < 64);
    // Longer than any context that is chosen by default: the warning suggests a command, and the command works.
    fs::write(dir.join("long"), format!("{}\nshort\nab\n", line(500))).unwrap();
    let (found, out) = train("long", &["--held-out", "0"]);
    assert_eq!(found, 256);
    for words in ["1 of 3 documents are longer than the context of 256", "--block-size 512 --out", "--packed"]
    {
        let words = words.replace("--block-size 512 --out", "--out NEW --block-size 512");
        assert!(out.contains(&words), "{words}: {out}");
    }
    let (_, out) = train("long", &["--held-out", "0", "--block-size", "512"]);
    assert!(!out.contains("longer than the context"), "{out}");
    // The built-in names cannot be packed.
    let out = ok(dir, &["train", "--steps", "1", "--block-size", "4", "--out", "short"]);
    assert!(out.contains("longer than the context of 4") && !out.contains("--packed"), "{out}");
    // Running text.
    fs::write(dir.join("text"), TEXT.repeat(40)).unwrap();
    let (found, out) = train("text", &["--packed"]);
    assert!(
        found == 128 && out.contains("context: 128 tokens, as the running text then has"),
        "{found}: {out}"
    );
    fs::write(dir.join("little"), TEXT).unwrap();
    assert_eq!(
        train("little", &["--packed"]).0,
        16,
        "the text is too short for windows of any longer context"
    );
}

/// The next step is suggested on standard error, so that standard output holds only the result.
#[test]
fn the_next_step_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for more in [&[][..], &["--json"]] {
        let out = format!("my ckpt {}", more.len());
        let trained = microgpt(dir, &[&["train", "--steps", "3", "--out", &out], more].concat());
        let error = String::from_utf8(trained.stderr).unwrap();
        assert!(error.contains(&format!("next: microgpt export '{out}' --out bundle")), "{error}");
        assert!(!String::from_utf8(trained.stdout).unwrap().contains("next:"));
        let exported = microgpt(dir, &[&["export", &out, "--out", "bundle"], more].concat());
        assert!(String::from_utf8(exported.stderr).unwrap().contains("next: microgpt chat bundle"));
        assert!(!String::from_utf8(exported.stdout).unwrap().contains("next:"));
    }
}

/// Both signals save the state and end the run.
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
        // Wait until it trains and handles signals.
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

/// A second Ctrl-C ends a run at once and reports what is saved.
#[cfg(unix)]
#[test]
fn a_second_signal_says_what_is_kept() {
    interrupt_twice("1", "step 1: saved", "saved up to step ", true);
    // Before the first save there is nothing to resume.
    interrupt_twice("1000", " make ", "nothing of this run is saved yet", false);
}

/// Interrupts a run twice after it has printed `begun`.
#[cfg(unix)]
fn interrupt_twice(save_every: &str, begun: &str, saved: &str, can_resume: bool) {
    let dir = tempfile::tempdir().unwrap();
    // Steps are long enough for the second signal to arrive within one.
    let mut child = Command::new(env!("CARGO_BIN_EXE_microgpt"))
        .current_dir(dir.path())
        .args([
            "train",
            "--preset",
            "scaled",
            "--batch-size",
            "64",
            "--steps",
            "1000",
            "--save-every",
            save_every,
            "--out",
            "x",
        ])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = std::io::BufReader::new(child.stderr.take().unwrap());
    let interrupt = || {
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    };
    let mut all = String::new();
    let mut until = |words: &str| {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut told, &mut line).unwrap() > 0, "it ended: {all}");
            all.push_str(&line);
        }
        line
    };
    until(begun);
    // The signals are handled from shortly after the first line on.
    std::thread::sleep(std::time::Duration::from_millis(300));
    interrupt();
    let line = until("stopping after this step");
    assert!(line.contains("Ctrl-C again") && line.contains(saved), "{line}");
    interrupt();
    let line = until("ended at once");
    assert!(line.contains(saved), "{line}");
    assert_eq!(line.contains("microgpt train --resume x"), can_resume, "{line}");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// A file that appears at the destination during a run does not cost the run's result.
#[test]
fn a_result_whose_destination_is_taken_is_written_beside_it() {
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
        [&["train", "--steps", "2", "--force", "--out", "out", "--data", file], more].concat()
    };
    refused(dir, &train("empty", &[]), &["empty", "no document"]);
    refused(dir, &train("blank", &["--packed"]), &["blank", "no text"]);
    refused(dir, &train("latin1", &[]), &["latin1", "line 1 is not UTF-8"]);
    refused(dir, &train("one", &[]), &["lower held_out"]);
    ok(dir, &train("one", &["--held-out", "0"]));
    ok(dir, &train("one", &["--held-out", "0.4", "--packed", "--tokenizer", "bpe"]));
    fs::write(dir.join("long"), format!("{}\nshort\n", "ab".repeat(40))).unwrap();
    let out = ok(dir, &train("long", &["--held-out", "0", "--block-size", "16"]));
    assert!(out.contains("1 of 2 documents are longer than the context of 16"), "{out}");
    assert!(out.contains("--out NEW --block-size 96"), "{out}");
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
    refused(dir, &train(&["--keep-best"]), &["keep_best", "evaluate_every"]);
    refused(dir, &train(&["--patience", "3"]), &["patience", "needs keep_best"]);
    refused(dir, &train(&["--warmup", "3"]), &["warmup", "2 steps"]);
    refused(dir, &train(&["--backend", "cuda"]), &["cuda", "enable the feature cuda"]);
    ok(
        dir,
        &["train", "--force", "--preset", "compact", "--steps", "2", "--keep-best", "false", "--out", "out"],
    );
    ok(
        dir,
        &["train", "--force", "--preset", "compact", "--steps", "2", "--evaluate-every", "0", "--out", "out"],
    );
    // A short run of a preset whose recipe is long.
    ok(
        dir,
        &["train", "--force", "--preset", "compact", "--steps", "3", "--batch-size", "4", "--out", "out"],
    );
    ok(
        dir,
        &[
            "train",
            "--force",
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
fn a_moved_text_is_reported() {
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

/// An argument need not be UTF-8, also where the command is repeated in a message.
#[cfg(target_os = "linux")]
#[test]
fn arguments_need_not_be_utf_8() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("text.txt"), format!("{}\n", "ab".repeat(200)).repeat(20)).unwrap();
    let out = std::ffi::OsStr::from_bytes(b"ckpt-\xff");
    let mut command = Command::new(env!("CARGO_BIN_EXE_microgpt"));
    command.current_dir(dir.path()).args(["train", "--data", "text.txt", "--steps", "1", "--out"]).arg(out);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert!(error.contains("longer than the context of 256 tokens"), "{error}");
    assert!(dir.path().join(out).is_dir());
}
