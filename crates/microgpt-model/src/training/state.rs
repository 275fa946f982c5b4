//! The on-disk state of a training run, from which it resumes exactly.
//!
//! ```text
//! CHECKPOINT/
//!   config.json, tokenizer.json
//!   training/
//!     step-000500/          written whole or not at all; the newest two are kept
//!       config.json, model.safetensors, tokenizer.json    an ordinary checkpoint
//!       optimizer.safetensors                             Adam's moments, and the best weights so far
//!       metrics.jsonl                                     every step up to this one
//!       state.json                                        the rest, and the SHA-256 of the files above and of its own content
//!     last/                 the same, after the last step of a finished run
//! ```
//!
//! The first state appears together with its folder, in one step; until then, whatever is at that path stays
//! untouched. If the folder holds a finished model, states are written beside it and the model stays as it
//! is. [`Trained::write`](super::Trained::write) replaces the whole folder in one step when the run is done.

#![allow(unsafe_code, reason = "maps a file")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::TrainingConfig;
use crate::checkpoint::{self, Checkpoint};
use crate::corpus::{Corpus, Layout, sha256};
use crate::error::{Error, Result};
use crate::report::{Evaluation, StepMetrics};

pub(super) const VERSION: u32 = 1;
pub(super) const STATES: &str = "training";
pub(super) const STATE: &str = "state.json";
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";
pub(super) const METRICS: &str = "metrics.jsonl";

/// The longest plausible training time, about a thousand years.
const MOST_SECONDS: f64 = 3.2e10;

/// Name of the state after the last step of a finished run.
pub(super) const LAST: &str = "last";

/// Identifies the corpus of a run, so that a resumed run can find and verify it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CorpusIdentity {
    pub(super) origin: String,
    pub(super) path: Option<PathBuf>,
    pub(super) layout: Layout,
    pub(super) sha256: String,
}

impl CorpusIdentity {
    pub(super) fn of(corpus: &Corpus) -> Self {
        Self {
            origin: corpus.origin().to_owned(),
            path: corpus.path().map(Path::to_owned),
            layout: corpus.layout(),
            sha256: corpus.sha256().to_owned(),
        }
    }

    /// Opens the corpus, from `text` or from the recorded path, and verifies that its content is unchanged.
    pub(super) fn open(&self, text: Option<&Path>) -> Result<Corpus> {
        let corpus = match text.or(self.path.as_deref()) {
            Some(path) => Corpus::from_file(path, self.layout)?,
            None => Corpus::built_in(),
        };
        match corpus.sha256() == self.sha256 {
            true => Ok(corpus.called(&self.origin)),
            false => Err(Error::Corpus {
                origin: self.origin.clone(),
                reason: format!(
                    "it was changed since the run began: SHA-256 {}, expected {}. A run resumes only with the text that it \
                     began with",
                    corpus.sha256(),
                    self.sha256
                ),
                source: None,
            }),
        }
    }
}

/// The contents of `state.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sealed {
    /// SHA-256 of `state` as compact JSON.
    sha256: String,
    state: State,
}

impl Sealed {
    pub(super) fn new(state: State) -> Self {
        Self { sha256: Self::digest(&state), state }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a state serializes into memory")
    }

    fn digest(state: &State) -> String {
        sha256(&serde_json::to_vec(state).expect("a state serializes into memory"))
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) version: u32,
    pub(super) step: usize,
    pub(super) seconds: f64,
    pub(super) training: TrainingConfig,
    pub(super) corpus: CorpusIdentity,
    pub(super) evaluations: Vec<Evaluation>,
    pub(super) best: Option<Evaluation>,
    /// Whether the result may replace a finished model.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) replaces: bool,
    /// SHA-256 of the folder's other files, by file name.
    pub(super) files: BTreeMap<String, String>,
}

/// Reads a state and the checkpoint in it, and compares every file with the recorded SHA-256.
pub(super) fn read_state(dir: &Path) -> Result<(State, Checkpoint)> {
    let path = dir.join(STATE);
    let bytes = checkpoint::read_file(&path, checkpoint::REPORT_LIMIT)?;
    let sealed: Sealed = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&bytes))
        .map_err(|e| Error::file_because(&path, "", e))?;
    // The digest covers parsed values; comparing the bytes also catches a number that was rewritten with
    // other digits.
    if Sealed::digest(&sealed.state) != sealed.sha256 || sealed.to_json() != bytes {
        return Err(Error::file(&path, "damaged: its SHA-256 is not the one that it records"));
    }
    let state = sealed.state;
    if state.version != VERSION {
        let reason = format!("version {}, this program reads {VERSION}", state.version);
        return Err(Error::file(&path, reason));
    }
    let checkpoint = Checkpoint::open(dir)?;
    for name in checkpoint::FILES.into_iter().chain([METRICS, OPTIMIZER]) {
        let path = dir.join(name);
        let bytes = read_mapped(&path)?;
        let (found, expected) = (sha256(&bytes), state.files.get(name));
        if expected != Some(&found) {
            let expected = expected.map_or("none", String::as_str);
            let reason = format!("damaged: SHA-256 {found}, {STATE} records {expected}");
            return Err(Error::file(path, reason));
        }
    }
    if !(0.0..=MOST_SECONDS).contains(&state.seconds) {
        return Err(Error::file(&path, format!("seconds {}: not the duration of a run", state.seconds)));
    }
    Ok((state, checkpoint))
}

/// Locks a folder for as long as the result lives; `None` where the system has no such locks.
pub(super) fn lock(folder: &Path) -> Result<Option<fs::File>> {
    let Ok(file) = fs::File::open(folder) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Err(Error::InUse { path: folder.to_owned() }),
        Err(fs::TryLockError::Error(_)) => Ok(None),
    }
}

/// Returns the states in a checkpoint's folder, newest first: steps done and path.
pub(super) fn states(folder: &Path) -> Result<Vec<(usize, PathBuf)>> {
    if !folder.is_dir() {
        let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "no such folder");
        return Err(Error::io("open checkpoint", folder, missing));
    }
    let Ok(entries) = fs::read_dir(folder.join(STATES)) else { return Ok(Vec::new()) };
    let step = |path: &Path| path.file_name()?.to_str()?.strip_prefix("step-")?.parse::<usize>().ok();
    let mut states: Vec<(usize, PathBuf)> =
        entries.flatten().filter_map(|e| Some((step(&e.path())?, e.path()))).collect();
    states.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    Ok(states)
}

/// Returns why a state must not be removed: a file in it that is not the run's.
pub(super) fn stranger_in(state: &Path) -> Option<String> {
    atomic_output::stranger(state, checkpoint::is_of_state)
}

pub(super) fn read_metrics(path: &Path, steps: usize) -> Result<Vec<StepMetrics>> {
    let bytes = read_mapped(path)?;
    let history: Vec<StepMetrics> = serde_json::Deserializer::from_slice(&bytes)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|e| Error::file_because(path, "", e))?;
    if history.len() != steps {
        let reason = format!("{} steps, {STATE} records {steps}", history.len());
        return Err(Error::file(path, reason));
    }
    Ok(history)
}

/// Maps a file into memory.
pub(super) fn read_mapped(path: &Path) -> Result<memmap2::Mmap> {
    let metadata = fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Err(Error::file(path, "not a file, or an empty one"));
    }
    let file = fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
    // SAFETY: the map is private to the caller and only read; states are replaced by rename, never modified
    // in place.
    unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io("map", path, e))
}
