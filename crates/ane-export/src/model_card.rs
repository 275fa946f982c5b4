//! `README.md` of a bundle.

use std::fmt::Write as _;

use microgpt_model::Checkpoint;
use mlpackage::bundle::BundleManifest;

use crate::options::ExportOptions;

/// What can be said from the checkpoint and the options. Nothing in it depends on the machine or the time.
pub(crate) fn render(checkpoint: &Checkpoint, options: &ExportOptions, manifest: &BundleManifest) -> String {
    let config = checkpoint.config();
    let mut card = String::new();
    let mut line = |text: &str| {
        writeln!(card, "{text}").expect("writing to a string");
    };
    line(&format!("# {} for Core ML\n", config.model_type));
    line(
        "A decoder exported by microgpt-ane: one decode step as a Core ML package, and what a host needs around it.\n",
    );
    line("| | |\n|---|---|");
    let rows = [
        ("parameters", config.parameters().to_string()),
        ("n_embd / n_head / n_layer", format!("{} / {} / {}", config.n_embd, config.n_head, config.n_layer)),
        ("context", config.block_size.to_string()),
        ("vocabulary", checkpoint.tokenizer().to_string()),
        ("weights", options.quantization.to_string()),
        ("projections", options.projections.to_string()),
        ("cache update", options.cache_update.to_string()),
        ("norm", options.norm.to_string()),
    ];
    for (name, value) in rows {
        line(&format!("| {name} | {value} |"));
    }
    for (file, digest) in &manifest.files {
        if file.ends_with("weight.bin") {
            line(&format!("| `{file}` | {} bytes |", digest.bytes));
        }
    }
    line("\n## Training\n");
    match checkpoint.report() {
        None => line("Not known: the checkpoint has no training report."),
        Some(report) => {
            line(&format!(
                "{} steps of {} documents from {} ({} to train on, {} held out), seed {}.\n",
                report.steps,
                report.batch_size,
                std::path::Path::new(&report.corpus)
                    .file_name()
                    .map_or_else(|| report.corpus.clone(), |n| n.to_string_lossy().into_owned()),
                report.train_documents,
                report.held_out_documents,
                report.seed
            ));
            let held_out = report.held_out_loss.map_or("none held out".to_owned(), |l| format!("{l:.4}"));
            line(&format!(
                "Training loss {:.4} (last 50 steps), held-out loss {held_out}, in nats a token.",
                report.train_loss
            ));
        }
    }
    card
}
