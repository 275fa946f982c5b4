//! A plan of Core ML's as a file: made on a Mac, read anywhere.
//!
//! The form of a plan is that in which the crate `coreml` serializes its `ComputePlanDetails`. Reading it is plain logic, so that what
//! a Mac says is understood by code that runs, and is tested, elsewhere.

use std::collections::HashSet;

use mlpackage::Package;
use mlpackage::bundle::FileDigest;
use serde::{Deserialize, Serialize};

use super::PlannedOperation;
use crate::corpus::{Machine, Placement};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::report::PlacementReport;

/// Characters of the longest text in a plan.
const LONGEST: usize = 1000;

/// The plan of a package, and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedPlan {
    /// Name of the package.
    pub package: String,
    /// The beginning of the SHA-256 of its program, by which the package is known: every decoder's is called alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The machine that it is a plan for.
    pub machine: Machine,
    /// What Core ML was to choose from, such as `cpu-and-ane`.
    pub compute_units: String,
    /// The plan.
    pub plan: Plan,
}

/// What is used of a plan. Whatever else it says is passed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `program` for ML Programs, which alone have operations.
    pub model_type: String,
    /// Of every function, in the order of the program; blocks within operations included.
    pub program_operation_plans: Vec<OperationPlan>,
}

/// An operation of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationPlan {
    /// Such as `functions.main.block.operations[3]`.
    pub path: String,
    /// What it is.
    pub operation: Operation,
    /// Its share of the cost, where Core ML estimates one.
    #[serde(default)]
    pub cost: Option<Cost>,
    /// Its devices, where the plan tells.
    #[serde(default)]
    pub device_usage: Option<DeviceUsage>,
}

/// Type and results of an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Such as `ios18.conv`.
    pub operator_name: String,
    /// What it gives.
    #[serde(default)]
    pub outputs: Vec<Output>,
}

/// A result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Its name.
    pub name: String,
}

/// A share of the cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// 0 to 1.
    pub weight: f64,
}

/// Where an operation is meant to run, and where it could.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceUsage {
    /// Where it could.
    #[serde(default)]
    pub supported: Vec<PlannedDevice>,
    /// Where it is meant to.
    pub preferred: PlannedDevice,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDevice {
    /// `cpu`, `gpu`, `neural_engine` or `unknown`.
    pub kind: String,
}

impl PlannedDevice {
    /// A kind that nobody knew when this was written is no Neural Engine.
    fn device(&self) -> Device {
        match self.kind.as_str() {
            "cpu" => Device::Cpu,
            "gpu" => Device::Gpu,
            "neural_engine" => Device::Ane,
            _ => Device::Unknown,
        }
    }
}

impl RecordedPlan {
    /// Reads plans that were written as JSON: one, or a list of them.
    ///
    /// # Errors
    ///
    /// [`Error::Plan`] if they are none.
    pub fn from_json(text: &str) -> Result<Vec<Self>> {
        let read = match text.trim_start().starts_with('{') {
            true => serde_json::from_str(text).map(|one| vec![one]),
            false => serde_json::from_str(text),
        };
        let plans: Vec<Self> = read.map_err(|e| Error::Plan { reason: e.to_string() })?;
        for plan in &plans {
            plan.check().map_err(|reason| Error::Plan { reason })?;
        }
        Ok(plans)
    }

    /// What is wrong with a plan by itself.
    fn check(&self) -> Result<(), String> {
        let Self { package, machine, compute_units, plan, .. } = self;
        let told = [Some(package), Some(compute_units), machine.chip.as_ref(), machine.os.as_ref()];
        let operations = || plan.program_operation_plans.iter();
        let named = operations().flat_map(|o| {
            let outputs = o.operation.outputs.iter().map(|output| &output.name);
            [&o.path, &o.operation.operator_name].into_iter().chain(outputs)
        });
        for text in told.into_iter().flatten().chain([&plan.model_type]).chain(named) {
            if text.chars().count() > LONGEST || text.chars().any(char::is_control) {
                let begin: String = text.chars().take(40).collect();
                return Err(format!(
                    "{begin:?} and so on: expected up to {LONGEST} characters, none of them a control character"
                ));
            }
        }
        if plan.model_type != "program" {
            return Err(format!("{package} is of type {:?}, expected \"program\"", plan.model_type));
        }
        let mut paths = HashSet::new();
        match operations().find(|o| !paths.insert(o.path.as_str())) {
            Some(twice) => Err(format!("{} is there twice", twice.path)),
            None => Ok(()),
        }
    }

    /// Whether this is a plan of that package, as far as can be told.
    fn check_of(&self, package: &Package) -> Result<(), String> {
        let name = crate::report::name(package);
        let found = program_of(package).map_err(|e| e.to_string())?;
        match &self.program {
            Some(planned) if *planned != found => {
                return Err(format!("it is of the program {planned}, and {name} has the program {found}"));
            }
            None if self.package != name => {
                return Err(format!("it is of {}, not of {name}", self.package));
            }
            _ => {}
        }
        let functions = &package.program().functions;
        for o in &self.plan.program_operation_plans {
            let function =
                o.path.strip_prefix("functions.").and_then(|rest| rest.split_once(".block.operations["));
            match function {
                Some((function, _)) if functions.contains_key(function) => {}
                Some((function, _)) => return Err(format!("{name} has no function {function}")),
                None => {
                    return Err(format!("path {:?}, expected functions.NAME.block.operations[N]", o.path));
                }
            }
        }
        Ok(())
    }

    /// The operations of the plan.
    pub fn operations(&self) -> Vec<PlannedOperation> {
        self.plan.program_operation_plans.iter().map(planned).collect()
    }

    /// The report of a package that this is the plan of.
    ///
    /// # Errors
    ///
    /// [`Error::Plan`] if it is one of another package; as [`PlacementReport::measured`].
    pub fn report(&self, package: &Package) -> Result<PlacementReport> {
        self.check_of(package).map_err(|reason| Error::Plan { reason })?;
        PlacementReport::measured(package, &self.operations())
    }

    /// What the plan says, as a row of evidence. Its name follows from the program and the machine: measured again, a program gets the
    /// same one.
    ///
    /// # Errors
    ///
    /// If a file of the package cannot be read.
    pub fn row(&self, package: &Package, report: &PlacementReport) -> Result<Placement> {
        let program = program_of(package)?;
        let id = format!("measured-{program}-{}-{}", self.machine, self.compute_units);
        let id = id.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
        // What it is for, in its maker's words, of which a row takes one line.
        let told = [&package.metadata().short_description, &report.package];
        let told = told.into_iter().find(|text| !text.trim().is_empty()).map_or("a package", String::as_str);
        let summary: String = told.chars().filter(|c| !c.is_control()).take(200).collect();
        let mut row =
            Placement::of_measurement(id, summary, report, self.machine.clone(), "microgpt floor --measure");
        row.remark = Some(format!("compute units {}", self.compute_units));
        Ok(row)
    }
}

/// What the program of a package is known by.
pub(super) fn program_of(package: &Package) -> Result<String> {
    let digest = FileDigest::of(package.model_path())?;
    Ok(digest.sha256.chars().take(12).collect())
}

fn planned(found: &OperationPlan) -> PlannedOperation {
    let usage = found.device_usage.as_ref();
    PlannedOperation {
        path: found.path.clone(),
        op: found.operation.operator_name.clone(),
        outputs: found.operation.outputs.iter().map(|output| output.name.clone()).collect(),
        preferred: usage.map(|usage| usage.preferred.device()),
        supported: usage
            .map_or(Vec::new(), |usage| usage.supported.iter().map(PlannedDevice::device).collect()),
        // A share of 1, in theory. What is far from it is as good as none.
        cost: found.cost.map(|cost| cost.weight).filter(|weight| (0.0..=1e6).contains(weight)),
    }
}
