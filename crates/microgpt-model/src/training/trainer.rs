//! The training loop: a model, its optimizer and its data, step by step.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use burn::module::Module as _;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Device;

use super::adam::{Adam, AdamOptions};
use super::state::CorpusIdentity;
use super::{Ended, Progress, SaveTo, Trained, TrainingConfig, TrainingSizes, loss, memory};
use crate::batch::Batch;
use crate::config::GptConfig;
use crate::corpus::Corpus;
use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::examples::Examples;
use crate::model::Gpt;
use crate::report::{Evaluation, StepMetrics, TrainingReport};
use crate::shuffle::Order;
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

/// microGPT's Adam: first and second beta, and epsilon.
const BETAS: (f64, f64) = (0.85, 0.99);
const EPSILON: f64 = 1e-8;

/// A training run: a model, its optimizer and its data after some number of steps.
#[derive(Debug)]
pub struct Trainer {
    pub(super) config: GptConfig,
    pub(super) tokenizer: Tokenizer,
    pub(super) training: TrainingConfig,
    pub(super) corpus: CorpusIdentity,
    pub(super) train: Examples,
    pub(super) held_out: Examples,
    pub(super) order: Order,
    pub(super) devices: Vec<Device>,
    /// `None` only while the optimizer updates it: a second holder of its tensors would force copies.
    pub(super) model: Option<Gpt>,
    pub(super) adam: Adam,
    pub(super) history: Vec<StepMetrics>,
    pub(super) evaluations: Vec<Evaluation>,
    /// The best evaluation and its weights.
    pub(super) best: Option<(Evaluation, Weights)>,
    /// Wall time of all steps.
    pub(super) seconds: f64,
    /// The folder that holds the run's states, and its lock: two runs must not share one.
    pub(super) home: Option<(PathBuf, Option<File>)>,
    /// Whether the result may replace a finished model.
    pub(super) replaces: bool,
}

impl Trainer {
    /// Creates a run before its first step, from `weights` or, if `None`, from random weights.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] or [`Error::Training`] for an invalid option, a model that exceeds the free memory,
    /// or a vocabulary size other than the tokenizer's; [`Error::UnknownCharacter`] if the tokenizer lacks a
    /// character of the corpus.
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
            replaces: false,
        })
    }

    /// Returns the dimensions of the model.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// Returns the tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Returns the training settings.
    pub fn training(&self) -> &TrainingConfig {
        &self.training
    }

    /// Returns the current model, on its first device.
    pub fn model(&self) -> Gpt {
        self.parameters().valid()
    }

    fn parameters(&self) -> &Gpt {
        self.model.as_ref().expect("a step gives back the model that it takes")
    }

    /// Returns the number of steps done.
    pub fn step_count(&self) -> usize {
        self.history.len()
    }

    /// Returns the sizes of the training and held-out data.
    pub fn sizes(&self) -> TrainingSizes {
        TrainingSizes {
            examples: self.train.len(),
            tokens: self.train.predictions(),
            cut: self.train.cut() + self.held_out.cut(),
            longest: self.train.whole().max(self.held_out.whole()),
            held_out: self.held_out.len(),
        }
    }

    /// Returns whether all steps are done, or patience has run out since the best evaluation.
    pub fn is_finished(&self) -> bool {
        let since_best = || {
            let best = self.best.as_ref().map_or(0, |(best, _)| best.step);
            self.evaluations.iter().filter(|e| e.step > best).count()
        };
        let patience = self.training.patience;
        self.step_count() >= self.training.steps || (patience > 0 && since_best() >= patience)
    }

    /// Trains to the end.
    ///
    /// With `save`, the state is saved to disk at intervals, and the run can be resumed after any
    /// interruption. `progress` receives the run in its current state; if it breaks after a step, the state
    /// is saved and the run ends there.
    ///
    /// # Errors
    ///
    /// [`Error::Diverged`]; [`Error::Io`] and [`Error::Output`] if the state cannot be saved.
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
        Ok(Ended::Trained(Box::new(self.finish(save.is_some())?)))
    }

    /// Runs one step of the optimizer.
    ///
    /// # Errors
    ///
    /// [`Error::Diverged`] if the loss is not finite, which an update of an earlier step has caused.
    pub fn step(&mut self) -> Result<StepMetrics> {
        let started = Instant::now();
        let (step, size) = (self.step_count(), self.training.batch_size);
        let examples: Vec<&[u32]> =
            (step * size..(step + 1) * size).map(|n| self.train.get(self.order.at(n))).collect();
        let tokens: usize = examples.iter().map(|e| e.len() - 1).sum();
        // At least one part per device.
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

    /// Returns the current weights.
    ///
    /// # Errors
    ///
    /// [`Error::Diverged`] if a weight is not finite, which the loss of the next step would reveal.
    pub(super) fn weights(&self) -> Result<Weights> {
        let weights = self.model().weights(&self.config);
        let finite = weights.iter().all(|(_, values)| values.iter().all(|v| v.is_finite()));
        match finite {
            true => Ok(weights),
            false => Err(self.diverged(self.step_count(), f32::NAN)),
        }
    }

    /// Computes the mean loss of a step's examples and its gradients, part by part; the devices share the
    /// parts.
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

    pub(super) fn evaluation_is_due(&self) -> bool {
        let every = self.training.evaluate_every;
        every > 0 && self.step_count().is_multiple_of(every) && self.held_out.len() > 0
    }

    /// Evaluates the current weights on the held-out examples.
    pub(super) fn evaluate(
        &mut self,
        progress: &mut impl FnMut(&Self, Progress) -> ControlFlow<()>,
    ) -> Result<()> {
        let device = self.devices[0].clone().inner();
        let model = self.model();
        let report = |done, total| {
            let _ = progress(self, Progress::Evaluation { done, total });
        };
        let Some(loss) = loss::evaluate(&model, &self.held_out, &device, report) else { return Ok(()) };
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

    /// Returns the result, with the best weights if they are to be kept, otherwise the last. With
    /// `keeps_state`, it includes the state after the last step.
    fn finish(self, keeps_state: bool) -> Result<Trained> {
        // If the last weights are not finite, those of the best evaluation are still a result.
        let state = keeps_state.then(|| self.snapshot().ok()).flatten().map(Box::new);
        let home = self.home.as_ref().map(|(home, _)| home.clone());
        let replaces = self.replaces;
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
        let (config, tokenizer) = (self.config, self.tokenizer);
        Ok(Trained { config, tokenizer, weights, report, last: state, home, replaces })
    }
}

/// Returns the mean loss of the last 50 steps: a single document's loss is too noisy to judge a run by.
fn closing_loss(history: &[StepMetrics]) -> f32 {
    let last = &history[history.len().saturating_sub(50)..];
    last.iter().map(|s| s.loss).sum::<f32>() / last.len().max(1) as f32
}
