//! Measures decoding on the CPU, beside the machine's upper bound and burn.
//!
//! ```text
//! cargo bench -p microgpt-bench --features criterion --bench decode                     # all of it, some minutes
//! cargo bench -p microgpt-bench --features criterion --bench decode -- 'scaled/'        # one token of the scaled preset
//! ```
//!
//! Groups: `scaled` and `original` (one token), `prefill` (a prompt), `batch` (16 sequences), `stored` (one
//! token, by the stored form of the weights), `layers` (6, 12 and 24 layers), `load` (to the first token) and
//! `without` (one fusion disabled). Throughputs count tokens. `stream floor`, the memory-bandwidth bound,
//! reads the weights once per token.

mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use microgpt_ane::BurnReference;
use microgpt_ane::ane_bundle::Bundle;
use microgpt_ane::ane_export::Quantization;
use microgpt_ane::ane_runtime::machine::Machine;
use microgpt_ane::ane_runtime::{DecodeModel, Engine, Fusion, MilCpu, Numerics, Sequence};
use microgpt_ane::microgpt_model::{Backend, Preset};
use support::{Made, THREADS, bytes_like, made};

fn fast() -> MilCpu {
    MilCpu::new(Numerics::Fast).with_threads(THREADS)
}

/// Decodes a whole context, so that every position counts once.
fn context(model: &DecodeModel, sequence: &mut Sequence) {
    model.reset(sequence);
    for position in 0..model.context_length() {
        let token = (position % model.vocab_size()) as u32;
        black_box(model.decode(token, sequence).expect("a token"));
    }
}

fn engine(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, bundle: &Bundle, engine: &dyn Engine) {
    let model = DecodeModel::load(bundle, engine).expect("a model");
    group.throughput(Throughput::Elements(model.context_length() as u64));
    let mut sequence = model.new_sequence();
    group.bench_function(name, |b| b.iter(|| context(&model, &mut sequence)));
}

/// Reads the weights once for each token of a context.
fn floor(group: &mut BenchmarkGroup<'_, WallTime>, made: &Made, threads: usize) {
    let machine = Machine::new(threads);
    let bytes = bytes_like(&made.bundle);
    let tokens = made.bundle.manifest().architecture.context_length;
    group.throughput(Throughput::Elements(tokens as u64));
    group.bench_function("stream floor", |b| {
        b.iter(|| (0..tokens).for_each(|_| _ = black_box(machine.read(&bytes))));
    });
}

/// Measures burn's forward pass over a whole context and over one position. burn has no cache here, so each token
/// takes a pass over all positions so far.
fn burn(group: &mut BenchmarkGroup<'_, WallTime>, made: &Made) {
    let model = BurnReference::from_checkpoint(&made.checkpoint, Backend::default()).expect("burn's model");
    let tokens: Vec<u32> = (0..made.checkpoint.config().block_size as u32).map(|i| i % 27).collect();
    group.throughput(Throughput::Elements(tokens.len() as u64));
    group.bench_function("burn, all positions in one pass", |b| b.iter(|| black_box(model.logits(&tokens))));
    group.throughput(Throughput::Elements(1));
    group.bench_function("burn, one position", |b| b.iter(|| black_box(model.logits(&tokens[..1]))));
}

fn one_token(c: &mut Criterion) {
    let scaled = made(Preset::Scaled, Quantization::Int8PerChannel, |config| config);
    let mut group = c.benchmark_group("scaled");
    floor(&mut group, &scaled, THREADS);
    engine(&mut group, "fast", &scaled.bundle, &fast());
    engine(&mut group, "fast, 1 thread", &scaled.bundle, &fast().with_threads(1));
    engine(&mut group, "f32", &scaled.bundle, &MilCpu::new(Numerics::F32));
    burn(&mut group, &scaled);
    group.finish();

    let original = made(Preset::Original, Quantization::Int8PerChannel, |config| config);
    let mut group = c.benchmark_group("original");
    floor(&mut group, &original, 1);
    engine(&mut group, "fast, 1 thread", &original.bundle, &fast().with_threads(1));
    engine(&mut group, "f32", &original.bundle, &MilCpu::new(Numerics::F32));
    burn(&mut group, &original);
    group.finish();
}

/// Measures a prompt of half a context, token by token in the exported program and in one pass of burn.
fn prefill(c: &mut Criterion) {
    let made = made(Preset::Scaled, Quantization::Int8PerChannel, |config| config);
    let model = DecodeModel::load(&made.bundle, &fast()).expect("a model");
    let prompt: Vec<u32> = (0..model.context_length() as u32 / 2).map(|i| i % 27).collect();
    let reference =
        BurnReference::from_checkpoint(&made.checkpoint, Backend::default()).expect("burn's model");
    let mut group = c.benchmark_group("prefill");
    group.throughput(Throughput::Elements(prompt.len() as u64));
    let mut sequence = model.new_sequence();
    group.bench_function("fast", |b| {
        b.iter(|| {
            model.reset(&mut sequence);
            prompt
                .iter()
                .for_each(|token| _ = black_box(model.decode(*token, &mut sequence).expect("a token")));
        });
    });
    group.bench_function("burn", |b| b.iter(|| black_box(reference.logits(&prompt))));
    group.finish();
}

/// Measures several sequences that share one pass over the weights.
fn batch(c: &mut Criterion) {
    let made = made(Preset::Scaled, Quantization::Int8PerChannel, |config| config);
    let model = DecodeModel::load(&made.bundle, &fast()).expect("a model");
    let mut group = c.benchmark_group("batch");
    for sequences in [1, 4, 16] {
        let tokens = vec![3; sequences];
        group.throughput(Throughput::Elements((sequences * model.context_length()) as u64));
        group.bench_with_input(BenchmarkId::from_parameter(sequences), &sequences, |b, _| {
            let mut all: Vec<Sequence> = (0..sequences).map(|_| model.new_sequence()).collect();
            b.iter(|| {
                all.iter_mut().for_each(|sequence| model.reset(sequence));
                let mut all: Vec<&mut Sequence> = all.iter_mut().collect();
                for _ in 0..model.context_length() {
                    model.decode_batch(&tokens, &mut all).expect("a token for each");
                }
            });
        });
    }
    // The arithmetic bound: two 8-bit products per weight and token.
    let products = 2.0 * bytes_like(&made.bundle).len() as f64;
    let rate = Machine::new(THREADS).byte_products();
    println!("batch: {:.0} G products/s would allow {:.0} tokens/s", rate / 1e9, rate / products);
    group.finish();
}

fn stored(c: &mut Criterion) {
    let mut group = c.benchmark_group("stored");
    for quantization in Quantization::ALL {
        let made = made(Preset::Scaled, *quantization, |config| config);
        engine(&mut group, quantization.name(), &made.bundle, &fast());
    }
    group.finish();
}

/// Measures how time grows with bytes, inside and beyond a cache: compare with the bound for the same number
/// of layers.
fn layers(c: &mut Criterion) {
    let mut group = c.benchmark_group("layers");
    for n_layer in [6, 12, 24] {
        let made = made(Preset::Scaled, Quantization::Int8PerChannel, |mut config| {
            config.n_layer = n_layer;
            config
        });
        engine(&mut group, &format!("{n_layer}"), &made.bundle, &fast());
        let machine = Machine::new(THREADS);
        let bytes = bytes_like(&made.bundle);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{n_layer}, stream floor"), |b| {
            b.iter(|| black_box(machine.read(&bytes)))
        });
    }
    group.finish();
}

/// Measures the time from opening a bundle to the logits of the first token.
fn load(c: &mut Criterion) {
    let mut group = c.benchmark_group("load");
    for (name, preset) in [("scaled", Preset::Scaled), ("original", Preset::Original)] {
        let made = made(preset, Quantization::Int8PerChannel, |config| config);
        group.bench_function(name, |b| {
            b.iter(|| {
                let model = DecodeModel::load(&support::open(made.bundle.path()), &fast()).expect("a model");
                black_box(model.decode(0, &mut model.new_sequence()).expect("a token").len())
            });
        });
    }
    group.finish();
}

/// Measures the effect of each fusion: with all of them, and without one.
fn without(c: &mut Criterion) {
    let made = made(Preset::Scaled, Quantization::Int8PerChannel, |config| config);
    let mut group = c.benchmark_group("without");
    engine(&mut group, "nothing", &made.bundle, &fast());
    for fusion in Fusion::ALL {
        engine(&mut group, &format!("{fusion:?}").to_lowercase(), &made.bundle, &fast().without(fusion));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = one_token, prefill, batch, stored, layers, load, without
}
criterion_main!(benches);
