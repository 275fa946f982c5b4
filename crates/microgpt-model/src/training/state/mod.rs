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
//!       state.json                                        the rest, and the SHA-256 of the files above and of itself
//!     last/                 the same, after the last step of a finished run
//! ```
//!
//! The first state appears together with its folder, in one step; until then, whatever is at that path stays
//! untouched. If the folder holds a finished model, states are written beside it and the model stays as it
//! is. [`Trained::write`](super::Trained::write) replaces the whole folder in one step when the run is done.

#![allow(unsafe_code, reason = "maps a file")]

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::adam::Moments;
use super::snapshot::Snapshot;
use super::{Trainer, TrainingConfig};
use crate::checkpoint::{self, Checkpoint};
use crate::corpus::{Corpus, Layout, sha256};
use crate::error::{Error, Result};
use crate::report::{Evaluation, StepMetrics};
use crate::weights::Weights;

pub(super) const VERSION: u32 = 1;
pub(super) const STATES: &str = "training";
pub(super) const STATE: &str = "state.json";
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";
pub(super) const METRICS: &str = "metrics.jsonl";

/// Number of states kept: the newest, and one more in case it is damaged.
const KEPT: usize = 2;

/// The longest plausible training time, about a thousand years.
const MOST_SECONDS: f64 = 3.2e10;

/// Name of the state after the last step of a finished run.
pub(super) const LAST: &str = "last";

/// Name of an old state while it is being removed.
const REMOVED: &str = ".removed";

/// How often the state of a run is saved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SaveEvery {
    /// After every given number of steps.
    Steps(usize),
    /// After the first step that ends at least this long after the last save.
    Time(Duration),
}

/// Every minute.
impl Default for SaveEvery {
    fn default() -> Self {
        Self::Time(Duration::from_secs(60))
    }
}

impl SaveEvery {
    pub(super) fn is_due(self, step: usize, since: Duration) -> bool {
        match self {
            Self::Steps(every) => every > 0 && step.is_multiple_of(every),
            Self::Time(every) => since >= every,
        }
    }
}

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
    fn open(&self, text: Option<&Path>) -> Result<Corpus> {
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

/// A state that could not be read.
#[derive(Debug)]
pub struct SkippedState {
    /// Its folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: Error,
}

/// A resumed run.
#[derive(Debug)]
pub struct Resumed {
    /// The run, as of the newest intact state.
    pub trainer: Trainer,
    /// Newer states that are damaged.
    pub skipped: Vec<SkippedState>,
}

impl Trainer {
    /// Resumes the run whose states are in a checkpoint's folder.
    ///
    /// A finished run resumes from its last step; [`plan_steps`](Self::plan_steps) adds steps to it. `text`
    /// is the current path of the training text, if it has moved.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if there is no intact state; [`Error::Corpus`] if the training text is missing or was
    /// changed; [`Error::Output`] if the final checkpoint could not be written to `folder`;
    /// [`Error::InUse`] if another process is training there.
    pub fn resume(folder: impl AsRef<Path>, text: Option<&Path>) -> Result<Resumed> {
        let folder = folder.as_ref();
        let mut states: Vec<PathBuf> = states(folder)?.into_iter().map(|(_, path)| path).collect();
        let last = folder.join(STATES).join(LAST);
        let has_last = last.is_dir();
        let finished = states.is_empty() && has_last;
        if finished {
            states.push(last);
        }
        // The final checkpoint replaces this folder, and neither a link nor `.` can be replaced.
        let folder = &fs::canonicalize(folder).map_err(|e| Error::io("find", folder, e))?;
        if !states.is_empty() {
            Checkpoint::check_destination(folder)?;
        }
        let lock = lock(folder)?;
        atomic_output::remove_remains(folder.join(STATES), ".step-");
        let mut skipped = Vec::new();
        for path in states {
            match Self::open_state(&path, text) {
                Ok(mut trainer) => {
                    trainer.home = Some((folder.to_owned(), lock));
                    // A run that extends a finished model is meant to replace it.
                    trainer.replaces |= finished;
                    return Ok(Resumed { trainer, skipped });
                }
                // Older states have the same corpus.
                Err(error @ Error::Corpus { .. }) => return Err(error),
                Err(error) => skipped.push(SkippedState { path, error }),
            }
        }
        let reason = match (skipped.first(), Checkpoint::open(folder)) {
            (Some(newest), _) => {
                let earlier = if has_last {
                    "; training/last, the end of an earlier run, can be resumed once training/step-* is removed"
                } else {
                    ""
                };
                format!("none of its states is intact; the newest: {}{earlier}", newest.error)
            }
            (None, Ok(_)) => {
                "its training is finished and it has no state to resume from (training/last), or it was not trained here; \
                 begin a new run from its weights"
                    .to_owned()
            }
            (None, Err(_)) => "it has no state of a training run: expected training/step-*".to_owned(),
        };
        Err(Error::file(folder, reason))
    }

    /// Changes the total number of steps: more to extend the run, fewer to end it sooner.
    ///
    /// Completed steps are unchanged; the remaining ones use the learning rates of a run planned with `steps`
    /// from the start. With a falling schedule the rate rises again at the extension; with
    /// [`Schedule::Constant`](super::Schedule::Constant) the result equals that of the longer run bit for
    /// bit.
    ///
    /// # Errors
    ///
    /// [`Error::Training`] if more than `steps` steps are done, or the other options are invalid with so few
    /// steps.
    pub fn plan_steps(&mut self, steps: usize) -> Result<()> {
        let done = self.step_count();
        if steps < done {
            let reason = format!("{steps}, but {done} are done: give at least as many");
            return Err(Error::Training { option: "steps", reason });
        }
        let training = TrainingConfig { steps, ..self.training.clone() };
        training.validate()?;
        self.training = training;
        Ok(())
    }

    /// Lets [`Trained::write`](super::Trained::write) replace a finished model at its destination. States
    /// record this, so a resumed run keeps the permission.
    pub fn allow_replacing(&mut self) {
        self.replaces = true;
    }

    /// Whether `folder` holds states of a run that is not finished.
    pub fn is_unfinished(folder: impl AsRef<Path>) -> bool {
        let folder = folder.as_ref();
        states(folder).is_ok_and(|states| !states.is_empty())
    }

    /// Saves the current state in `folder`, beside earlier states of the same run, and removes the oldest of
    /// those. Does nothing before the first step. A finished model in the folder stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Output`] if the run has no state there yet and the folder holds something other than a
    /// finished checkpoint; [`Error::Diverged`] if a weight is not finite; [`Error::Io`].
    pub fn save(&mut self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        let name = format!("step-{:06}", self.step_count());
        let at_home = match &self.home {
            _ if self.step_count() == 0 => return Ok(()),
            Some((home, _)) => home == folder || fs::canonicalize(folder).is_ok_and(|folder| folder == *home),
            None => false,
        };
        let snapshot = self.snapshot()?;
        if at_home {
            let state = folder.join(STATES).join(&name);
            checkpoint::write_folder(&state, stranger_in, |dir| snapshot.write(dir, None))?;
        } else {
            if Self::is_unfinished(folder) {
                return Err(Error::occupied(folder, "holds a run that is not finished"));
            }
            if Checkpoint::is_finished(folder) {
                Checkpoint::check_destination(folder)?;
                self.home = Some((folder.to_owned(), lock(folder)?));
                let state = folder.join(STATES).join(&name);
                checkpoint::write_folder(&state, stranger_in, |dir| snapshot.write(dir, None))?;
            } else {
                checkpoint::write_folder(folder, checkpoint::differs, |dir| {
                    checkpoint::write_config(dir, &self.config, &self.tokenizer)?;
                    let state = dir.join(STATES).join(&name);
                    fs::create_dir_all(&state).map_err(|e| Error::io("create folder", &state, e))?;
                    snapshot.write(&state, None)
                })?;
                self.home = Some((folder.to_owned(), lock(folder)?));
            }
        }
        // States with more steps are not this run's past: they are damaged, or the run would have resumed
        // from them.
        let (beyond, past): (Vec<_>, Vec<_>) =
            states(folder)?.into_iter().partition(|(step, _)| *step > self.step_count());
        let old = beyond.into_iter().chain(past.into_iter().skip(KEPT)).map(|(_, old)| old);
        for old in old.filter(|old| stranger_in(old).is_none()) {
            // Rename first: a half-removed folder must not look like a state.
            let gone = old.with_file_name(REMOVED);
            let _ = fs::remove_dir_all(&gone);
            fs::rename(&old, &gone).map_err(|e| Error::io("remove", &old, e))?;
            fs::remove_dir_all(&gone).map_err(|e| Error::io("remove", &gone, e))?;
        }
        Ok(())
    }

    /// Copies everything that a state on disk holds.
    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        let moments = self.adam.moments().iter().map(|(name, moments)| (name.clone(), moments.read()));
        Ok(Snapshot {
            config: self.config.clone(),
            tokenizer: self.tokenizer.clone(),
            weights: self.weights()?,
            moments: moments.collect(),
            best: self.best.clone(),
            history: self.history.clone(),
            evaluations: self.evaluations.clone(),
            seconds: self.seconds,
            training: self.training.clone(),
            corpus: self.corpus.clone(),
            replaces: self.replaces,
        })
    }

    /// The states of an unfinished run in `folder`, newest first. Each is a checkpoint, intact or damaged.
    pub fn states(folder: impl AsRef<Path>) -> Vec<PathBuf> {
        let folder = folder.as_ref();
        states(folder).unwrap_or_default().into_iter().map(|(_, state)| state).collect()
    }

    /// The newest intact state of an unfinished run in `folder`. The corpus is not read.
    pub fn intact_state(folder: impl AsRef<Path>) -> Option<PathBuf> {
        let folder = folder.as_ref();
        Self::states(folder).into_iter().find(|state| read_state(state).is_ok())
    }

    fn open_state(dir: &Path, text: Option<&Path>) -> Result<Self> {
        let (state, checkpoint) = read_state(dir)?;
        let corpus = state.corpus.open(text)?;
        let (config, tokenizer) = (checkpoint.config().clone(), checkpoint.tokenizer().clone());
        let mut trainer = Self::new(&corpus, config, tokenizer, Some(checkpoint.weights()?), state.training)?;
        trainer.history = read_metrics(&dir.join(METRICS), state.step)?;
        trainer.read_optimizer(&dir.join(OPTIMIZER), state.step as u64, state.best)?;
        trainer.evaluations = state.evaluations;
        trainer.seconds = state.seconds;
        trainer.replaces = state.replaces;
        Ok(trainer)
    }

    fn read_optimizer(&mut self, path: &Path, step: u64, best: Option<Evaluation>) -> Result<()> {
        let bytes = read_mapped(path)?;
        let file = checkpoint::read_tensors(path, &bytes)?;
        let device = self.devices[0].clone().inner();
        let read = |name: String, elements: usize| -> Result<Vec<f32>> {
            let bad = |reason: String| Error::Tensor {
                path: path.to_owned(),
                tensor: name.clone(),
                reason,
                source: None,
            };
            let view = file.tensor(&name).map_err(|_| bad("missing".into()))?;
            if view.dtype() != Dtype::F32 || view.data().len() != 4 * elements {
                let found = format!("{:?} {:?}", view.dtype(), view.shape());
                return Err(bad(format!("{found}, expected F32 with {elements} elements")));
            }
            Ok(view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
        };
        let mut moments = BTreeMap::new();
        for tensor in self.config.tensors() {
            let elements = tensor.shape[0] * tensor.shape[1];
            let first = read(format!("first.{}", tensor.name), elements)?;
            let second = read(format!("second.{}", tensor.name), elements)?;
            moments.insert(tensor.name, Moments::write(first, second, &device));
        }
        self.adam.restore(step, moments);
        if let Some(best) = best {
            let mut values = BTreeMap::new();
            for tensor in self.config.tensors() {
                let elements = tensor.shape[0] * tensor.shape[1];
                values.insert(tensor.name.clone(), read(format!("best.{}", tensor.name), elements)?);
            }
            let weights = Weights::from_fn(&self.config, |name, _| values.remove(name).unwrap_or_default());
            self.best = Some((best, weights));
        }
        Ok(())
    }
}

/// Reads a state and the checkpoint in it, and compares every file with the recorded SHA-256.
fn read_state(dir: &Path) -> Result<(State, Checkpoint)> {
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

/// The states in a checkpoint's folder, newest first: steps done and path.
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

fn read_metrics(path: &Path, steps: usize) -> Result<Vec<StepMetrics>> {
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
fn read_mapped(path: &Path) -> Result<memmap2::Mmap> {
    let metadata = fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Err(Error::file(path, "not a file, or an empty one"));
    }
    let file = fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
    // SAFETY: the map is private to the caller and only read; states are replaced by rename, never modified
    // in place.
    unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io("map", path, e))
}
