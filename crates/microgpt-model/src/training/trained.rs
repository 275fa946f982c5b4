//! The result of a training run, and how it is written to its destination.

use std::fs;
use std::path::{Path, PathBuf};

use super::Trainer;
use super::snapshot::Snapshot;
use super::state::{self, LAST, STATES};
use crate::checkpoint::{self, Checkpoint};
use crate::config::GptConfig;
use crate::error::{Error, Result};
use crate::report::TrainingReport;
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

/// A trained model, ready for [`write`](Self::write).
#[derive(Clone, Debug)]
pub struct Trained {
    /// The model's dimensions.
    pub config: GptConfig,
    /// The corpus's tokenizer.
    pub tokenizer: Tokenizer,
    /// The weights.
    pub weights: Weights,
    /// Settings and losses of the run.
    pub report: TrainingReport,
    /// The state after the last step, if the run kept states on disk.
    pub(super) last: Option<Box<Snapshot>>,
    /// The folder that holds states of the run.
    pub(super) home: Option<PathBuf>,
    /// Whether a finished model at the destination may be replaced.
    pub(super) replaces: bool,
}

impl Trained {
    /// Writes the checkpoint to `folder`, in one step.
    ///
    /// The folder also receives `picture`, an SVG of the run's losses, and, if the run kept states on disk,
    /// the state after the last step, from which [`Trainer::resume`] and [`Trainer::plan_steps`] train
    /// longer.
    ///
    /// An existing finished model is replaced only if [`Trainer::allow_replacing`] was called, or the run was
    /// resumed from that model.
    ///
    /// # Errors
    ///
    /// [`Error::Output`] if `folder` holds a finished model that must not be replaced, another unfinished
    /// run, or something that is not a checkpoint; [`Error::Io`]. The folder is then unchanged.
    pub fn write(&self, folder: impl AsRef<Path>, picture: Option<&str>) -> Result<()> {
        let folder = folder.as_ref();
        let at_home = self.home.as_ref().is_some_and(|home| {
            home == folder || fs::canonicalize(folder).is_ok_and(|folder| folder == *home)
        });
        let occupied = |reason: &str| Err(Error::occupied(folder, reason));
        if Trainer::is_unfinished(folder) && !at_home {
            return occupied("holds a run that is not finished");
        }
        if Checkpoint::is_finished(folder) && !self.may_replace() {
            return occupied("holds a finished model");
        }
        // Another process training there would lose its states.
        let _alone = folder.is_dir().then(|| state::lock(folder)).transpose()?;
        let Self { config, tokenizer, weights, report, last, .. } = self;
        Checkpoint::write_with(folder, config, tokenizer, weights, Some(report), |dir| {
            if let Some(picture) = picture {
                checkpoint::write(&dir.join(checkpoint::PICTURE), picture.as_bytes())?;
            }
            let Some(last) = last else { return Ok(()) };
            let state = dir.join(STATES).join(LAST);
            fs::create_dir_all(&state).map_err(|e| Error::io("create folder", &state, e))?;
            let same = dir.join(checkpoint::WEIGHTS);
            last.write(&state, (last.weights == *weights).then_some(same.as_path()))
        })?;
        self.forget_states(folder);
        Ok(())
    }

    /// Returns whether an existing finished model at the destination may be replaced.
    pub fn may_replace(&self) -> bool {
        self.replaces
    }

    /// Removes the run's states from a folder that holds a finished model, if the result was written
    /// elsewhere. Left in place, they would make the folder look like a run to resume.
    fn forget_states(&self, folder: &Path) {
        let Some(home) = self.home.as_ref().filter(|home| Checkpoint::is_finished(home)) else { return };
        if fs::canonicalize(folder).is_ok_and(|folder| folder != *home) {
            let states = state::states(home).unwrap_or_default().into_iter().map(|(_, state)| state);
            for state in states.filter(|state| state::stranger_in(state).is_none()) {
                // A state that cannot be removed remains resumable, which does no harm.
                let _ = fs::remove_dir_all(state);
            }
        }
    }
}
