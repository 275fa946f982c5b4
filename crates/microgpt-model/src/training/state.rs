//! The state of a run on disk, from which it goes on as if nothing had happened.
//!
//! ```text
//! CHECKPOINT/
//!   config.json, tokenizer.json
//!   training/
//!     step-000500/          appears whole or not at all; the newest two are kept
//!       config.json, model.safetensors, tokenizer.json    a checkpoint like any other
//!       optimizer.safetensors                             Adam's moments, and the best weights so far
//!       metrics.jsonl                                     every step until then
//!       state.json                                        the rest, and the SHA-256 of the files above and of itself
//!     last/                 of a finished run: the same after its last step
//! ```
//!
//! The first state is put in place together with the folder around it, so that until then whatever stood there is untouched. If a
//! finished model stands there, states go beside it and it stays as it is. [`Trained::write`](super::Trained::write) replaces all of
//! it in one step when the run is done.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use safetensors::{Dtype, SafeTensors};
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

/// States that are kept: the newest, and one more in case it is damaged.
const KEPT: usize = 2;

/// A thousand years.
const MOST_SECONDS: f64 = 3.2e10;

/// The state after the last step of a finished run.
pub(super) const LAST: &str = "last";

/// What an old state is called while it is removed.
const REMOVED: &str = ".removed";

/// How often the state of a run is saved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SaveEvery {
    /// After so many steps.
    Steps(usize),
    /// After the first step that ends so long after the last saving.
    Time(Duration),
}

/// A minute is little to lose.
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

/// By what a corpus is known again.
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

    /// The corpus, if it is what it was, from where it was or is now.
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
                    "it was changed since the run began: SHA-256 {}, expected {}. A run goes on with the text that it began \
                     with only",
                    corpus.sha256(),
                    self.sha256
                ),
            }),
        }
    }
}

/// `state.json`
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
    /// SHA-256 of the folder's other files.
    pub(super) files: BTreeMap<String, String>,
}

/// A state that could not be used.
#[derive(Debug)]
pub struct SkippedState {
    /// Its folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: Error,
}

/// A run that goes on.
#[derive(Debug)]
pub struct Resumed {
    /// The run, after the newest state that is whole.
    pub trainer: Trainer,
    /// Newer states, which are damaged.
    pub skipped: Vec<SkippedState>,
}

impl Trainer {
    /// Goes on with the run whose states are in a checkpoint's folder; if it is finished, from its last step, which
    /// [`plan_steps`](Self::plan_steps) adds more to. `text` is where its text is now, if it was moved.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if there is no state, or none that is whole; [`Error::Corpus`] if its text is gone or was changed;
    /// [`Error::Output`] if the checkpoint could not be written there in the end; [`Error::InUse`] if another process trains there.
    pub fn resume(folder: &Path, text: Option<&Path>) -> Result<Resumed> {
        let mut states: Vec<PathBuf> = states(folder)?.into_iter().map(|(_, path)| path).collect();
        let last = folder.join(STATES).join(LAST);
        let has_last = last.is_dir();
        let finished = states.is_empty() && has_last;
        if finished {
            states.push(last);
        }
        // A link, or `.`, could not be replaced when the run is done.
        let folder = &fs::canonicalize(folder).map_err(|e| Error::io("find", folder, e))?;
        if !states.is_empty() {
            Checkpoint::check_destination(folder)?;
        }
        let lock = lock(folder)?;
        atomic_output::remove_remains(&folder.join(STATES), ".step-");
        let mut skipped = Vec::new();
        for path in states {
            match Self::open_state(&path, text) {
                Ok(mut trainer) => {
                    trainer.home = Some((folder.to_owned(), lock));
                    // What goes on from a finished model is meant to take its place.
                    trainer.replaces |= finished;
                    return Ok(Resumed { trainer, skipped });
                }
                // No older state has another corpus.
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
                format!("no state of it is whole; the newest: {}{earlier}", newest.error)
            }
            (None, Ok(_)) => {
                "its training is finished and it holds no state to go on from (training/last), or it was not trained here; --init \
                 trains on from its weights"
                    .to_owned()
            }
            (None, Err(_)) => "it has no state of a training run: expected training/step-*".to_owned(),
        };
        Err(Error::file(folder, reason))
    }

    /// Changes how many steps the run has in all: more to go on after its end, fewer to end it sooner. The steps that are done stay as
    /// they are; those to come have the learning rate of a run that was planned with so many from its beginning. So a schedule that
    /// falls has fallen less far where an extended run goes on, and with [`Schedule::Constant`](super::Schedule::Constant) the
    /// result is that of the longer run, to the bit.
    ///
    /// # Errors
    ///
    /// [`Error::Training`] if more steps are done, or the other options do not allow so few.
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

    /// Lets [`Trained::write`](super::Trained::write) replace a finished model at its destination. States remember it, so that a
    /// run that is resumed need not be allowed again.
    pub fn allow_replacing(&mut self) {
        self.replaces = true;
    }

    /// Whether `folder` holds states of a run that is not finished.
    pub fn is_unfinished(folder: &Path) -> bool {
        states(folder).is_ok_and(|states| !states.is_empty())
    }

    /// Puts the state of now on disk, beside those of the same run in `folder`. Older ones are removed. Before the first step
    /// there is none. A finished model that stands in the folder stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Output`] if the run has no state there yet and something other than a finished checkpoint stands there;
    /// [`Error::Diverged`] if there are weights that are not finite; [`Error::Io`].
    pub fn save(&mut self, folder: &Path) -> Result<()> {
        let name = format!("step-{:06}", self.step_count());
        let at_home = match &self.home {
            _ if self.step_count() == 0 => return Ok(()),
            Some((home, _)) => home == folder || fs::canonicalize(folder).is_ok_and(|folder| folder == *home),
            None => false,
        };
        let snapshot = self.snapshot()?;
        if at_home {
            let state = folder.join(STATES).join(&name);
            checkpoint::write_folder(&state, |_| None, |dir| snapshot.write(dir, None))?;
        } else {
            if Self::is_unfinished(folder) {
                return Err(Error::occupied(folder, "holds a run that is not finished"));
            }
            if Checkpoint::is_finished(folder) {
                Checkpoint::check_destination(folder)?;
                self.home = Some((folder.to_owned(), lock(folder)?));
                let state = folder.join(STATES).join(&name);
                checkpoint::write_folder(&state, |_| None, |dir| snapshot.write(dir, None))?;
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
        // What has more steps is no past of this run: it was damaged, or it would not have been gone back from.
        let (beyond, past): (Vec<_>, Vec<_>) =
            states(folder)?.into_iter().partition(|(step, _)| *step > self.step_count());
        for (_, old) in beyond.into_iter().chain(past.into_iter().skip(KEPT)) {
            // Out of the way first: a folder that is half removed must not look like a state.
            let gone = old.with_file_name(REMOVED);
            let _ = fs::remove_dir_all(&gone);
            fs::rename(&old, &gone).map_err(|e| Error::io("remove", &old, e))?;
            fs::remove_dir_all(&gone).map_err(|e| Error::io("remove", &gone, e))?;
        }
        Ok(())
    }

    /// Everything that a state on disk has, as it is now.
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

    fn open_state(dir: &Path, text: Option<&Path>) -> Result<Self> {
        let path = dir.join(STATE);
        let bytes = checkpoint::read_file(&path, checkpoint::REPORT_LIMIT)?;
        let sealed: Sealed =
            serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&bytes))
                .map_err(|e| Error::file(&path, e.to_string()))?;
        // A number that is read as the same one may be written in other digits.
        if Sealed::digest(&sealed.state) != sealed.sha256 || sealed.to_json() != bytes {
            return Err(Error::file(&path, "damaged: it does not have the SHA-256 that it says"));
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
                let reason = format!("damaged: SHA-256 {found}, {STATE} says {expected}");
                return Err(Error::file(path, reason));
            }
        }
        if !(0.0..=MOST_SECONDS).contains(&state.seconds) {
            return Err(Error::file(&path, format!("seconds {}: no run takes that long", state.seconds)));
        }
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
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|e| Error::file(path, format!("no safetensors: {e}")))?;
        let device = self.devices[0].clone().inner();
        let read = |name: String, elements: usize| -> Result<Vec<f32>> {
            let bad = |reason: String| Error::Tensor { path: path.to_owned(), tensor: name.clone(), reason };
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

/// Holds a folder as long as the result lives; `None` where the system has no such locks.
pub(super) fn lock(folder: &Path) -> Result<Option<fs::File>> {
    let Ok(file) = fs::File::open(folder) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Err(Error::InUse { path: folder.to_owned() }),
        Err(fs::TryLockError::Error(_)) => Ok(None),
    }
}

/// The states in a checkpoint's folder, the newest first.
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

fn read_metrics(path: &Path, steps: usize) -> Result<Vec<StepMetrics>> {
    let bytes = read_mapped(path)?;
    let history: Vec<StepMetrics> = serde_json::Deserializer::from_slice(&bytes)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|e| Error::file(path, e.to_string()))?;
    if history.len() != steps {
        let reason = format!("{} steps, {STATE} says {steps}", history.len());
        return Err(Error::file(path, reason));
    }
    Ok(history)
}

/// A file's bytes, without reading more of it than is used.
fn read_mapped(path: &Path) -> Result<memmap2::Mmap> {
    let metadata = fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Err(Error::file(path, "not a file, or an empty one"));
    }
    let file = fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
    // SAFETY: the map is private to the caller and only read; states are replaced by rename, never changed in place.
    unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io("map", path, e))
}
