//! Bundles to measure, with random weights: speed does not depend on their values.
#![allow(dead_code, reason = "each bench uses a part of it")]

use std::path::Path;

use microgpt_ane::ane_bundle::Bundle;
use microgpt_ane::ane_export::{ExportOptions, Quantization};
use microgpt_ane::export;
use microgpt_ane::microgpt_model::{Checkpoint, GptConfig, Preset, Tokenizer, Weights};

/// Threads of the engines and of the bounds.
pub(crate) const THREADS: usize = 2;

/// A checkpoint and its bundle.
pub(crate) struct Made {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) bundle: Bundle,
    _folder: tempfile::TempDir,
}

/// Exports a preset, after `change` adjusts its configuration.
pub(crate) fn made(
    preset: Preset,
    quantization: Quantization,
    change: impl FnOnce(GptConfig) -> GptConfig,
) -> Made {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokenizer = Tokenizer::characters(&["abcdefghijklmnopqrstuvwxyz"]);
    let config = change(GptConfig::preset(preset, tokenizer.vocab_size()));
    let (checkpoint, bundle) = (folder.path().join("checkpoint"), folder.path().join("bundle"));
    let weights = Weights::random(&config, 0.05, 5);
    Checkpoint::write(&checkpoint, &config, &tokenizer, &weights, None).expect("a checkpoint");
    let checkpoint = Checkpoint::open(&checkpoint).expect("the checkpoint");
    let options = ExportOptions::default().with_quantization(quantization);
    export(&checkpoint, &bundle, &options, None).expect("an export");
    Made { checkpoint, bundle: open(&bundle), _folder: folder }
}

/// Opens a bundle.
pub(crate) fn open(path: &Path) -> Bundle {
    Bundle::open(path).expect("a bundle")
}

/// Returns a buffer of the size of the bundle's weights in INT8, for measuring the machine's read speed.
pub(crate) fn bytes_like(bundle: &Bundle) -> Vec<u8> {
    let config = &bundle.manifest().architecture;
    let (c, v, l) = (config.n_embd, config.vocab_size, config.n_layer);
    (0..12 * c * c * l + v * c).map(|i| (i * 31) as u8).collect()
}
