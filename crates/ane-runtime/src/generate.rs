//! Streaming generation: a prompt in, pieces of text out.

use crate::error::{Error, Result};
use crate::logits::LogitsSource;
use crate::sampling::Sampler;
use crate::tokenizer::TextTokenizer;

/// A completion in progress: an iterator over the pieces of text that the model adds. It ends at BOS, at the limit or
/// where the context ends.
pub struct Generation<'a> {
    source: &'a mut dyn LogitsSource,
    tokenizer: &'a TextTokenizer,
    sampler: &'a mut Sampler,
    logits: Vec<f32>,
    left: usize,
    tokens: usize,
    finished: Option<FinishReason>,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model said so.
    EndOfDocument,
    /// As many tokens as were asked for.
    Limit,
    /// The context is full.
    ContextFull,
}

impl<'a> Generation<'a> {
    /// Begins a new sequence with BOS and `prompt`; at most `limit` tokens are added.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownCharacter`] and [`Error::ContextFull`] for a prompt that the model cannot take.
    pub fn new(
        source: &'a mut dyn LogitsSource,
        tokenizer: &'a TextTokenizer,
        sampler: &'a mut Sampler,
        prompt: &str,
        limit: usize,
    ) -> Result<Self> {
        let mut tokens = vec![tokenizer.bos()];
        tokens.extend(tokenizer.encode(prompt)?);
        let context_length = source.context_length();
        if tokens.len() > context_length {
            return Err(Error::ContextFull { tokens: tokens.len(), context_length });
        }
        source.reset();
        let mut logits = Vec::new();
        for &token in &tokens {
            logits.clear();
            logits.extend_from_slice(source.step(token)?);
        }
        Ok(Self { source, tokenizer, sampler, logits, left: limit, tokens: tokens.len(), finished: None })
    }

    /// Why it ended; `None` while it goes on.
    pub fn finished(&self) -> Option<FinishReason> {
        self.finished
    }

    /// Tokens that the model was run on, BOS and prompt included.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished.is_some() {
            return None;
        }
        if self.left == 0 {
            self.finished = Some(FinishReason::Limit);
            return None;
        }
        let token = self.sampler.sample(&self.logits);
        if token == self.tokenizer.bos() {
            self.finished = Some(FinishReason::EndOfDocument);
            return None;
        }
        self.left -= 1;
        if self.source.position() == self.source.context_length() {
            self.finished = Some(FinishReason::ContextFull);
        } else {
            match self.source.step(token) {
                Ok(logits) => {
                    self.logits.clear();
                    self.logits.extend_from_slice(logits);
                    self.tokens += 1;
                }
                Err(e) => {
                    self.finished = Some(FinishReason::Limit);
                    return Some(Err(e));
                }
            }
        }
        Some(Ok(self.tokenizer.decode(&[token])))
    }
}
