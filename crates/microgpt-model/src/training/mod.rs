//! Trains a microGPT the way microGPT does: Adam, linear decay to 0, documents wrapped in BOS.

use std::time::Instant;

use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};

use crate::batch::{Batch, Example};
use crate::config::{GptConfig, Preset};
use crate::corpus::Corpus;
use crate::device::Backend;
use crate::error::{Error, Result};
use crate::model::Gpt;
use crate::report::{StepMetrics, TrainingReport};
use crate::tokenizer::CharTokenizer;
use crate::weights::{INIT_STD, WIDE_INIT_STD, Weights};

/// microGPT's Adam: first and second beta, and epsilon.
const BETAS: (f32, f32) = (0.85, 0.99);
const EPSILON: f32 = 1e-8;

/// Documents that are evaluated at a time.
const EVALUATION_BATCH: usize = 64;

/// How to train.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingConfig {
    /// Steps.
    pub steps: usize,
    /// Documents a step. With more than one, all predictions of a step weigh the same.
    pub batch_size: usize,
    /// Learning rate of the first step; step k of n has `learning_rate * (1 - k / n)`.
    pub learning_rate: f64,
    /// Share of the documents that is held out, in `[0, 1)`.
    pub held_out: f64,
    /// Standard deviation of the initial weights.
    pub init_std: f32,
    /// Seed of the weights and of the order of documents.
    pub seed: u64,
    /// burn's backend.
    pub backend: Backend,
}

impl TrainingConfig {
    /// microGPT's own recipe for the original preset; for the scaled one the same with larger batches, a lower learning
    /// rate and smaller initial weights, without which a model of that width begins with a loss of 37 and learns slowly.
    pub fn preset(preset: Preset) -> Self {
        let (steps, batch_size, learning_rate, init_std) = match preset {
            Preset::Original => (1_000, 1, 0.01, INIT_STD),
            Preset::Scaled => (5_000, 32, 1e-3, WIDE_INIT_STD),
        };
        Self {
            steps,
            batch_size,
            learning_rate,
            held_out: 0.1,
            init_std,
            seed: 42,
            backend: Backend::default(),
        }
    }

    fn validate(&self) -> Result<()> {
        let bad = |option, reason: String| Err(Error::Training { option, reason });
        if self.steps == 0 {
            return bad("steps", "0, expected at least 1".into());
        }
        if self.batch_size == 0 || self.batch_size > 1 << 16 {
            return bad("batch_size", format!("{} is not between 1 and 65536", self.batch_size));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            return bad("learning_rate", format!("{} is not above 0 and at most 1", self.learning_rate));
        }
        if !(self.init_std > 0.0 && self.init_std.is_finite()) {
            return bad("init_std", format!("{} is not above 0 and finite", self.init_std));
        }
        Ok(())
    }

    /// The learning rate of a step, counted from 0.
    fn learning_rate_at(&self, step: usize) -> f64 {
        self.learning_rate * (1.0 - step as f64 / self.steps as f64)
    }
}

/// What a run tells while it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Progress {
    /// A step is done.
    Step(StepMetrics),
    /// So many of the held-out documents are evaluated.
    Evaluation {
        /// Evaluated so far.
        done: usize,
        /// All of them.
        total: usize,
    },
}

/// A model that was trained, ready for [`Checkpoint::write`](crate::Checkpoint::write).
#[derive(Clone, Debug)]
pub struct Trained {
    /// Its dimensions.
    pub config: GptConfig,
    /// The corpus's tokenizer.
    pub tokenizer: CharTokenizer,
    /// Its weights.
    pub weights: Weights,
    /// How it went.
    pub report: TrainingReport,
}

/// Bytes of memory that training takes for each parameter: the weight, its gradient and Adam's two moments, in f32.
const BYTES_A_PARAMETER: u64 = 16;

/// Refuses a model that does not fit into the memory that is left, where the system says how much that is.
fn check_memory(config: &GptConfig) -> Result<()> {
    let needed = config.parameters().saturating_mul(BYTES_A_PARAMETER);
    match available_memory() {
        Some(available) if needed > available => Err(Error::Config {
            field: "n_embd",
            reason: format!(
                "{} with n_layer {} makes {} parameters, training them takes more than {:.1} GB, {:.1} GB are free",
                config.n_embd,
                config.n_layer,
                config.parameters(),
                needed as f64 / 1e9,
                available as f64 / 1e9
            ),
        }),
        _ => Ok(()),
    }
}

/// What Linux says could be had without swapping; `None` elsewhere.
fn available_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Trains a model from random weights on a corpus. `config` gives the model's dimensions from the size of the
/// vocabulary, which follows from the corpus: `|vocab_size| GptConfig::preset(Preset::Original, vocab_size)`.
///
/// # Errors
///
/// [`Error::Config`] or [`Error::Training`] for an option that makes no sense; [`Error::Diverged`].
pub fn train(
    corpus: &Corpus,
    config: impl FnOnce(usize) -> GptConfig,
    training: &TrainingConfig,
    mut progress: impl FnMut(Progress),
) -> Result<Trained> {
    training.validate()?;
    let tokenizer = CharTokenizer::from_documents(corpus.documents());
    let config = config(tokenizer.vocab_size());
    config.validate()?;
    check_memory(&config)?;
    let split = corpus.split(training.held_out, training.seed)?;
    let examples = |documents: &[String]| -> Result<Vec<Example>> {
        documents.iter().map(|d| Example::new(d, &tokenizer, config.block_size)).collect()
    };
    let (train, held_out) = (examples(&split.train)?, examples(&split.held_out)?);

    let device = training.backend.device().autodiff();
    let mut model = Gpt::new(&config, &Weights::random(&config, training.init_std, training.seed), &device);
    let mut optimizer =
        AdamConfig::new().with_beta_1(BETAS.0).with_beta_2(BETAS.1).with_epsilon(EPSILON).init();
    let mut history = Vec::with_capacity(training.steps.min(1 << 20));
    let started = Instant::now();
    for step in 0..training.steps {
        let documents =
            (0..training.batch_size).map(|i| &train[(step * training.batch_size + i) % train.len()]);
        let batch = Batch::new(documents, &device);
        let tokens = batch.predictions;
        let loss = loss(&model, batch);
        let value = loss.clone().into_scalar::<f32>();
        if !value.is_finite() {
            return Err(Error::Diverged {
                step: step + 1,
                loss: value,
                learning_rate: training.learning_rate,
                init_std: training.init_std,
            });
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let learning_rate = training.learning_rate_at(step);
        model = optimizer.step(learning_rate, model, gradients);
        let metrics = StepMetrics { step: step + 1, loss: value, learning_rate, tokens };
        history.push(metrics);
        progress(Progress::Step(metrics));
    }
    let seconds = started.elapsed().as_secs_f64();

    let weights = model.weights(&config);
    let model = Gpt::new(&config, &weights, &training.backend.device());
    let held_out_loss = evaluate(&model, &held_out, &training.backend.device(), progress);
    let tokens: usize = history.iter().map(|s| s.tokens).sum();
    let report = TrainingReport {
        corpus: corpus.origin().to_owned(),
        init_std: training.init_std,
        train_documents: train.len(),
        held_out_documents: held_out.len(),
        seed: training.seed,
        steps: training.steps,
        batch_size: training.batch_size,
        learning_rate: training.learning_rate,
        backend: training.backend.name().to_owned(),
        train_loss: closing_loss(&history),
        held_out_loss,
        seconds,
        tokens_per_second: tokens as f64 / seconds,
        history,
    };
    Ok(Trained { config, tokenizer, weights, report })
}

/// Mean loss of the last 50 steps, the figure that a run is judged by: a single document's loss is noise.
fn closing_loss(history: &[StepMetrics]) -> f32 {
    let last = &history[history.len().saturating_sub(50)..];
    last.iter().map(|s| s.loss).sum::<f32>() / last.len().max(1) as f32
}

/// Mean negative log likelihood of a batch's predictions.
fn loss(model: &Gpt, batch: Batch) -> Tensor<1> {
    let [rows] = batch.targets.dims();
    let log_probs = log_softmax(model.forward(batch.inputs), 1); // [B * T, V]
    let picked = log_probs.gather(1, batch.targets.reshape([rows, 1])).reshape([rows]);
    -(picked * batch.mask).sum() / batch.predictions as f32
}

/// Mean negative log likelihood of every prediction in `examples`; `None` if there are none.
fn evaluate(
    model: &Gpt,
    examples: &[Example],
    device: &Device,
    mut progress: impl FnMut(Progress),
) -> Option<f32> {
    // Documents of one length side by side: less padding, the same sum.
    let mut sorted: Vec<&Example> = examples.iter().collect();
    sorted.sort_by_key(|e| e.predictions());
    let (mut total, mut predictions) = (0f64, 0usize);
    for (i, chunk) in sorted.chunks(EVALUATION_BATCH).enumerate() {
        let batch = Batch::new(chunk.iter().copied(), device);
        let n = batch.predictions;
        total += f64::from(loss(model, batch).into_scalar::<f32>()) * n as f64;
        predictions += n;
        progress(Progress::Evaluation { done: i * EVALUATION_BATCH + chunk.len(), total: examples.len() });
    }
    (predictions > 0).then(|| (total / predictions as f64) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vocab_size: usize) -> GptConfig {
        GptConfig::preset(Preset::Original, vocab_size)
    }

    fn quick(backend: Backend) -> TrainingConfig {
        TrainingConfig { steps: 60, batch_size: 4, backend, ..TrainingConfig::preset(Preset::Original) }
    }

    #[test]
    fn learns_and_repeats_to_the_bit_on_every_backend() {
        let corpus = Corpus::built_in();
        for &backend in Backend::ALL {
            let mut steps = 0;
            let trained = train(&corpus, config, &quick(backend), |p| {
                steps += usize::from(matches!(p, Progress::Step(_)));
            });
            let trained = trained.unwrap();
            assert_eq!(steps, 60);
            // ln 27 = 3.296 is what knowing nothing costs; 60 steps of four names reach about 2.7.
            let first = trained.report.history[0].loss;
            assert!((3.0..4.0).contains(&first), "{backend}: {first}");
            assert!(trained.report.train_loss < 3.0, "{backend}: {}", trained.report.train_loss);
            let held_out = trained.report.held_out_loss.unwrap();
            assert!((2.0..3.0).contains(&held_out), "{backend}: {held_out}");
            let again = train(&corpus, config, &quick(backend), |_| {}).unwrap();
            assert_eq!(trained.weights, again.weights, "{backend}");
            assert_eq!(trained.report.history, again.report.history, "{backend}");
        }
    }

    /// Padding must not count: the loss of a padded batch is the mean over the predictions of its documents.
    #[test]
    fn loss_of_a_batch_is_the_mean_over_its_predictions() {
        let tokenizer = CharTokenizer::from_documents(&["abcdefghijklmnopqrstuvwxyz"]);
        let config = config(27);
        let device = Backend::default().device();
        let model = Gpt::new(&config, &Weights::random(&config, INIT_STD, 1), &device);
        let example = |d: &str| Example::new(d, &tokenizer, config.block_size).unwrap();
        let examples = [example("ann"), example("maximilian"), example("jo")];
        let alone = |e: &Example| f64::from(loss(&model, Batch::new([e], &device)).into_scalar::<f32>());
        let predictions: usize = examples.iter().map(Example::predictions).sum();
        let expected: f64 =
            examples.iter().map(|e| alone(e) * e.predictions() as f64).sum::<f64>() / predictions as f64;
        let together = f64::from(loss(&model, Batch::new(&examples, &device)).into_scalar::<f32>());
        // Both are f32 means of about twenty terms.
        assert!((together - expected).abs() < 1e-5, "{together} against {expected}");
        let evaluated = f64::from(evaluate(&model, &examples, &device, |_| {}).unwrap());
        assert!((evaluated - expected).abs() < 1e-5, "{evaluated} against {expected}");
    }

    #[test]
    fn learning_rate_falls_linearly_to_zero() {
        let training = TrainingConfig::preset(Preset::Original);
        assert_eq!(training.learning_rate_at(0), 0.01);
        assert!((training.learning_rate_at(250) - 0.0075).abs() < 1e-12);
        assert!(training.learning_rate_at(999) > 0.0);
    }

    /// Attention multiplies by two weights of 1e15 and the head by a third: its logits overflow f32 at once.
    #[test]
    fn a_run_that_diverges_says_so() {
        let training = TrainingConfig { init_std: 1e15, ..TrainingConfig::preset(Preset::Original) };
        let error = train(&Corpus::built_in(), config, &training, |_| {}).unwrap_err();
        assert!(matches!(error, Error::Diverged { step: 1, .. }), "{error}");
    }

    #[test]
    fn options_that_make_no_sense_are_named() {
        let corpus = Corpus::built_in();
        let preset = TrainingConfig::preset(Preset::Original);
        let cases = [
            TrainingConfig { steps: 0, ..preset.clone() },
            TrainingConfig { batch_size: 0, ..preset.clone() },
            TrainingConfig { learning_rate: f64::NAN, ..preset.clone() },
            TrainingConfig { held_out: 1.0, ..preset.clone() },
            TrainingConfig { init_std: -0.1, ..preset },
        ];
        for (case, option) in
            cases.iter().zip(["steps", "batch_size", "learning_rate", "held_out", "init_std"])
        {
            let error = train(&corpus, config, case, |_| {}).unwrap_err().to_string();
            assert!(error.contains(option), "{error}");
        }
    }
}
