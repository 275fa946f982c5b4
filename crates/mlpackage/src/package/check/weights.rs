//! Comparison of the weight files with the constants that refer to them.

use std::collections::BTreeMap;

use crate::blob::BlobFile;
use crate::error::Error;
use crate::finding::{Fault, Finding, Rule};
use crate::mil::{self, TensorType, Value};
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
        for (name, function) in &package.program.functions {
            for operation in function.block.all_operations() {
                for (param, value) in constants(operation) {
                    for (ty, at) in Value::blobs(value) {
                        references.used.entry(&at.file).or_default().push(at.offset);
                        let Some(file) = package.weights.get(&at.file) else { continue };
                        if let Some((rule, reason)) = wrong_blob(file, at.offset, ty) {
                            if [Rule::BlobRecord, Rule::WeightIncomplete].contains(&rule) {
                                references.damaged.push((&at.file, at.offset));
                            }
                            let fault = Fault::at(rule, param, reason);
                            findings.push(Finding::operation(name, operation.label(), fault));
                        }
                    }
                }
            }
        }
        references
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
        Ok(blob) => differs(&blob, ty).map(|reason| {
            (Rule::BlobType, format!("is in the blob at offset {offset}, which holds {reason}"))
        }),
    }
}
