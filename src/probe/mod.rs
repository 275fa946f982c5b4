//! Probes an engine with questions about Core ML that only it can answer. Used by `microgpt settle`.
//!
//! 1. Which forms of a program does its compiler accept: shared constants, values without constants, omitted
//!    arguments, operations without names? Each form is compiled, run, and compared with mil-cpu.
//! 2. Does the epsilon of the norms survive? The program receives embeddings of ordinary size, small ones,
//!    and zeros, where only the epsilon is left.
//!
//! On the engine mil-cpu all of this can be rehearsed.

mod forms;
mod variant;

use std::fmt;

use ane_bundle::Bundle;
use ane_runtime::{Decoder, Engine, MilCpu, Numerics, Parity, parity};
use anyhow::{Context as _, Result};
use serde::Serialize;

pub use forms::ProgramVariant;

/// Positions that are compared.
const POSITIONS: usize = 16;
/// Factors of the embeddings: 1; two at which the epsilon is as large as the square of an embedding or
/// larger; one that brings them below fp16's smallest value, 6e-8; and 0.
const SCALES: [f32; 5] = [1.0, 1e-2, 1e-4, 1e-7, 0.0];

/// The results of all probes.
#[derive(Clone, Debug, Serialize)]
pub struct Settled {
    /// Name of the engine.
    pub engine: String,
    /// One answer per case.
    pub answers: Vec<Answer>,
}

/// The result of one case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The question: `form` or `epsilon`.
    pub question: &'static str,
    /// The case, in words.
    pub case: String,
    /// What the engine did.
    pub outcome: Outcome,
}

/// How an engine handled a case.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It ran, and its results are finite.
    Ran {
        /// Largest difference from mil-cpu in f32, relative to the largest logit.
        from_f32: f64,
        /// The same from mil-cpu in f16.
        from_f16: f64,
        /// Smallest cosine of any position with mil-cpu in f32.
        cosine: f64,
    },
    /// It ran, and its results include NaN or infinities.
    NotFinite {
        /// The first step with one.
        step: usize,
    },
    /// It did not run.
    Refused {
        /// The error message.
        message: String,
    },
}

/// Probes an engine with every question.
///
/// # Errors
///
/// If the bundle cannot be loaded into mil-cpu, or a temporary folder cannot be written.
pub fn settle(bundle: &Bundle, engine: &dyn Engine) -> Result<Settled> {
    let mut decoder = Decoder::load(bundle, &MilCpu::new(Numerics::F32))?;
    let tokens = parity::probe(&mut decoder, bundle.manifest().tokenizer.bos_token_id, 0, POSITIONS)?;
    let dir = tempfile::tempdir().context("make a temporary folder for other forms of the program")?;
    let mut answers = Vec::new();
    let mut ask = |question: &'static str, case: String, form: ProgramVariant, scale: f32| -> Result<()> {
        let folder = dir.path().join(answers.len().to_string());
        let outcome = match variant::write(bundle, form, scale, &folder) {
            Ok(variant) => compare(engine, &variant, &tokens)?,
            Err(error) => Outcome::Refused { message: format!("not written: {error}") },
        };
        answers.push(Answer { question, case, outcome });
        Ok(())
    };
    for form in ProgramVariant::ALL {
        ask("form", form.name().to_owned(), form, 1.0)?;
    }
    for scale in SCALES {
        ask("epsilon", format!("embeddings times {scale:e}"), ProgramVariant::AsExported, scale)?;
    }
    Ok(Settled { engine: engine.name().to_owned(), answers })
}

/// Decodes a bundle on the engine and on mil-cpu, and compares the logits.
fn compare(engine: &dyn Engine, bundle: &Bundle, tokens: &[u32]) -> Result<Outcome> {
    let decode = |engine: &dyn Engine| parity::collect(&mut Decoder::load(bundle, engine)?, tokens);
    let found = match decode(engine) {
        Ok(found) => found,
        Err(error) => return Ok(Outcome::Refused { message: error.to_string() }),
    };
    let vocab_size = bundle.manifest().architecture.vocab_size;
    if let Some(at) = found.iter().position(|v| !v.is_finite()) {
        return Ok(Outcome::NotFinite { step: at / vocab_size });
    }
    let from_f32 = Parity::of(&decode(&MilCpu::new(Numerics::F32))?, &found, vocab_size)?;
    let from_f16 = Parity::of(&decode(&MilCpu::new(Numerics::F16))?, &found, vocab_size)?;
    Ok(Outcome::Ran {
        from_f32: from_f32.largest_error,
        from_f16: from_f16.largest_error,
        cosine: from_f32.cosine,
    })
}

/// Writes one line per answer.
impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, against mil-cpu over {POSITIONS} positions:", self.engine)?;
        for Answer { question, case, outcome } in &self.answers {
            writeln!(f, "  {question:<8}  {case:<30}  {outcome}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ran { from_f32, from_f16, cosine } => {
                write!(f, "runs: {from_f32:.2e} from f32, {from_f16:.2e} from f16, cosine {cosine:.7}")
            }
            Self::NotFinite { step } => write!(f, "runs, but produces NaN or infinities from step {step} on"),
            Self::Refused { message } => write!(f, "refused: {message}"),
        }
    }
}
