//! What `microgpt inspect` shows of a model.

use std::collections::BTreeMap;

use ane_bundle::BundleManifest;
use ane_runtime::Classes;
use mlpackage::mil::Function;
use mlpackage::{Feature, Interface, Package};
use serde::Serialize;

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Inspected {
    Checkpoint {
        config: microgpt_model::GptConfig,
        parameters: u64,
        report: Option<Box<microgpt_model::TrainingReport>>,
    },
    Bundle {
        manifest: Box<BundleManifest>,
        packages: Vec<PackageSummary>,
    },
    Package(PackageSummary),
}

#[derive(Serialize)]
pub(super) struct PackageSummary {
    pub(super) path: String,
    pub(super) specification_version: i32,
    pub(super) description: String,
    pub(super) model_bytes: u64,
    pub(super) weight_bytes: u64,
    pub(super) functions: BTreeMap<String, FunctionSummary>,
}

#[derive(Serialize)]
pub(super) struct FunctionSummary {
    pub(super) opset: String,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) states: Vec<String>,
    pub(super) operations: BTreeMap<String, usize>,
}

/// Summarizes a package.
pub(super) fn summary(package: &Package) -> PackageSummary {
    let functions = package.program().functions.iter().map(|(name, f)| {
        let interface = package.interface(name).cloned().unwrap_or_else(|| Interface::of(f));
        let list = |features: &[Feature]| features.iter().map(|feature| line(feature, f)).collect();
        let mut operations = BTreeMap::new();
        for operation in f.block.all_operations() {
            *operations.entry(operation.op.clone()).or_default() += 1;
        }
        let summary = FunctionSummary {
            opset: f.opset.to_string(),
            inputs: list(&interface.inputs),
            outputs: list(&interface.outputs),
            states: list(&interface.states),
            operations,
        };
        (name.clone(), summary)
    });
    PackageSummary {
        path: package.path().display().to_string(),
        specification_version: package.specification_version(),
        description: package.metadata().short_description.clone(),
        model_bytes: package.model_bytes(),
        weight_bytes: package.weight_bytes(),
        functions: functions.collect(),
    }
}

/// Formats an input, output or state with its type, in words for the outputs of a classifier. If its shape is
/// not described, the program's shape is shown.
fn line(feature: &Feature, function: &Function) -> String {
    let Feature { name, ty, .. } = feature;
    if let Some(words) = Classes::of(function).and_then(|classes| classes.describe(name)) {
        return format!("{name}: {words} ({ty})");
    }
    let declared = || function.outputs().find(|(output, _)| output == name).map(|(_, ty)| ty);
    match feature.array().filter(|array| !array.has_shape()).and_then(|_| declared()) {
        Some(declared) => format!("{name}: {declared}, from the program: its shape is not described"),
        None => format!("{name}: {ty}"),
    }
}
