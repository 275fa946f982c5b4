//! The parity gate: measures how far two sources of logits differ.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::logits::{self, LogitsSource};
use crate::sampling::{Sampler, Sampling, argmax};

/// How the logits of a candidate differ from those of a reference, over the positions of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Parity {
    /// Number of positions compared.
    pub positions: usize,
    /// Largest difference of a logit at any position, relative to the largest magnitude of the reference's
    /// logits at all positions.
    pub largest_error: f64,
    /// Smallest cosine similarity of the logits of a position.
    pub cosine: f64,
    /// Number of positions at which both have the same most likely token.
    pub argmax_agreement: usize,
    /// Among the other positions, the largest lead of the reference's choice over the candidate's in the
    /// reference's logits, relative to the same magnitude as `largest_error`; 0 if there are no such
    /// positions. A lead of at most twice the largest error is a tie that rounding may break either way.
    pub largest_lead_lost: f64,
}

/// The deviation that a candidate may have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tolerance {
    /// Upper bound of [`Parity::largest_error`].
    pub largest_error: f64,
    /// Lower bound of [`Parity::cosine`].
    pub cosine: f64,
}

impl Tolerance {
    /// For two f32 implementations that add in different orders: a few units of 2^-24 over some dozens of
    /// operations.
    pub const F32: Self = Self { largest_error: 5e-6, cosine: 0.999_999 };
    /// For every result rounded to fp16 (2^-11 each) against f32.
    pub const F16: Self = Self { largest_error: 2e-3, cosine: 0.999_99 };

    /// Returns the tolerance of [`Fast`](crate::Numerics::Fast) arithmetic, where `f16` is the parity of
    /// [`F16`](crate::Numerics::F16) arithmetic on the same inputs. `Fast` may lose as much as that, or as
    /// much as two roundings to fp16 (2^-11 each, of activations and of weights), whichever is more.
    ///
    /// If `f16` is off by more than 1 %, or overflows, it does not measure what a sound fp16 computation
    /// loses, and the tolerance is [`F16`](Self::F16).
    pub fn of_fast(f16: &Parity) -> Self {
        const TWO_ROUNDINGS: f64 = 1.0 / 1024.0;
        if f16.largest_error > 0.01 {
            return Self::F16;
        }
        Self { largest_error: f16.largest_error.max(TWO_ROUNDINGS), cosine: f16.cosine.min(Self::F16.cosine) }
    }
}

impl Parity {
    /// Compares two sets of logits, `[T, V]` each.
    ///
    /// # Errors
    ///
    /// [`Error::Parity`] if the sizes do not match, or if there are no logits.
    pub fn of(reference: &[f32], candidate: &[f32], vocab_size: usize) -> Result<Self> {
        if reference.len() != candidate.len()
            || vocab_size == 0
            || !reference.len().is_multiple_of(vocab_size)
        {
            return Err(Error::Parity(format!(
                "{} and {} logits are not the same number of rows of {vocab_size}",
                reference.len(),
                candidate.len()
            )));
        }
        if reference.is_empty() {
            return Err(nothing_to_compare());
        }
        let largest = reference.iter().fold(f64::MIN_POSITIVE, |m, &v| m.max(f64::from(v).abs()));
        let mut parity = Self {
            positions: 0,
            largest_error: 0.0,
            cosine: 1.0,
            argmax_agreement: 0,
            largest_lead_lost: 0.0,
        };
        for (r, c) in reference.chunks_exact(vocab_size).zip(candidate.chunks_exact(vocab_size)) {
            parity.positions += 1;
            let error = r.iter().zip(c).map(|(&r, &c)| (f64::from(r) - f64::from(c)).abs() / largest);
            // A NaN compares with nothing; it counts as an infinite error.
            parity.largest_error =
                error.fold(parity.largest_error, |m, e| if e.is_nan() { f64::INFINITY } else { m.max(e) });
            let cosine = cosine(r, c);
            parity.cosine = if cosine.is_nan() { -1.0 } else { parity.cosine.min(cosine) };
            let (best, chosen) = (argmax(r) as usize, argmax(c) as usize);
            if best == chosen {
                parity.argmax_agreement += 1;
            } else {
                let lead = f64::from(r[best] - r[chosen]) / largest;
                parity.largest_lead_lost = parity.largest_lead_lost.max(lead);
            }
        }
        Ok(parity)
    }

    /// Runs both sources over `tokens` and compares their logits at every position.
    ///
    /// # Errors
    ///
    /// [`Error::Parity`] if the sources have different vocabularies, or if there are no tokens; [`Error::Engine`]
    /// if a source returns too few or too many logits; whatever error a source reports.
    pub fn measure(
        reference: &mut dyn LogitsSource,
        candidate: &mut dyn LogitsSource,
        tokens: &[u32],
    ) -> Result<Self> {
        let vocab_size = reference.vocab_size();
        if candidate.vocab_size() != vocab_size {
            return Err(Error::Parity(format!(
                "{} has a vocabulary of {vocab_size}, {} has one of {}",
                reference.name(),
                candidate.name(),
                candidate.vocab_size()
            )));
        }
        if tokens.is_empty() {
            return Err(nothing_to_compare());
        }
        Self::of(&collect(reference, tokens)?, &collect(candidate, tokens)?, vocab_size)
    }

    /// Returns the share of positions at which both have the same most likely token.
    pub fn argmax_share(&self) -> f64 {
        self.argmax_agreement as f64 / self.positions.max(1) as f64
    }

    /// Returns whether every disagreement on the most likely token is a tie: the lead is within the error
    /// that the tolerance allows for both logits.
    pub fn disagreements_are_ties(&self, tolerance: &Tolerance) -> bool {
        self.largest_lead_lost <= 2.0 * tolerance.largest_error
    }

    /// Returns whether the candidate is within the tolerance. Nothing is within it if no position was compared.
    pub fn passes(&self, tolerance: &Tolerance) -> bool {
        self.positions > 0
            && self.largest_error <= tolerance.largest_error
            && self.cosine >= tolerance.cosine
            && self.disagreements_are_ties(tolerance)
    }
}

fn nothing_to_compare() -> Error {
    Error::Parity("there are no positions to compare: give at least one token".into())
}

/// Returns the logits of every position of a sequence, row-major `[T, V]`.
///
/// # Errors
///
/// [`Error::Engine`] if the source returns too few or too many logits; whatever error the source reports.
pub fn collect(source: &mut dyn LogitsSource, tokens: &[u32]) -> Result<Vec<f32>> {
    source.reset();
    let mut logits = Vec::with_capacity(tokens.len() * source.vocab_size());
    for &token in tokens {
        let before = logits.len();
        logits.extend_from_slice(source.step(token)?);
        logits::check_len(source, logits.len() - before)?;
    }
    Ok(logits)
}

/// Samples a sequence of up to `most` tokens that fills the context: `bos`, then the source's own samples at
/// temperature 1. It is text as the model would write it, document after document.
///
/// # Errors
///
/// [`Error::Engine`] if the source returns too few or too many logits, or NaN; whatever error the source reports.
pub fn probe(source: &mut dyn LogitsSource, bos: u32, seed: u64, most: usize) -> Result<Vec<u32>> {
    let mut sampler = Sampler::new(Sampling::Temperature { temperature: 1.0 }, seed)?;
    source.reset();
    let mut tokens = vec![bos];
    let mut logits = Vec::new();
    while tokens.len() < source.context_length().min(most) {
        logits.clear();
        logits.extend_from_slice(source.step(tokens[tokens.len() - 1])?);
        logits::check(source, &logits)?;
        tokens.push(sampler.choose(&logits));
    }
    Ok(tokens)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    match (dot(a, a), dot(b, b)) {
        // The logits of an all-zero model have no direction; two such models agree.
        (0.0, 0.0) => 1.0,
        (a_squared, b_squared) => dot(a, b) / (a_squared * b_squared).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_what_they_say() {
        let reference = [3.0, 4.0, 0.0, 10.0];
        let candidate = [4.0, 3.0, 0.0, 10.0];
        let parity = Parity::of(&reference, &candidate, 2).unwrap();
        assert_eq!(parity.positions, 2);
        assert!((parity.largest_error - 0.1).abs() < 1e-12, "one of ten");
        assert!((parity.cosine - 24.0 / 25.0).abs() < 1e-12);
        assert_eq!(parity.argmax_agreement, 1);
        assert!((parity.largest_lead_lost - 0.1).abs() < 1e-12);
    }

    #[test]
    fn nan_and_infinity_never_pass() {
        for bad in [f32::NAN, f32::INFINITY] {
            let parity = Parity::of(&[1.0, 2.0], &[1.0, bad], 2).unwrap();
            assert!(!parity.passes(&Tolerance { largest_error: 1.0, cosine: -1.0 }), "{bad}");
        }
    }

    #[test]
    fn fast_is_held_to_what_fp16_loses() {
        let exact = [1000.0, 500.0];
        let of = |f16: &[f32]| Tolerance::of_fast(&Parity::of(&exact, f16, 2).unwrap());
        // 5 of 1,000; the cosine is that of (1000, 500) and (1005, 500), which is 0.9999980.
        let lossy = of(&[1005.0, 500.0]);
        assert!((lossy.largest_error - 5e-3).abs() < 1e-12 && lossy.cosine == 0.999_99);
        // (1000, 510): 0.9999682.
        assert!((of(&[1000.0, 510.0]).cosine - 0.999_968_2).abs() < 1e-7);
        // With no loss, two roundings remain.
        assert_eq!(of(&exact), Tolerance { largest_error: 9.765_625e-4, cosine: 0.999_99 });
        // If fp16 overflows or loses more than 1 %, the tolerance is the default for fp16.
        for broken in [f32::NAN, f32::INFINITY, 1011.0] {
            assert_eq!(of(&[broken, 500.0]), Tolerance::F16, "{broken}");
        }
    }

    #[test]
    fn a_tie_may_break_either_way_and_a_lead_may_not() {
        let tolerance = Tolerance { largest_error: 1e-3, cosine: 0.999 };
        let tie = Parity::of(&[10.0, 9.99], &[9.995, 9.996], 2).unwrap();
        assert_eq!(tie.argmax_agreement, 0);
        assert!(tie.passes(&tolerance));
        let lead = Parity { largest_lead_lost: 3e-3, ..tie };
        assert!(!lead.passes(&tolerance));
    }

    #[test]
    fn sizes_must_match() {
        for (reference, candidate, vocab_size) in
            [(&[1.0, 2.0][..], &[1.0][..], 1), (&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0], 2), (&[1.0], &[1.0], 0)]
        {
            let error = Parity::of(reference, candidate, vocab_size).unwrap_err();
            assert!(matches!(error, Error::Parity(_)), "{error}");
        }
    }

    /// Returns these logits at every position.
    struct Fixed(Vec<f32>, usize);

    impl LogitsSource for Fixed {
        fn name(&self) -> String {
            format!("fixed {}", self.1)
        }

        fn vocab_size(&self) -> usize {
            self.1
        }

        fn context_length(&self) -> usize {
            8
        }

        fn position(&self) -> usize {
            0
        }

        fn reset(&mut self) {}

        fn step(&mut self, _token: u32) -> Result<&[f32]> {
            Ok(&self.0)
        }
    }

    /// The gate does not pass because nothing was compared.
    #[test]
    fn no_positions_are_no_parity() {
        let expected = "there are no positions to compare: give at least one token";
        assert_eq!(Parity::of(&[], &[], 5).unwrap_err().to_string(), expected);
        let fixed = || Fixed(vec![1.0, 2.0], 2);
        let error = Parity::measure(&mut fixed(), &mut fixed(), &[]).unwrap_err();
        assert_eq!(error.to_string(), expected);
        let some = Parity::measure(&mut fixed(), &mut fixed(), &[0]).unwrap();
        assert!(some.passes(&Tolerance::F32));
        assert!(!Parity { positions: 0, ..some }.passes(&Tolerance::F32));
    }

    #[test]
    fn a_source_with_other_logits_than_its_vocabulary_is_named() {
        let fixed = || Fixed(vec![1.0, 2.0], 2);
        let error = Parity::measure(&mut fixed(), &mut Fixed(vec![1.0; 3], 3), &[0]).unwrap_err();
        assert_eq!(error.to_string(), "fixed 2 has a vocabulary of 2, fixed 3 has one of 3");
        let error = Parity::measure(&mut fixed(), &mut Fixed(vec![1.0; 3], 2), &[0]).unwrap_err();
        assert_eq!(error.to_string(), "fixed 2: output logits: expected 2 floats, found 3");
        let error = probe(&mut Fixed(vec![], 2), 0, 1, 8).unwrap_err();
        assert_eq!(error.to_string(), "fixed 2: output logits: expected 2 floats, found 0");
        let error = probe(&mut Fixed(vec![0.0, f32::NAN], 2), 0, 1, 8).unwrap_err().to_string();
        assert!(
            error.starts_with("fixed 2: output logits: 1 of 2 are NaN, the first is that of token 1"),
            "{error}"
        );
    }
}
