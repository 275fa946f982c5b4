//! A small bundle for unit tests.

use std::path::Path;

use ane_bundle::Bundle;
use ane_export::ExportOptions;
use microgpt_model::{Checkpoint, GptConfig, Preset, Tokenizer, Weights};

/// Exports a bundle of the original preset with random weights into a folder.
pub(crate) fn bundle(folder: &Path) -> Bundle {
    let tokenizer = Tokenizer::characters(&["abcdefghijklmnopqrstuvwxyz"]);
    let config = GptConfig::preset(Preset::Original, tokenizer.vocab_size());
    let (checkpoint, bundle) = (folder.join("checkpoint"), folder.join("bundle"));
    let weights = Weights::random(&config, 0.08, 5);
    Checkpoint::write(&checkpoint, &config, &tokenizer, &weights, None).unwrap();
    let checkpoint = Checkpoint::open(&checkpoint).unwrap();
    let staged = ane_export::export(&checkpoint, &bundle, &ExportOptions::default()).unwrap();
    staged.publish().unwrap();
    Bundle::open(&bundle).unwrap()
}
