//! Measures one token of both presets on every engine of this machine, through one trait.
//!
//! ```text
//! cargo bench -p microgpt-bench --features criterion --bench ane_vs_cpu
//! ```
//!
//! This is Experiment 27's question: which of the two presets runs on the Neural Engine, and how much faster
//! is it there? An engine is an entry in [`engines`]; the rest knows only the trait [`Engine`]. With Core ML,
//! `microgpt floor --measure` shows whether a model that may use the Neural Engine is placed on it.

mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use microgpt_ane::ane_export::Quantization;
use microgpt_ane::ane_floor::PlacementReport;
use microgpt_ane::ane_runtime::{ComputeUnits, DecodeModel, Engine, EngineKind, EngineOptions, Numerics};
use microgpt_ane::microgpt_model::Preset;
use support::{THREADS, made};

/// Returns every engine of this machine, with names for the report.
fn engines() -> Vec<(String, Box<dyn Engine>)> {
    let mil_cpu = [(Numerics::Fast, THREADS), (Numerics::Fast, 1), (Numerics::F32, 1)];
    let mil_cpu = mil_cpu.map(|(numerics, threads)| {
        EngineOptions::default().with_kind(EngineKind::MilCpu).with_numerics(numerics).with_threads(threads)
    });
    let core_ml = [ComputeUnits::CpuAndAne, ComputeUnits::Cpu, ComputeUnits::CpuAndGpu];
    let core_ml = core_ml.map(|compute_units| {
        EngineOptions::default().with_kind(EngineKind::CoreMl).with_compute_units(compute_units)
    });
    let named = |options: EngineOptions| {
        // Core ML exists only on a Mac.
        let engine = options.engine().ok()?;
        let threads = options.threads.map_or(String::new(), |n| format!(", {n} threads"));
        Some((format!("{}{threads}", engine.name()), engine))
    };
    core_ml.into_iter().chain(mil_cpu).filter_map(named).collect()
}

fn ane_vs_cpu(c: &mut Criterion) {
    for (name, preset) in [("original", Preset::Original), ("scaled", Preset::Scaled)] {
        let made = made(preset, Quantization::Int8PerTensor, |config| config);
        for shard in &made.bundle.manifest().shards {
            let package = made.bundle.package(shard).expect("a package");
            let architecture = &made.bundle.manifest().architecture;
            print!(
                "{name}: {}",
                PlacementReport::predict(&package, Some(architecture)).expect("a prediction")
            );
        }
        let mut group = c.benchmark_group(format!("ane_vs_cpu/{name}"));
        for (engine_name, engine) in engines() {
            let model = match DecodeModel::load(&made.bundle, &*engine) {
                Ok(model) => model,
                Err(error) => {
                    println!("{engine_name} is left out: {error}");
                    continue;
                }
            };
            group.throughput(Throughput::Elements(model.context_length() as u64));
            let mut sequence = model.new_sequence();
            group.bench_function(engine_name, |b| {
                b.iter(|| {
                    model.reset(&mut sequence);
                    for position in 0..model.context_length() {
                        let token = (position % model.vocab_size()) as u32;
                        black_box(model.decode(token, &mut sequence).expect("a token"));
                    }
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = ane_vs_cpu
}
criterion_main!(benches);
