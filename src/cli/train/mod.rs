//! `microgpt train`

mod context;
#[cfg(feature = "tui")]
mod dashboard;
mod destination;
mod divergence;
mod duration;
mod interrupt;
mod loss_curve;
mod options;
mod view;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use clap::Args;
use microgpt_model::{
    Checkpoint, Corpus, Ended, GptConfig, Layout, Progress, Resumed, SaveEvery, SaveTo, Trainer,
};

use self::divergence::divergence;
use self::interrupt::stop_on_signals;
use self::options::{DataOptions, ModelOptions, RUN_OPTIONS, RecipeOptions};
use self::view::View;
use super::expected::{self, Expected, expect};
use super::{Exit, open, output};

/// Train a model and write a checkpoint.
#[derive(Debug, Args)]
#[command(after_help = "\
The presets' recipes, which options change individually:
  original  microGPT's own: 1000 steps of 1 document, learning rate 0.01 falling linearly, initial weights 0.08
  scaled    Experiment 27's: 5000 steps of 32 documents, 0.001 falling linearly, initial weights 0.02
  compact   predicts unseen names best: dropout, weight decay, a cosine schedule, and the weights of the best evaluation
Texts other than names get a longer context than the preset's if their documents need it; --block-size overrides this.
`microgpt train --resume CKPT` continues a run after any stop as if nothing had happened. --resume CKPT --steps N trains a finished
run longer. The remaining steps then have the learning rate of a run of N steps, so a rate that has fallen rises again; --init starts
a new run, with its own schedule, from the weights of a checkpoint.")]
pub(crate) struct Train {
    /// Where to write the checkpoint; the training state is kept there during the run
    #[arg(long, value_name = "CKPT", required_unless_present = "resume")]
    out: Option<PathBuf>,
    /// Replace a finished model in --out; it stays whole until the new one replaces it in one step
    #[arg(long)]
    force: bool,
    /// Continue a stopped run, in the same folder and with the same options. --steps changes its total number
    /// of steps, even if it is finished; --data gives the new path of its text, if it was moved
    #[arg(long, value_name = "CKPT", conflicts_with_all = RUN_OPTIONS)]
    resume: Option<PathBuf>,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    recipe: RecipeOptions,
    /// Steps between states written to disk for --resume [default: about a minute's worth]
    #[arg(long, value_name = "STEPS")]
    save_every: Option<usize>,
    /// Steps between samples of generated text [default: a fifth of the run; 0: none]
    #[arg(long, value_name = "STEPS")]
    sample_every: Option<usize>,
    /// Show burn's dashboard while training; needs the build feature tui
    #[arg(long)]
    tui: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Train {
    pub(crate) fn run(self) -> Result<Exit> {
        let every = match self.save_every {
            Some(steps) => SaveEvery::Steps(steps),
            None => SaveEvery::default(),
        };
        let (trainer, folder) = match &self.resume {
            Some(folder) => (self.resume_run(folder)?, folder.clone()),
            None => {
                let folder = self.out.clone().context("--out is missing")?;
                (self.begin_run(&folder)?, folder)
            }
        };
        let mut view = View::new(&trainer, self.sample_every, self.tui)?;
        context::warn_of_cut_documents(&trainer, &self);
        let name = output::path(&folder);
        // A folder can be replaced by its absolute path, `.` cannot.
        let folder = folder.canonicalize().unwrap_or(folder);
        let save = SaveTo { folder: folder.clone(), every };
        let on_disk = if Trainer::is_unfinished(&folder) { trainer.step_count() } else { 0 };
        let saved = Arc::new(AtomicUsize::new(on_disk));
        let stop = stop_on_signals(Arc::clone(&saved), name)?;
        let ended = trainer.run(Some(&save), |trainer, progress| {
            if let Progress::Saved { step } = progress {
                saved.store(step, Ordering::Relaxed);
            }
            view.show(trainer, progress);
            match stop.load(Ordering::Relaxed) || view.asks_to_stop() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        view.finish();
        let trained = match ended? {
            Ended::Trained(trained) => trained,
            Ended::Stopped { step } => {
                let folder = output::path(&folder);
                output::tell(&format!(
                    "stopped after step {step}; microgpt train --resume {folder} continues"
                ));
                return Ok(Exit::Stopped);
            }
        };
        let diverged = divergence(&trained);
        let folder = destination::publish(&trained, folder, diverged.is_some())?;
        match self.json {
            true => output::print_json(&trained.report)?,
            false => output::print(&view::summary(&trained, &folder))?,
        }
        if let Some(diverged) = diverged {
            output::tell(&format!("warning: {diverged}"));
            return Ok(Exit::GateFailed);
        }
        output::next(&format!("microgpt export {} --out bundle", output::path(&folder)));
        Ok(Exit::Done)
    }

    /// Resumes a stopped run, or a finished one with more steps.
    fn resume_run(&self, folder: &Path) -> Result<Trainer> {
        expect(folder, Expected::Run)?;
        let resumed = Trainer::resume(folder, self.data.data.as_deref());
        let is_lost =
            resumed.is_err() && Trainer::is_unfinished(folder) && Trainer::intact_state(folder).is_none();
        let resumed = resumed.map_err(Error::new).map_err(|error| match is_lost {
            true => anyhow!("{error}; {}", expected::salvage(folder)),
            false => error,
        });
        let Resumed { mut trainer, skipped } = resumed?;
        for state in &skipped {
            output::tell(&format!("warning: {} is skipped: {}", state.path.display(), state.error));
        }
        let (done, name) = (trainer.step_count(), output::path(folder));
        let was_finished = !Trainer::is_unfinished(folder);
        if let Some(steps) = self.recipe.steps {
            ensure!(
                steps > done || !was_finished,
                "--steps {steps}: {name} is finished and has {done} steps; give more, such as --steps {}",
                2 * done
            );
            trainer.plan_steps(steps)?;
        }
        if was_finished && trainer.is_finished() {
            let longer = match trainer.training().steps > done {
                true => "it ended early, because evaluations did not improve (--patience)".to_owned(),
                false => format!("`microgpt train --resume {name} --steps {}` trains it longer", 2 * done),
            };
            // The folder's own model may be damaged, while the state that was resumed is a checkpoint as well.
            let init = match Checkpoint::open(folder) {
                Ok(_) => name.clone(),
                Err(_) => output::path(&folder.join("training/last")),
            };
            bail!(
                "{name} is finished after {done} steps: {longer}; `microgpt train --init {init} --out NEW` starts a new run from its \
                 weights"
            );
        }
        if self.force {
            trainer.allow_replacing();
        }
        output::tell(&format!("resuming after step {done} of {}", trainer.training().steps));
        Ok(trainer)
    }

    /// Begins a new run.
    fn begin_run(&self, folder: &Path) -> Result<Trainer> {
        destination::check(folder, self.force)?;
        let layout = if self.data.packed { Layout::Packed } else { Layout::Lines };
        let corpus = match &self.data.data {
            Some(path) => Corpus::from_file(path, layout).context("--data")?,
            None => Corpus::built_in(),
        };
        let training = self.recipe.training(&self.model, &self.data);
        let (config, tokenizer, weights) = match &self.model.init {
            Some(path) => {
                let checkpoint = open::checkpoint(path)?;
                let weights = checkpoint.weights()?;
                (checkpoint.config().clone(), checkpoint.tokenizer().clone(), Some(weights))
            }
            None => {
                let tokenizer = self.data.tokenizer(&corpus)?;
                let preset = self.model.config(tokenizer.vocab_size());
                let block_size = match (self.model.block_size, &self.data.data) {
                    (None, Some(_)) => context::choose(preset.block_size, &corpus, &tokenizer)?,
                    _ => preset.block_size,
                };
                (GptConfig { block_size, ..preset }, tokenizer, None)
            }
        };
        let mut trainer = Trainer::new(&corpus, config, tokenizer, weights, training)?;
        if self.force {
            trainer.allow_replacing();
        }
        Ok(trainer)
    }
}
