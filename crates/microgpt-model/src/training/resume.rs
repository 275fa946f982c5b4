//! Resuming a run from the state that it saved.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::adam::Moments;
use super::config::TrainingConfig;
use super::state::{LAST, METRICS, OPTIMIZER, STATES, lock, read_mapped, read_metrics, read_state, states};
use super::trainer::Trainer;
use crate::checkpoint::{self, Checkpoint};
use crate::error::{Error, Result};
use crate::report::Evaluation;
use crate::weights::Weights;

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
