//! The files of a checkpoint's folder, and what else a folder may not hold if a checkpoint is to replace it.

use std::fs;
use std::path::Path;

use super::files::read_small;

/// Names of a checkpoint's files.
pub(super) mod file {
    pub(in crate::checkpoint) const CONFIG: &str = "config.json";
    pub(in crate::checkpoint) const WEIGHTS: &str = "model.safetensors";
    pub(in crate::checkpoint) const TOKENIZER: &str = "tokenizer.json";
    pub(in crate::checkpoint) const METRICS: &str = "metrics.jsonl";
    pub(in crate::checkpoint) const PICTURE: &str = "loss.svg";
    pub(in crate::checkpoint) const TRAINING: &str = "training";
    pub(in crate::checkpoint) const REPORT: &str = "training/report.json";
}

/// Name of the plot of a run's losses.
#[cfg(feature = "train")]
pub(crate) const PICTURE: &str = file::PICTURE;

/// Name of the weights file.
#[cfg(feature = "train")]
pub(crate) const WEIGHTS: &str = file::WEIGHTS;

/// The files of a model, except those that training writes.
#[cfg(feature = "train")]
pub(crate) const FILES: [&str; 3] = [file::CONFIG, file::TOKENIZER, file::WEIGHTS];

/// Returns whether the folder has states of an unfinished run.
pub(super) fn has_states(path: &Path) -> bool {
    let entries = fs::read_dir(path.join(file::TRAINING)).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
}

/// Returns why a folder must not be replaced: it is not a checkpoint of this crate, or it holds other files.
/// Returns `None` if it is a checkpoint and nothing else.
pub(crate) fn differs(folder: &Path) -> Option<String> {
    let Ok(bytes) = read_small(&folder.join(file::CONFIG)) else {
        return Some(format!("has no {}", file::CONFIG));
    };
    let config: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    if config.is_none_or(|c| c["model_type"] != crate::config::MODEL_TYPE) {
        return Some(format!("its {} is not that of a {}", file::CONFIG, crate::config::MODEL_TYPE));
    }
    atomic_output::stranger(folder, belongs)
}

/// Returns whether this crate writes a file of this path in a checkpoint's folder; files of an unfinished run
/// count. Folders are separated by `/`, and the path of an empty folder ends in `/`.
fn belongs(path: &str) -> bool {
    let number = |state: &str| state.strip_prefix("step-").is_some_and(|n| n.parse::<usize>().is_ok());
    match path.split('/').collect::<Vec<_>>().as_slice() {
        [name] => [file::CONFIG, file::WEIGHTS, file::TOKENIZER, file::METRICS, file::PICTURE].contains(name),
        [file::TRAINING, "" | "report.json"] => true,
        // A state that a killed process was writing or removing.
        [file::TRAINING, hidden, ..] if hidden.starts_with(".step-") || *hidden == ".removed" => true,
        [file::TRAINING, state, name] if *state == "last" || number(state) => {
            name.is_empty() || is_of_state(name)
        }
        _ => false,
    }
}

/// Returns whether a state of a run has a file of this name.
pub(crate) fn is_of_state(name: &str) -> bool {
    [file::CONFIG, file::WEIGHTS, file::TOKENIZER, file::METRICS, "optimizer.safetensors", "state.json"]
        .contains(&name)
}
