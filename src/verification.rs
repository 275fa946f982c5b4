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
//! 4. How far is it from the fp32 checkpoint? This tests quantisation. The result is reported, and must reach
//!    the cosine of 0.97 below which the ane-book does not count a shard at all.
//!
//! Another engine, Core ML, is compared with mil-cpu. The result is reported, and must reach the same cosine:
//! how close the Neural Engine comes to fp16 is one of the questions that a Mac has to answer.

use std::path::Path;

use ane_bundle::Bundle;
use ane_bundle::BundleManifest;
use ane_export::{ExportOptions, stored_weights};
use ane_runtime::{
    Data, DecodeModel, Decoder, Elements, Embeddings, Engine, Hazard, LogitsSource as _, MilCpu, Numerics,
    Parity, Tolerance, parity, tensor_file,
};
use anyhow::{Context as _, Result, bail, ensure};
use microgpt_model::{Backend, Checkpoint};
use safetensors::Dtype;
use serde::Serialize;

use crate::reference::BurnReference;

/// The ane-book's golden rule: a shard counts only with this cosine against the reference. The rule has no
/// bound on errors.
const GOLDEN: Tolerance = Tolerance { largest_error: f64::INFINITY, cosine: 0.97 };

/// Limit of the compared positions: the cost of burn's reference is quadratic in their number.
pub const MAX_POSITIONS: usize = 1024;

/// One comparison.
#[derive(Clone, Debug, Serialize)]
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
enum Bound<'a> {
    Fixed(Tolerance),
    /// The error of fp16 against the same reference; see [`Tolerance::of_fast`].
    LossOfF16(&'a Parity),
}

/// All comparisons of a bundle.
#[derive(Clone, Debug, Serialize)]
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
}

/// The logits of a verification, for comparison with other executors. One row per step.
#[derive(Clone, Debug)]
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

/// One function input over all steps.
#[derive(Clone, Debug)]
pub struct StackedInput {
    /// Its name.
    pub name: String,
    /// Dimensions of one step.
    pub dims: Vec<usize>,
    /// Elements of all steps, one after another.
    pub values: Data,
}

/// Compares a bundle with its checkpoint; without one, its results in f16 and `fast` with those in f32.
/// Compares another engine, if given, with mil-cpu.
///
/// # Errors
///
/// If the bundle does not load, or the checkpoint has another shape.
pub fn verify(
    bundle: &Bundle,
    checkpoint: Option<&Checkpoint>,
    engine: Option<&dyn Engine>,
    seed: u64,
    backend: Backend,
) -> Result<(Verification, Transcript)> {
    let manifest = bundle.manifest();
    let vocab_size = manifest.architecture.vocab_size;
    let mut f32_decoder = Decoder::load(bundle, &MilCpu::new(Numerics::F32))?;
    let mut f16_decoder = Decoder::load(bundle, &MilCpu::new(Numerics::F16))?;
    let mut fast_decoder = Decoder::load(bundle, &MilCpu::new(Numerics::Fast))?;
    let tokens = parity::probe(&mut f32_decoder, manifest.tokenizer.bos_token_id, seed, MAX_POSITIONS)?;
    let transcript = Transcript {
        logits_f32: parity::collect(&mut f32_decoder, &tokens)?,
        logits_f16: parity::collect(&mut f16_decoder, &tokens)?,
        logits_engine: match engine {
            Some(engine) => Some(parity::collect(&mut Decoder::load(bundle, engine)?, &tokens)?),
            None => None,
        },
        vocab_size,
    };
    let fast = parity::collect(&mut fast_decoder, &tokens)?;
    let mut checks = Vec::new();
    let mut check = |name: &str, reference: &[f32], candidate: &[f32], bound: Bound<'_>| -> Result<Parity> {
        let parity = Parity::of(reference, candidate, vocab_size)?;
        let (tolerance, relative_to_f16) = match bound {
            Bound::Fixed(tolerance) => (tolerance, false),
            Bound::LossOfF16(f16) => (Tolerance::of_fast(f16), true),
        };
        let pass = parity.passes(&tolerance);
        checks.push(Check { name: name.to_owned(), parity, tolerance, relative_to_f16, pass });
        Ok(parity)
    };
    if let Some(checkpoint) = checkpoint {
        let options = exported_with(manifest, checkpoint)?;
        let weights = stored_weights(checkpoint, &options)?;
        let same = BurnReference::new(checkpoint.config(), &weights, backend);
        let embeddings = Embeddings::from_bundle(bundle)?;
        let mut x = vec![0.0; tokens.len() * embeddings.n_embd()];
        for (position, (&token, x)) in tokens.iter().zip(x.chunks_exact_mut(embeddings.n_embd())).enumerate()
        {
            embeddings.sum(token, position, x)?;
        }
        let same = same.logits_embedded(x);
        let full = BurnReference::from_checkpoint(checkpoint, backend)?.logits(&tokens);
        let (f32, f16) = (&transcript.logits_f32, &transcript.logits_f16);
        check("mil-cpu f32 against burn, same weights", &same, f32, Bound::Fixed(Tolerance::F32))?;
        let loss = check("mil-cpu f16 against burn, same weights", &same, f16, Bound::Fixed(Tolerance::F16))?;
        check("mil-cpu fast against burn, same weights", &same, &fast, Bound::LossOfF16(&loss))?;
        check("mil-cpu f16 against the fp32 checkpoint", &full, f16, Bound::Fixed(GOLDEN))?;
    } else {
        let (f32, f16) = (&transcript.logits_f32, &transcript.logits_f16);
        let loss = check("mil-cpu f16 against mil-cpu f32", f32, f16, Bound::Fixed(Tolerance::F16))?;
        check("mil-cpu fast against mil-cpu f32", f32, &fast, Bound::LossOfF16(&loss))?;
    }
    if let (Some(engine), Some(logits)) = (engine, &transcript.logits_engine) {
        for (numerics, reference) in [("f32", &transcript.logits_f32), ("f16", &transcript.logits_f16)] {
            let name = format!("{} against mil-cpu {numerics}", engine.name());
            check(&name, reference, logits, Bound::Fixed(GOLDEN))?;
        }
    }
    let pass = checks.iter().all(|c| c.pass);
    Ok((Verification { tokens, checks, pass, hazards: None }, transcript))
}

/// Searches for fp16 [hazards](Hazard) while a bundle decodes `tokens`.
///
/// # Errors
///
/// If the bundle does not load, or does not know the tokens.
pub fn hazards(bundle: &Bundle, tokens: &[u32]) -> Result<Vec<Hazard>> {
    let model = DecodeModel::load_watched(bundle, &MilCpu::new(Numerics::F16))?;
    let mut sequence = model.new_sequence();
    for &token in tokens {
        model.decode(token, &mut sequence)?;
    }
    Ok(sequence.hazards().to_vec())
}

/// The options of a bundle's export; checks that the checkpoint has the bundle's shape.
fn exported_with(manifest: &BundleManifest, checkpoint: &Checkpoint) -> Result<ExportOptions> {
    let (a, c) = (&manifest.architecture, checkpoint.config());
    let found = [c.vocab_size, c.n_embd, c.n_head, c.n_layer, c.block_size];
    let expected = [a.vocab_size, a.n_embd, a.n_head, a.n_layer, a.context_length];
    ensure!(
        found == expected,
        "checkpoint {}: vocab_size, n_embd, n_head, n_layer and block_size are {found:?}, the bundle has {expected:?}",
        checkpoint.path().display()
    );
    ExportOptions::of_exporter(&manifest.exporter).context("bundle.json: exporter.options")
}

/// The inputs of the function at every step while a bundle decodes `tokens`. Caches that the host holds are
/// those of the f16 run. Every step keeps a copy of all its inputs, whole caches included.
///
/// # Errors
///
/// If the bundle does not load, or does not know the tokens.
pub fn inputs(bundle: &Bundle, tokens: &[u32]) -> Result<Vec<StackedInput>> {
    let mut decoder = Decoder::load(bundle, &MilCpu::new(Numerics::F16))?;
    let mut stacked: Vec<StackedInput> = Vec::new();
    for &token in tokens {
        for (i, (name, tensor)) in decoder.inputs(token)?.into_iter().enumerate() {
            if stacked.len() == i {
                let values = match tensor.elements() {
                    Elements::I32(_) => Data::I32(Vec::new()),
                    _ => Data::F32(Vec::new()),
                };
                let dims = tensor.shape().to_vec();
                stacked.push(StackedInput { name: name.to_owned(), dims, values });
            }
            match (&mut stacked[i].values, tensor.elements()) {
                (Data::F32(all), Elements::F32(values)) => all.extend_from_slice(values),
                (Data::I32(all), Elements::I32(values)) => all.extend_from_slice(values),
                _ => bail!("input {name}: the host passes neither floats nor integers"),
            }
        }
        decoder.step(token)?;
    }
    Ok(stacked)
}

impl Transcript {
    /// Writes inputs and logits as safetensors, atomically: every input by name with a leading axis of steps,
    /// as f32 or i32; and `logits_f32`, `logits_f16` and, for another engine, `logits_engine`, all as f32.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or the path is not a file.
    pub fn write(&self, inputs: &[StackedInput], path: &Path) -> Result<()> {
        let steps = self.logits_f32.len() / self.vocab_size;
        let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let mut tensors: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for StackedInput { name, dims, values } in inputs {
            let (dtype, bytes) = match values {
                Data::F32(values) => (Dtype::F32, floats(values)),
                Data::I32(values) => (Dtype::I32, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
                Data::Bool(values) => (Dtype::BOOL, values.iter().map(|v| u8::from(*v)).collect()),
            };
            tensors.push((name, dtype, [&[steps], dims.as_slice()].concat(), bytes));
        }
        let logits = [("logits_f32", &self.logits_f32), ("logits_f16", &self.logits_f16)];
        for (name, values) in
            logits.into_iter().chain(self.logits_engine.iter().map(|v| ("logits_engine", v)))
        {
            tensors.push((name, Dtype::F32, vec![steps, self.vocab_size], floats(values)));
        }
        let tensors = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| (*name, *dtype, shape.clone(), bytes.as_slice()));
        Ok(tensor_file::write(path, tensors)?)
    }
}
