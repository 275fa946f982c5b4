//! Probes an engine with questions about Core ML that only it can answer. Used by `microgpt settle`.
//!
//! 1. Which forms of a program does its compiler accept: shared constants, values without constants, omitted
//!    arguments, operations without names? Each form is compiled, run, and compared with mil-cpu.
//! 2. Does the epsilon of the norms survive? The program receives embeddings of ordinary size, small ones,
//!    and zeros, where only the epsilon is left.
//!
//! On the engine mil-cpu all of this can be rehearsed.

use std::fmt;

use ane_bundle::Bundle;
use ane_runtime::{Decoder, Engine, MilCpu, Numerics, Parity, parity};
use anyhow::{Context as _, Result};
use serde::Serialize;

use super::bundle_variant;
use super::program_variant::ProgramVariant;

/// Positions that are compared.
const POSITIONS: usize = 16;
/// Factors of the embeddings: 1; two at which the epsilon is as large as the square of an embedding or
/// larger; one that brings them below fp16's smallest value, 6e-8; and 0.
const SCALES: [f32; 5] = [1.0, 1e-2, 1e-4, 1e-7, 0.0];

/// The results of all probes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settled {
    /// Name of the engine.
    pub(crate) engine: String,
    /// One answer per case.
    pub(crate) answers: Vec<Answer>,
}

/// The result of one case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Answer {
    /// The question: `form` or `epsilon`.
    pub(crate) question: &'static str,
    /// The case, in words.
    pub(crate) case: String,
    /// What the engine did.
    pub(crate) outcome: CaseOutcome,
}

/// How an engine handled a case.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub(crate) enum CaseOutcome {
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
pub(crate) fn settle(bundle: &Bundle, engine: &dyn Engine) -> Result<Settled> {
    let mut decoder = Decoder::load(bundle, &MilCpu::new(Numerics::F32))?;
    let tokens = parity::probe(&mut decoder, bundle.manifest().tokenizer.bos_token_id, 0, POSITIONS)?;
    let dir = tempfile::tempdir().context("make a temporary folder for other forms of the program")?;
    let mut answers = Vec::new();
    let mut ask = |question: &'static str, case: String, form: ProgramVariant, scale: f32| -> Result<()> {
        let folder = dir.path().join(answers.len().to_string());
        let outcome = match bundle_variant::write(bundle, form, scale, &folder) {
            Ok(variant) => compare(engine, &variant, &tokens)?,
            Err(error) => CaseOutcome::Refused { message: format!("not written: {error}") },
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
fn compare(engine: &dyn Engine, bundle: &Bundle, tokens: &[u32]) -> Result<CaseOutcome> {
    let decode = |engine: &dyn Engine| parity::collect(&mut Decoder::load(bundle, engine)?, tokens);
    let found = match decode(engine) {
        Ok(found) => found,
        Err(error) => return Ok(CaseOutcome::Refused { message: error.to_string() }),
    };
    let vocab_size = bundle.manifest().architecture.vocab_size;
    if let Some(at) = found.iter().position(|v| !v.is_finite()) {
        return Ok(CaseOutcome::NotFinite { step: at / vocab_size });
    }
    let from_f32 = Parity::of(&decode(&MilCpu::new(Numerics::F32))?, &found, vocab_size)?;
    let from_f16 = Parity::of(&decode(&MilCpu::new(Numerics::F16))?, &found, vocab_size)?;
    Ok(CaseOutcome::Ran {
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

impl fmt::Display for CaseOutcome {
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

#[cfg(test)]
mod tests {
    use ane_runtime::{Error, LoadOptions, Model};
    use mlpackage::Package;

    use super::*;
    use crate::cli::test_bundle::bundle;

    /// An engine that accepts only constants, and no values bound in place.
    struct Picky(MilCpu);

    impl Engine for Picky {
        fn name(&self) -> &str {
            "picky"
        }

        fn load(&self, package: &Package, options: &LoadOptions) -> ane_runtime::Result<Box<dyn Model>> {
            let consts = package.program().functions["main"].block.operations.iter().any(|o| o.op == "const");
            if consts { self.0.load(package, options) } else { Err(Error::NeedsMac { what: "constants" }) }
        }
    }

    #[test]
    fn what_an_engine_refuses_is_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let settled = settle(&bundle(dir.path()), &Picky(MilCpu::new(Numerics::Fast))).unwrap();
        let is_refused = |answer: &&Answer| matches!(&answer.outcome, CaseOutcome::Refused { message } if message.contains("constants"));
        let refused: Vec<&str> =
            settled.answers.iter().filter(is_refused).map(|answer| answer.case.as_str()).collect();
        assert_eq!(refused, ["small values bound in place"]);
    }
}
