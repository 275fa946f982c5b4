//! A Core ML plan as a file, made on a Mac and read anywhere.
//!
//! Plans have the form in which the crate `coreml` serializes its `ComputePlanDetails`. Reading them is plain
//! logic, so the code that interprets a Mac's plans also runs, and is tested, elsewhere.

use std::collections::HashSet;

use ane_bundle::FileDigest;
use mlpackage::Package;
use serde::{Deserialize, Serialize};

use super::PlannedOperation;
use crate::corpus::{Placement, RecordedMachine};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::report::PlacementReport;

/// Maximum length in characters of a text in a plan.
const LONGEST: usize = 1000;

/// The plan of a package, and its origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedPlan {
    /// Name of the package.
    pub package: String,
    /// The beginning of the SHA-256 of its program, which identifies the package: all decoders have the same
    /// file name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The machine on which the plan was made.
    pub machine: RecordedMachine,
    /// The devices offered to Core ML, such as `cpu-and-ane`.
    pub compute_units: String,
    /// The plan.
    pub plan: RecordedProgramPlan,
}

/// The parts of a plan that are used. Other fields are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedProgramPlan {
    /// `program` for ML Programs; other models have no operations.
    pub model_type: String,
    /// The operations of every function in program order, including those within blocks.
    pub program_operation_plans: Vec<RecordedOperationPlan>,
}

/// An operation of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedOperationPlan {
    /// Its position, such as `functions.main.block.operations[3]`.
    pub path: String,
    /// Its type and results.
    pub operation: RecordedOperation,
    /// Its share of the cost, if Core ML estimates one.
    #[serde(default)]
    pub cost: Option<RecordedCost>,
    /// Its devices, if the plan states them.
    #[serde(default)]
    pub device_usage: Option<DeviceUsage>,
}

/// Type and results of an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedOperation {
    /// The type, such as `ios18.conv`.
    pub operator_name: String,
    /// The results.
    #[serde(default)]
    pub outputs: Vec<RecordedOutput>,
}

/// A result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedOutput {
    /// Its name.
    pub name: String,
}

/// A share of the cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedCost {
    /// 0 to 1.
    pub weight: f64,
}

/// The device that an operation is planned for, and those that it could run on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceUsage {
    /// The devices that it could run on.
    #[serde(default)]
    pub supported: Vec<PlannedDevice>,
    /// The device that it is planned for.
    pub preferred: PlannedDevice,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDevice {
    /// `cpu`, `gpu`, `neural_engine` or `unknown`.
    pub kind: String,
}

impl PlannedDevice {
    /// Converts the device; a kind that is not known here is not the Neural Engine.
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
    /// Reads plans from JSON: one plan, or a list of them.
    ///
    /// # Errors
    ///
    /// [`Error::Plan`] if the text is not a plan or a list of plans.
    pub fn from_json(text: &str) -> Result<Vec<Self>> {
        let read = match text.trim_start().starts_with('{') {
            true => serde_json::from_str(text).map(|one| vec![one]),
            false => serde_json::from_str(text),
        };
        let plans: Vec<Self> =
            read.map_err(|e| Error::Plan { reason: e.to_string(), source: Some(e.into()) })?;
        for plan in &plans {
            plan.check().map_err(|reason| Error::Plan { reason, source: None })?;
        }
        Ok(plans)
    }

    /// Checks the plan by itself.
    fn check(&self) -> Result<(), String> {
        let Self { package, machine, compute_units, plan, .. } = self;
        let texts = [Some(package), Some(compute_units), machine.chip.as_ref(), machine.os.as_ref()];
        let operations = || plan.program_operation_plans.iter();
        let named = operations().flat_map(|o| {
            let outputs = o.operation.outputs.iter().map(|output| &output.name);
            [&o.path, &o.operation.operator_name].into_iter().chain(outputs)
        });
        for text in texts.into_iter().flatten().chain([&plan.model_type]).chain(named) {
            if text.chars().count() > LONGEST || text.chars().any(char::is_control) {
                let begin: String = text.chars().take(40).collect();
                return Err(format!(
                    "{begin:?} and so on: expected at most {LONGEST} characters and no control character"
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

    /// Checks, as far as possible, that this is a plan of the package.
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

    /// Returns the operations of the plan.
    pub fn operations(&self) -> Vec<PlannedOperation> {
        self.plan.program_operation_plans.iter().map(planned).collect()
    }

    /// Creates the report of the package that this is the plan of.
    ///
    /// # Errors
    ///
    /// [`Error::Plan`] if the plan belongs to another package; otherwise as for
    /// [`PlacementReport::measured`].
    pub fn report(&self, package: &Package) -> Result<PlacementReport> {
        self.check_of(package).map_err(|reason| Error::Plan { reason, source: None })?;
        PlacementReport::measured(package, &self.operations())
    }

    /// Converts the plan to a row of evidence. The row's id follows from the program, the machine and the
    /// compute units, so measuring again results in the same id.
    ///
    /// # Errors
    ///
    /// [`Error::Package`] if a file of the package cannot be read.
    pub fn row(&self, package: &Package, report: &PlacementReport) -> Result<Placement> {
        let program = program_of(package)?;
        let id = format!("measured-{program}-{}-{}", self.machine, self.compute_units);
        let id = id.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
        // The package's own description, of which a row uses one line.
        let texts = [&package.metadata().short_description, &report.package];
        let text = texts.into_iter().find(|text| !text.trim().is_empty()).map_or("a package", String::as_str);
        let summary: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        let mut row =
            Placement::of_measurement(id, summary, report, self.machine.clone(), "microgpt floor --measure");
        row.remark = Some(format!("compute units {}", self.compute_units));
        Ok(row)
    }
}

/// Returns the digest that identifies the program of a package.
pub(super) fn program_of(package: &Package) -> Result<String> {
    let digest = FileDigest::of(package.model_path())?;
    Ok(digest.sha256.chars().take(12).collect())
}

fn planned(found: &RecordedOperationPlan) -> PlannedOperation {
    let usage = found.device_usage.as_ref();
    PlannedOperation {
        path: found.path.clone(),
        op: found.operation.operator_name.clone(),
        outputs: found.operation.outputs.iter().map(|output| output.name.clone()).collect(),
        preferred: usage.map(|usage| usage.preferred.device()),
        supported: usage
            .map_or(Vec::new(), |usage| usage.supported.iter().map(PlannedDevice::device).collect()),
        // Should be a share of 1; a value far outside that range counts as missing.
        cost: found.cost.map(|cost| cost.weight).filter(|weight| (0.0..=1e6).contains(weight)),
    }
}
