//! Runs the conformance suite on an engine: packages written by coremltools, with PyTorch's results for them.
//!
//! ```text
//! cargo run --release -p ane-runtime --example conformance -- --engine coreml --compute-units cpu
//! ```
//!
//! Exits with 1 if an output is wrong or a call fails. A package that the engine refuses at load is counted,
//! but is not a failure.

use std::path::PathBuf;
use std::process::ExitCode;

use ane_runtime::{ComputeUnits, EngineKind, EngineOptions, Numerics};
use clap::Parser;

#[path = "../tests/suite/mod.rs"]
mod suite;

/// Run the conformance suite on an engine.
#[derive(Parser)]
struct Args {
    /// auto, coreml or mil-cpu
    #[arg(long, default_value_t)]
    engine: EngineKind,
    /// Devices that Core ML may use: cpu, cpu-and-gpu, cpu-and-ane or all
    #[arg(long, default_value_t)]
    compute_units: ComputeUnits,
    /// Arithmetic of mil-cpu: f32, f16 or fast
    #[arg(long, value_parser = numerics, default_value = "f32")]
    numerics: Numerics,
    /// Run only packages whose names contain this text
    #[arg(long, default_value = "")]
    only: String,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn numerics(text: &str) -> Result<Numerics, String> {
    match text {
        "f32" => Ok(Numerics::F32),
        "f16" => Ok(Numerics::F16),
        "fast" => Ok(Numerics::Fast),
        _ => Err("expected f32, f16 or fast".into()),
    }
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let args = Args::parse();
    let options = EngineOptions::default()
        .with_kind(args.engine)
        .with_numerics(args.numerics)
        .with_compute_units(args.compute_units);
    let engine = options.engine()?;
    let report = suite::run_some(&*engine, |name| name.contains(&args.only));
    if report.packages == 0 {
        return Err(format!("no package of the suite has {:?} in its name", args.only).into());
    }
    println!("{}: {report}", engine.name());
    report.refused.iter().for_each(|refused| println!("refused: {refused}"));
    report.failures.iter().for_each(|failure| println!("FAIL {failure}"));
    if let Some(file) = &args.json {
        atomic_output::write_file(file, (serde_json::to_string_pretty(&report)? + "\n").as_bytes())?;
    }
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
