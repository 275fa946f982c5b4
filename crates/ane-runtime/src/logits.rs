//! Sources of logits, one token at a time: a bundle on any engine, or a reference.

use crate::error::Result;

/// A causal language model at a position of a sequence.
pub trait LogitsSource {
    /// Returns the name, for reports.
    fn name(&self) -> String;

    /// Returns the number of tokens in the vocabulary (V).
    fn vocab_size(&self) -> usize;

    /// Returns the largest number of tokens in a sequence (S).
    fn context_length(&self) -> usize;

    /// Returns the number of tokens in the current sequence.
    fn position(&self) -> usize;

    /// Begins a new sequence.
    fn reset(&mut self);

    /// Appends a token and returns the logits of the next one, `[V]`.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`](crate::Error::ContextFull) and
    /// [`Error::UnknownToken`](crate::Error::UnknownToken), which leave the position unchanged; whatever
    /// error the source reports.
    fn step(&mut self, token: u32) -> Result<&[f32]>;
}
