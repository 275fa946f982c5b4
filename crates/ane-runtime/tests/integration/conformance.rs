//! Runs the conformance suite on the engines that are available on any machine.
//!
//! `tests/conformance/*.py` generates the packages and expected outputs with coremltools and PyTorch.

use std::collections::BTreeSet;

use ane_runtime::{MilCpu, Numerics};
use mlpackage::{Package, ops};

use crate::suite::{Case, Report, run};

/// The packages in `tests/conformance`, the calls that the metadata of their `.safetensors` files lists, and the
/// tensors `STEP.out.OUTPUT` in these files. The scripts that generate them decide these numbers.
const CONTENTS: [usize; 3] = [130, 364, 1304];

fn passes(report: &Report) {
    println!("{report}");
    assert_eq!([report.packages, report.calls, report.outputs], CONTENTS);
    assert!(report.refused.is_empty(), "{}", report.refused.join("\n"));
    assert!(
        report.failures.is_empty(),
        "{} failures:\n{}",
        report.failures.len(),
        report.failures.join("\n")
    );
}

fn opened(case: &Case) -> mlpackage::Result<Package> {
    Package::open(&case.package)
}

#[test]
fn mil_cpu_in_f32() {
    passes(&run(&MilCpu::new(Numerics::F32), opened));
}

#[test]
fn mil_cpu_in_f16() {
    passes(&run(&MilCpu::new(Numerics::F16), opened));
}

#[test]
fn mil_cpu_fast() {
    passes(&run(&MilCpu::new(Numerics::Fast), opened));
}

/// A package that this project has saved runs like the original.
#[test]
fn written_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    passes(&run(&MilCpu::new(Numerics::F32), |case| {
        let copy = dir.path().join(case.package.file_name().unwrap());
        Package::open(&case.package)?.save(&copy)?;
        Package::open(&copy)
    }));
}

/// Every operation of the table occurs in some package of the suite, except those that draw random values:
/// there is nothing to compare them with, so `operations.rs` tests them.
#[test]
fn every_operation_of_the_table_is_run() {
    let report = run(&MilCpu::new(Numerics::F32), opened);
    let missing: BTreeSet<&str> =
        ops::all().map(|op| op.name).filter(|name| !report.operations.contains(*name)).collect();
    assert_eq!(missing, ["random_bernoulli", "random_categorical", "random_normal", "random_uniform"].into());
}
