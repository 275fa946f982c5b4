//! The result of a run, and how it takes its place.

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

/// A model that was trained, ready for [`write`](Self::write).
#[derive(Clone, Debug)]
pub struct Trained {
    /// Its dimensions.
    pub config: GptConfig,
    /// The corpus's tokenizer.
    pub tokenizer: Tokenizer,
    /// Its weights.
    pub weights: Weights,
    /// How it went.
    pub report: TrainingReport,
    /// The state after the last step, of a run that kept states on disk.
    pub(super) last: Option<Box<Snapshot>>,
    /// The folder that has states of the run.
    pub(super) home: Option<PathBuf>,
    /// Whether a finished model at the destination may be replaced.
    pub(super) replaces: bool,
}

impl Trained {
    /// Puts the checkpoint at `folder`, in one step. With it go the state after the last step, from which
    /// [`Trainer::resume`] and [`Trainer::plan_steps`] train longer, if the run kept states on disk; and `picture`, an SVG of the
    /// run's losses.
    ///
    /// A finished model that stands there is replaced only if [`Trainer::allow_replacing`] was called, or the run began from it.
    ///
    /// # Errors
    ///
    /// [`Error::Output`] if a finished model stands there that must not be replaced, another run that is not finished, or
    /// something that is no checkpoint; [`Error::Io`]. What stands there is then as it was.
    pub fn write(&self, folder: &Path, picture: Option<&str>) -> Result<()> {
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
        // Another process that trains there would lose its states.
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

    /// Whether a finished model at the destination may be replaced.
    pub fn may_replace(&self) -> bool {
        self.replaces
    }

    /// Removes the states of a run whose result went elsewhere, as a finished model stands where they are: they would make it look
    /// like a run to go on with.
    fn forget_states(&self, folder: &Path) {
        let Some(home) = self.home.as_ref().filter(|home| Checkpoint::is_finished(home)) else { return };
        if fs::canonicalize(folder).is_ok_and(|folder| folder != *home) {
            for (_, state) in state::states(home).unwrap_or_default() {
                // What cannot be removed is a state of a run that can be resumed, and no more.
                let _ = fs::remove_dir_all(state);
            }
        }
    }
}
