//! Kills commands that overwrite finished work at random moments: afterwards either the old output or the new
//! one must be there, whole.
//!
//! `MICROGPT_KILLS=200 cargo test --release --test kills finished_outputs::` kills each command two hundred times.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use microgpt_ane::ane_bundle::Bundle;
use microgpt_ane::microgpt_model::Checkpoint;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::common;
use crate::common::command::{microgpt, ok, refused, workspace};

fn kills() -> usize {
    std::env::var("MICROGPT_KILLS").map_or(6, |kills| kills.parse().unwrap())
}

fn start(dir: &Path, arguments: &[&str]) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_microgpt"));
    command.current_dir(dir).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Returns the files below a folder, including hidden ones, or a single file.
fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    if path.is_file() {
        files.insert(String::new(), fs::read(path).unwrap());
        return files;
    }
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        for (below, bytes) in contents(&entry.path()) {
            files.insert(format!("{name}/{below}"), bytes);
        }
    }
    files
}

/// Repeatedly runs `over`, which overwrites `out`, and kills it at random moments. The content of `out` must
/// then be exactly the old output or the new one.
fn kill_over(dir: &Path, out: &str, over: &[&str], opens: impl Fn(&Path)) {
    let out_path = dir.join(out);
    let old = contents(&out_path);
    let aside = dir.join("aside");
    if out_path.is_dir() {
        common::copy(&out_path, &aside)
    } else {
        drop(fs::copy(&out_path, &aside))
    }
    let begun = Instant::now();
    ok(dir, over);
    let time = begun.elapsed();
    let new = contents(&out_path);
    assert!(old != new, "a command that changes nothing shows nothing");
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut seen = [0, 0];
    for kill in 0..kills() {
        if contents(&out_path) != old {
            // Only the test itself may remove a finished output.
            if out_path.is_dir() {
                fs::remove_dir_all(&out_path).unwrap()
            } else {
                fs::remove_file(&out_path).unwrap()
            }
            if aside.is_dir() { common::copy(&aside, &out_path) } else { drop(fs::copy(&aside, &out_path)) }
        }
        let mut child = start(dir, over);
        // In turn: no kill, a kill at any time, and a kill while the new output is being written.
        let mut deadline = (kill % 3 == 1).then(|| Instant::now() + time.mul_f64(rng.random_range(0.0..1.1)));
        while child.try_wait().unwrap().is_none() && deadline.is_none_or(|time| Instant::now() < time) {
            // At every moment `out` is the old output or the new one.
            match out_path.is_file() {
                true => {
                    assert!([&old, &new].contains(&&contents(&out_path)), "kill {kill}: {out} is neither")
                }
                false => assert!(out_path.join("bundle.json").is_file(), "kill {kill}: {out} is gone"),
            }
            let hidden = |e: fs::DirEntry| e.file_name().to_string_lossy().starts_with('.');
            if kill % 3 == 2 && deadline.is_none() && fs::read_dir(dir).unwrap().flatten().any(hidden) {
                deadline = Some(Instant::now() + time.mul_f64(rng.random_range(0.0..0.5)));
            }
        }
        let _ = child.kill();
        child.wait().unwrap();
        opens(&out_path);
        let found = contents(&out_path);
        let which = [&old, &new].into_iter().position(|whole| *whole == found);
        let names: Vec<&String> = found.keys().collect();
        seen[which.unwrap_or_else(|| {
            panic!("kill {kill}: {out} is neither the old output nor the new one: {names:?}")
        })] += 1;
    }
    println!("{out}: {} kills, the old output {} times, the new one {} times", kills(), seen[0], seen[1]);
    // The next undisturbed run removes what the killed ones left.
    ok(dir, over);
    let left: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
}

#[test]
fn export_over_a_finished_bundle() {
    let dir = workspace();
    let over = ["export", "ckpt", "--out", "bundle", "--no-verify", "--quantize", "none"];
    kill_over(dir.path(), "bundle", &over, |bundle| drop(Bundle::open(bundle).unwrap()));
}

#[test]
fn run_over_a_finished_file_of_tensors() {
    let dir = workspace();
    ok(dir.path(), &["verify", "bundle", "--dump", "dump.safetensors"]);
    let bytes = fs::read(dir.path().join("dump.safetensors")).unwrap();
    let dump = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let inputs = dump.iter().filter(|(name, _)| !name.starts_with("logits"));
    safetensors::serialize_to_file(inputs, None, &dir.path().join("x.safetensors")).unwrap();
    let run =
        ["run", "bundle/decoder-00.mlpackage", "--inputs", "x.safetensors", "--steps", "16", "--out", "y"];
    ok(dir.path(), &[&run[..], &["--numerics", "f16"]].concat());
    kill_over(dir.path(), "y", &run, |y| {
        safetensors::SafeTensors::deserialize(&fs::read(y).unwrap()).unwrap();
    });
}

#[test]
fn a_page_over_a_finished_page() {
    let dir = workspace();
    fs::write(dir.path().join("page.html"), "<!doctype html><p>The page of another day.</html>").unwrap();
    let over = ["floor", "bundle", "--html", "page.html"];
    kill_over(dir.path(), "page.html", &over, |page| {
        assert!(fs::read_to_string(page).unwrap().trim_end().ends_with("</html>"));
    });
}

/// Training keeps its states beside the finished model, whose own files stay unchanged until it is replaced.
#[test]
fn train_over_a_finished_checkpoint() {
    const RECIPE: [&str; 6] = ["train", "--steps", "600", "--save-every", "50", "--seed"];
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ok(dir, &[&RECIPE[..], &["1", "--out", "expected"]].concat());
    let new = weights(&dir.join("expected"));
    ok(dir, &["train", "--steps", "30", "--seed", "2", "--out", "ckpt"]);
    common::copy(&dir.join("ckpt"), &dir.join("aside"));
    let old = weights(&dir.join("aside"));
    let finished = |folder: &Path| -> BTreeMap<String, Vec<u8>> {
        contents(folder)
            .into_iter()
            .filter(|(name, _)| !name.starts_with("training/step-") && !name.contains("/."))
            .collect()
    };
    let before = finished(&dir.join("ckpt"));

    let begin = [&RECIPE[..], &["1", "--force", "--out", "ckpt"]].concat();
    let resume = ["train", "--save-every", "50", "--resume", "ckpt"];
    let begun = Instant::now();
    ok(dir, &[&RECIPE[..], &["1", "--out", "timed"]].concat());
    let time = begun.elapsed().as_secs_f64();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (mut ended, mut resumed) = (0, 0);
    for kill in 0..2 * kills() {
        let states = fs::read_dir(dir.join("ckpt/training")).unwrap().flatten();
        let unfinished = states.filter(|e| e.file_name().to_string_lossy().starts_with("step-")).count() > 0;
        resumed += usize::from(unfinished);
        let mut child = start(dir, if unfinished { &resume } else { &begin });
        std::thread::sleep(Duration::from_secs_f64(time * rng.random_range(0.05..0.9)));
        let _ = child.kill();
        child.wait().unwrap();
        // In every case it is the old model or the new one.
        match weights(&dir.join("ckpt")) {
            found if found == old => assert!(finished(&dir.join("ckpt")) == before, "kill {kill}"),
            found => {
                assert!(found == new, "kill {kill}: another model");
                assert!(dir.join("ckpt/training/report.json").is_file());
                ended += 1;
                fs::remove_dir_all(dir.join("ckpt")).unwrap();
                common::copy(&dir.join("aside"), &dir.join("ckpt"));
            }
        }
    }
    assert!(resumed > 0, "no run resumed from its own state");
    println!("{} kills, {resumed} resumed, {ended} ended", 2 * kills());
    while weights(&dir.join("ckpt")) == old {
        let states = fs::read_dir(dir.join("ckpt/training")).unwrap().flatten();
        let unfinished = states.filter(|e| e.file_name().to_string_lossy().starts_with("step-")).count() > 0;
        ok(dir, if unfinished { &resume } else { &begin });
    }
    assert!(weights(&dir.join("ckpt")) == new);
}

/// Returns the weights of a checkpoint, which must open.
fn weights(folder: &Path) -> Vec<u8> {
    Checkpoint::open(folder).unwrap();
    fs::read(folder.join("model.safetensors")).unwrap()
}

#[test]
fn a_finished_model_is_replaced_only_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ok(dir, &["train", "--steps", "30", "--out", "ckpt"]);
    let before = contents(&dir.join("ckpt"));
    for more in [&[][..], &["--init", "ckpt"], &["--preset", "compact"]] {
        let words = [
            "ckpt holds a finished model",
            "4192 parameters",
            "trained for 30 steps",
            "ago",
            "--force",
            "--init",
        ];
        refused(dir, &[&["train", "--steps", "5", "--out", "ckpt"], more].concat(), &words);
        refused(
            dir,
            &["train", "--steps", "5", "--out", "ckpt"],
            &["--resume ckpt --steps 60", "another --out"],
        );
    }
    assert!(contents(&dir.join("ckpt")) == before);
    // The advice works.
    ok(dir, &["train", "--resume", "ckpt", "--steps", "60"]);
    ok(dir, &["train", "--init", "ckpt", "--steps", "3", "--out", "NEW"]);
    ok(dir, &["train", "--steps", "5", "--out", "ckpt", "--force"]);
    assert!(ok(dir, &["inspect", "ckpt"]).contains("trained 5 steps"));
    // A model without a state cannot be resumed, so this is not suggested.
    fs::remove_dir_all(dir.join("ckpt/training")).unwrap();
    let ran = microgpt(dir, &["train", "--out", "ckpt"]);
    assert!(ran.code == 2 && !ran.err.contains("--resume"), "{}", ran.err);
    // Damaged weights are not replaced without --force either, and no suggestion that would fail is made.
    fs::write(dir.join("ckpt/model.safetensors"), "").unwrap();
    let ran = microgpt(dir, &["train", "--out", "ckpt"]);
    assert!(
        ran.code == 2 && ran.err.contains("cannot be opened") && ran.err.contains("--force"),
        "{}",
        ran.err
    );
    assert!(!ran.err.contains("--init"), "{}", ran.err);
    // --force does not cover foreign files.
    fs::write(dir.join("ckpt/notes.md"), "").unwrap();
    refused(dir, &["train", "--out", "ckpt", "--force"], &["notes.md"]);
}

/// A run whose final loss exceeds that of uniform guessing is reported, and does not replace a useful model.
#[test]
fn a_run_that_diverges_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ok(dir, &["train", "--steps", "30", "--out", "ckpt"]);
    let before = contents(&dir.join("ckpt"));
    let wild = [
        "train",
        "--steps",
        "60",
        "--learning-rate",
        "1",
        "--schedule",
        "constant",
        "--out",
        "ckpt",
        "--force",
    ];
    let ran = microgpt(dir, &wild);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    for words in ["diverged", "ln 27 = 3.30", "--learning-rate 0.1", "ckpt.diverged"] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    assert!(!ran.err.contains("next:"), "{}", ran.err);
    assert!(contents(&dir.join("ckpt")) == before, "the finished model and nothing else");
    Checkpoint::open(dir.join("ckpt.diverged")).unwrap();
    // A second diverged run gets another name.
    assert_eq!(microgpt(dir, &wild).code, 1);
    assert!(dir.join("ckpt.diverged-2").is_dir());
    let ran = microgpt(dir, &["train", "--steps", "2", "--init-std", "5", "--out", "x"]);
    assert!(ran.code == 1 && ran.err.contains("--init-std 0.02"), "{}", ran.err);
}
