//! Describes a model as text.

use std::fmt::Write as _;

use ane_bundle::BundleManifest;
use microgpt_model::{GptConfig, TrainingReport};
use mlpackage::counted;

use super::summary::{Inspected, PackageSummary};

/// Describes a checkpoint, a bundle or a package.
pub(super) fn describe(found: &Inspected) -> String {
    let mut text = String::new();
    match found {
        Inspected::Checkpoint { config, parameters, report } => {
            describe_checkpoint(&mut text, config, *parameters, report.as_deref());
        }
        Inspected::Bundle { manifest, packages } => {
            describe_bundle(&mut text, manifest);
            packages.iter().for_each(|package| describe_package(&mut text, package));
        }
        Inspected::Package(package) => describe_package(&mut text, package),
    }
    text
}

fn describe_checkpoint(
    text: &mut String,
    config: &GptConfig,
    parameters: u64,
    report: Option<&TrainingReport>,
) {
    let _ = writeln!(
        text,
        "checkpoint: {}, {}\n  n_embd {}, n_head {}, n_layer {}, block_size {}, vocab_size {}",
        config.model_type,
        counted(parameters, "parameter"),
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

fn describe_bundle(text: &mut String, manifest: &BundleManifest) {
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
