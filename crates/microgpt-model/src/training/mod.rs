//! Trains a microGPT the way microGPT does: Adam, a learning rate that falls, documents wrapped in BOS.
//!
//! The loop is our own, as burn's learner keeps its place by the epoch and a run here must go on from any step to the bit.
//! Whatever a step depends on follows from its number and the seed: the examples, the learning rate, what is dropped.

mod adam;
mod config;
mod dropout;
mod loss;
mod memory;
mod schedule;
mod state;

use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use burn::module::Module as _;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Device;

use self::adam::{Adam, AdamOptions};
use self::state::CorpusIdentity;
use crate::batch::Batch;
use crate::config::GptConfig;
use crate::corpus::Corpus;
use crate::error::{Error, Result};
use crate::examples::Examples;
use crate::model::Gpt;
use crate::order::Order;
use crate::report::{Evaluation, StepMetrics, TrainingReport};
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

pub use self::config::TrainingConfig;
pub(crate) use self::dropout::Dropout;
pub use self::schedule::Schedule;
pub use self::state::{Resumed, SaveEvery, SkippedState};

/// microGPT's Adam: first and second beta, and epsilon.
const BETAS: (f64, f64) = (0.85, 0.99);
const EPSILON: f64 = 1e-8;

/// What a run tells while it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Progress {
    /// A step is done.
    Step(StepMetrics),
    /// So many of the held-out examples are evaluated.
    Evaluation {
        /// Evaluated so far.
        done: usize,
        /// All of them.
        total: usize,
    },
    /// What is held out was evaluated.
    Evaluated(Evaluation),
    /// The state after that step is on disk.
    Saved {
        /// Steps done.
        step: usize,
    },
}

/// A model that was trained, ready for [`Checkpoint::write`](crate::Checkpoint::write).
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
}

/// Trains a model of characters from random weights on a corpus. `config` gives the model's dimensions from the size of the
/// vocabulary, which follows from the corpus: `|vocab_size| GptConfig::preset(Preset::Original, vocab_size)`.
///
/// [`Trainer`] does the same step by step, begins with other weights or another tokenizer, and keeps its state on disk.
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
    let tokenizer = Tokenizer::characters(corpus.documents());
    let config = config(tokenizer.vocab_size());
    let trainer = Trainer::new(corpus, config, tokenizer, None, training.clone())?;
    let ended = trainer.run(None, |_, told| {
        progress(told);
        ControlFlow::Continue(())
    })?;
    match ended {
        Ended::Trained(trained) => Ok(*trained),
        Ended::Stopped { .. } => unreachable!("nobody asked to stop"),
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// It went to its end.
    Trained(Box<Trained>),
    /// It was asked to stop.
    Stopped {
        /// Steps done.
        step: usize,
    },
}

/// Where a run keeps its state while it goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct SaveTo {
    /// The checkpoint's folder.
    pub folder: PathBuf,
    /// How often.
    pub every: SaveEvery,
}

/// A training run: a model, its optimizer and its data after some number of steps.
#[derive(Debug)]
pub struct Trainer {
    config: GptConfig,
    tokenizer: Tokenizer,
    training: TrainingConfig,
    corpus: CorpusIdentity,
    train: Examples,
    held_out: Examples,
    order: Order,
    devices: Vec<Device>,
    /// Empty only while the optimizer has it: whoever else held its tensors would make it copy them.
    model: Option<Gpt>,
    adam: Adam,
    history: Vec<StepMetrics>,
    evaluations: Vec<Evaluation>,
    /// The best evaluation and the weights that it was of.
    best: Option<(Evaluation, Weights)>,
    /// Time that steps took.
    seconds: f64,
    /// The folder that holds states of this run, and its lock: two runs must not share one.
    home: Option<(PathBuf, Option<File>)>,
}

impl Trainer {
    /// A run before its first step, from `weights` or, without any, from random ones.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] or [`Error::Training`] for an option that makes no sense, a model beyond the memory that is free, or
    /// one that is not of the tokenizer's vocabulary; [`Error::UnknownCharacter`] if the tokenizer lacks one of the corpus.
    pub fn new(
        corpus: &Corpus,
        config: GptConfig,
        tokenizer: Tokenizer,
        weights: Option<Weights>,
        training: TrainingConfig,
    ) -> Result<Self> {
        training.validate()?;
        config.validate()?;
        if config.vocab_size != tokenizer.vocab_size() {
            let reason = format!("{}, the tokenizer has {}", config.vocab_size, tokenizer.vocab_size());
            return Err(Error::Config { field: "vocab_size", reason });
        }
        memory::check_parameters(&config)?;
        let devices: Vec<Device> =
            training.backend.devices(training.devices)?.into_iter().map(Device::autodiff).collect();
        let split = corpus.split(training.held_out, training.shuffle.then_some(training.seed))?;
        let examples = |texts| Examples::new(texts, corpus.layout(), &tokenizer, config.block_size);
        let (train, held_out) = (examples(&split.train)?, examples(&split.held_out)?);
        let part = training.batch_size.div_ceil(training.accumulate.max(training.devices));
        let (rows, positions) = Batch::extent(part, train.longest(), train.predictions() / train.len());
        memory::check_attention(&config, rows, positions)?;
        let weights = weights.unwrap_or_else(|| Weights::random(&config, training.init_std, training.seed));
        let options = AdamOptions {
            beta_1: BETAS.0,
            beta_2: BETAS.1,
            epsilon: EPSILON,
            weight_decay: training.weight_decay,
            clip_norm: training.clip_norm.unwrap_or(f64::INFINITY),
        };
        Ok(Self {
            order: Order::new(train.len(), training.shuffle.then_some(training.seed)),
            model: Some(Gpt::new(&config, &weights, &devices[0])),
            adam: Adam::new(options, training.backend.is_host()),
            corpus: CorpusIdentity::of(corpus),
            config,
            tokenizer,
            training,
            train,
            held_out,
            devices,
            history: Vec::new(),
            evaluations: Vec::new(),
            best: None,
            seconds: 0.0,
            home: None,
        })
    }

    /// The dimensions of the model.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// How it is trained.
    pub fn training(&self) -> &TrainingConfig {
        &self.training
    }

    /// The model as it is now, on its first device.
    pub fn model(&self) -> Gpt {
        self.parameters().valid()
    }

    fn parameters(&self) -> &Gpt {
        self.model.as_ref().expect("a step gives back the model that it takes")
    }

    /// Steps done.
    pub fn step_count(&self) -> usize {
        self.history.len()
    }

    /// Examples and predictions of an epoch, and examples held out.
    pub fn sizes(&self) -> TrainingSizes {
        TrainingSizes {
            examples: self.train.len(),
            tokens: self.train.predictions(),
            cut: self.train.cut() + self.held_out.cut(),
            held_out: self.held_out.len(),
        }
    }

    /// Whether all steps are done, or the best evaluation is too long ago.
    pub fn is_finished(&self) -> bool {
        let since_best = || {
            let best = self.best.as_ref().map_or(0, |(best, _)| best.step);
            self.evaluations.iter().filter(|e| e.step > best).count()
        };
        let patience = self.training.patience;
        self.step_count() >= self.training.steps || (patience > 0 && since_best() >= patience)
    }

    /// Trains to the end. With `save`, the state is kept on disk on the way, and the run can be resumed after any stop.
    /// `progress` is given the run as it is then; if it breaks after a step, the state is saved and the run ends there.
    ///
    /// # Errors
    ///
    /// [`Error::Diverged`]; [`Error::Io`] and [`Error::Occupied`] if the state cannot be saved.
    pub fn run(
        mut self,
        save: Option<&SaveTo>,
        mut progress: impl FnMut(&Self, Progress) -> ControlFlow<()>,
    ) -> Result<Ended> {
        let mut saved = Instant::now();
        while !self.is_finished() {
            let metrics = self.step()?;
            let stop = progress(&self, Progress::Step(metrics)).is_break();
            if self.evaluation_is_due() {
                self.evaluate(&mut progress)?;
            }
            let due = |save: &&SaveTo| stop || save.every.is_due(self.step_count(), saved.elapsed());
            if let Some(SaveTo { folder, .. }) = save.filter(due).filter(|_| !self.is_finished()) {
                self.save(folder)?;
                let _ = progress(&self, Progress::Saved { step: self.step_count() });
                saved = Instant::now();
            }
            if stop && !self.is_finished() {
                return Ok(Ended::Stopped { step: self.step_count() });
            }
        }
        if self.evaluations.last().is_none_or(|last| last.step != self.step_count()) {
            self.evaluate(&mut progress)?;
        }
        Ok(Ended::Trained(Box::new(self.finish()?)))
    }

    /// One step of the optimizer.
    ///
    /// # Errors
    ///
    /// [`Error::Diverged`] if the loss is not finite, which the step before made it.
    pub fn step(&mut self) -> Result<StepMetrics> {
        let started = Instant::now();
        let (step, size) = (self.step_count(), self.training.batch_size);
        let examples: Vec<&[u32]> =
            (step * size..(step + 1) * size).map(|n| self.train.get(self.order.at(n))).collect();
        let tokens: usize = examples.iter().map(|e| e.len() - 1).sum();
        // As many parts as were asked for, or as there are devices for.
        let parts = self.training.accumulate.max(self.devices.len()).min(size);
        let parts: Vec<&[&[u32]]> = examples.chunks(size.div_ceil(parts)).collect();
        let (loss, gradients) = self.gradients(&parts, tokens);
        if !loss.is_finite() {
            return Err(self.diverged(step + 1, loss));
        }
        let learning_rate = self.training.learning_rate_at(step);
        self.model = self.model.take().map(|model| self.adam.step(learning_rate, model, gradients));
        let metrics = StepMetrics { step: step + 1, loss, learning_rate, tokens };
        self.history.push(metrics);
        self.seconds += started.elapsed().as_secs_f64();
        Ok(metrics)
    }

    fn diverged(&self, step: usize, loss: f32) -> Error {
        let TrainingConfig { learning_rate, init_std, .. } = self.training;
        Error::Diverged { step, loss, learning_rate, init_std }
    }

    /// The weights of now.
    ///
    /// # Errors
    ///
    /// [`Error::Diverged`] if one is not finite, which the loss of the next step would show.
    fn weights(&self) -> Result<Weights> {
        let weights = self.model().weights(&self.config);
        let finite = weights.iter().all(|(_, values)| values.iter().all(|v| v.is_finite()));
        match finite {
            true => Ok(weights),
            false => Err(self.diverged(self.step_count(), f32::NAN)),
        }
    }

    /// Mean loss of a step's examples and its gradients, part by part, each device its share of the parts.
    fn gradients(&self, parts: &[&[&[u32]]], tokens: usize) -> (f32, GradientsParams) {
        let first_pass = (self.step_count() * parts.len()) as u64;
        let on_device = |number: usize, device: &Device| {
            let model = match number {
                0 => self.parameters().clone(),
                _ => self.parameters().clone().fork(device),
            };
            let mut accumulated = GradientsAccumulator::new();
            let mut total = 0f64;
            for (i, part) in parts.iter().enumerate().skip(number).step_by(self.devices.len()) {
                let batch = Batch::new(part, device);
                let pass = first_pass + i as u64;
                let mut dropout = Dropout::new(self.training.dropout, self.training.seed, pass);
                let loss = loss::summed(&model, &batch, &mut dropout) / tokens as f64;
                total += f64::from(loss.clone().into_scalar::<f32>());
                let gradients = GradientsParams::from_grads(loss.backward(), &model);
                if parts.len() == 1 {
                    return (total, gradients);
                }
                accumulated.accumulate(&model, gradients);
            }
            (total, accumulated.grads())
        };
        let [main, others @ ..] = self.devices.as_slice() else { unreachable!("there is a device") };
        if others.is_empty() {
            let (loss, gradients) = on_device(0, main);
            return (loss as f32, gradients);
        }
        let shares: Vec<(f64, GradientsParams)> = std::thread::scope(|scope| {
            let on_device = &on_device;
            let handles: Vec<_> = self
                .devices
                .iter()
                .enumerate()
                .map(|(number, device)| scope.spawn(move || on_device(number, device)))
                .collect();
            handles.into_iter().map(|h| h.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
        });
        let inner = main.clone().inner();
        let mut sum = GradientsAccumulator::new();
        let mut loss = 0f64;
        for (share, gradients) in shares {
            loss += share;
            sum.accumulate(self.parameters(), gradients.to_device(&inner, self.parameters()));
        }
        (loss as f32, sum.grads())
    }

    fn evaluation_is_due(&self) -> bool {
        let every = self.training.evaluate_every;
        every > 0 && self.step_count().is_multiple_of(every) && self.held_out.len() > 0
    }

    /// Evaluates what is held out with the weights of now.
    fn evaluate(&mut self, progress: &mut impl FnMut(&Self, Progress) -> ControlFlow<()>) -> Result<()> {
        let device = self.devices[0].clone().inner();
        let model = self.model();
        let told = |done, total| {
            let _ = progress(self, Progress::Evaluation { done, total });
        };
        let Some(loss) = loss::evaluate(&model, &self.held_out, &device, told) else { return Ok(()) };
        if !loss.is_finite() {
            return Err(self.diverged(self.step_count(), loss));
        }
        let evaluation = Evaluation { step: self.step_count(), loss };
        self.evaluations.push(evaluation);
        let _ = progress(self, Progress::Evaluated(evaluation));
        let better = self.best.as_ref().is_none_or(|(best, _)| loss < best.loss);
        if self.training.keep_best && better {
            self.best = Some((evaluation, self.weights()?));
        }
        Ok(())
    }

    /// The result: the best weights if they are to be kept, else the last.
    fn finish(self) -> Result<Trained> {
        let last = self.evaluations.last().map(|e| e.loss);
        let (kept_step, held_out_loss, weights) = match &self.best {
            Some((best, weights)) => (best.step, Some(best.loss), weights.clone()),
            None => (self.history.len(), last, self.weights()?),
        };
        let tokens: usize = self.history.iter().map(|s| s.tokens).sum();
        let training = &self.training;
        let report = TrainingReport {
            corpus: self.corpus.origin,
            train_documents: self.train.len(),
            held_out_documents: self.held_out.len(),
            seed: training.seed,
            init_std: training.init_std,
            steps: self.history.len(),
            kept_step,
            batch_size: training.batch_size,
            learning_rate: training.learning_rate,
            schedule: training.schedule.to_string(),
            warmup: training.warmup,
            weight_decay: training.weight_decay,
            dropout: training.dropout,
            clip_norm: training.clip_norm,
            backend: training.backend.name().to_owned(),
            train_loss: closing_loss(&self.history),
            held_out_loss,
            evaluations: self.evaluations,
            seconds: self.seconds,
            tokens_per_second: tokens as f64 / self.seconds,
            history: self.history,
        };
        Ok(Trained { config: self.config, tokenizer: self.tokenizer, weights, report })
    }
}

/// How much there is to train on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingSizes {
    /// Documents, or windows of running text, of an epoch.
    pub examples: usize,
    /// Predictions of an epoch.
    pub tokens: usize,
    /// Documents longer than the context, whose ends are left out.
    pub cut: usize,
    /// Documents, or windows of running text, that are held out.
    pub held_out: usize,
}

/// Mean loss of the last 50 steps, the figure that a run is judged by: a single document's loss is noise.
fn closing_loss(history: &[StepMetrics]) -> f32 {
    let last = &history[history.len().saturating_sub(50)..];
    last.iter().map(|s| s.loss).sum::<f32>() / last.len().max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Preset;
    use crate::corpus::Layout;
    use crate::device::Backend;
    use crate::weights::INIT_STD;

    fn config(vocab_size: usize) -> GptConfig {
        GptConfig::preset(Preset::Original, vocab_size)
    }

    fn quick(backend: Backend) -> TrainingConfig {
        TrainingConfig { steps: 60, batch_size: 4, backend, ..TrainingConfig::preset(Preset::Original) }
    }

    fn trainer(training: TrainingConfig) -> Trainer {
        let corpus = Corpus::built_in();
        let tokenizer = Tokenizer::characters(corpus.documents());
        Trainer::new(&corpus, config(27), tokenizer, None, training).unwrap()
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

    /// Neither padding nor a neighbour in the same row may count: the loss of a batch is that of its documents alone.
    #[test]
    fn loss_of_a_batch_is_the_mean_over_its_predictions() {
        let tokenizer = Tokenizer::characters(&["abcdefghijklmnopqrstuvwxyz"]);
        let config = config(27);
        let device = Backend::default().device();
        let model = Gpt::new(&config, &Weights::random(&config, INIT_STD, 1), &device);
        // Nine documents, of which some share a row and one row is padded.
        let names: Vec<String> =
            ["ann", "maximilian", "jo", "wilhelmina", "bartholomew", "christopher", "o", "evangeline", "al"]
                .map(str::to_owned)
                .into();
        let examples = Examples::new(&names, Layout::Lines, &tokenizer, config.block_size).unwrap();
        let loss = |examples: &[&[u32]]| {
            let batch = Batch::new(examples, &device);
            f64::from(loss::summed(&model, &batch, &mut Dropout::none()).into_scalar::<f32>())
        };
        let alone: f64 = examples.iter().map(|e| loss(&[e])).sum();
        let together = loss(&examples.iter().collect::<Vec<_>>());
        // Both are f32 sums of 64 terms of about 3.3.
        assert!((together - alone).abs() < 1e-4, "{together} against {alone}");
        let mean = alone / examples.predictions() as f64;
        let evaluated = f64::from(loss::evaluate(&model, &examples, &device, |_, _| {}).unwrap());
        assert!((evaluated - mean).abs() < 1e-5, "{evaluated} against {mean}");
    }

    /// The large batch in parts, and shared out among devices: the same step.
    #[test]
    fn a_batch_in_parts_and_on_several_devices_trains_the_same() {
        let whole = TrainingConfig { steps: 20, batch_size: 12, ..quick(Backend::default()) };
        let run = |mut trainer: Trainer| (0..20).map(|_| trainer.step().unwrap().loss).collect::<Vec<f32>>();
        let expected = run(trainer(whole.clone()));
        let in_parts = run(trainer(TrainingConfig { accumulate: 5, ..whole.clone() }));
        let shared = {
            let mut trainer = trainer(whole);
            // The CPU is one device; two handles of it take the way that two devices would.
            trainer.devices = vec![Backend::default().device().autodiff(); 2];
            run(trainer)
        };
        for losses in [in_parts, shared] {
            assert_eq!(losses.len(), expected.len());
            for (loss, expected) in losses.iter().zip(&expected) {
                // Sums of f32 in another order, which training makes larger from step to step.
                assert!((loss - expected).abs() < 1e-4, "{loss} against {expected}");
            }
        }
    }

    #[test]
    fn a_run_that_diverges_says_so() {
        // Attention multiplies by two weights of 1e15 and the head by a third: its logits overflow f32 at once.
        let training = TrainingConfig { init_std: 1e15, ..TrainingConfig::preset(Preset::Original) };
        let error = train(&Corpus::built_in(), config, &training, |_| {}).unwrap_err();
        assert!(matches!(error, Error::Diverged { step: 1, .. }), "{error}");
    }

    /// The last step's update overflows: no loss of a next step shows it.
    #[test]
    fn weights_that_are_not_finite_are_no_result() {
        for held_out in [0.0, 0.1] {
            let training = TrainingConfig {
                steps: 1,
                init_std: 1e8,
                weight_decay: 0.5,
                held_out,
                ..TrainingConfig::preset(Preset::Original)
            };
            let mut trainer = trainer(training);
            trainer.step().unwrap();
            let weights = Weights::from_fn(&trainer.config, |_, elements| vec![f32::NAN; elements]);
            trainer.model = Some(Gpt::new(&trainer.config, &weights, &trainer.devices[0]));
            let error = trainer.run(None, |_, _| ControlFlow::Continue(())).unwrap_err();
            assert!(matches!(error, Error::Diverged { step: 1, .. }), "{error}");
        }
    }

    #[test]
    fn a_context_beyond_memory_is_refused() {
        let text = "abcdefgh".repeat(60_000);
        let corpus = Corpus::from_text("long", &text, Layout::Packed).unwrap();
        let tokenizer = Tokenizer::characters(corpus.documents());
        let config = GptConfig { block_size: 400_000, ..config(tokenizer.vocab_size()) };
        let training = TrainingConfig { held_out: 0.1, ..TrainingConfig::preset(Preset::Original) };
        let error = Trainer::new(&corpus, config, tokenizer, None, training).unwrap_err().to_string();
        // 4 heads, 3 copies and a mask of 400,000^2 floats are 8 TB. Only Linux says how much is free.
        assert!(!cfg!(target_os = "linux") || error.contains("block_size"), "{error}");
    }

    #[test]
    fn keeps_the_best_and_stops_when_it_is_past() {
        // A rate at which the model soon gets worse.
        let training = TrainingConfig {
            steps: 400,
            learning_rate: 0.5,
            evaluate_every: 10,
            keep_best: true,
            patience: 3,
            schedule: Schedule::Constant,
            ..quick(Backend::default())
        };
        let trained = train(&Corpus::built_in(), config, &training, |_| {}).unwrap();
        let report = &trained.report;
        assert!(report.steps < 400, "{}", report.steps);
        let best = report.evaluations.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).unwrap();
        assert_eq!((report.kept_step, report.held_out_loss), (best.step, Some(best.loss)));
        assert_eq!(report.steps, best.step + 30, "three evaluations later");
        let device = Backend::default().device();
        let model = Gpt::new(&trained.config, &trained.weights, &device);
        let split = Corpus::built_in().split(0.1, Some(42)).unwrap();
        let held_out = Examples::new(&split.held_out, Layout::Lines, &trained.tokenizer, 16).unwrap();
        let again = loss::evaluate(&model, &held_out, &device, |_, _| {}).unwrap();
        assert_eq!(again, best.loss, "the weights are those of that evaluation");
    }

    #[test]
    fn running_text_and_byte_pairs_train() {
        let text = "the quick brown fox jumps over the lazy dog.\n".repeat(60);
        let corpus = Corpus::from_text("fox", &text, Layout::Packed).unwrap();
        let tokenizer = Tokenizer::byte_pairs(corpus.documents(), 300).unwrap();
        let config = config(tokenizer.vocab_size());
        let training = TrainingConfig { steps: 150, ..quick(Backend::default()) };
        let trainer = Trainer::new(&corpus, config, tokenizer, None, training).unwrap();
        let Ended::Trained(trained) = trainer.run(None, |_, _| ControlFlow::Continue(())).unwrap() else {
            panic!()
        };
        // A text that repeats itself: ln 300 = 5.7 at first, and little is left to guess.
        assert!(trained.report.history[0].loss > 5.0, "{}", trained.report.history[0].loss);
        assert!(trained.report.held_out_loss.unwrap() < 1.0, "{:?}", trained.report.held_out_loss);
    }

    #[test]
    fn options_that_make_no_sense_are_named() {
        let corpus = Corpus::built_in();
        let preset = TrainingConfig::preset(Preset::Original);
        let cases = [
            ("steps", TrainingConfig { steps: 0, ..preset.clone() }),
            ("batch_size", TrainingConfig { batch_size: 0, ..preset.clone() }),
            ("accumulate", TrainingConfig { accumulate: 2, ..preset.clone() }),
            ("learning_rate", TrainingConfig { learning_rate: f64::NAN, ..preset.clone() }),
            ("warmup", TrainingConfig { warmup: 1001, ..preset.clone() }),
            ("weight_decay", TrainingConfig { weight_decay: -0.1, ..preset.clone() }),
            ("dropout", TrainingConfig { dropout: 1.0, ..preset.clone() }),
            ("clip_norm", TrainingConfig { clip_norm: Some(0.0), ..preset.clone() }),
            ("held_out", TrainingConfig { held_out: 1.0, ..preset.clone() }),
            ("init_std", TrainingConfig { init_std: -0.1, ..preset.clone() }),
            ("keep_best", TrainingConfig { keep_best: true, ..preset.clone() }),
            ("patience", TrainingConfig { patience: 1, ..preset.clone() }),
            ("devices", TrainingConfig { devices: 2, ..preset }),
        ];
        for (option, case) in cases {
            let error = train(&corpus, config, &case, |_| {}).unwrap_err().to_string();
            assert!(error.contains(option), "{error}");
        }
    }
}
