//! The `README.md` of a bundle.

use std::fmt::Write as _;

use ane_bundle::BundleManifest;
use microgpt_model::{Checkpoint, GptConfig, TrainingReport};
use mlpackage::counted;

use crate::microgpt;
use crate::options::{CacheUpdate, ExportOptions};

/// Renders the part of the model card that follows from the checkpoint and the options. It does not depend on
/// the machine or the time.
pub(crate) fn render(checkpoint: &Checkpoint, options: &ExportOptions, manifest: &BundleManifest) -> String {
    let config = checkpoint.config();
    let mut card = format!("# {} for Core ML\n\n", config.model_type);
    line(
        &mut card,
        "A decoder exported by microgpt-ane: one decode step as a Core ML package, with the files that a host needs.\n",
    );
    line(&mut card, "| | |\n|---|---|");
    for (name, value) in facts(checkpoint, options, manifest) {
        line(&mut card, &format!("| {name} | {value} |"));
    }
    line(&mut card, "\n## Inputs and outputs\n");
    line(&mut card, "One call is one token.\n");
    line(&mut card, "| | name | type | |\n|---|---|---|---|");
    for [kind, name, ty, what] in interface(config, options.cache_update) {
        line(&mut card, &format!("| {kind} | {name} | {ty} | {what} |"));
    }
    line(&mut card, "\n## Training\n");
    match checkpoint.report() {
        None => line(&mut card, "Unknown: the checkpoint has no training report."),
        Some(report) => line(&mut card, &training(report)),
    }
    card
}

fn line(card: &mut String, text: &str) {
    writeln!(card, "{text}").expect("writing to a string");
}

/// Returns the rows of the first table: the name and the value of each property of the export.
fn facts(
    checkpoint: &Checkpoint,
    options: &ExportOptions,
    manifest: &BundleManifest,
) -> Vec<(String, String)> {
    let config = checkpoint.config();
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
    let weights = manifest.files.iter().filter(|(file, _)| file.ends_with("weight.bin"));
    let weights = weights.map(|(file, digest)| (format!("`{file}`"), format!("{} bytes", digest.bytes)));
    rows.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(weights).collect()
}

/// Returns the paragraphs about the training run.
fn training(report: &TrainingReport) -> String {
    let corpus = std::path::Path::new(&report.corpus)
        .file_name()
        .map_or_else(|| report.corpus.clone(), |n| n.to_string_lossy().into_owned());
    let held_out = report.held_out_loss.map_or("none held out".to_owned(), |l| format!("{l:.4}"));
    format!(
        "{} of {} from {corpus} ({} to train on, {} held out), seed {}.\n\n\
         Training loss {:.4} (last 50 steps), held-out loss {held_out}, in nats per token.",
        counted(report.steps, "step"),
        counted(report.batch_size, "document"),
        report.train_documents,
        report.held_out_documents,
        report.seed,
        report.train_loss
    )
}

/// Returns the rows of the interface table: kind, name, type and meaning of each input, state and output.
fn interface(config: &GptConfig, update: CacheUpdate) -> Vec<[String; 4]> {
    let row = |kind: &str, name: &str, ty: String, what: &str| [kind.into(), name.into(), ty, what.into()];
    let half = |shape: [usize; 4]| format!("fp16 `{shape:?}`");
    let (c, s, v) = (config.n_embd, config.block_size, config.vocab_size);
    let (h, d) = (config.n_head, config.head_dim());
    let write = format!("`{}`", microgpt::kv_write(update));
    let caches = |kind: &str| match config.n_layer {
        1 => format!("`k_{kind}_0`, `v_{kind}_0`"),
        layers => format!("`k_{kind}_0`, `v_{kind}_0` to `k_{kind}_{n}`, `v_{kind}_{n}`", n = layers - 1),
    };
    let one_hot = "1 at the token's position, 0 elsewhere: the write position of the new key and value";
    let mut rows = vec![
        row(
            "in",
            "`x`",
            half([1, c, 1, 1]),
            "sum of the rows of the token and of its position in `embeddings.safetensors`",
        ),
        row(
            "in",
            "`attn_mask`",
            half([1, 1, 1, s]),
            "0 for the earlier positions and the token's own, -1e4 for later ones",
        ),
    ];
    let logits = row("out", "`logits`", half([1, v, 1, 1]), "logits of the next token");
    match update {
        CacheUpdate::OneHot | CacheUpdate::SliceUpdate => {
            rows.push(match update {
                CacheUpdate::SliceUpdate => row(
                    "in",
                    &write,
                    "int32 `[1]`".into(),
                    "the token's position: the write position of the new key and value",
                ),
                _ => row("in", &write, half([1, 1, s, 1]), one_hot),
            });
            rows.push(row("state", &caches("cache"), half([1, h, s, d]), "zeros before the first token"));
            rows.push(logits);
        }
        CacheUpdate::Host => {
            rows.push(row("in", &write, half([1, 1, s, 1]), one_hot));
            let what = "the host's caches, zeros before the first token";
            rows.push(row("in", &caches("cache"), half([1, h, s, d]), what));
            rows.push(logits);
            let what = "the host writes each to its cache at the token's position, for the next call";
            rows.push(row("out", &caches("new"), half([1, h, 1, d]), what));
        }
    }
    rows
}
