//! The destination of a run's result, and the folders that it must not replace.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Result, anyhow, bail};
use microgpt_model::{Checkpoint, Trained, Trainer};

use super::duration::duration;
use super::loss_curve;
use crate::cli::{expected, out_file, output};

/// Refuses a destination that holds something which the run would replace without permission.
pub(super) fn check(folder: &Path, force: bool) -> Result<()> {
    let name = output::path(folder);
    out_file::check_outside_models("--out", folder)?;
    Checkpoint::check_destination(folder)?;
    if Trainer::is_unfinished(folder) {
        let (found, give_up) = match Checkpoint::is_finished(folder) {
            true => (
                "a finished model and a later run that is not finished",
                format!("removing {name}/training/step-* gives it up and keeps the model"),
            ),
            false => ("a run that is not finished", "removing the folder gives it up".to_owned()),
        };
        let further = match Trainer::intact_state(folder) {
            Some(_) => {
                format!("`microgpt train --resume {name}` continues it; another --out keeps it for later")
            }
            None => format!(
                "none of its states is intact, so it cannot be resumed, but {}; another --out keeps it",
                expected::salvage(folder)
            ),
        };
        bail!("{name} holds {found}. Choose one: {further}; {give_up}");
    }
    let is_empty = folder.read_dir().map_or(true, |mut entries| entries.next().is_none());
    if force || is_empty {
        return Ok(());
    }
    let (found, further) = describe(folder);
    bail!(
        "{name} holds {found}, which is not replaced without --force. Choose one: --force replaces it once the new one is complete; {further}\
         another --out keeps both"
    );
}

/// Describes the content of a checkpoint's folder, and how to train it further if possible.
fn describe(folder: &Path) -> (String, String) {
    if !Checkpoint::is_finished(folder) {
        return ("an earlier checkpoint without weights".to_owned(), String::new());
    }
    let mut found = "a finished model".to_owned();
    let mut further = String::new();
    match Checkpoint::open(folder) {
        Ok(checkpoint) => {
            let name = output::path(folder);
            found += &format!(" of {} parameters", checkpoint.config().parameters());
            if let Some(report) = checkpoint.report() {
                found += &format!(", trained for {} steps", report.steps);
                if folder.join("training/last").is_dir() {
                    let steps = 2 * report.steps;
                    further = format!("`microgpt train --resume {name} --steps {steps}` trains it longer; ");
                }
            }
            further +=
                &format!("`microgpt train --init {name} --out NEW` starts a new run from its weights; ");
        }
        Err(_) => found += " that cannot be opened",
    }
    let written = folder.join("model.safetensors").metadata().and_then(|m| m.modified());
    if let Some(age) = written.ok().and_then(|time| SystemTime::now().duration_since(time).ok()) {
        found += &format!(", written {} ago", duration(age.as_secs_f64()));
    }
    (found, further)
}

/// Puts the checkpoint in its place. Puts it beside that place if something appeared there since the run
/// began, or if the run diverged and a finished model is there.
pub(super) fn publish(trained: &Trained, folder: PathBuf, diverged: bool) -> Result<PathBuf> {
    let picture = match loss_curve::draw(&trained.report) {
        Ok(picture) => Some(picture),
        Err(error) => {
            output::tell(&format!("warning: there is no picture of the losses: {error}"));
            None
        }
    };
    let (error, suffix) = match diverged && Checkpoint::is_finished(&folder) {
        true => (format!("{} holds a finished model, which is kept", folder.display()), "diverged"),
        false => match trained.write(&folder, picture.as_deref()) {
            Ok(()) => return Ok(folder),
            Err(error) => (error.to_string(), "finished"),
        },
    };
    let beside = beside(&folder, suffix);
    trained.write(&beside, picture.as_deref()).map_err(|other| {
        anyhow!("the checkpoint is written neither to {} ({error}) nor beside it ({other})", folder.display())
    })?;
    output::tell(&format!("warning: {error}. The checkpoint is in {}", beside.display()));
    Ok(beside)
}

/// Returns the first of `CKPT.SUFFIX`, `CKPT.SUFFIX-2`, `CKPT.SUFFIX-3` and so on that is not there yet.
fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let name = |number: usize| {
        let mut name = folder.as_os_str().to_owned();
        name.push(format!(".{suffix}"));
        if number > 1 {
            name.push(format!("-{number}"));
        }
        PathBuf::from(name)
    };
    let free = (1..).map(name).find(|path| path.symlink_metadata().is_err());
    free.unwrap_or_else(|| name(1))
}
