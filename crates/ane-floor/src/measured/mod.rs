//! Measured placement: a report like the laws', from the `MLComputePlan` of a compiled package.
//!
//! The conversion of a plan to a report is plain logic that runs anywhere; only making the plan needs a Mac.
//! A plan is Core ML's intention, not a trace of a run.

#[cfg(target_os = "macos")]
mod core_ml;
mod planned_operation;
mod recorded_plan;
mod report;

use mlpackage::Package;

pub use planned_operation::PlannedOperation;
pub use recorded_plan::{
    DeviceUsage, PlannedDevice, RecordedCost, RecordedOperation, RecordedOperationPlan, RecordedOutput,
    RecordedPlan, RecordedProgramPlan,
};

#[cfg(target_os = "macos")]
use crate::corpus::RecordedMachine;
#[cfg(not(target_os = "macos"))]
use crate::error::Error;
use crate::error::Result;
use crate::report::PlacementReport;

/// Compiles a package and records Core ML's plan for the CPU and the Neural Engine.
///
/// # Errors
///
/// [`Error::NeedsMac`] on other systems; [`Error::CoreMl`] with Core ML's message; [`Error::Package`] for an
/// invalid package.
pub fn record(package: &Package) -> Result<RecordedPlan> {
    package.require_sound()?;
    #[cfg(target_os = "macos")]
    return Ok(RecordedPlan {
        package: crate::report::name(package),
        program: Some(recorded_plan::program_of(package)?),
        machine: RecordedMachine::this(),
        compute_units: core_ml::COMPUTE_UNITS.0.to_owned(),
        plan: core_ml::plan(package)?,
    });
    #[cfg(not(target_os = "macos"))]
    Err(Error::NeedsMac { what: "MLComputePlan" })
}

/// Records Core ML's plan of a package, and returns its report.
///
/// # Errors
///
/// As for [`record`] and [`PlacementReport::measured`].
pub fn measure(package: &Package) -> Result<PlacementReport> {
    record(package)?.report(package)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Device, Verdict};
    use crate::report::Basis;

    fn planned(
        path: &str,
        op: &str,
        output: Option<&str>,
        preferred: Option<Device>,
        cost: f64,
    ) -> PlannedOperation {
        PlannedOperation {
            path: path.to_owned(),
            op: op.to_owned(),
            outputs: output.map(str::to_owned).into_iter().collect(),
            preferred,
            supported: vec![Device::Cpu, Device::Ane],
            cost: Some(cost),
        }
    }

    fn fixture(name: &str) -> Package {
        let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../mlpackage/tests/fixtures");
        Package::open(fixtures.join(name)).unwrap()
    }

    /// A hand-written plan of a package whose functions are `double` and `single`, each with a convolution
    /// and a relu.
    #[test]
    fn a_plan_becomes_a_report() {
        let package = fixture("multifunction.mlpackage");
        let predicted = PlacementReport::predict(&package, None).unwrap();
        let at = |function: &str, i: usize| format!("functions.{function}.block.operations[{i}]");
        let mut plan = Vec::new();
        for (i, o) in predicted.operations.iter().enumerate() {
            plan.push(planned(&at(&o.function, 2 * i), "const", Some("c"), None, 0.0));
            let device = if o.function == "double" { Device::Ane } else { Device::Cpu };
            let op = format!("ios18.{}", o.op);
            plan.push(planned(&at(&o.function, 2 * i + 1), &op, Some(&o.name), Some(device), 3.0));
        }
        // An operation within a block is not counted.
        plan.push(planned(
            "functions.single.block.operations[9].blocks[0].operations[0]",
            "add",
            Some("b"),
            Some(Device::Ane),
            1.0,
        ));
        let report = PlacementReport::measured(&package, &plan).unwrap();
        report.check().unwrap();
        assert_eq!((report.basis, report.verdict), (Basis::Measured, Verdict::Mixed));
        assert_eq!(report.residency.conv_ane.to_string(), "1/2");
        assert_eq!(report.residency.compute_ane.to_string(), "2/4");
        let outcomes: Vec<_> = report.functions.iter().map(|f| (f.name.as_str(), f.outcome)).collect();
        assert_eq!(outcomes, [("double", Verdict::Ane), ("single", Verdict::Cpu)]);
        assert!((report.cost_ane - 0.5).abs() < 1e-12);
        assert_eq!(report.operations[0].reason, "preferred by the plan; supported: CPU, ANE");
        // The data flow is the program's.
        for (m, p) in report.operations.iter().zip(&predicted.operations) {
            assert_eq!((&m.name, &m.op, &m.sources), (&p.name, &p.op, &p.sources));
        }
    }

    #[test]
    fn what_a_plan_does_not_say_is_unknown_and_counts_as_not_placed() {
        let package = fixture("multifunction.mlpackage");
        let plan = [
            planned("functions.single.block.operations[0]", "conv", Some("renamed"), Some(Device::Ane), 0.0),
            planned("functions.single.block.operations[1]", "relu", None, None, 0.0),
        ];
        let report = PlacementReport::measured(&package, &plan).unwrap();
        assert_eq!(report.residency.compute_ane.to_string(), "1/2");
        assert_eq!(report.operations[1].device, Device::Unknown);
        assert_eq!(report.operations[1].name, "relu_1");
        assert!((report.cost_ane - 0.5).abs() < 1e-12, "no costs: equal shares");
        let error = PlacementReport::measured(&package, &[]).unwrap_err().to_string();
        assert!(error.contains("no operation that computes"), "{error}");
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn elsewhere_it_says_what_to_do() {
        let error = measure(&fixture("multifunction.mlpackage")).unwrap_err().to_string();
        assert!(error.contains("MLComputePlan") && error.contains("a Mac"), "{error}");
    }
}
