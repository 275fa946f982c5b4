//! Makes the plan: Core ML compiles the package and returns where each operation should run.

use std::fs;
use std::path::PathBuf;

use coreml_rs::compute_plan::ComputePlanDetails;
use coreml_rs::configuration::{ComputeUnits, ModelConfiguration};
use coreml_rs::error::CoreMLError;
use coreml_rs::model_compiler::ModelCompiler;
use mlpackage::Package;
use objc2::rc::autoreleasepool;
use serde::Deserialize as _;

use super::recorded_plan::RecordedProgramPlan;
use crate::error::{Error, Result};

/// The devices that the plan is made for. Never "all": if the GPU is offered as well, a plan says nothing
/// about the Neural Engine.
pub(super) const COMPUTE_UNITS: (&str, ComputeUnits) = ("cpu-and-ane", ComputeUnits::CpuAndNeuralEngine);

/// Compiles a package, reads its plan, and removes the compiled model.
pub(super) fn plan(package: &Package) -> Result<RecordedProgramPlan> {
    // Core ML leaves objects to the thread's autorelease pool, which a Rust thread does not have.
    autoreleasepool(|_| plan_pooled(package))
}

fn plan_pooled(package: &Package) -> Result<RecordedProgramPlan> {
    let path = package.path();
    let failed = |doing: &str, error: &dyn std::fmt::Display| Error::CoreMl {
        what: format!("{doing} {}: {error}", path.display()),
    };
    // The binding's error code names its own call, and could be mistaken for a Core ML code.
    let words = |error: CoreMLError| error.message().to_owned();
    let compiled = Compiled(ModelCompiler::compile(path).map_err(|e| failed("compile", &words(e)))?);
    let of = |configuration: &ModelConfiguration| -> Result<RecordedProgramPlan> {
        let details = ComputePlanDetails::load_from_url(&compiled.0, configuration)
            .map_err(|e| failed("load the compute plan of", &words(e)))?;
        // Converted through the form of recorded plans, so that the code tested elsewhere runs here.
        serde_json::to_value(&details)
            .and_then(RecordedProgramPlan::deserialize)
            .map_err(|e| failed("read the compute plan of", &e))
    };
    let configuration = ModelConfiguration::new().with_compute_units(COMPUTE_UNITS.1);
    if !package.description().is_multifunction() {
        return of(&configuration);
    }
    // A plan is for one function; its entries for others are not used.
    let mut all: Option<RecordedProgramPlan> = None;
    for name in package.program().functions.keys() {
        let mut plan = of(&configuration.clone().with_function_name(name))?;
        let own = format!("functions.{name}.block.");
        plan.program_operation_plans.retain(|operation| operation.path.starts_with(&own));
        match &mut all {
            Some(all) => all.program_operation_plans.append(&mut plan.program_operation_plans),
            none => *none = Some(plan),
        }
    }
    all.ok_or_else(|| failed("plan", &"it has no function"))
}

/// A compiled model in a temporary folder, removed on drop.
struct Compiled(PathBuf);

impl Drop for Compiled {
    fn drop(&mut self) {
        // If removal fails, the system cleans up its temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}
