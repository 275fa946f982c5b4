//! `microgpt floor` as scripts see it: reports, gates, laws, and the search for the floor.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::command::{microgpt, ok, refused, workspace};

#[test]
fn evidence_is_listed_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let listed = ok(dir, &["floor", "corpus"]);
    assert!(listed.contains("58 rows from 17 sources"), "{listed}");
    let rows: Value = serde_json::from_str(&ok(dir, &["floor", "corpus", "--json"])).unwrap();
    assert_eq!(rows[1]["placed"]["conv_ane"]["ane"], 37);
    let schema: Value = serde_json::from_str(&ok(dir, &["floor", "corpus", "--schema"])).unwrap();
    assert_eq!(schema["type"], "object");
    fs::write(dir.join("mine.jsonl"), format!("{}\n", rows[0])).unwrap();
    assert!(ok(dir, &["floor", "corpus", "--file", "mine.jsonl"]).contains("1 row from 1 source"));
    fs::write(dir.join("mine.jsonl"), "{}\n").unwrap();
    refused(dir, &["floor", "corpus", "--file", "mine.jsonl"], &["mine.jsonl", "line 1", "missing field"]);
    refused(dir, &["floor"], &["BUNDLE|PACKAGE"]);
}

/// Every law is listed with its source and evaluated on every row; the printed fit is the built-in one.
#[test]
fn laws_are_listed_fitted_and_evaluated() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let laws = ok(dir, &["floor", "laws"]);
    for law in ["floor: ", "anchor-and-work: ", "int4-per-block: ", "operation-ceiling: ", "never-placed: "] {
        assert!(laws.contains(law), "{law}\n{laws}");
    }
    assert!(laws.contains("fitted to 35 rows"), "{laws}");
    let accuracy: Value = serde_json::from_str(&ok(dir, &["floor", "accuracy", "--json"])).unwrap();
    assert_eq!((&accuracy["rows"], &accuracy["sources"]), (&56.into(), &17.into()));
    let record = |name: &str, kind: &str| {
        let law = accuracy["laws"].as_array().unwrap().iter().find(|law| law["law"] == name).unwrap();
        (law[kind]["right"].as_u64().unwrap(), law[kind]["of"].as_u64().unwrap())
    };
    // Counted from the corpus: 30 of 56 rows are wholly on the Neural Engine.
    assert_eq!(record("always the Neural Engine", "fitted"), (30, 56));
    // The two rows of Experiment 27 made the floor, and it is right about both: leaving them out removes two
    // of each.
    let (right, of) = record("floor", "fitted");
    assert_eq!(record("floor", "source_left_out"), (right - 2, of - 2));
    // The README and docs claim that the laws together are right more often than the bare size, also on
    // unseen sources.
    let share = |name: &str, kind: &str| record(name, kind).0 as f64 / record(name, kind).1 as f64;
    assert!(
        share("all laws together", "source_left_out") > share("14 MB in INT8, any graph", "source_left_out")
    );
    let refit = ok(dir, &["floor", "refit", "--out", "fit.json"]);
    assert!(laws.ends_with(&refit), "{refit}");
    let fit: Value = serde_json::from_slice(&fs::read(dir.join("fit.json")).unwrap()).unwrap();
    assert_eq!(fit["rows"].as_array().unwrap().len(), 35);
    // An additional row counts; the same row twice is refused.
    let rows: Value = serde_json::from_str(&ok(dir, &["floor", "corpus", "--json"])).unwrap();
    fs::write(dir.join("twice.jsonl"), format!("{}\n", rows[0])).unwrap();
    refused(dir, &["floor", "refit", "--with", "twice.jsonl"], &["twice.jsonl", "exp27-original", "already"]);
    let mut row = rows[0].clone();
    row["id"] = "mine".into();
    fs::write(dir.join("mine.jsonl"), format!("{row}\n")).unwrap();
    assert!(ok(dir, &["floor", "refit", "--with", "mine.jsonl"]).contains("fitted to 36 rows"));
}

/// The original is below the floor; the page shows this, and the report passes as its own baseline.
#[test]
fn a_report_is_a_page_and_a_baseline() {
    let dir = workspace();
    let dir = dir.path();
    let printed = ok(dir, &["floor", "bundle", "--html", "page.html"]);
    assert!(printed.contains("conv_ane=0/7") && printed.contains("exported and predicted: ANE"), "{printed}");
    let page = fs::read_to_string(dir.join("page.html")).unwrap();
    assert!(page.contains("0/7") && page.contains("exported and predicted"));
    fs::write(dir.join("before.json"), ok(dir, &["floor", "bundle", "--json"])).unwrap();
    ok(dir, &["floor", "bundle", "--baseline", "before.json"]);
    let mut better: Value = serde_json::from_slice(&fs::read(dir.join("before.json")).unwrap()).unwrap();
    better[0]["operations"][0]["device"] = "ane".into();
    better[0]["residency"]["compute_ane"]["ane"] = 1.into();
    better[0]["verdict"] = "mixed".into();
    fs::write(dir.join("better.json"), better.to_string()).unwrap();
    let ran = microgpt(dir, &["floor", "bundle", "--baseline", "better.json"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("the verdict was mixed, and is CPU") && ran.err.contains("by floor: kv_keep"),
        "{}",
        ran.err
    );
    // A measured report is shown beside the prediction; a predicted one is refused.
    refused(
        dir,
        &["floor", "bundle", "--html", "beside.html", "--measured", "better.json"],
        &["better.json", "decoder-00.mlpackage is predicted, not measured"],
    );
    better[0]["basis"] = "measured".into();
    fs::write(dir.join("better.json"), better.to_string()).unwrap();
    ok(dir, &["floor", "bundle", "--html", "beside.html", "--measured", "better.json"]);
    assert!(fs::read_to_string(dir.join("beside.html")).unwrap().contains("1 of 63 operations differ"));
    better[0]["operations"][0]["sources"] = vec![5].into();
    fs::write(dir.join("bad.json"), better.to_string()).unwrap();
    refused(dir, &["floor", "bundle", "--baseline", "bad.json"], &["bad.json", "not before it"]);
    refused(dir, &["floor", "bundle", "--baseline", "bundle/bundle.json"], &["bundle.json", "not a report"]);
    refused(dir, &["floor", "bundle", "--baseline", "none.json"], &["open none.json"]);
    refused(dir, &["floor", "bundle/bundle.json"], &["bundle.json is a JSON file", "it belongs to bundle"]);
    // A page is written through a link, which stays a link; a folder is refused.
    #[cfg(unix)]
    {
        fs::write(dir.join("target.html"), "old").unwrap();
        std::os::unix::fs::symlink("target.html", dir.join("link.html")).unwrap();
        ok(dir, &["floor", "bundle", "--html", "link.html"]);
        assert!(fs::symlink_metadata(dir.join("link.html")).unwrap().is_symlink());
        assert!(fs::read_to_string(dir.join("target.html")).unwrap().contains("0/7"));
        ok(dir, &["floor", "bundle", "--html", "/dev/null"]);
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
    refused(dir, &["floor", "bundle", "--html", "bundle"], &["write bundle: it is a folder"]);
    let schema: Value = serde_json::from_str(&ok(dir, &["floor", "--schema"])).unwrap();
    assert_eq!(schema["title"], "PlacementReport");
}

/// For two layers the floor lies between 736 and 768: 12 C^2 per layer and the head's 27 C reach 14 MB at 764.
#[test]
fn the_floor_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let line = [
        "floor",
        "discover",
        "--n-layer",
        "2",
        "--tokens",
        "1",
        "--quantize",
        "int8-per-tensor",
        "--block-size",
        "16",
    ];
    let search = |more: &[&str]| ok(dir, &[&line[..], more].concat());
    let found = search(&["--n-embd", "32,64,736,768,1024", "--out", "found", "--json"]);
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["boundaries"][0]["below"][0], 736);
    assert_eq!(found["boundaries"][0]["above"][0], 768);
    assert_eq!(found["basis"], "predicted");
    for file in ["rows.jsonl", "boundary.txt", "boundary.svg", "discovery.json"] {
        assert!(dir.join("found").join(file).metadata().unwrap().len() > 0, "{file}");
    }
    // Rows for the corpus. Predicted rows add nothing to the evidence.
    let rows = ok(dir, &["floor", "corpus", "--file", "found/rows.jsonl"]);
    assert!(
        rows.contains("microGPT decode with random weights: n_embd 768, n_layer 2, T 1, int8-per-tensor"),
        "{rows}"
    );
    assert!(ok(dir, &["floor", "refit", "--with", "found/rows.jsonl"]).contains("fitted to 35 rows"));
    refused(dir, &["floor", "discover", "--tokens", "65"], &["65 tokens per call", "--block-size"]);
    refused(dir, &["floor", "discover", "--quantize", "int3"], &["int3", "int8-per-tensor"]);
    refused(dir, &["floor", "discover", "--n-embd", "0"], &["n_embd"]);
    // A line that fails for too many operations must not be reported as too narrow: it shows the result of
    // the widest.
    let long =
        ["floor", "discover", "--n-layer", "80", "--n-embd", "32,64", "--tokens", "1", "--quantize", "none"];
    assert!(ok(dir, &long).contains("the widest: error by operation-ceiling"));
    refused(dir, &["floor", "discover", "--law", "gravity"], &["gravity", "anchor-and-work"]);
}

/// The folder for a Mac holds sound packages, a list of them, and a script; elsewhere the script's command
/// states what it needs.
#[test]
fn probes_are_left_for_a_mac() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let sweep = ["--n-layer", "1", "--n-embd", "32,64", "--tokens", "1,4", "--quantize", "none"];
    ok(dir, &[&["floor", "discover", "--write-only", "--out", "probes"][..], &sweep].concat());
    let list = fs::read_to_string(dir.join("probes/probes.jsonl")).unwrap();
    assert_eq!(list.lines().count(), 4);
    let again = [&["floor", "discover", "--write-only", "--out", "probes"][..], &sweep].concat();
    refused(dir, &again, &["probes: the folder is not empty"]);
    for package in ["l01-t01-none-e0032", "l01-t04-none-e0064"] {
        ok(dir, &["inspect", "--check", &format!("probes/{package}.mlpackage")]);
    }
    let script = dir.join("probes/measure.sh");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(script.metadata().unwrap().permissions().mode() & 0o111, 0o111);
    }
    assert!(fs::read_to_string(&script).unwrap().contains("floor discover --measure"));
    #[cfg(not(target_os = "macos"))]
    {
        refused(dir, &["floor", "discover", "--measure", "probes"], &["MLComputePlan", "on a Mac"]);
        assert!(!Path::new(&dir.join("probes/measured.jsonl")).exists());
    }
    refused(dir, &["floor", "discover", "--measure", "."], &["probes.jsonl"]);
}
