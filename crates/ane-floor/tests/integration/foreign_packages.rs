//! Packages of every kind made by coremltools: each gets a verdict, and each operation a reason.

use std::path::{Path, PathBuf};

use ane_floor::{Device, PlacementReport, Verdict};
use mlpackage::Package;

/// Lists every package in a folder of this workspace.
fn packages(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == "mlpackage"));
    found.sort();
    found
}

#[test]
fn every_operation_has_a_device_and_a_reason() {
    let mut judged = 0;
    for path in
        packages("mlpackage/tests/fixtures").into_iter().chain(packages("ane-runtime/tests/conformance"))
    {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let package = Package::open(&path).unwrap();
        let report = PlacementReport::predict(&package, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        report.check().unwrap();
        judged += 1;
        // Constants and nested blocks have no place of their own.
        let blocks = package.program().functions.values().map(|function| &function.block);
        let computed = blocks.flat_map(|block| &block.operations).filter(|o| !o.op.starts_with("const"));
        assert_eq!(report.operations.len(), computed.count(), "{name}");
        for o in &report.operations {
            assert!(
                !o.rule.is_empty() && !o.reason.is_empty() && o.device != Device::Unknown,
                "{name}: {o:?}"
            );
            assert!(o.confidence > 0.0 && o.confidence < 1.0, "{name}: {o:?}");
        }
        for function in &report.functions {
            let cost: f64 = report.operations_of(&function.name).map(|o| o.cost).sum();
            assert!(
                (cost - 1.0).abs() < 1e-9 || report.operations_of(&function.name).next().is_none(),
                "{name}: {cost}"
            );
        }
        // All are small: no law that decides places any of them on the Neural Engine.
        assert_eq!(report.verdict, Verdict::Cpu, "{name}");
    }
    // The fixtures and the packages of the conformance suite, of which the repository has these numbers.
    assert_eq!(judged, 57 + 130);
}

/// Expected rules, derived by hand from the fixtures.
#[test]
fn rules_are_those_of_the_operations() {
    let rule = |package: &str, op: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mlpackage/tests/fixtures").join(package);
        let report = PlacementReport::predict(&Package::open(&path).unwrap(), None).unwrap();
        report
            .operations
            .iter()
            .find(|o| o.op == op)
            .unwrap_or_else(|| panic!("{package} has no {op}"))
            .rule
            .clone()
    };
    assert_eq!(rule("gathers.mlpackage", "gather"), "never-placed");
    assert_eq!(rule("control_flow.mlpackage", "cond"), "never-placed");
    assert_eq!(rule("classifier.mlpackage", "softmax"), "element-type");
    assert_eq!(rule("ios18_int4_per_block.mlpackage", "conv"), "int4-per-block");
    // Kernel size 3: not a shard of 1x1 convolutions, so the floor does not apply.
    assert_eq!(rule("ios18_int8_per_tensor.mlpackage", "conv"), "anchor-and-work");
    assert_eq!(rule("multifunction.mlpackage", "conv"), "floor");
}
