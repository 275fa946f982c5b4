//! Rules about the package as a whole: description, specification version, weight files, manifest.

use std::collections::BTreeMap;

use super::{Description, Package, differs, refused, weight_files};
use crate::blob::BlobFile;
use crate::dtype::DType;
use crate::error::Error;
use crate::files;
use crate::finding::{Fault, Finding, Rule};
use crate::mil::{self, Opset, Program, TensorType, Value, ValueType};

/// Returns all findings about a package, errors first and warnings last.
pub(super) fn package(package: &Package) -> Vec<Finding> {
    let mut findings = package.incomplete.clone();
    manifest(package, &mut findings);
    // Content that could not be read would look missing everywhere else, and one fault would cause many
    // findings.
    let about_files = [
        Rule::WeightFile,
        Rule::WeightPath,
        Rule::WeightIncomplete,
        Rule::ManifestItem,
        Rule::ManifestItemUnneeded,
    ];
    let whole = findings.iter().all(|f| about_files.contains(&f.rule));
    if whole {
        findings.extend(crate::check::program(&package.program, &package.blob_ints()));
        description(&package.program, &package.description, package.specification_version, &mut findings);
        weights(package, &mut findings);
        let refused = refused::check(package);
        // The reported refusal replaces the warning about the same argument, because it states more.
        findings.retain(|f| {
            let known = |r: &Finding| {
                r.rule == Rule::RefusedDefault && (&r.operation, &r.argument) == (&f.operation, &f.argument)
            };
            f.rule != Rule::ArgumentDefault || !refused.iter().any(known)
        });
        findings.extend(refused);
    }
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity()));
    findings
}

/// Compares the manifest with the folder.
fn manifest(package: &Package, findings: &mut Vec<Finding>) {
    let needed = weight_files(&package.program);
    for path in package.manifest.paths() {
        let Err(reason) = files::inside(&package.path, &path) else { continue };
        // git and zip drop empty folders, including an empty folder of weights.
        let absent = files::is_absent(&package.path, &path);
        let below = |file: &String| {
            let file = file.strip_prefix("@model_path/").unwrap_or(file);
            let folder = package.model_path.parent().and_then(|f| f.strip_prefix(&package.path).ok());
            folder.is_none_or(|folder| folder.join(file).starts_with(&path))
        };
        let (rule, reason) = if absent && !needed.iter().any(below) {
            (
                Rule::ManifestItemUnneeded,
                "it does not exist, and nothing in the program refers to it".to_owned(),
            )
        } else {
            (Rule::ManifestItem, reason.to_string())
        };
        let reason = format!("the manifest lists {path}: {reason}");
        findings.push(Finding::package(rule, reason));
    }
}

/// Compares the description with the program.
pub(super) fn description(
    program: &Program,
    description: &Description,
    specification_version: i32,
    findings: &mut Vec<Finding>,
) {
    let missing = |name: &str, least: i32| {
        format!("{name} needs specificationVersion {least}, the model has {specification_version}")
    };
    for (name, function) in &program.functions {
        let least = function.opset.specification_version();
        if least > specification_version {
            let reason = missing(&format!("opset {}", function.opset), least);
            findings.push(Finding::function(Rule::SpecificationVersion, name, reason));
        }
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
        let least = Opset::CoreML8.specification_version();
        if specification_version < least {
            let reason = missing("a list of functions", least);
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
    } else if program.functions.len() > 1 {
        let reason = format!("{} functions are described as one model", program.functions.len());
        findings.push(Finding::package(Rule::FunctionDescription, reason));
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

/// Compares every constant with its blob, and every weight file with its header.
fn weights(package: &Package, findings: &mut Vec<Finding>) {
    let mut used: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut damaged: Vec<(&str, u64)> = Vec::new();
    for (name, function) in &package.program.functions {
        for operation in function.block.all_operations() {
            let arguments = operation.inputs.iter().flat_map(|(param, bindings)| {
                let values = bindings.iter().filter_map(|b| match b {
                    mil::Binding::Value(v) => Some(v),
                    mil::Binding::Name(_) => None,
                });
                values.map(move |v| (param.as_str(), v))
            });
            let attributes = operation.attributes.iter().map(|(param, v)| (param.as_str(), v));
            for (param, value) in arguments.chain(attributes) {
                for (ty, at) in Value::blobs(value) {
                    used.entry(&at.file).or_default().push(at.offset);
                    let Some(file) = package.weights.get(&at.file) else { continue };
                    if let Some((rule, reason)) = wrong_blob(file, at.offset, ty) {
                        if [Rule::BlobRecord, Rule::WeightIncomplete].contains(&rule) {
                            damaged.push((&at.file, at.offset));
                        }
                        let fault = Fault::at(rule, param, reason);
                        findings.push(Finding::operation(name, operation.label(), fault));
                    }
                }
            }
        }
    }
    for (name, file) in &package.weights {
        let contents = match file.contents() {
            Ok(contents) => contents,
            // Already reported at the constant that is stored there.
            Err(Error::Blob { offset, .. }) if damaged.contains(&(name, offset)) => continue,
            Err(error) => {
                let is_cut = matches!(error, Error::Blob { is_cut: true, .. });
                let rule = if is_cut { Rule::WeightIncomplete } else { Rule::WeightFile };
                findings.push(Finding::package(rule, error.to_string()));
                continue;
            }
        };
        let used = used.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        for (offset, reason) in contents.unusual {
            let reason = format!("{name}: offset {offset}: {reason}");
            findings.push(Finding::package(Rule::WeightLayout, reason));
        }
        for (offset, blob) in contents.blobs {
            if !used.contains(&offset) {
                let reason = format!(
                    "{name}: the blob at offset {offset}, {} elements of {}, is used by no constant",
                    blob.elements, blob.dtype
                );
                findings.push(Finding::package(Rule::BlobUnused, reason));
            }
        }
    }
    if !used.is_empty() && !package.manifest.lists_weights() {
        let reason = "the manifest does not list the folder of the weights";
        findings.push(Finding::package(Rule::WeightsUnlisted, reason));
    }
}

/// Returns the rule that the blob at `offset` breaks, given the type of the constant that refers to it.
fn wrong_blob(file: &BlobFile, offset: u64, ty: &TensorType) -> Option<(Rule, String)> {
    match file.blob(offset) {
        Err(error) => {
            let is_cut = matches!(error, Error::Blob { is_cut: true, .. });
            let rule = if is_cut { Rule::WeightIncomplete } else { Rule::BlobRecord };
            Some((rule, format!("is in a blob that is damaged: {error}")))
        }
        Ok(blob) => differs(&blob, ty).map(|reason| {
            (Rule::BlobType, format!("is in the blob at offset {offset}, which holds {reason}"))
        }),
    }
}
