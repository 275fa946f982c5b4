//! Questions about Core ML that only it can answer, put to an engine. Behind `microgpt settle`.
//!
//! 1. Which ways to write a program does its compiler take: constants that operations share, values without constants, arguments left
//!    out, operations without names? Each is compiled, run, and compared with the program as it was exported.
//! 2. Does the epsilon of the norms survive? The program is given embeddings of ordinary size, small ones, and zeros, where the
//!    epsilon is all there is.
//!
//! On the engine mil-cpu all of it can be rehearsed.

mod forms;

use std::fmt;

use ane_runtime::{
    Data, Decoder, Elements, Engine, LoadOptions, LogitsSource as _, MilCpu, Numerics, Parity, Tensor,
    TensorView, parity,
};
use anyhow::{Context as _, Result};
use mlpackage::bundle::DecodeInterface;
use mlpackage::{Bundle, DType, Package};
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

/// The inputs of a call, by name.
type Call = Vec<(String, Tensor)>;

/// Puts every question to an engine.
///
/// # Errors
///
/// If the bundle cannot be loaded into mil-cpu, or a temporary folder not be written.
pub fn settle(bundle: &Bundle, engine: &dyn Engine) -> Result<Settled> {
    let manifest = bundle.manifest();
    let shard = manifest.shards.first().context("the bundle has no shard")?;
    let package = bundle.package(shard)?;
    let calls = calls(bundle)?;
    let dir = tempfile::tempdir().context("make a temporary folder for other forms of the program")?;
    let mut answers = Vec::new();
    for form in Form::ALL {
        let path = dir.path().join(format!("form-{}.mlpackage", answers.len()));
        let other = form.write(&package, &path).and_then(|()| Package::open(&path));
        let outcome = match other {
            Ok(other) => ask(engine, &other, &package, &calls, &manifest.interface)?,
            Err(error) => Outcome::Refused { message: format!("not written: {error}") },
        };
        answers.push(Answer { question: "form", case: form.name().to_owned(), outcome });
    }
    for scale in SCALES {
        let scaled = calls.iter().map(|call| scaled(call, &manifest.interface.embedding, scale));
        let scaled = scaled.collect::<ane_runtime::Result<Vec<Call>>>()?;
        let outcome = ask(engine, &package, &package, &scaled, &manifest.interface)?;
        answers.push(Answer { question: "epsilon", case: format!("embeddings times {scale:e}"), outcome });
    }
    Ok(Settled { engine: engine.name().to_owned(), answers })
}

/// What the host gives for the first positions of a text.
fn calls(bundle: &Bundle) -> Result<Vec<Call>> {
    let mut decoder = Decoder::load(bundle, &MilCpu::new(Numerics::F32))?;
    let tokens = parity::probe(&mut decoder, bundle.manifest().tokenizer.bos_token_id, 0, POSITIONS)?;
    decoder.reset();
    let mut calls = Vec::with_capacity(tokens.len());
    for &token in &tokens {
        let owned = |view: &TensorView<'_>| match view.elements() {
            Elements::F32(v) => Tensor::new(view.shape(), v.to_vec()),
            Elements::F16(v) => Tensor::new(view.shape(), v.iter().map(|v| v.to_f32()).collect()),
            Elements::I32(v) => ints(view.shape(), v.to_vec()),
            Elements::I8(v) => ints(view.shape(), v.iter().map(|&v| v.into()).collect()),
            Elements::Bool(v) => ints(view.shape(), v.iter().map(|&v| v.into()).collect()),
        };
        let inputs = decoder.inputs(token)?;
        let call = inputs.iter().map(|(name, view)| Ok(((*name).to_owned(), owned(view)?)));
        calls.push(call.collect::<ane_runtime::Result<Call>>()?);
        decoder.step(token)?;
    }
    Ok(calls)
}

fn ints(shape: &[usize], values: Vec<i32>) -> ane_runtime::Result<Tensor> {
    Tensor::with_dtype(DType::Int32, shape, Data::I32(values))
}

/// A call with its embedding multiplied.
fn scaled(call: &Call, embedding: &str, scale: f32) -> ane_runtime::Result<Call> {
    let scaled = |(name, tensor): &(String, Tensor)| match tensor.as_f32() {
        Some(values) if name == embedding => {
            let values = values.iter().map(|value| value * scale).collect();
            Ok((name.clone(), Tensor::new(tensor.shape().clone(), values)?))
        }
        _ => Ok((name.clone(), tensor.clone())),
    };
    call.iter().map(scaled).collect()
}

/// Runs `candidate` on the engine, and `package`, which computes the same, on mil-cpu.
fn ask(
    engine: &dyn Engine,
    candidate: &Package,
    package: &Package,
    calls: &[Call],
    interface: &DecodeInterface,
) -> Result<Outcome> {
    let found = match run(engine, candidate, calls, interface) {
        Ok(found) => found,
        Err(error) => return Ok(Outcome::Refused { message: error.to_string() }),
    };
    let vocab_size = found.len() / calls.len().max(1);
    if let Some(at) = found.iter().position(|v| !v.is_finite()) {
        return Ok(Outcome::NotFinite { step: at / vocab_size.max(1) });
    }
    let f32 = run(&MilCpu::new(Numerics::F32), package, calls, interface)?;
    let f16 = run(&MilCpu::new(Numerics::F16), package, calls, interface)?;
    let (from_f32, from_f16) = (Parity::of(&f32, &found, vocab_size)?, Parity::of(&f16, &found, vocab_size)?);
    Ok(Outcome::Ran {
        from_f32: from_f32.largest_error,
        from_f16: from_f16.largest_error,
        cosine: from_f32.cosine,
    })
}

/// The logits of every call, one after the other on one state.
fn run(
    engine: &dyn Engine,
    package: &Package,
    calls: &[Call],
    interface: &DecodeInterface,
) -> ane_runtime::Result<Vec<f32>> {
    let model = engine.load(package, &LoadOptions::default())?;
    let mut state = model.new_state();
    let mut all = Vec::new();
    // Caches that the host holds are made of what this very engine gives.
    let mut caches: Vec<Tensor> = Vec::new();
    for (position, call) in calls.iter().enumerate() {
        let given = |name: &str| call.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor);
        if position == 0 {
            let first = interface.host_caches.iter().filter_map(|names| given(&names.cache));
            caches = first.cloned().collect();
        }
        let own = |name: &str| interface.host_caches.iter().position(|names| names.cache == name);
        let inputs: Vec<(&str, TensorView<'_>)> = call
            .iter()
            .map(|(name, tensor)| {
                let tensor = own(name).and_then(|i| caches.get(i)).unwrap_or(tensor);
                (name.as_str(), tensor.view())
            })
            .collect();
        let outputs = model.predict(&inputs, &mut state)?;
        all.extend_from_slice(
            outputs.get(&interface.logits).and_then(|tensor| tensor.as_f32()).unwrap_or_default(),
        );
        for (cache, names) in caches.iter_mut().zip(&interface.host_caches) {
            if let Some(new) = outputs.get(&names.new) {
                *cache = with_row(cache, new, position)?;
            }
        }
    }
    Ok(all)
}

/// A cache `[1, H, S, D]` with the new keys or values `[1, H, 1, D]` at a position.
fn with_row(cache: &Tensor, new: &Tensor, position: usize) -> ane_runtime::Result<Tensor> {
    let mut values = cache.as_f32().unwrap_or_default().to_vec();
    let (rows, width) = match cache.shape().dims() {
        [.., rows, width] => (*rows, *width),
        _ => (1, 1),
    };
    let heads = values.chunks_exact_mut((rows * width).max(1));
    for (head, new) in heads.zip(new.as_f32().unwrap_or_default().chunks_exact(width.max(1))) {
        if let Some(row) = head.chunks_exact_mut(width.max(1)).nth(position) {
            row.copy_from_slice(new);
        }
    }
    // What was given counts as what it is: it is not rounded again where results are not.
    Tensor::with_dtype(new.dtype(), cache.shape().clone(), Data::F32(values))
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
