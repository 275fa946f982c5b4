//! A small trained checkpoint, and helpers that create more.
#![allow(clippy::unwrap_used, dead_code)]

pub(crate) mod command;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use microgpt_ane::microgpt_model::{
    Backend, Checkpoint, Corpus, GptConfig, Preset, Tokenizer, TrainingConfig, Weights, train,
};

/// Returns a checkpoint of the original preset after 200 steps on the built-in names. Training takes less
/// than a second, and the logits are those of a model that has learned something.
pub(crate) fn trained() -> &'static Path {
    static TRAINED: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = TRAINED.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let training = TrainingConfig { steps: 200, ..TrainingConfig::preset(Preset::Original) };
        let config = |vocab_size| GptConfig::preset(Preset::Original, vocab_size);
        let trained = train(&Corpus::built_in(), config, &training, |_| {}).unwrap();
        let report = Some(&trained.report);
        Checkpoint::write(&path, &trained.config, &trained.tokenizer, &trained.weights, report).unwrap();
        (dir, path)
    });
    path
}

/// Creates a checkpoint with random weights in `folder`.
pub(crate) fn random(folder: &Path, shape: impl FnOnce(GptConfig) -> GptConfig, std: f32) -> Checkpoint {
    let tokenizer = Tokenizer::characters(&["abcdefghijklmnopqrstuvwxyz"]);
    let config = shape(GptConfig::preset(Preset::Original, tokenizer.vocab_size()));
    let path = folder.join("random-checkpoint");
    Checkpoint::write(&path, &config, &tokenizer, &Weights::random(&config, std, 5), None).unwrap();
    Checkpoint::open(&path).unwrap()
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Returns burn's backends in this build.
pub(crate) fn backends() -> &'static [Backend] {
    Backend::ALL
}
