//! `microgpt inspect`

mod check;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use ane_runtime::Classes;
use anyhow::{Result, ensure};
use clap::Args;
use mlpackage::bundle::BundleManifest;
use mlpackage::mil::Function;
use mlpackage::{Feature, Interface, Package, counted};
use serde::Serialize;

use super::expected::{Expected, expect};
use super::path_kind::PathKind;
use super::{Exit, open, output};

/// Show what is in a checkpoint, a bundle or a .mlpackage.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A checkpoint, a bundle or a .mlpackage
    path: PathBuf,
    /// Print the program of each package as MIL text
    #[arg(long, conflicts_with = "json")]
    mil: bool,
    /// Check the packages against every rule of the format: exit code 0 without errors, 1 with errors. What
    /// the format allows and Core ML is reported to refuse is listed, but is not an error
    #[arg(long, conflicts_with = "mil")]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Inspected {
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
struct PackageSummary {
    path: String,
    specification_version: i32,
    description: String,
    model_bytes: u64,
    weight_bytes: u64,
    functions: BTreeMap<String, FunctionSummary>,
}

#[derive(Serialize)]
struct FunctionSummary {
    opset: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    states: Vec<String>,
    operations: BTreeMap<String, usize>,
}

impl Inspect {
    pub(crate) fn run(self) -> Result<Exit> {
        if self.check {
            return check::report(&self.path, self.json);
        }
        let mut packages = Vec::new();
        let mut found = None;
        let kind = expect(&self.path, Expected::Model)?;
        if kind == PathKind::Bundle {
            let bundle = open::bundle(&self.path)?;
            for shard in &bundle.manifest().shards {
                packages.push(bundle.package(shard)?);
            }
            let manifest = Box::new(bundle.manifest().clone());
            found = Some(Inspected::Bundle { manifest, packages: packages.iter().map(summary).collect() });
        } else if kind == PathKind::Checkpoint {
            let checkpoint = open::checkpoint(&self.path)?;
            let name = output::path(&self.path);
            ensure!(
                !self.mil,
                "{name} is a checkpoint, which has no program: `microgpt export {name} --out bundle` makes a bundle, which has one"
            );
            let config = checkpoint.config().clone();
            let (parameters, report) = (config.parameters(), checkpoint.report().cloned().map(Box::new));
            found = Some(Inspected::Checkpoint { config, parameters, report });
        } else {
            packages.push(open::package(&self.path)?);
        }
        if self.mil {
            let text: Vec<String> = packages.iter().map(|p| p.program().to_string()).collect();
            output::print(&text.concat())?;
            return Ok(Exit::Done);
        }
        let found = found.unwrap_or_else(|| Inspected::Package(summary(&packages[0])));
        if self.json {
            output::print_json(&found)?;
        } else {
            output::print(&describe(&found))?;
        }
        Ok(Exit::Done)
    }
}

fn summary(package: &Package) -> PackageSummary {
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

/// An input, output or state with its type, in words for the outputs of a classifier. If its shape is not described, the program's shape is shown.
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

fn describe(found: &Inspected) -> String {
    let mut text = String::new();
    match found {
        Inspected::Checkpoint { config, parameters, report } => {
            let _ = writeln!(
                text,
                "checkpoint: {}, {}\n  n_embd {}, n_head {}, n_layer {}, block_size {}, vocab_size {}",
                config.model_type,
                counted(*parameters, "parameter"),
                config.n_embd,
                config.n_head,
                config.n_layer,
                config.block_size,
                config.vocab_size
            );
            if let Some(r) = report {
                let held_out = r.held_out_loss.map_or("none".to_owned(), |l| format!("{l:.4}"));
                let _ = writeln!(
                    text,
                    "  trained {} of {} on {}: training loss {:.4}, held-out loss {held_out}",
                    counted(r.steps, "step"),
                    r.batch_size,
                    r.corpus,
                    r.train_loss
                );
            }
        }
        Inspected::Bundle { manifest, packages } => {
            let a = &manifest.architecture;
            let _ = writeln!(
                text,
                "bundle: {}, {}, {}\n  n_embd {}, n_head {}, n_layer {}, context {}, vocabulary {}",
                a.model_type,
                counted(a.parameters, "parameter"),
                manifest.exporter.quantization,
                a.n_embd,
                a.n_head,
                a.n_layer,
                a.context_length,
                a.vocab_size
            );
            for (file, digest) in &manifest.files {
                let _ = writeln!(
                    text,
                    "  {:>10} B  {}  {file}",
                    digest.bytes,
                    &digest.sha256[..12.min(digest.sha256.len())]
                );
            }
            for package in packages {
                describe_package(&mut text, package);
            }
        }
        Inspected::Package(package) => describe_package(&mut text, package),
    }
    text
}

fn describe_package(text: &mut String, package: &PackageSummary) {
    let _ = writeln!(
        text,
        "package: {}\n{}  specification {}, model {} B, weights {} B",
        package.path,
        if package.description.is_empty() { String::new() } else { format!("  {}\n", package.description) },
        package.specification_version,
        package.model_bytes,
        package.weight_bytes
    );
    for (name, f) in &package.functions {
        let _ = writeln!(text, "  function {name} ({})", f.opset);
        for (kind, list) in [("in", &f.inputs), ("out", &f.outputs), ("state", &f.states)] {
            for item in list {
                let _ = writeln!(text, "    {kind:<5} {item}");
            }
        }
        let mut operations: Vec<_> = f.operations.iter().collect();
        operations.sort_by_key(|(op, n)| (std::cmp::Reverse(**n), op.as_str()));
        let operations: Vec<_> = operations.iter().map(|(op, n)| format!("{op} {n}")).collect();
        let _ = writeln!(text, "    {}", operations.join(", "));
    }
}
