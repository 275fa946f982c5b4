//! The plan itself: Core ML compiles the package and says where each operation is meant to run.

use std::fs;
use std::path::PathBuf;

use coreml_rs::compute_plan::ComputePlanDetails;
use coreml_rs::configuration::{ComputeUnits, ModelConfiguration};
use coreml_rs::error::CoreMLError;
use coreml_rs::model_compiler::ModelCompiler;
use mlpackage::Package;
use objc2::rc::autoreleasepool;
use serde::Deserialize as _;

use super::recorded_plan::Plan;
use crate::error::{Error, Result};

/// What the plan is made for. Never "all": with the GPU to choose from, a plan says nothing about the Neural Engine.
pub(super) const COMPUTE_UNITS: (&str, ComputeUnits) = ("cpu-and-ane", ComputeUnits::CpuAndNeuralEngine);

/// Compiles a package and reads its plan. The compiled model is removed again.
pub(super) fn plan(package: &Package) -> Result<Plan> {
    // Core ML leaves objects to the pool of the thread, and a thread of Rust's has none.
    autoreleasepool(|_| plan_pooled(package))
}

fn plan_pooled(package: &Package) -> Result<Plan> {
    let path = package.path();
    let failed = |doing: &str, error: &dyn std::fmt::Display| Error::CoreMl {
        what: format!("{doing} {}: {error}", path.display()),
    };
    // The code of the binding says which of its own calls failed, and looks like one of Core ML's.
    let words = |error: CoreMLError| error.message().to_owned();
    let compiled = Compiled(ModelCompiler::compile(path).map_err(|e| failed("compile", &words(e)))?);
    let of = |configuration: &ModelConfiguration| -> Result<Plan> {
        let details = ComputePlanDetails::load_from_url(&compiled.0, configuration)
            .map_err(|e| failed("load the compute plan of", &words(e)))?;
        // By way of the form in which plans are recorded: what is tested elsewhere is what runs here.
        serde_json::to_value(&details)
            .and_then(Plan::deserialize)
            .map_err(|e| failed("read the compute plan of", &e))
    };
    let configuration = ModelConfiguration::new().with_compute_units(COMPUTE_UNITS.1);
    if !package.description().is_multifunction() {
        return of(&configuration);
    }
    // A plan is for one function. What it says of the others, if anything, is not for them.
    let mut all: Option<Plan> = None;
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

/// A compiled model in a temporary place, removed when it is done with.
struct Compiled(PathBuf);

impl Drop for Compiled {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, which empties that place.
        let _ = fs::remove_dir_all(&self.0);
    }
}
