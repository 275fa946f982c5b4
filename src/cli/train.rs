//! `microgpt train`

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use microgpt_model::{Backend, Checkpoint, Corpus, GptConfig, Preset, Progress, TrainingConfig, train};

use super::{Outcome, output};

/// Train a model and write a checkpoint.
#[derive(Debug, Args)]
pub(crate) struct Train {
    /// Dimensions and recipe: original (16 dimensions, 1 layer) or scaled (512 dimensions, 6 layers)
    #[arg(long, value_enum, default_value = "original")]
    preset: PresetArg,
    /// Documents, one a line [default: the built-in corpus of given names]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Training steps [default: 1000 for original, 5000 for scaled]
    #[arg(long)]
    steps: Option<usize>,
    /// Seed of the weights and of the order of documents
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Where to write the checkpoint
    #[arg(long, value_name = "CKPT")]
    out: PathBuf,
    /// Documents a step [default: 1 for original, 32 for scaled]
    #[arg(long)]
    batch_size: Option<usize>,
    /// Learning rate of the first step; it falls linearly to 0 [default: 0.01 for original, 0.001 for scaled]
    #[arg(long, allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// Standard deviation of the initial weights [default: 0.08 for original, 0.02 for scaled]
    #[arg(long, allow_negative_numbers = true)]
    init_std: Option<f32>,
    /// Share of the documents that is held out and never trained on
    #[arg(long, default_value_t = 0.1, allow_negative_numbers = true)]
    held_out: f64,
    /// Width, if not the preset's
    #[arg(long)]
    n_embd: Option<usize>,
    /// Attention heads, if not the preset's
    #[arg(long)]
    n_head: Option<usize>,
    /// Layers, if not the preset's
    #[arg(long)]
    n_layer: Option<usize>,
    /// Context length, if not the preset's
    #[arg(long)]
    block_size: Option<usize>,
    /// burn's backend: flex, or ndarray in a build with `--features ndarray`
    #[arg(long, default_value_t = Backend::default())]
    backend: Backend,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PresetArg {
    Original,
    Scaled,
}

impl From<PresetArg> for Preset {
    fn from(preset: PresetArg) -> Self {
        match preset {
            PresetArg::Original => Self::Original,
            PresetArg::Scaled => Self::Scaled,
        }
    }
}

impl Train {
    pub(crate) fn run(self) -> Result<Outcome> {
        Checkpoint::check_destination(&self.out)?;
        let corpus = match &self.data {
            Some(path) => Corpus::from_file(path)?,
            None => Corpus::built_in(),
        };
        let preset = Preset::from(self.preset);
        let mut training = TrainingConfig::preset(preset);
        training.steps = self.steps.unwrap_or(training.steps);
        training.batch_size = self.batch_size.unwrap_or(training.batch_size);
        training.learning_rate = self.learning_rate.unwrap_or(training.learning_rate);
        training.init_std = self.init_std.unwrap_or(training.init_std);
        training.held_out = self.held_out;
        training.seed = self.seed;
        training.backend = self.backend;
        let config = |vocab_size| {
            let config = GptConfig::preset(preset, vocab_size);
            GptConfig {
                n_embd: self.n_embd.unwrap_or(config.n_embd),
                n_head: self.n_head.unwrap_or(config.n_head),
                n_layer: self.n_layer.unwrap_or(config.n_layer),
                block_size: self.block_size.unwrap_or(config.block_size),
                ..config
            }
        };

        let bar = output::progress_bar(training.steps, "steps");
        let mut smoothed = None;
        let trained = train(&corpus, config, &training, |progress| match progress {
            Progress::Step(metrics) => {
                let loss = smoothed.map_or(metrics.loss, |s: f32| 0.98 * s + 0.02 * metrics.loss);
                smoothed = Some(loss);
                bar.set_position(metrics.step as u64);
                bar.set_message(format!("loss {loss:.3}"));
            }
            Progress::Evaluation { done, total } => {
                bar.set_message(format!("held-out documents {done}/{total}"))
            }
        })?;
        bar.finish_and_clear();
        let report = &trained.report;
        Checkpoint::write(&self.out, &trained.config, &trained.tokenizer, &trained.weights, Some(report))?;

        if self.json {
            output::print_json(report)?;
            return Ok(Outcome::Done);
        }
        let held_out = match report.held_out_loss {
            Some(loss) => format!("{loss:.4} ({} documents)", report.held_out_documents),
            None => "none held out".to_owned(),
        };
        output::print(&format!(
            "trained {} parameters for {} steps of {} on {} documents from {}\n\
             mean loss of the last {} steps: {:.4}; held-out loss: {held_out}\n\
             {:.1} s, {:.0} tokens/s ({})\n\
             checkpoint: {}\n",
            trained.config.parameters(),
            report.steps,
            report.batch_size,
            report.train_documents,
            report.corpus,
            report.steps.min(50),
            report.train_loss,
            report.seconds,
            report.tokens_per_second,
            report.backend,
            self.out.display()
        ))?;
        Ok(Outcome::Done)
    }
}
