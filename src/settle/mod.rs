//! Questions about Core ML that only it can answer, put to an engine. Behind `microgpt settle`.
//!
//! 1. Which ways to write a program does its compiler take: constants that operations share, values without constants, arguments left
//!    out, operations without names? Each is compiled, run, and compared with the program as it was exported.
//! 2. Does the epsilon of the norms survive? The program is given embeddings of ordinary size, small ones, and zeros, where the
//!    epsilon is all there is.
//!
//! On the engine mil-cpu all of it can be rehearsed.

mod forms;
mod variant;

use std::fmt;

use ane_runtime::{Decoder, Engine, MilCpu, Numerics, Parity, parity};
use anyhow::{Context as _, Result};
use mlpackage::Bundle;
use serde::Serialize;

pub use forms::Form;

/// Positions that are compared.
const POSITIONS: usize = 16;
/// What embeddings are multiplied with: unchanged; where the epsilon weighs as much as the square of an embedding or more; beyond
/// fp16, whose smallest number is 6e-8; and zeros.
const SCALES: [f32; 5] = [1.0, 1e-2, 1e-4, 1e-7, 0.0];

/// What became of the questions.
#[derive(Clone, Debug, Serialize)]
pub struct Settled {
    /// Name of the engine.
    pub engine: String,
    /// One answer a case.
    pub answers: Vec<Answer>,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The question: `form` or `epsilon`.
    pub question: &'static str,
    /// The case, in words.
    pub case: String,
    /// What the engine did.
    pub outcome: Outcome,
}

/// What an engine did with a case.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It ran, and gave numbers.
    Ran {
        /// Largest difference from mil-cpu in f32, as a share of the largest logit.
        from_f32: f64,
        /// The same from mil-cpu in f16.
        from_f16: f64,
        /// Smallest cosine with mil-cpu in f32.
        cosine: f64,
    },
    /// It ran, and gave NaN or infinities.
    NotFinite {
        /// The first step that did.
        step: usize,
    },
    /// It did not run.
    Refused {
        /// Its words.
        message: String,
    },
}

/// Puts every question to an engine.
///
/// # Errors
///
/// If the bundle cannot be loaded into mil-cpu, or a temporary folder not be written.
pub fn settle(bundle: &Bundle, engine: &dyn Engine) -> Result<Settled> {
    let mut decoder = Decoder::load(bundle, &MilCpu::new(Numerics::F32))?;
    let tokens = parity::probe(&mut decoder, bundle.manifest().tokenizer.bos_token_id, 0, POSITIONS)?;
    let dir = tempfile::tempdir().context("make a temporary folder for other forms of the program")?;
    let mut answers = Vec::new();
    let mut ask = |question: &'static str, case: String, form: Form, scale: f32| -> Result<()> {
        let folder = dir.path().join(answers.len().to_string());
        let outcome = match variant::write(bundle, form, scale, &folder) {
            Ok(variant) => compare(engine, &variant, &tokens)?,
            Err(error) => Outcome::Refused { message: format!("not written: {error}") },
        };
        answers.push(Answer { question, case, outcome });
        Ok(())
    };
    for form in Form::ALL {
        ask("form", form.name().to_owned(), form, 1.0)?;
    }
    for scale in SCALES {
        ask("epsilon", format!("embeddings times {scale:e}"), Form::AsExported, scale)?;
    }
    Ok(Settled { engine: engine.name().to_owned(), answers })
}

/// Decodes a bundle on the engine, and on mil-cpu.
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

/// A line an answer.
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
            Self::NotFinite { step } => write!(f, "runs, and gives NaN or infinities from step {step} on"),
            Self::Refused { message } => write!(f, "refused: {message}"),
        }
    }
}
