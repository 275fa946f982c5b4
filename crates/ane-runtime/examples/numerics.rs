//! Measures how far the arithmetics `f16` and `fast` are from `f32` on a given package and inputs.
//!
//! ```text
//! cargo run --release -p ane-runtime --example numerics -- model.mlpackage --inputs x.safetensors --steps 60
//! ```
//!
//! The inputs are those of `microgpt run`: with `--steps`, each tensor has a leading axis of calls, and all
//! calls use one state. For each output and arithmetic, it prints the largest error over all calls relative
//! to the largest magnitude in `f32`, the error's root mean square relative to that of `f32`, the smallest
//! cosine of a call, the number of calls whose largest element has the same index, and the median time of a
//! call.

use std::path::PathBuf;
use std::time::Instant;

use ane_runtime::tensor_file::{Slice, TensorFile};
use ane_runtime::{Engine as _, LoadOptions, MilCpu, Numerics, Parity, TensorView};
use clap::Parser;
use mlpackage::Package;

/// Compare the arithmetics of mil-cpu on a package.
#[derive(Parser)]
struct Args {
    /// The .mlpackage
    package: PathBuf,
    /// Inputs by name, as safetensors
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// Number of calls on one state; every input has a leading axis of that size
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Number of threads of `fast`
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// The results of all calls, by output.
struct Transcript {
    outputs: Vec<(String, Vec<f32>)>,
    median_ms: f64,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let args = Args::parse();
    let package = Package::open(&args.package)?;
    let exact = transcript(&args, &package, Numerics::F32)?;
    println!("f32: {:.3} ms a call", exact.median_ms);
    for (name, numerics) in [("f16", Numerics::F16), ("fast", Numerics::Fast)] {
        let found = transcript(&args, &package, numerics)?;
        for ((output, exact), (_, found)) in exact.outputs.iter().zip(&found.outputs) {
            let calls = args.steps.unwrap_or(1);
            let parity = Parity::of(exact, found, exact.len() / calls)?;
            let square = |v: f64| v * v;
            let errors: f64 =
                exact.iter().zip(found).map(|(e, f)| square(f64::from(*e) - f64::from(*f))).sum();
            let squares: f64 = exact.iter().map(|e| square(f64::from(*e))).sum();
            println!(
                "{name}, {output}: largest error {:.2e}, rms {:.2e}, cosine {:.8}, same argmax {}/{calls}",
                parity.largest_error,
                (errors / squares).sqrt(),
                parity.cosine,
                parity.argmax_agreement,
            );
        }
        println!("{name}: {:.3} ms a call", found.median_ms);
    }
    Ok(())
}

fn transcript(args: &Args, package: &Package, numerics: Numerics) -> Result<Transcript> {
    let engine = MilCpu::new(numerics).with_threads(args.threads);
    let model = engine.load(package, &LoadOptions::default())?;
    let function = model.default_function();
    let file = TensorFile::open(&args.inputs)?;
    let mut state = model.new_state();
    let mut outputs: Vec<(String, Vec<f32>)> = Vec::new();
    let mut times = Vec::new();
    for step in 0..args.steps.unwrap_or(1) {
        let inputs = file.inputs(function.describe(), args.steps.map(|steps| Slice { step, steps }))?;
        let inputs: Vec<(&str, TensorView<'_>)> =
            inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.view())).collect();
        let started = Instant::now();
        let results = function.predict(&inputs, &mut state)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        for (name, tensor) in results.iter() {
            let Some(values) = tensor.as_f32() else { continue };
            match outputs.iter_mut().find(|(known, _)| known == name) {
                Some((_, all)) => all.extend_from_slice(values),
                None => outputs.push((name.to_owned(), values.to_vec())),
            }
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(Transcript { outputs, median_ms: times[times.len() / 2] })
}
