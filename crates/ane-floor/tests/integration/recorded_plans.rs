//! Hand-written plans, in the form of the crate `coreml`, become reports.

use std::path::Path;

use ane_floor::corpus::{How, PlacementCorpus};
use ane_floor::measured::RecordedPlan;
use ane_floor::{Basis, Comparison, Device, PlacementReport, Verdict};
use mlpackage::Package;

fn here(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(here("tests/plans").join(format!("{name}.json"))).unwrap()
}

fn plan(name: &str) -> (Package, RecordedPlan) {
    let package =
        Package::open(here("../mlpackage/tests/fixtures").join(format!("{name}.mlpackage"))).unwrap();
    (package, RecordedPlan::from_json(&text(name)).unwrap().remove(0))
}

#[test]
fn a_recorded_plan_becomes_a_report() {
    let (package, plan) = plan("multifunction");
    let report = plan.report(&package).unwrap();
    report.check().unwrap();
    assert_eq!((report.basis, report.verdict), (Basis::Measured, Verdict::Mixed));
    // Neither the operation within a block nor the constants count.
    assert_eq!(report.residency.conv_ane.to_string(), "1/2");
    assert_eq!(report.residency.compute_ane.to_string(), "2/4");
    let found: Vec<_> =
        report.operations.iter().map(|o| (o.function.as_str(), o.name.as_str(), o.device)).collect();
    assert_eq!(
        found,
        [
            ("double", "conv_0", Device::Ane),
            ("double", "y", Device::Ane),
            ("single", "conv_0", Device::Cpu),
            // On a device of an unknown kind.
            ("single", "y", Device::Unknown),
        ]
    );
    assert!((report.operations[0].cost - 0.9).abs() < 1e-12);
    assert_eq!(report.operations[0].reason, "preferred by the plan; supported: CPU, ANE");
}

/// An operation without a result has no name in a plan, and is found in the program by its order.
#[test]
fn what_writes_a_state_keeps_its_name() {
    let (package, plan) = plan("state");
    let report = plan.report(&package).unwrap();
    let found: Vec<_> =
        report.operations.iter().map(|o| (o.name.as_str(), o.op.as_str(), o.device)).collect();
    assert_eq!(
        found,
        [
            ("read_state_0", "read_state", Device::Cpu),
            ("add_0", "add", Device::Ane),
            ("after_write_state", "write_state", Device::Cpu),
            ("after", "read_state", Device::Cpu),
        ]
    );
    let predicted = PlacementReport::predict(&package, None).unwrap();
    let comparison = Comparison::of(&predicted, &report);
    assert_eq!((comparison.shared(), comparison.differing()), (4, 1));
    let text = comparison.to_string();
    let differing: Vec<&str> = text.lines().filter(|line| line.starts_with('!')).collect();
    assert!(
        differing.len() == 1 && differing[0].contains("add_0") && differing[0].contains("50.00 %"),
        "{text}"
    );
    assert!(text.ends_with("1 of 4 operations differ\n"), "{text}");
}

#[test]
fn operations_that_are_in_one_report_alone_are_told() {
    let (package, mut plan) = plan("state");
    plan.plan.program_operation_plans[1].operation.outputs[0].name = "fused".into();
    let measured = plan.report(&package).unwrap();
    let predicted = PlacementReport::predict(&package, None).unwrap();
    let text = Comparison::of(&predicted, &measured).to_string();
    assert!(text.contains("not in the plan") && text.contains("fused"), "{text}");
    assert!(text.ends_with("0 of 3 operations differ; 2 are in only one of the two\n"), "{text}");
}

#[test]
fn a_measurement_is_a_row_of_evidence_and_measured_again_the_same_row() {
    let (package, plan) = plan("multifunction");
    let report = plan.report(&package).unwrap();
    let row = plan.row(&package, &report).unwrap();
    assert!(row.id.starts_with("measured-") && row.id.ends_with("-made-by-hand-cpu-and-ane"), "{}", row.id);
    assert_eq!((row.how, row.placed.device), (How::Plan, Verdict::Mixed));
    assert_eq!(row.machine.chip.as_deref(), Some("made by hand"));
    let once = PlacementCorpus::built_in().clone().with(row.clone()).unwrap();
    let twice = once.clone().with(row).unwrap();
    assert_eq!(once, twice);
    assert_eq!(once.rows().len(), PlacementCorpus::built_in().rows().len() + 1);
    assert_eq!(PlacementCorpus::from_jsonl("written", &once.to_jsonl()).unwrap(), once);
}

#[test]
fn what_is_no_plan_is_refused() {
    let refused = |text: &str| RecordedPlan::from_json(text).unwrap_err().to_string();
    assert!(refused("").starts_with("not a recorded plan that can be used here: "));
    assert!(refused("[1]").starts_with("not a recorded plan that can be used here: "));
    assert!(
        refused(&text("state").replace("\"program\"", "\"neural_network\"")).contains("expected \"program\"")
    );
    assert!(refused(&text("state").replace("\"compute_units\"", "\"units\"")).contains("units"));
    let (package, mut plan) = plan("state");
    for found in &mut plan.plan.program_operation_plans {
        found.cost = None;
        found.device_usage = None;
    }
    let report = plan.report(&package).unwrap();
    assert_eq!((report.residency.compute_ane.ane, report.verdict), (0, Verdict::Unknown));
    plan.plan.program_operation_plans.clear();
    let error = plan.report(&package).unwrap_err().to_string();
    assert!(error.contains("no operation that computes"), "{error}");
}

#[test]
fn a_plan_of_another_package_is_no_evidence() {
    let (package, plan) = plan("state");
    let (other, _) = self::plan("multifunction");
    let refused = |plan: &RecordedPlan, package: &Package| plan.report(package).unwrap_err().to_string();
    assert!(refused(&plan, &other).contains("it is of state.mlpackage, not of multifunction.mlpackage"));
    let known = RecordedPlan { program: Some("0123456789ab".into()), ..plan.clone() };
    assert!(refused(&known, &package).contains("it is of the program 0123456789ab"));
    let mut strange = plan.clone();
    strange.plan.program_operation_plans[0].path = "functions.nofn.block.operations[0]".into();
    assert!(refused(&strange, &package).contains("has no function nofn"));
    strange.plan.program_operation_plans[0].path = String::new();
    assert!(refused(&strange, &package).contains("expected functions.NAME.block.operations[N]"));
    let unread = |plan: &RecordedPlan| {
        RecordedPlan::from_json(&serde_json::to_string(plan).unwrap()).unwrap_err().to_string()
    };
    let mut twice = plan.clone();
    twice.plan.program_operation_plans.push(twice.plan.program_operation_plans[0].clone());
    assert!(unread(&twice).contains("is there twice"));
    for name in ["x".repeat(1_000_000), "\u{1b}]0;x".to_owned()] {
        let mut hostile = plan.clone();
        hostile.plan.program_operation_plans[0].operation.outputs[0].name = name;
        let error = unread(&hostile);
        assert!(error.contains("control character") && error.len() < 300, "{error}");
    }
}

/// The crate itself reads the plans, where it can be built.
#[cfg(target_os = "macos")]
#[test]
fn the_crate_reads_what_was_made_by_hand() {
    for name in ["multifunction", "state"] {
        let recorded: serde_json::Value = serde_json::from_str(&text(name)).unwrap();
        let details =
            coreml_rs::compute_plan::ComputePlanDetails::from_json_str(&recorded["plan"].to_string())
                .unwrap();
        let (_, plan) = plan(name);
        assert_eq!(details.program_operation_plans.len(), plan.plan.program_operation_plans.len());
    }
}
