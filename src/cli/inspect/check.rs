//! `microgpt inspect --check`

use std::fmt::Write as _;
use std::path::Path;

use ane_bundle::BUNDLE_MANIFEST;
use anyhow::Result;
use mlpackage::{Finding, Package, Severity, counted};
use serde::Serialize;

use crate::cli::expected::{Expected, expect};
use crate::cli::{Exit, open, output};

/// The findings for one package.
#[derive(Serialize)]
struct CheckedPackage {
    path: String,
    errors: usize,
    /// Findings that the format allows and Core ML is reported to refuse.
    refused: usize,
    warnings: usize,
    findings: Vec<ReportedFinding>,
}

#[derive(Serialize)]
struct ReportedFinding {
    severity: Severity,
    #[serde(flatten)]
    finding: Finding,
    advice: &'static str,
    /// The source of the report that Core ML refuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
}

/// Prints the findings for the package at `path`, or for every package of the bundle there.
pub(super) fn report(path: &Path, json: bool) -> Result<Exit> {
    let mut paths = vec![path.to_owned()];
    if path.join(BUNDLE_MANIFEST).exists() {
        let bundle = open::bundle(path)?;
        paths = bundle.manifest().shards.iter().map(|shard| path.join(&shard.package)).collect();
    }
    let checked = paths.iter().map(|path| CheckedPackage::of(path)).collect::<Result<Vec<_>>>()?;
    if json {
        output::print_json(&checked)?;
    } else {
        output::print(&checked.iter().map(CheckedPackage::describe).collect::<String>())?;
    }
    Ok(Exit::of(checked.iter().all(|c| c.errors == 0)))
}

impl CheckedPackage {
    fn of(path: &Path) -> Result<Self> {
        expect(path, Expected::BundleOrPackage)?;
        let findings = Package::check_path(path)?;
        let count = |severity| findings.iter().filter(|f| f.severity() == severity).count();
        let [errors, refused, warnings] = [Severity::Error, Severity::Refused, Severity::Warning].map(count);
        let findings = findings.into_iter().map(|finding| ReportedFinding {
            severity: finding.severity(),
            advice: finding.advice(),
            source: finding.rule.source(),
            finding,
        });
        Ok(Self { path: path.display().to_string(), errors, refused, warnings, findings: findings.collect() })
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for ReportedFinding { finding, .. } in &self.findings {
            let _ = writeln!(text, "{finding:#}");
        }
        let [errors, warnings] = [counted(self.errors, "error"), counted(self.warnings, "warning")];
        let _ = write!(text, "{}: {errors}, {warnings}", self.path);
        if self.refused > 0 {
            let _ = write!(text, ", {}", counted(self.refused, "reported refusal"));
        }
        text.push('\n');
        text
    }
}
