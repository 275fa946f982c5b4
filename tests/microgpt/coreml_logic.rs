//! The command's Mac features, as far as another machine can test them: the choice and refusal of engines,
//! recorded plans, and the probes of `settle`.

use std::fs;

use microgpt_ane::ane_bundle::Bundle;
use microgpt_ane::ane_floor::corpus::PlacementCorpus;
use microgpt_ane::ane_runtime::{Engine, LoadOptions, MilCpu, Model, Numerics, Result};
use microgpt_ane::microgpt_model::GptConfig;
use microgpt_ane::mlpackage::Package;
use microgpt_ane::{VerifyOptions, verify};
use serde_json::Value;

use crate::common;
use crate::common::command::{microgpt, ok, refused, workspace};

/// Returns a plan of a package as a Mac would record it, made by hand: all operations except the first are on
/// the Neural Engine.
fn plan_by_hand(report: &Value) -> Value {
    let device =
        |kind: &str| serde_json::json!({"kind": kind, "description": kind, "total_core_count": null});
    let operations = report["operations"].as_array().unwrap();
    let last = operations.len() - 1;
    let planned = operations.iter().enumerate().map(|(i, o)| {
        let kind = if i == 0 { "cpu" } else { "neural_engine" };
        // An operation that writes a state has no output, as in Core ML.
        let outputs = match o["op"].as_str().unwrap() {
            "write_state" => serde_json::json!([]),
            _ => serde_json::json!([{"name": o["name"], "value_type": {"description": "ValueType()"}}]),
        };
        serde_json::json!({
            "path": format!("functions.main.block.operations[{i}]"),
            "operation": {"operator_name": format!("ios18.{}", o["op"].as_str().unwrap()), "outputs": outputs},
            "cost": {"weight": if i == last { 0.5 } else { 0.5 / last as f64 }},
            "device_usage": {"supported": [device("cpu"), device("neural_engine")], "preferred": device(kind)},
        })
    });
    serde_json::json!({
        "package": report["package"],
        "machine": {"chip": "made by hand", "os": null},
        "compute_units": "cpu-and-ane",
        "plan": {"model_type": "program", "program_operation_plans": planned.collect::<Vec<_>>()},
    })
}

#[test]
fn a_recorded_plan_is_shown_beside_the_prediction_and_becomes_a_row() {
    let dir = workspace();
    let dir = dir.path();
    let predicted: Value = serde_json::from_str(&ok(dir, &["floor", "bundle", "--json"])).unwrap();
    fs::write(dir.join("plan.json"), plan_by_hand(&predicted[0]).to_string()).unwrap();
    let plan = ["floor", "bundle", "--plan", "plan.json"];
    let shown = microgpt(dir, &plan);
    let n = predicted[0]["operations"].as_array().unwrap().len();
    assert!(shown.out.contains("CPU predicted, mixed measured"), "{}", shown.out);
    assert!(shown.out.contains(&format!("{} of {n} operations differ", n - 1)), "{}", shown.out);
    assert_eq!(shown.out.lines().filter(|line| line.starts_with("! ")).count(), n - 1);
    assert!(shown.err.contains("1 of 1 rows in measured.jsonl"), "{}", shown.err);
    // The same machine and program again replace the row.
    ok(dir, &plan);
    let rows =
        PlacementCorpus::from_jsonl("measured", &fs::read_to_string(dir.join("measured.jsonl")).unwrap())
            .unwrap();
    let [row] = rows.rows() else { panic!("{rows}") };
    assert_eq!(row.placed.compute_ane.unwrap().ane, n - 1);
    assert!(row.graph.summary.contains("microgpt decode step"), "{row:?}");
    assert!(ok(dir, &["floor", "accuracy", "--with", "measured.jsonl"]).contains("57"));

    // Concurrent processes must not lose a row.
    let plans: Vec<String> = (0..8).map(|i| format!("plan-{i}.json")).collect();
    for (i, name) in plans.iter().enumerate() {
        let mut plan = plan_by_hand(&predicted[0]);
        plan["machine"]["chip"] = format!("made by hand, {i}").into();
        fs::write(dir.join(name), plan.to_string()).unwrap();
    }
    std::thread::scope(|scope| {
        for name in &plans {
            scope.spawn(move || ok(dir, &["floor", "bundle", "--plan", name, "--rows", "many.jsonl"]));
        }
    });
    let rows = fs::read_to_string(dir.join("many.jsonl")).unwrap();
    assert_eq!(rows.lines().count(), 8, "{rows}");

    // JSON, gates and the page use the measurement.
    let with = |more: &[&str]| microgpt(dir, &[&plan, more].concat());
    let measured: Value = serde_json::from_str(&with(&["--json"]).out).unwrap();
    assert_eq!((&measured[0]["basis"], &measured[0]["verdict"]), (&"measured".into(), &"mixed".into()));
    let gate = with(&["--require", "ane"]);
    assert!(gate.code == 1 && gate.err.contains("measured otherwise"), "{}", gate.err);
    assert_eq!(with(&["--html", "page.html"]).code, 0);
    assert!(fs::read_to_string(dir.join("page.html")).unwrap().contains("operations differ"));
}

#[test]
fn plans_that_do_not_fit_are_refused() {
    let dir = workspace();
    let dir = dir.path();
    fs::write(dir.join("plan.json"), "[]").unwrap();
    refused(dir, &["floor", "bundle", "--plan", "plan.json"], &["no plan of decoder-00.mlpackage"]);
    fs::write(dir.join("plan.json"), "{}").unwrap();
    refused(
        dir,
        &["floor", "bundle", "--plan", "plan.json"],
        &["plan.json", "not a recorded plan", "missing field"],
    );
    refused(dir, &["floor", "bundle", "--rows", "rows.jsonl"], &["--measure or --plan"]);
    assert!(!dir.join("measured.jsonl").exists());
    refused(dir, &["floor", "bundle", "--plan", "plan.json", "--save-plan", "p"], &["give --measure"]);
    // A file that is not a corpus stays as it is.
    let predicted: Value = serde_json::from_str(&ok(dir, &["floor", "bundle", "--json"])).unwrap();
    fs::write(dir.join("plan.json"), plan_by_hand(&predicted[0]).to_string()).unwrap();
    fs::write(dir.join("rows.jsonl"), "years of work\n").unwrap();
    refused(
        dir,
        &["floor", "bundle", "--plan", "plan.json", "--rows", "rows.jsonl"],
        &["rows.jsonl", "line 1"],
    );
    assert_eq!(fs::read_to_string(dir.join("rows.jsonl")).unwrap(), "years of work\n");
}

#[cfg(not(target_os = "macos"))]
#[test]
fn off_a_mac_core_ml_is_refused_and_auto_is_mil_cpu() {
    let dir = workspace();
    let dir = dir.path();
    for command in ["chat", "generate", "verify", "bench", "settle"] {
        refused(dir, &[command, "bundle", "--engine", "coreml"], &["run this on a Mac", "mil-cpu"]);
    }
    refused(dir, &["generate", "bundle", "--compute-units", "cpu-and-ane"], &["run this on a Mac"]);
    refused(dir, &["floor", "bundle", "--measure"], &["MLComputePlan", "a Mac"]);
    refused(dir, &["generate", "ckpt", "--engine", "mil-cpu"], &["checkpoint", "engines are for bundles"]);
    refused(dir, &["floor", "discover", "--oracle", "measured", "--out", "found"], &["a Mac"]);
    assert!(!dir.join("found").exists());
    refused(dir, &["bench", "bundle", "--engine", "npu"], &["auto", "coreml", "mil-cpu"]);
    let generated = |more: &[&str]| ok(dir, &[&["generate", "bundle", "--seed", "3"], more].concat());
    assert_eq!(generated(&["--engine", "auto"]), generated(&["--engine", "mil-cpu", "--numerics", "fast"]));
    let bench = ok(dir, &["bench", "bundle", "--seconds", "0.01", "--names", "1", "--energy"]);
    assert!(bench.contains("energy        not measured: power is read by powermetrics"), "{bench}");
}

/// Zeros stay zeros with every cache update: the host passes back exactly what the engine returned.
#[test]
fn the_questions_are_the_same_whoever_holds_the_cache() {
    let dir = workspace();
    let asked = |cache_update: &str| {
        ok(
            dir.path(),
            &["export", "ckpt", "--cache-update", cache_update, "--out", cache_update, "--no-verify"],
        );
        ok(dir.path(), &["settle", cache_update, "--numerics", "f16"])
    };
    let one_hot = asked("one-hot");
    assert!(one_hot.contains("embeddings times 0e0"), "{one_hot}");
    assert_eq!(asked("host"), one_hot);
    assert_eq!(asked("slice-update"), one_hot);
}

#[test]
fn every_form_of_a_program_is_the_same_program() {
    let dir = workspace();
    let settled = ok(dir.path(), &["settle", "bundle", "--numerics", "f16", "--json"]);
    let settled: Value = serde_json::from_str(&settled).unwrap();
    let answers = settled["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 10);
    for answer in answers {
        // The same arithmetic, so the results are bit-identical.
        let outcome = &answer["outcome"];
        assert!(outcome["outcome"] == "ran" && outcome["from_f16"] == 0.0, "{answer}");
        assert!(outcome["cosine"].as_f64().unwrap() > 0.9999, "{answer}");
    }
}

/// At 512 dimensions fp16 rounds the epsilon of `safe` to zero, so a row of zeros is divided by zero.
#[test]
fn an_epsilon_that_vanishes_is_found() {
    let dir = tempfile::tempdir().unwrap();
    common::random(dir.path(), |config| GptConfig { n_embd: 512, n_head: 8, ..config }, 0.02);
    ok(dir.path(), &["export", "random-checkpoint", "--norm", "safe", "--out", "safe", "--no-verify"]);
    let said = ok(dir.path(), &["settle", "safe", "--numerics", "f16"]);
    let zeros = said.lines().find(|line| line.contains("embeddings times 0e0")).unwrap();
    assert!(zeros.contains("NaN or infinities from step 0"), "{said}");
}

/// The page of a folder made by hand as the script writes it, with missing and malicious files.
#[test]
fn a_first_run_becomes_a_page() {
    let dir = workspace();
    let dir = dir.path();
    refused(dir, &["field-report", "bundle"], &["no first run is there"]);
    let write = |path: &str, text: &str| {
        let path = dir.join("run").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("system.txt", "ProductVersion: 15.5\nApple M4 Max\n");
    write("steps/ORDER", "build\nverify\n../../secret\nnext\n");
    write("steps/build.state", "done, 61 s\n");
    write("steps/verify.state", "failed with 2, 3 s\n");
    write("steps/verify.command", "microgpt verify <script>alert(1)</script>\n");
    write("steps/verify.log", "first\nerror: Core ML cannot load it\n");
    let bare = ok(dir, &["field-report", "run"]);
    assert!(bare.contains("3 steps, 0 variants"), "{bare}");
    let page = || fs::read_to_string(dir.join("run/index.html")).unwrap();
    assert!(page().contains("1 done, 1 failed") && page().contains("Core ML cannot load it"));
    assert!(
        page().contains("&lt;script&gt;alert") && !page().contains("<script>"),
        "hostile text stays text"
    );
    assert_eq!(page().matches("not measured").count(), 8, "every question is open, and so is speed");

    let variant = "results/int8-per-tensor.slice-update.separate.max-scaled";
    let predicted = ok(dir, &["floor", "bundle", "--json"]);
    write(&format!("{variant}/predicted.json"), &predicted);
    let report: Value = serde_json::from_str(&predicted).unwrap();
    fs::write(dir.join("plan.json"), plan_by_hand(&report[0]).to_string()).unwrap();
    let measured = ok(dir, &["floor", "bundle", "--plan", "plan.json", "--json"]);
    write(&format!("{variant}/floor.json"), &measured);
    let mut verify: Value =
        serde_json::from_str(&ok(dir, &["verify", "bundle", "--engine", "mil-cpu", "--json"])).unwrap();
    verify["checks"][0]["name"] = "coreml (cpu-and-ane) against mil-cpu f16".into();
    verify["checks"][0]["parity"]["largest_error"] = 0.0123.into();
    write(&format!("{variant}/verify.json"), &verify.to_string());
    write(
        &format!("{variant}/bench-cpu-and-ane.json"),
        r#"{"engine": "coreml (cpu-and-ane)", "decode": {"tokens_per_second": 1535.2}}"#,
    );
    write("results/settle-cpu.json", &ok(dir, &["settle", "bundle", "--engine", "mil-cpu", "--json"]));
    write("results/conformance-cpu.json", r#"{"packages": 2, "refused": ["gather: bools"], "failures": []}"#);
    write("results/discover-floor/boundary.txt", "416 | 448\n");
    write("results/discover-floor/boundary.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>");
    write("results/settle-all.json", "{");
    let full = ok(dir, &["field-report", "run"]);
    assert!(full.contains("1 variant, 1 sweep"), "{full}");
    for said in [
        "1.23e-2",
        "<td class=\"number\">1535</td>",
        "small values bound in place",
        "416 | 448",
        "gather: bools",
    ] {
        assert!(page().contains(said), "{said}");
    }
    assert!(page().contains("settle-all.json: EOF"), "unreadable files are reported");
    assert_eq!(page().matches("not measured").count(), 0);
    // A prediction must not count as a measurement, nor mil-cpu as Core ML, whatever the file names; and
    // links are not followed.
    write(&format!("{variant}/floor.json"), &predicted);
    let bench = r#"{"engine": "mil-cpu (fast)", "decode": {"tokens_per_second": 1535.2}}"#;
    write(&format!("{variant}/bench-cpu-and-ane.json"), bench);
    write("results/conformance-cpu.json", "{}");
    #[cfg(unix)]
    {
        fs::remove_file(dir.join("run/system.txt")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.join("run/system.txt")).unwrap();
    }
    ok(dir, &["field-report", "run"]);
    for said in ["floor.json: it is predicted, not measured", "mil-cpu (fast)", "not a result of the suite"] {
        assert!(page().contains(said), "{said}");
    }
    assert!(!page().contains("root:") && !page().contains("packages, 0 refused"));
    let table =
        page().split("<h2>Variants</h2>").nth(1).unwrap().split("</table>").next().unwrap().to_owned();
    assert!(!table.contains("1535"), "{table}");
    assert!(!page().contains("http://") || page().contains("%3Csvg"), "pictures are part of the page");
}

/// An engine that always runs the package `instead`.
struct Stubborn {
    inner: MilCpu,
    instead: Package,
}

impl Engine for Stubborn {
    fn name(&self) -> &str {
        "stubborn"
    }

    fn load(&self, _: &Package, options: &LoadOptions) -> Result<Box<dyn Model>> {
        self.inner.load(&self.instead, options)
    }
}

/// `verify` compares another engine with mil-cpu, keeps its logits, and fails one that computes something else.
#[test]
fn another_engine_is_compared_with_mil_cpu() {
    let dir = workspace();
    let bundle = Bundle::open(dir.path().join("bundle")).unwrap();
    let package = |bundle: &Bundle| bundle.package(&bundle.manifest().shards[0]).unwrap();
    let right = Stubborn { inner: MilCpu::new(Numerics::F16), instead: package(&bundle) };
    let verified = verify(&bundle, &VerifyOptions::default().with_engine(&right).with_seed(1)).unwrap();
    assert!(verified.pass, "{:?}", verified.checks);
    let names: Vec<&str> = verified.checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names[2..], ["stubborn against mil-cpu f32", "stubborn against mil-cpu f16"]);
    assert_eq!(verified.checks[3].parity.largest_error, 0.0);
    assert_eq!(verified.transcript.logits_engine.as_ref(), Some(&verified.transcript.logits_f16));

    common::random(dir.path(), |config| config, 0.2);
    ok(dir.path(), &["export", "random-checkpoint", "--out", "other", "--no-verify"]);
    let other = Bundle::open(dir.path().join("other")).unwrap();
    let wrong = Stubborn { inner: MilCpu::new(Numerics::F16), instead: package(&other) };
    let verified = verify(&bundle, &VerifyOptions::default().with_engine(&wrong).with_seed(1)).unwrap();
    let passed: Vec<bool> = verified.checks.iter().map(|check| check.pass).collect();
    assert_eq!((passed, verified.pass), (vec![true, true, false, false], false));
}
