//! Rules about the package as a whole: description, specification version, weight files, manifest.

mod description;
pub(super) mod weights;

use super::{Package, refused, weight_files};
use crate::files;
use crate::finding::{Finding, Rule};

pub(super) use description::description;

/// Returns all findings about a package, errors first and warnings last.
pub(super) fn package(package: &Package) -> Vec<Finding> {
    let mut findings = package.incomplete.clone();
    manifest(package, &mut findings);
    // Unreadable content would be reported as missing by other rules, so that one fault would cause many
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
        weights::weights(package, &mut findings);
        let refused = refused::check(package);
        // The reported refusal replaces the warning about the same argument, because it is more specific.
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
