//! Comparison of the weight files with the constants that refer to them.

use std::collections::BTreeMap;

use crate::blob::{BlobFile, BlobWriter, WEIGHT_BLOB_NAME};
use crate::dtype::DType;
use crate::error::Error;
use crate::finding::{Fault, Finding, Rule};
use crate::mil::{self, BlobRef, Program, TensorType, Value};
use crate::package::{Package, differs};

/// Compares every constant with its blob, and every weight file with its header.
pub(super) fn weights(package: &Package, findings: &mut Vec<Finding>) {
    let references = References::of(package, findings);
    for (name, file) in &package.weights {
        weight_file(name, file, &references, findings);
    }
    if !references.used.is_empty() && !package.manifest.lists_weights() {
        let reason = "the manifest does not list the folder of the weights";
        findings.push(Finding::package(Rule::WeightsUnlisted, reason));
    }
}

/// The blobs to which the constants of a program refer.
#[derive(Default)]
struct References<'a> {
    /// The offset of each blob, by the name of its file.
    used: BTreeMap<&'a str, Vec<u64>>,
    /// The blobs that cannot be read: the name of the file, and the offset.
    damaged: Vec<(&'a str, u64)>,
}

impl<'a> References<'a> {
    /// Collects the references of a program, and compares each constant with its blob.
    fn of(package: &'a Package, findings: &mut Vec<Finding>) -> Self {
        let mut references = Self::default();
        each_constant(&package.program, findings, |ty, at| {
            references.used.entry(&at.file).or_default().push(at.offset);
            // A missing file is already reported.
            let wrong = wrong_blob(package.weights.get(&at.file)?, at.offset, ty);
            if let Some((Rule::BlobRecord | Rule::WeightIncomplete, _)) = wrong {
                references.damaged.push((&at.file, at.offset));
            }
            wrong
        });
        references
    }
}

/// Compares the constants of a changed program with the blobs of the package, which keep their places.
pub(in crate::package) fn changed(program: &Program, package: &Package, findings: &mut Vec<Finding>) {
    each_constant(program, findings, |ty, at| match package.weights.get(&at.file) {
        Some(file) => wrong_blob(file, at.offset, ty),
        None => Some(missing_file(at, package.weights.keys())),
    });
}

/// Compares the constants of a program with the blobs that were written to its only weight file.
pub(in crate::package) fn written(program: &Program, weights: &BlobWriter, findings: &mut Vec<Finding>) {
    each_constant(program, findings, |ty, at| {
        if at.file != WEIGHT_BLOB_NAME {
            return Some(missing_file(at, [&WEIGHT_BLOB_NAME.to_owned()]));
        }
        let Some((dtype, elements)) = weights.written(at.offset) else {
            let reason =
                format!("is in a blob at offset {}, where this package's writer wrote none", at.offset);
            return Some((Rule::BlobRecord, reason));
        };
        wrong_type(dtype, elements, at.offset, ty)
    });
}

fn missing_file<'n>(at: &BlobRef, names: impl IntoIterator<Item = &'n String>) -> (Rule, String) {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    let has = if names.is_empty() { "no weight file".to_owned() } else { names.join(", ") };
    (Rule::WeightPath, format!("is in the weight file {:?}, the package has {has}", at.file))
}

/// Calls `wrong` with the type and the place of every constant in a weight file, and reports what it returns.
fn each_constant<'a>(
    program: &'a Program,
    findings: &mut Vec<Finding>,
    mut wrong: impl FnMut(&TensorType, &'a BlobRef) -> Option<(Rule, String)>,
) {
    for (name, function) in &program.functions {
        for operation in function.block.all_operations() {
            for (param, value) in constants(operation) {
                for (ty, at) in Value::blobs(value) {
                    if let Some((rule, reason)) = wrong(ty, at) {
                        let fault = Fault::at(rule, param, reason);
                        findings.push(Finding::operation(name, operation.label(), fault));
                    }
                }
            }
        }
    }
}

/// Returns the values that are bound to an operation's parameters directly, and its attributes, with their names.
fn constants(operation: &mil::Operation) -> impl Iterator<Item = (&str, &Value)> {
    let arguments = operation.inputs.iter().flat_map(|(param, bindings)| {
        let values = bindings.iter().filter_map(|b| match b {
            mil::Binding::Value(v) => Some(v),
            mil::Binding::Name(_) => None,
        });
        values.map(move |v| (param.as_str(), v))
    });
    arguments.chain(operation.attributes.iter().map(|(param, v)| (param.as_str(), v)))
}

/// Checks that a weight file holds the blobs that its header counts, and that constants use each of them.
fn weight_file(name: &str, file: &BlobFile, references: &References<'_>, findings: &mut Vec<Finding>) {
    let contents = match file.contents() {
        Ok(contents) => contents,
        // Already reported at the constant that is stored there.
        Err(Error::Blob { offset, .. }) if references.damaged.contains(&(name, offset)) => return,
        Err(error) => {
            findings.push(Finding::package(broken_rule(&error, Rule::WeightFile), error.to_string()));
            return;
        }
    };
    let used = references.used.get(name).map_or(&[][..], Vec::as_slice);
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

/// Returns the rule that an unreadable weight file breaks: that it is complete, or `otherwise`.
fn broken_rule(error: &Error, otherwise: Rule) -> Rule {
    if matches!(error, Error::Blob { is_cut: true, .. }) { Rule::WeightIncomplete } else { otherwise }
}

/// Returns the rule that the blob at `offset` breaks, given the type of the constant that refers to it.
fn wrong_blob(file: &BlobFile, offset: u64, ty: &TensorType) -> Option<(Rule, String)> {
    match file.blob(offset) {
        Err(error) => {
            Some((broken_rule(&error, Rule::BlobRecord), format!("is in a blob that is damaged: {error}")))
        }
        Ok(blob) => wrong_type(blob.dtype, blob.elements, offset, ty),
    }
}

fn wrong_type(dtype: DType, elements: usize, offset: u64, ty: &TensorType) -> Option<(Rule, String)> {
    differs(dtype, elements, ty)
        .map(|reason| (Rule::BlobType, format!("is in the blob at offset {offset}, which holds {reason}")))
}
