//! Anything that gives logits, a token at a time: a bundle under any engine, or a reference.

use crate::error::Result;

/// A causal language model at some position of a sequence.
pub trait LogitsSource {
    /// Its name, for reports.
    fn name(&self) -> String;

    /// Number of tokens (V).
    fn vocab_size(&self) -> usize;

    /// Number of tokens that a sequence may have (S).
    fn context_length(&self) -> usize;

    /// Number of tokens of the present sequence so far.
    fn position(&self) -> usize;

    /// Begins a new sequence.
    fn reset(&mut self);

    /// Appends a token and gives the logits of the next one, `[V]`, which stay until the next step.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`](crate::Error::ContextFull) and [`Error::UnknownToken`](crate::Error::UnknownToken); the
    /// position is then unchanged.
    fn step(&mut self, token: u32) -> Result<&[f32]>;
}
