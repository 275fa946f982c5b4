//! burn's forward pass as a source of logits: slow, without a cache, and the reference for everything else.

use ane_runtime::{Error, LogitsSource, Result};
use microgpt_model::{Backend, Checkpoint, Gpt, GptConfig, Weights};

/// A microGPT run by burn.
pub struct BurnReference {
    model: Gpt,
    config: GptConfig,
    backend: Backend,
    tokens: Vec<u32>,
    /// Logits of the last token.
    last: Vec<f32>,
}

impl BurnReference {
    /// Creates the model from its configuration and weights.
    pub(crate) fn new(config: &GptConfig, weights: &Weights, backend: Backend) -> Self {
        let model = Gpt::new(config, weights, &backend.device());
        Self { model, config: config.clone(), backend, tokens: Vec::new(), last: Vec::new() }
    }

    /// Loads the model of a checkpoint, in f32.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) if a tensor cannot be read.
    pub fn from_checkpoint(checkpoint: &Checkpoint, backend: Backend) -> crate::Result<Self> {
        Ok(Self::new(checkpoint.config(), &checkpoint.weights()?, backend))
    }

    /// Returns the logits of every position of a sequence at once, row-major `[T, V]`.
    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        self.model.logits(tokens)
    }

    /// Returns the same logits from embedding sums `[T, C]`, the input of the exported decode graph.
    pub(crate) fn logits_embedded(&self, x: Vec<f32>) -> Vec<f32> {
        self.model.logits_embedded(x, self.config.n_embd)
    }
}

impl LogitsSource for BurnReference {
    fn name(&self) -> String {
        format!("burn ({})", self.backend)
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn context_length(&self) -> usize {
        self.config.block_size
    }

    fn position(&self) -> usize {
        self.tokens.len()
    }

    fn reset(&mut self) {
        self.tokens.clear();
    }

    fn step(&mut self, token: u32) -> Result<&[f32]> {
        let (vocab_size, context_length) = (self.config.vocab_size, self.config.block_size);
        if token as usize >= vocab_size {
            return Err(Error::UnknownToken { token, vocab_size });
        }
        if self.tokens.len() == context_length {
            return Err(Error::ContextFull { tokens: context_length + 1, context_length });
        }
        self.tokens.push(token);
        let mut logits = self.model.logits(&self.tokens);
        self.last = logits.split_off(logits.len() - vocab_size);
        Ok(&self.last)
    }
}
