//! Comparison of the description with the program.

use crate::dtype::DType;
use crate::finding::{Finding, Rule};
use crate::mil::{self, Opset, Program, TensorType, ValueType};
use crate::package::Description;

/// Compares the description with the program.
pub(in crate::package) fn description(
    program: &Program,
    description: &Description,
    specification_version: i32,
    findings: &mut Vec<Finding>,
) {
    for (name, function) in &program.functions {
        let least = function.opset.specification_version();
        if least > specification_version {
            let reason = too_old(&format!("opset {}", function.opset), least, specification_version);
            findings.push(Finding::function(Rule::SpecificationVersion, name, reason));
        }
        interface_types(name, function, findings);
        match description.interface(name) {
            Some(described) => findings.extend(described.differences(function).into_iter().map(|reason| {
                let reason = format!("the model's description differs from the program: {reason}");
                Finding::function(Rule::Description, name, reason)
            })),
            None => {
                findings.push(Finding::function(Rule::FunctionDescription, name, "it is not described"));
            }
        }
    }
    let known = Opset::CoreML5.specification_version()..=Opset::CoreML9.specification_version();
    if !known.contains(&specification_version) {
        let (first, last) = (known.start(), known.end());
        let reason = format!("specificationVersion is {specification_version}, known are {first} to {last}");
        findings.push(Finding::package(Rule::SpecificationVersion, reason));
    }
    if program.functions.is_empty() {
        findings.push(Finding::package(Rule::FunctionDescription, "the program has no functions"));
    }
    for (name, _) in description.functions() {
        if !program.functions.contains_key(name) {
            let reason = "it is described, but the program has no such function";
            findings.push(Finding::function(Rule::FunctionDescription, name, reason));
        }
    }
    if description.is_multifunction() {
        list_of_functions(program, description, specification_version, findings);
    } else if program.functions.len() > 1 {
        let reason = format!("{} functions are described as one model", program.functions.len());
        findings.push(Finding::package(Rule::FunctionDescription, reason));
    }
}

/// States that `name` needs a later specification version than the model has.
fn too_old(name: &str, least: i32, specification_version: i32) -> String {
    format!("{name} needs specificationVersion {least}, the model has {specification_version}")
}

/// Checks that the inputs and outputs of a function have types that Core ML allows there.
fn interface_types(name: &str, function: &mil::Function, findings: &mut Vec<Finding>) {
    for (kind, feature, ty) in borders(function) {
        if let Some(reason) = interface_type(kind, ty, function.opset) {
            let reason = format!("{kind} %{feature} is {ty}: {reason}");
            findings.push(Finding::function(Rule::InterfaceType, name, reason));
        }
    }
    for (output, ty) in function.all_outputs() {
        if matches!(ty, ValueType::List { .. } | ValueType::Tuple(_)) {
            let reason = format!("output %{output} is {ty}: return its tensors instead");
            findings.push(Finding::function(Rule::InterfaceType, name, reason));
        }
    }
}

/// Returns the tensor inputs and the outputs of a function.
fn borders(function: &mil::Function) -> Vec<(&'static str, &str, &TensorType)> {
    let inputs = function.tensor_inputs().map(|(name, ty)| ("input", name, ty));
    let outputs = function.outputs().map(|(name, ty)| ("output", name, ty));
    inputs.chain(outputs).collect()
}

/// Returns why a tensor of that type cannot be an input or output; `None` if it can.
fn interface_type(kind: &str, ty: &TensorType, opset: Opset) -> Option<String> {
    let since = match ty.dtype {
        DType::Fp32 | DType::Int32 => Opset::CoreML5,
        DType::Fp16 => Opset::CoreML6,
        DType::Int8 => Opset::CoreML9,
        // The label of a classifier.
        DType::String | DType::Int64 | DType::Fp64 if kind == "output" => Opset::CoreML5,
        DType::Bool if kind == "output" => Opset::CoreML5,
        other => return Some(format!("{other} cannot be an {kind}")),
    };
    (since > opset).then(|| format!("{} since opset {since}, the function has {opset}", ty.dtype))
}

/// Checks a description that lists functions by name.
fn list_of_functions(
    program: &Program,
    description: &Description,
    specification_version: i32,
    findings: &mut Vec<Finding>,
) {
    let least = Opset::CoreML8.specification_version();
    if specification_version < least {
        let reason = too_old("a list of functions", least, specification_version);
        findings.push(Finding::package(Rule::SpecificationVersion, reason));
    }
    let default = description.default_function();
    if !program.functions.contains_key(default) {
        let reason = format!("the default function {default:?} does not exist");
        findings.push(Finding::package(Rule::FunctionDescription, reason));
    }
    let stray = description.stray();
    let features = [&stray.inputs, &stray.outputs, &stray.states];
    for feature in features.into_iter().flatten() {
        let reason = format!("{} is described in none of the listed functions", feature.name);
        findings.push(Finding::package(Rule::Description, reason));
    }
}
