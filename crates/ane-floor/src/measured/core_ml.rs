//! The plan itself: Core ML compiles the package and says where each operation is meant to run.

use std::fs;
use std::path::{Path, PathBuf};

use coreml_rs::compute_device::ComputeDeviceKind;
use coreml_rs::compute_plan::{ComputePlanDetails, ComputePlanProgramOperationPlan};
use coreml_rs::configuration::{ComputeUnits, ModelConfiguration};
use coreml_rs::model_compiler::ModelCompiler;

use super::PlannedOperation;
use crate::device::Device;
use crate::error::{Error, Result};

/// Compiles the package at `path` and reads its plan. The compiled model is removed again.
pub(super) fn plan(path: &Path) -> Result<Vec<PlannedOperation>> {
    let failed = |doing: &str, error: &dyn std::fmt::Display| Error::CoreMl {
        what: format!("{doing} {}: {error}", path.display()),
    };
    let compiled = Compiled(ModelCompiler::compile(path).map_err(|e| failed("compile", &e))?);
    // Never "all": with the GPU to choose from, a plan says nothing about the Neural Engine.
    let configuration = ModelConfiguration::new().with_compute_units(ComputeUnits::CpuAndNeuralEngine);
    let details = ComputePlanDetails::load_from_url(&compiled.0, &configuration)
        .map_err(|e| failed("load the compute plan of", &e))?;
    Ok(details.program_operation_plans.iter().map(planned).collect())
}

/// A compiled model in a temporary place, removed when it is done with.
struct Compiled(PathBuf);

impl Drop for Compiled {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, which empties that place.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn planned(found: &ComputePlanProgramOperationPlan) -> PlannedOperation {
    let usage = found.device_usage.as_ref();
    PlannedOperation {
        path: found.path.clone(),
        op: found.operation.operator_name.clone(),
        outputs: found.operation.outputs.iter().map(|output| output.name.clone()).collect(),
        preferred: usage.map(|usage| device(usage.preferred.kind)),
        supported: usage.map_or(Vec::new(), |usage| usage.supported.iter().map(|d| device(d.kind)).collect()),
        cost: found.cost.map(|cost| cost.weight),
    }
}

fn device(kind: ComputeDeviceKind) -> Device {
    match kind {
        ComputeDeviceKind::Cpu => Device::Cpu,
        ComputeDeviceKind::Gpu => Device::Gpu,
        ComputeDeviceKind::NeuralEngine => Device::Ane,
        ComputeDeviceKind::Unknown => Device::Unknown,
    }
}
