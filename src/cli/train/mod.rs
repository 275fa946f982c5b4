//! `microgpt train`

mod context;
#[cfg(feature = "tui")]
mod dashboard;
mod destination;
mod view;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use microgpt_model::{
    Backend, Checkpoint, Corpus, Ended, GptConfig, Layout, Preset, Progress, Resumed, SaveEvery, SaveTo,
    Schedule, Tokenizer, Trained, Trainer, TrainingConfig,
};

use self::view::View;
use super::unfit::{self, Expected, expect};
use super::{Outcome, folder, output};

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

/// Every option that defines a run, which a resumed run has stored already.
const RUN_OPTIONS: &[&str] = &[
    "out",
    "preset",
    "init",
    "n_embd",
    "n_head",
    "n_layer",
    "block_size",
    "packed",
    "tokenizer",
    "vocab_size",
    "held_out",
    "no_shuffle",
    "seed",
    "batch_size",
    "accumulate",
    "learning_rate",
    "schedule",
    "warmup",
    "weight_decay",
    "dropout",
    "clip_norm",
    "evaluate_every",
    "keep_best",
    "patience",
    "init_std",
    "backend",
    "devices",
];

/// Options of the model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
struct ModelOptions {
    /// Dimensions and recipe: original (16 dimensions, 1 layer), scaled (512, 6) or compact (128, 4)
    #[arg(long, value_enum, default_value = "original")]
    preset: PresetArg,
    /// Begin with the weights, dimensions and tokenizer of this checkpoint, this program's or PyTorch's,
    /// instead of random weights
    #[arg(long, value_name = "CKPT", conflicts_with_all = ["n_embd", "n_head", "n_layer", "block_size", "tokenizer", "vocab_size", "init_std"])]
    init: Option<PathBuf>,
    /// Width, instead of the preset's
    #[arg(long)]
    n_embd: Option<usize>,
    /// Attention heads, instead of the preset's
    #[arg(long)]
    n_head: Option<usize>,
    /// Layers, instead of the preset's
    #[arg(long)]
    n_layer: Option<usize>,
    /// Context length in tokens [default: the preset's, or what the documents of --data need, up to 256; 128
    /// for running text]
    #[arg(long, value_name = "TOKENS")]
    block_size: Option<usize>,
    /// Standard deviation of the initial weights [default: 0.08 for original, 0.02 for scaled and compact]
    #[arg(long, allow_negative_numbers = true)]
    init_std: Option<f32>,
}

/// Options of the training text.
#[derive(Debug, Args)]
#[command(next_help_heading = "Text")]
struct DataOptions {
    /// A UTF-8 file with one document per line [default: the built-in corpus of given names]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The file is running text: train on windows as long as the context
    #[arg(long, requires = "data")]
    packed: bool,
    /// What a token is
    #[arg(long, value_enum, default_value = "characters")]
    tokenizer: TokenizerArg,
    /// Vocabulary size of a bpe tokenizer, at least 257 [default: 512]
    #[arg(long, value_name = "N")]
    vocab_size: Option<usize>,
    /// Share of the text that is held out and never trained on
    #[arg(long, default_value_t = 0.1, allow_negative_numbers = true)]
    held_out: f64,
    /// Use documents in the order of the file, in every epoch
    #[arg(long)]
    no_shuffle: bool,
}

/// Options of the recipe.
#[derive(Debug, Args)]
#[command(next_help_heading = "Recipe")]
struct RecipeOptions {
    /// Training steps [default: 1000, 5000 or 12000]
    #[arg(long)]
    steps: Option<usize>,
    /// Seed of the weights, the order of documents, and dropout
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Documents, or windows of running text, per step [default: 1, 32 or 64]
    #[arg(long)]
    batch_size: Option<usize>,
    /// Compute a step's batch in this many parts: less memory and the same step, except for dropout
    #[arg(long, value_name = "PARTS", default_value_t = 1)]
    accumulate: usize,
    /// The highest learning rate [default: 0.01, 0.001 or 0.002]
    #[arg(long, allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// How the learning rate falls: linear, cosine or constant [default: linear; cosine for compact]
    #[arg(long)]
    schedule: Option<Schedule>,
    /// Steps over which the learning rate rises first [default: 0; 200 for compact]
    #[arg(long, value_name = "STEPS")]
    warmup: Option<usize>,
    /// Decoupled weight decay, as AdamW has it [default: 0; 0.1 for compact]
    #[arg(long, allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// Dropout probability of activations [default: 0; 0.15 for compact]
    #[arg(long, allow_negative_numbers = true)]
    dropout: Option<f64>,
    /// Clip the norm of the gradients to this value; 0 never clips [default: 0; 1 for compact]
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    clip_norm: Option<f64>,
    /// Steps between evaluations of the held-out text; 0: only at the end [default: 0; 500 for compact]
    #[arg(long, value_name = "STEPS")]
    evaluate_every: Option<usize>,
    /// Keep the weights of the best evaluation instead of the last ones [default: yes for compact]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    keep_best: Option<bool>,
    /// Stop after this many evaluations without improvement; 0 never stops early [default: 0; 8 for compact]
    #[arg(long, value_name = "EVALUATIONS")]
    patience: Option<usize>,
    /// burn's backend; all but flex are build features
    #[arg(long, visible_alias = "device", default_value_t = Backend::default())]
    backend: Backend,
    /// Devices of the backend that share a step
    #[arg(long, default_value_t = 1)]
    devices: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PresetArg {
    Original,
    Scaled,
    Compact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TokenizerArg {
    /// Every character of the text
    Characters,
    /// Byte pairs learnt from the text: encodes every text, and needs fewer tokens for it
    Bpe,
}

impl From<PresetArg> for Preset {
    fn from(preset: PresetArg) -> Self {
        match preset {
            PresetArg::Original => Self::Original,
            PresetArg::Scaled => Self::Scaled,
            PresetArg::Compact => Self::Compact,
        }
    }
}

impl Train {
    pub(crate) fn run(self) -> Result<Outcome> {
        let every = match self.save_every {
            Some(steps) => SaveEvery::Steps(steps),
            None => SaveEvery::default(),
        };
        let (trainer, folder) = match &self.resume {
            Some(folder) => (self.go_on(folder)?, folder.clone()),
            None => {
                let folder = self.out.clone().context("--out is missing")?;
                (self.begin(&folder)?, folder)
            }
        };
        let mut view = View::new(&trainer, self.sample_every, self.tui)?;
        context::warn_of_cut_documents(&trainer, &self);
        let resumed = output::path(&folder);
        // A folder can be replaced by its absolute path, `.` cannot.
        let folder = folder.canonicalize().unwrap_or(folder);
        let save = SaveTo { folder: folder.clone(), every };
        let on_disk = if Trainer::is_unfinished(&folder) { trainer.step_count() } else { 0 };
        let saved = Arc::new(AtomicUsize::new(on_disk));
        let stop = stop_on_signals(Arc::clone(&saved), resumed)?;
        let ended = trainer.run(Some(&save), |trainer, told| {
            if let Progress::Saved { step } = told {
                saved.store(step, Ordering::Relaxed);
            }
            view.show(trainer, told);
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
                return Ok(Outcome::Stopped);
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
            return Ok(Outcome::GateFailed);
        }
        output::next(&format!("microgpt export {} --out bundle", output::path(&folder)));
        Ok(Outcome::Done)
    }

    /// Resumes a stopped run, or a finished one with more steps.
    fn go_on(&self, folder: &Path) -> Result<Trainer> {
        expect(folder, Expected::Run)?;
        let resumed = Trainer::resume(folder, self.data.data.as_deref());
        let is_lost =
            resumed.is_err() && Trainer::is_unfinished(folder) && Trainer::intact_state(folder).is_none();
        let resumed = resumed.map_err(Error::new).map_err(|error| match is_lost {
            true => anyhow!("{error}; {}", unfit::salvage(folder)),
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
        output::tell(&format!("going on after step {done} of {}", trainer.training().steps));
        Ok(trainer)
    }

    /// Begins a new run.
    fn begin(&self, folder: &Path) -> Result<Trainer> {
        destination::check(folder, self.force)?;
        let layout = if self.data.packed { Layout::Packed } else { Layout::Lines };
        let corpus = match &self.data.data {
            Some(path) => Corpus::from_file(path, layout).context("--data")?,
            None => Corpus::built_in(),
        };
        let training = self.training();
        let (config, tokenizer, weights) = match &self.model.init {
            Some(path) => {
                let checkpoint = folder::checkpoint(path)?;
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

    fn training(&self) -> TrainingConfig {
        let preset = TrainingConfig::preset(self.model.preset.into());
        let recipe = &self.recipe;
        let evaluate_every = recipe.evaluate_every.unwrap_or(preset.evaluate_every);
        // Without evaluations there is no best one to keep, unless the user asks for it.
        let chooses = self.data.held_out > 0.0 && evaluate_every > 0;
        let keep_best = recipe.keep_best.unwrap_or(preset.keep_best && chooses);
        TrainingConfig {
            steps: recipe.steps.unwrap_or(preset.steps),
            batch_size: recipe.batch_size.unwrap_or(preset.batch_size),
            accumulate: recipe.accumulate,
            learning_rate: recipe.learning_rate.unwrap_or(preset.learning_rate),
            schedule: recipe.schedule.unwrap_or(preset.schedule),
            // A preset's warm-up must not be longer than a short run.
            warmup: recipe.warmup.unwrap_or(preset.warmup.min(recipe.steps.unwrap_or(preset.steps) / 10)),
            weight_decay: recipe.weight_decay.unwrap_or(preset.weight_decay),
            dropout: recipe.dropout.unwrap_or(preset.dropout),
            clip_norm: match recipe.clip_norm {
                Some(clip) => Some(clip).filter(|clip| *clip != 0.0),
                None => preset.clip_norm,
            },
            held_out: self.data.held_out,
            shuffle: !self.data.no_shuffle,
            evaluate_every,
            keep_best,
            patience: recipe.patience.unwrap_or(if keep_best { preset.patience } else { 0 }),
            init_std: self.model.init_std.unwrap_or(preset.init_std),
            seed: recipe.seed,
            backend: recipe.backend,
            devices: recipe.devices,
        }
    }
}

impl ModelOptions {
    fn config(&self, vocab_size: usize) -> GptConfig {
        let preset = GptConfig::preset(self.preset.into(), vocab_size);
        GptConfig {
            n_embd: self.n_embd.unwrap_or(preset.n_embd),
            n_head: self.n_head.unwrap_or(preset.n_head),
            n_layer: self.n_layer.unwrap_or(preset.n_layer),
            block_size: self.block_size.unwrap_or(preset.block_size),
            ..preset
        }
    }
}

impl DataOptions {
    fn tokenizer(&self, corpus: &Corpus) -> Result<Tokenizer> {
        Ok(match (self.tokenizer, self.vocab_size) {
            (TokenizerArg::Characters, None) => Tokenizer::characters(corpus.documents()),
            (TokenizerArg::Characters, Some(_)) => {
                anyhow::bail!(
                    "--vocab-size is for --tokenizer bpe: a tokenizer of characters has those of the text"
                )
            }
            (TokenizerArg::Bpe, size) => Tokenizer::byte_pairs(corpus.documents(), size.unwrap_or(512))?,
        })
    }
}

/// Stops after the current step on Ctrl-C; a second one ends the process at once. `saved` is the newest step
/// on disk.
fn stop_on_signals(saved: Arc<AtomicUsize>, folder: String) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        let step = saved.load(Ordering::Relaxed);
        let saved = match step {
            0 => "nothing of this run is saved yet".to_owned(),
            step => format!("it is saved up to step {step}"),
        };
        if asked.swap(true, Ordering::Relaxed) {
            let resume = match step {
                0 => String::new(),
                _ => format!("; microgpt train --resume {folder} continues from there"),
            };
            output::tell(&format!("ended at once: {saved}{resume}"));
            std::process::exit(130);
        }
        output::tell(&format!("stopping after this step and saving it; Ctrl-C again ends at once ({saved})"));
    })?;
    Ok(stop)
}

/// A run whose final loss exceeds that of uniform guessing by more than this many nats has diverged.
const DIVERGED: f32 = 1.0;

/// Reports a run that diverged, and suggests what to try.
fn divergence(trained: &Trained) -> Option<String> {
    let (report, vocab) = (&trained.report, trained.config.vocab_size);
    let nothing = (vocab as f32).ln();
    let limit = nothing + DIVERGED;
    if report.train_loss <= limit {
        return None;
    }
    let first = report.history.first().map_or(0.0, |step| step.loss);
    let small = microgpt_model::WIDE_INIT_STD;
    let advice = match first > limit && report.init_std > small {
        true => format!(
            "it began at {first:.2}, so try smaller initial weights: --init-std {small} instead of {}",
            report.init_std
        ),
        false => {
            format!(
                "try --learning-rate {} instead of {}",
                microgpt_model::a_tenth(report.learning_rate),
                report.learning_rate
            )
        }
    };
    Some(format!(
        "the run diverged: its training loss is {:.2}, and uniform guessing costs ln {vocab} = {nothing:.2}. The model is useless; \
         {advice}",
        report.train_loss
    ))
}

/// Formats a duration in hours, minutes and seconds, leaving out what is negligible.
fn duration(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) => format!("{seconds:.1} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}
