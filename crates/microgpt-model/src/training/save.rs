//! Saving the state of a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::snapshot::Snapshot;
use super::state::{self, STATES, lock, stranger_in};
use super::trainer::Trainer;
use crate::checkpoint::{self, Checkpoint};
use crate::error::{Error, Result};

/// Number of states kept: the newest, and one more in case it is damaged.
const KEPT: usize = 2;

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

impl Trainer {
    /// Returns whether `folder` holds states of a run that is not finished.
    pub fn is_unfinished(folder: impl AsRef<Path>) -> bool {
        let folder = folder.as_ref();
        state::states(folder).is_ok_and(|states| !states.is_empty())
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
        if !at_home && Self::is_unfinished(folder) {
            return Err(Error::occupied(folder, "holds a run that is not finished"));
        }
        if !at_home && !Checkpoint::is_finished(folder) {
            checkpoint::write_folder(folder, checkpoint::differs, |dir| {
                checkpoint::write_config(dir, &self.config, &self.tokenizer)?;
                let state = dir.join(STATES).join(&name);
                fs::create_dir_all(&state).map_err(|e| Error::io("create folder", &state, e))?;
                snapshot.write(&state, None)
            })?;
            self.home = Some((folder.to_owned(), lock(folder)?));
        } else {
            if !at_home {
                Checkpoint::check_destination(folder)?;
                self.home = Some((folder.to_owned(), lock(folder)?));
            }
            let state = folder.join(STATES).join(&name);
            checkpoint::write_folder(&state, stranger_in, |dir| snapshot.write(dir, None))?;
        }
        self.remove_old_states(folder)
    }

    /// Removes all states but the newest two, and those with more steps than this run has.
    fn remove_old_states(&self, folder: &Path) -> Result<()> {
        // States with more steps are not this run's past: they are damaged, or the run would have resumed
        // from them.
        let (beyond, past): (Vec<_>, Vec<_>) =
            state::states(folder)?.into_iter().partition(|(step, _)| *step > self.step_count());
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

    /// Returns the states of an unfinished run in `folder`, newest first. Each is a checkpoint, intact or
    /// damaged.
    pub fn states(folder: impl AsRef<Path>) -> Vec<PathBuf> {
        let folder = folder.as_ref();
        state::states(folder).unwrap_or_default().into_iter().map(|(_, state)| state).collect()
    }

    /// Returns the newest intact state of an unfinished run in `folder`. The corpus is not read.
    pub fn intact_state(folder: impl AsRef<Path>) -> Option<PathBuf> {
        let folder = folder.as_ref();
        Self::states(folder).into_iter().find(|path| state::read_state(path).is_ok())
    }
}
