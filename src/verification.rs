//! Checks whether a bundle computes what its checkpoint computes: the gate of `microgpt verify`.
//!
//! It makes four comparisons over one sequence (text sampled from the model itself) that fills the context,
//! or its first 1,024 positions:
//!
//! 1. Does the exported program, executed in f32, produce the logits of burn with *the same weights* (rounded
//!    to fp16, or dequantized from INT8)? This tests the export. The bound is 5e-6 of the largest logit, the
//!    noise of adding in another order.
//! 2. Does it still do so if every fp16 result is rounded to fp16, as on the Neural Engine? This tests the
//!    numerics. The bounds are 2e-3, and a cosine of 0.99999.
//! 3. Does it do so in the arithmetic `fast`? The bound is the error of fp16 on the same inputs, or two
//!    roundings to fp16 (2^-10) if that is larger: [`Tolerance::of_fast`].
//! 4. How far is it from the fp32 checkpoint? This tests quantization. The result is reported, and must reach
//!    the cosine of 0.97 below which the ane-book does not count a shard at all.
//!
//! Another engine, Core ML, is compared with mil-cpu. The result is reported, and must reach the same cosine:
//! how close the Neural Engine comes to fp16 is one of the questions that a Mac has to answer.

use ane_bundle::Bundle;
use ane_bundle::BundleManifest;
use ane_export::{ExportOptions, stored_weights};
use ane_runtime::{
    DecodeModel, Decoder, Embeddings, Engine, Hazard, MilCpu, Numerics, Parity, Tolerance, parity,
};
use microgpt_model::{Backend, Checkpoint};
use serde::Serialize;

use crate::{BurnReference, Error, Result};

/// The ane-book's golden rule: a shard counts only with this cosine against the reference. The rule has no
/// bound on errors.
const GOLDEN: Tolerance = Tolerance { largest_error: f64::INFINITY, cosine: 0.97 };

/// Limit of the compared positions: the cost of burn's reference is quadratic in their number.
const MAX_POSITIONS: usize = 1024;

/// One comparison.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// What is compared.
    pub name: String,
    /// The result.
    pub parity: Parity,
    /// The bounds.
    pub tolerance: Tolerance,
    /// Whether the bounds follow from the error of fp16 on the same inputs, so that they differ in the last
    /// digits between machines.
    pub relative_to_f16: bool,
    /// Whether the result is within the bounds.
    pub pass: bool,
}

/// Where the tolerance of a comparison comes from.
#[derive(Clone, Copy)]
enum Bound<'a> {
    Fixed(Tolerance),
    /// The error of fp16 against the same reference; see [`Tolerance::of_fast`].
    LossOfF16(&'a Parity),
}

/// What a bundle is compared with. By default, its results in f16 and `fast` are compared with those in f32.
#[derive(Clone, Copy, Default)]
pub struct VerifyOptions<'a> {
    checkpoint: Option<&'a Checkpoint>,
    engine: Option<&'a dyn Engine>,
    seed: u64,
    backend: Backend,
    hazards: bool,
}

impl<'a> VerifyOptions<'a> {
    /// Compares the bundle with the checkpoint that it was exported from, which burn runs.
    pub fn with_checkpoint(self, checkpoint: &'a Checkpoint) -> Self {
        Self { checkpoint: Some(checkpoint), ..self }
    }

    /// Compares another engine with mil-cpu.
    pub fn with_engine(self, engine: &'a dyn Engine) -> Self {
        Self { engine: Some(engine), ..self }
    }

    /// Sets the seed of the compared sequence.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets the backend that burn runs the checkpoint on.
    pub fn with_backend(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }

    /// Searches for fp16 [hazards](Hazard) as well. The bundle fails if there is one.
    pub fn with_hazards(self, hazards: bool) -> Self {
        Self { hazards, ..self }
    }
}

/// All comparisons of a bundle.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// Tokens of the sequence that was compared.
    pub tokens: Vec<u32>,
    /// The comparisons.
    pub checks: Vec<Check>,
    /// Whether all of them pass, and no hazard was found.
    pub pass: bool,
    /// Hazards in fp16, if they were searched for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hazards: Option<Vec<Hazard>>,
    /// The logits that were compared.
    #[serde(skip)]
    pub transcript: Transcript,
}

/// The logits of a verification, for comparison with other executors. One row per step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Transcript {
    /// Logits of mil-cpu in f32, `[T, V]`.
    pub logits_f32: Vec<f32>,
    /// Logits of mil-cpu in f16, `[T, V]`.
    pub logits_f16: Vec<f32>,
    /// Logits of the other engine, `[T, V]`, if there was one.
    pub logits_engine: Option<Vec<f32>>,
    /// V, the size of the vocabulary.
    pub vocab_size: usize,
}

/// Compares a bundle with its checkpoint, its arithmetics with each other, and another engine with mil-cpu,
/// as the options request.
///
/// # Errors
///
/// [`Error::Runtime`] if the bundle does not load or run; [`Error::OtherCheckpoint`] if the checkpoint has
/// other dimensions; [`Error::Export`] if the bundle does not state how it was
/// exported; [`Error::Checkpoint`] if a tensor cannot be read.
pub fn verify(bundle: &Bundle, options: &VerifyOptions<'_>) -> Result<Verification> {
    let load = |numerics| Decoder::load(bundle, &MilCpu::new(numerics));
    let (mut f32, mut f16, mut fast) = (load(Numerics::F32)?, load(Numerics::F16)?, load(Numerics::Fast)?);
    let bos = bundle.manifest().tokenizer.bos_token_id;
    let tokens = parity::probe(&mut f32, bos, options.seed, MAX_POSITIONS)?;
    let transcript = Transcript {
        logits_f32: parity::collect(&mut f32, &tokens)?,
        logits_f16: parity::collect(&mut f16, &tokens)?,
        logits_engine: match options.engine {
            Some(engine) => Some(parity::collect(&mut Decoder::load(bundle, engine)?, &tokens)?),
            None => None,
        },
        vocab_size: bundle.manifest().architecture.vocab_size,
    };
    let fast = parity::collect(&mut fast, &tokens)?;
    let mut checks = Checks { vocab_size: transcript.vocab_size, made: Vec::new() };
    match options.checkpoint {
        Some(checkpoint) => {
            let burn = BurnLogits::of(bundle, checkpoint, &tokens, options.backend)?;
            checks.compare_with_burn(&burn, &transcript, &fast)?;
        }
        None => checks.compare_with_f32(&transcript, &fast)?,
    }
    if let Some(engine) = options.engine {
        checks.compare_engine(engine.name(), &transcript)?;
    }
    let checks = checks.made;
    let hazards = if options.hazards { Some(hazards(bundle, &tokens)?) } else { None };
    let pass = checks.iter().all(|check| check.pass) && hazards.iter().all(Vec::is_empty);
    Ok(Verification { tokens, checks, pass, hazards, transcript })
}

/// The comparisons so far.
struct Checks {
    vocab_size: usize,
    made: Vec<Check>,
}

impl Checks {
    /// Compares logits with a reference.
    fn add(&mut self, name: &str, reference: &[f32], candidate: &[f32], bound: Bound<'_>) -> Result<Parity> {
        let parity = Parity::of(reference, candidate, self.vocab_size)?;
        let (tolerance, relative_to_f16) = match bound {
            Bound::Fixed(tolerance) => (tolerance, false),
            Bound::LossOfF16(f16) => (Tolerance::of_fast(f16), true),
        };
        let pass = parity.passes(&tolerance);
        self.made.push(Check { name: name.to_owned(), parity, tolerance, relative_to_f16, pass });
        Ok(parity)
    }

    fn compare_with_burn(&mut self, burn: &BurnLogits, mil_cpu: &Transcript, fast: &[f32]) -> Result<()> {
        let BurnLogits { same, full } = burn;
        let (f32, f16) = (&mil_cpu.logits_f32, &mil_cpu.logits_f16);
        self.add("mil-cpu f32 against burn, same weights", same, f32, Bound::Fixed(Tolerance::F32))?;
        let loss =
            self.add("mil-cpu f16 against burn, same weights", same, f16, Bound::Fixed(Tolerance::F16))?;
        self.add("mil-cpu fast against burn, same weights", same, fast, Bound::LossOfF16(&loss))?;
        self.add("mil-cpu f16 against the fp32 checkpoint", full, f16, Bound::Fixed(GOLDEN))?;
        Ok(())
    }

    fn compare_with_f32(&mut self, mil_cpu: &Transcript, fast: &[f32]) -> Result<()> {
        let (f32, f16) = (&mil_cpu.logits_f32, &mil_cpu.logits_f16);
        let loss = self.add("mil-cpu f16 against mil-cpu f32", f32, f16, Bound::Fixed(Tolerance::F16))?;
        self.add("mil-cpu fast against mil-cpu f32", f32, fast, Bound::LossOfF16(&loss))?;
        Ok(())
    }

    fn compare_engine(&mut self, engine: &str, transcript: &Transcript) -> Result<()> {
        let Some(logits) = &transcript.logits_engine else { return Ok(()) };
        for (numerics, reference) in [("f32", &transcript.logits_f32), ("f16", &transcript.logits_f16)] {
            self.add(
                &format!("{engine} against mil-cpu {numerics}"),
                reference,
                logits,
                Bound::Fixed(GOLDEN),
            )?;
        }
        Ok(())
    }
}

/// burn's logits of a sequence, `[T, V]`.
struct BurnLogits {
    /// With the weights that the bundle stores.
    same: Vec<f32>,
    /// With the weights of the checkpoint.
    full: Vec<f32>,
}

impl BurnLogits {
    fn of(bundle: &Bundle, checkpoint: &Checkpoint, tokens: &[u32], backend: Backend) -> Result<Self> {
        let options = exported_with(bundle.manifest(), checkpoint)?;
        let weights = stored_weights(checkpoint, &options)?;
        let same = BurnReference::new(checkpoint.config(), &weights, backend);
        let embeddings = Embeddings::from_bundle(bundle)?;
        let width = embeddings.n_embd();
        let mut x = vec![0.0; tokens.len() * width];
        for (position, (&token, x)) in tokens.iter().zip(x.chunks_exact_mut(width)).enumerate() {
            embeddings.sum(token, position, x)?;
        }
        let full = BurnReference::from_checkpoint(checkpoint, backend)?.logits(tokens);
        Ok(Self { same: same.logits_embedded(x), full })
    }
}

/// Returns the options of a bundle's export, and checks that the checkpoint has the bundle's dimensions.
fn exported_with(manifest: &BundleManifest, checkpoint: &Checkpoint) -> Result<ExportOptions> {
    let (a, c) = (&manifest.architecture, checkpoint.config());
    let found = vec![c.vocab_size, c.n_embd, c.n_head, c.n_layer, c.block_size];
    let expected = vec![a.vocab_size, a.n_embd, a.n_head, a.n_layer, a.context_length];
    if found != expected {
        return Err(Error::OtherCheckpoint { path: checkpoint.path().to_owned(), found, expected });
    }
    Ok(ExportOptions::of_exporter(&manifest.exporter)?)
}

/// Searches for fp16 hazards while a bundle decodes `tokens`.
fn hazards(bundle: &Bundle, tokens: &[u32]) -> Result<Vec<Hazard>> {
    let model = DecodeModel::load_watched(bundle, &MilCpu::new(Numerics::F16))?;
    let mut sequence = model.new_sequence();
    for &token in tokens {
        model.decode(token, &mut sequence)?;
    }
    Ok(sequence.hazards().to_vec())
}
