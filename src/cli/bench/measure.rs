//! Measures how fast a bundle decodes on an engine, and the most that the machine could reach.
//!
//! All measurements are interleaved over many rounds, so that a drift of the machine's speed affects them
//! alike. Results are medians; bounds are the best value.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ane_bundle::Architecture;
use ane_bundle::Bundle;
use ane_runtime::machine::Machine;
use ane_runtime::{
    DecodeModel, Decoder, Engine, Generation, Result, Sampler, Sampling, Sequence, TextTokenizer,
};

use super::energy::{EnergyReport, Meter};
use super::results::{BatchSpeed, Benchmark, NamesSpeed};
use super::samples::{Samples, context_of, percentile};
use crate::cli::peak_memory::peak_memory;

/// Times that the bundle is loaded.
const LOADS: usize = 5;

/// What is measured, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BenchmarkOptions {
    /// Threads for measuring the bounds of the machine: as many as the engine uses.
    pub(crate) threads: usize,
    /// How long decoding is measured.
    pub(crate) duration: Duration,
    /// Sequences that are decoded at once.
    pub(crate) batch: usize,
    /// Names to generate; 0 skips them.
    pub(crate) names: usize,
    /// Seed of the names.
    pub(crate) seed: u64,
    /// Whether to measure the energy per token, where the system allows it.
    pub(crate) energy: bool,
}

/// Measures a bundle on an engine.
///
/// # Errors
///
/// If the bundle cannot be loaded or run.
pub(crate) fn benchmark(
    bundle: &Bundle,
    engine: &dyn Engine,
    options: &BenchmarkOptions,
) -> Result<Benchmark> {
    let mut loads = seconds_to_load(bundle, engine)?;
    let model = DecodeModel::load(bundle, engine)?;
    // The same pages that the engine reads.
    let packages =
        bundle.manifest().shards.iter().map(|shard| bundle.package(shard)).collect::<Result<Vec<_>, _>>()?;
    let weights: Vec<&[u8]> =
        packages.iter().flat_map(|package| package.weight_files()).map(|(_, file)| file.as_bytes()).collect();
    let machine = Machine::new(options.threads);
    let mut sequences: Vec<Sequence> = (0..options.batch.max(1)).map(|_| model.new_sequence()).collect();
    let mut samples = Samples::measure(&model, &machine, &weights, &mut sequences, options.duration)?;
    let energy = options.energy.then(|| energy_per_token(&model, &mut sequences[0], options.duration));
    let names = match options.names {
        0 => None,
        names => Some(generate(bundle, model, names, options.seed)?),
    };
    let multiply_adds = multiply_adds_a_token(&bundle.manifest().architecture);
    let byte_products = machine.byte_products();
    // A bound is what the machine can do, not what it achieves while others use it.
    let floor = percentile(&mut samples.floors, 0);
    let decode = samples.decode_speed(floor);
    let many = percentile(&mut samples.batches, 50);
    Ok(Benchmark {
        engine: engine.name().to_owned(),
        machine: machine.to_string(),
        weight_bytes: weights.iter().map(|file| file.len() as u64).sum(),
        multiply_adds_a_token: multiply_adds,
        load_ms: 1e3 * percentile(&mut loads, 50),
        stream_floor_ms: 1e3 * floor,
        byte_products_a_second: byte_products,
        batch: BatchSpeed {
            sequences: sequences.len(),
            tokens_per_second: many,
            times_one: many / decode.tokens_per_second,
            arithmetic_bound: byte_products / (2 * multiply_adds) as f64,
        },
        decode,
        names,
        energy,
        peak_memory_bytes: peak_memory(),
    })
}

/// Measures the seconds from opening the bundle to the logits of the first token, several times.
fn seconds_to_load(bundle: &Bundle, engine: &dyn Engine) -> Result<Vec<f64>> {
    let load = || {
        let started = Instant::now();
        let bundle = Bundle::open(bundle.path())?;
        let model = DecodeModel::load(&bundle, engine)?;
        model.decode(0, &mut model.new_sequence())?;
        Ok(started.elapsed().as_secs_f64())
    };
    (0..LOADS).map(|_| load()).collect()
}

/// Measures the energy per token while contexts are decoded.
fn energy_per_token(model: &DecodeModel, sequence: &mut Sequence, duration: Duration) -> EnergyReport {
    let decode =
        || context_of(model, sequence).map(|()| model.context_length()).map_err(|error| error.to_string());
    EnergyReport::from(Meter::of_system().and_then(|meter| meter.measure(duration, decode)))
}

/// Returns the multiply-adds with weights per token: 12 C² in each layer, and the LM head.
fn multiply_adds_a_token(architecture: &Architecture) -> u64 {
    let (c, v, l) = (architecture.n_embd as u64, architecture.vocab_size as u64, architecture.n_layer as u64);
    12 * c * c * l + v * c
}

/// Generates names as `microgpt generate` does, one after the other.
fn generate(bundle: &Bundle, model: DecodeModel, names: usize, seed: u64) -> Result<NamesSpeed> {
    let tokenizer = TextTokenizer::from_bundle(bundle)?;
    let mut decoder = Decoder::new(Arc::new(model));
    let mut sampler = Sampler::new(Sampling::Temperature { temperature: 0.5 }, seed)?;
    let started = Instant::now();
    let mut tokens = 0;
    for _ in 0..names {
        let mut generation = Generation::new(&mut decoder, &tokenizer, &mut sampler, "", usize::MAX)?;
        generation.by_ref().try_for_each(|piece| piece.map(drop))?;
        tokens += generation.tokens();
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(NamesSpeed { names, tokens, seconds, tokens_per_second: tokens as f64 / seconds })
}
