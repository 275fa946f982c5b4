//! Sources of logits, one token at a time: a bundle on any engine, or a reference.

use crate::error::{Error, Result};
use crate::sampling;

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
    /// Whoever chooses a token by logits refuses NaN; the [parity gate](crate::parity) measures it.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`](crate::Error::ContextFull) and
    /// [`Error::UnknownToken`](crate::Error::UnknownToken), which leave the position unchanged; whatever
    /// error the source reports.
    fn step(&mut self, token: u32) -> Result<&[f32]>;
}

/// Checks the number of logits that a source has returned.
///
/// # Errors
///
/// [`Error::Engine`], which names the source.
pub(crate) fn check_len(source: &dyn LogitsSource, len: usize) -> Result<()> {
    let vocab_size = source.vocab_size();
    if len == vocab_size {
        return Ok(());
    }
    Err(unusable(source, format!("expected {vocab_size} floats, found {len}")))
}

/// Checks that a token can be chosen by the logits that a source has returned.
///
/// # Errors
///
/// [`Error::Engine`], which names the source.
pub(crate) fn check(source: &dyn LogitsSource, logits: &[f32]) -> Result<()> {
    check_len(source, logits.len())?;
    sampling::fault(logits).map_or(Ok(()), |reason| Err(unusable(source, reason)))
}

fn unusable(source: &dyn LogitsSource, reason: String) -> Error {
    Error::Engine { engine: source.name(), output: "logits".into(), reason }
}
