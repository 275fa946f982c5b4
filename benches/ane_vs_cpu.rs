//! One token of both presets on every engine that this machine has, through the same trait.
//!
//! ```text
//! cargo bench --bench ane_vs_cpu
//! ```
//!
//! Experiment 27's question: which of the two is on the Neural Engine, and what is that worth? An engine is a line in
//! [`engines`]; everything below it knows them only as [`Engine`].

mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use microgpt_ane::ane_export::Quantization;
use microgpt_ane::ane_floor::PlacementReport;
use microgpt_ane::ane_runtime::{DecodeModel, Engine, MilCpu, Numerics};
use microgpt_ane::microgpt_model::Preset;
use support::{THREADS, made};

/// The engines, with names for the report.
fn engines() -> Vec<(&'static str, Box<dyn Engine>)> {
    vec![
        ("mil-cpu fast", Box::new(MilCpu::new(Numerics::Fast).with_threads(THREADS))),
        ("mil-cpu fast, 1 thread", Box::new(MilCpu::new(Numerics::Fast).with_threads(1))),
        ("mil-cpu f32", Box::new(MilCpu::new(Numerics::F32))),
    ]
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
            let model = DecodeModel::load(&made.bundle, &*engine).expect("a model");
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
