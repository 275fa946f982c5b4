//! The plan itself: Core ML compiles the package and says where each operation is meant to run.

use std::fs;
use std::path::{Path, PathBuf};

use coreml_rs::compute_plan::ComputePlanDetails;
use coreml_rs::configuration::{ComputeUnits, ModelConfiguration};
use coreml_rs::error::CoreMLError;
use coreml_rs::model_compiler::ModelCompiler;
use serde::Deserialize as _;

use super::recorded_plan::Plan;
use crate::error::{Error, Result};

/// What the plan is made for. Never "all": with the GPU to choose from, a plan says nothing about the Neural Engine.
pub(super) const COMPUTE_UNITS: (&str, ComputeUnits) = ("cpu-and-ane", ComputeUnits::CpuAndNeuralEngine);

/// Compiles the package at `path` and reads its plan. The compiled model is removed again.
pub(super) fn plan(path: &Path) -> Result<Plan> {
    let failed = |doing: &str, error: &dyn std::fmt::Display| Error::CoreMl {
        what: format!("{doing} {}: {error}", path.display()),
    };
    // The code of the binding says which of its own calls failed, and looks like one of Core ML's.
    let words = |error: CoreMLError| error.message().to_owned();
    let compiled = Compiled(ModelCompiler::compile(path).map_err(|e| failed("compile", &words(e)))?);
    let configuration = ModelConfiguration::new().with_compute_units(COMPUTE_UNITS.1);
    let details = ComputePlanDetails::load_from_url(&compiled.0, &configuration)
        .map_err(|e| failed("load the compute plan of", &words(e)))?;
    // By way of the form in which plans are recorded: what is tested elsewhere is what runs here.
    serde_json::to_value(&details)
        .and_then(Plan::deserialize)
        .map_err(|e| failed("read the compute plan of", &e))
}

/// A compiled model in a temporary place, removed when it is done with.
struct Compiled(PathBuf);

impl Drop for Compiled {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, which empties that place.
        let _ = fs::remove_dir_all(&self.0);
    }
}
