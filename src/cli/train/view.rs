//! The display of a training run.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use indicatif::ProgressBar;
use microgpt_model::{Progress, Trained, Trainer, generate};
use mlpackage::counted;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::duration::duration;
use crate::cli::output;
use crate::cli::peak_memory::peak_memory;

/// Samples that are shown together.
const SAMPLES: usize = 4;

/// Low enough for samples that look like the corpus.
const TEMPERATURE: f32 = 0.5;

/// A progress bar with lines above it, or burn's dashboard.
pub(super) struct View {
    bar: ProgressBar,
    #[cfg(feature = "tui")]
    dashboard: Option<super::dashboard::Dashboard>,
    sample_every: usize,
    smoothed: Option<f32>,
    held_out: Option<f32>,
    tokens: usize,
    started: Instant,
}

impl View {
    pub(super) fn new(trainer: &Trainer, sample_every: Option<usize>, tui: bool) -> Result<Self> {
        let (training, sizes) = (trainer.training(), trainer.sizes());
        output::tell(&format!(
            "{} ({}, {}, context {}), {:.1} MB with gradients and moments; {}",
            counted(trainer.config().parameters(), "parameter"),
            counted(trainer.config().n_embd, "dimension"),
            counted(trainer.config().n_layer, "layer"),
            trainer.config().block_size,
            trainer.config().training_bytes() as f64 / 1e6,
            trainer.tokenizer(),
        ));
        output::tell(&format!(
            "{} with {} an epoch, {} held out; {} make {:.1} epochs",
            counted(sizes.examples, "example"),
            counted(sizes.tokens, "token"),
            sizes.held_out,
            counted(training.steps, "step"),
            (training.steps * training.batch_size) as f64 / sizes.examples as f64,
        ));
        #[cfg(not(feature = "tui"))]
        ensure!(!tui, "--tui is not in this build: build with --features tui");
        ensure!(!tui || io::stdout().is_terminal(), "--tui needs a terminal, and standard output is not one");
        let bar = match tui {
            true => ProgressBar::hidden(),
            false => output::progress_bar(training.steps, "steps"),
        };
        bar.set_position(trainer.step_count() as u64);
        bar.reset_eta();
        let sample_every = sample_every.unwrap_or(training.steps.div_ceil(5));
        Ok(Self {
            bar,
            #[cfg(feature = "tui")]
            dashboard: tui.then(|| super::dashboard::Dashboard::new(trainer)),
            sample_every,
            smoothed: None,
            held_out: None,
            tokens: 0,
            started: Instant::now(),
        })
    }

    /// Returns whether the user of the dashboard asks to stop the run.
    pub(super) fn asks_to_stop(&self) -> bool {
        #[cfg(feature = "tui")]
        if let Some(dashboard) = &self.dashboard {
            return dashboard.asks_to_stop();
        }
        false
    }

    pub(super) fn show(&mut self, trainer: &Trainer, progress: Progress) {
        #[cfg(feature = "tui")]
        if let Some(dashboard) = &mut self.dashboard {
            return dashboard.show(progress);
        }
        match progress {
            Progress::Step(metrics) => {
                let loss = self.smoothed.map_or(metrics.loss, |s| 0.98 * s + 0.02 * metrics.loss);
                self.smoothed = Some(loss);
                self.tokens += metrics.tokens;
                self.bar.set_position(metrics.step as u64);
                let held_out = self.held_out.map_or(String::new(), |loss| format!(", held-out {loss:.3}"));
                let speed = self.tokens as f64 / self.started.elapsed().as_secs_f64();
                self.bar.set_message(format!("loss {loss:.3}{held_out}, {speed:.0} tokens/s"));
                let due = self.sample_every > 0 && metrics.step.is_multiple_of(self.sample_every);
                if due && !self.bar.is_hidden() {
                    self.bar.println(format!("step {}: {}", metrics.step, samples(trainer)));
                }
            }
            Progress::Evaluation { done, total } if self.smoothed.is_none() || done == total => {}
            Progress::Evaluation { done, total } => {
                self.bar.set_message(format!("held-out documents {done}/{total}"));
            }
            Progress::Evaluated(evaluation) => {
                self.held_out = Some(evaluation.loss);
                let loss = self.smoothed.unwrap_or(f32::NAN);
                self.line(&format!(
                    "step {}: loss {loss:.4}, held-out {:.4}",
                    evaluation.step, evaluation.loss
                ));
            }
            Progress::Saved { step } => self.line(&format!("step {step}: saved")),
        }
    }

    pub(super) fn finish(&mut self) {
        #[cfg(feature = "tui")]
        drop(self.dashboard.take());
        self.bar.finish_and_clear();
    }

    /// Prints a line above the bar, or on standard error if there is no bar.
    fn line(&self, text: &str) {
        if self.bar.is_hidden() { output::tell(text) } else { self.bar.println(output::visible(text)) }
    }
}

/// Returns samples of what the model generates now, on one line.
fn samples(trainer: &Trainer) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(trainer.training().seed);
    let (model, config, tokenizer) = (trainer.model(), trainer.config(), trainer.tokenizer());
    let texts = (0..SAMPLES).map(|_| generate(&model, config, tokenizer, "", TEMPERATURE, &mut rng));
    let texts: Vec<String> = texts.map(|text| format!("{:?}", text.unwrap_or_default())).collect();
    texts.join(" ")
}

/// Summarizes the result of a run.
pub(super) fn summary(trained: &Trained, folder: &Path) -> String {
    let report = &trained.report;
    let held_out = match report.held_out_loss {
        Some(loss) => format!("{loss:.4} ({})", counted(report.held_out_documents, "document")),
        None => "none held out".to_owned(),
    };
    let kept = match report.kept_step {
        step if step == report.steps => String::new(),
        step => format!(", with the weights of step {step}"),
    };
    let memory =
        peak_memory().map_or(String::new(), |bytes| format!(", {:.0} MB at most", bytes as f64 / 1e6));
    format!(
        "trained {} for {} of {} on {} from {}\n\
         mean loss of the last {}: {:.4}; held-out loss: {held_out}{kept}\n\
         {}, {:.0} tokens/s ({}){memory}\n\
         checkpoint: {}\n",
        counted(trained.config.parameters(), "parameter"),
        counted(report.steps, "step"),
        report.batch_size,
        counted(report.train_documents, "document"),
        report.corpus,
        counted(report.steps.min(50), "step"),
        report.train_loss,
        duration(report.seconds),
        report.tokens_per_second,
        report.backend,
        folder.display()
    )
}
