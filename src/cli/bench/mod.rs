//! `microgpt bench`

mod energy;
mod measure;
mod results;
mod samples;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use self::measure::{BenchmarkOptions, benchmark};
use super::engine::EngineArgs;
use super::{Exit, open, output};

/// Measure how fast a bundle decodes, and how fast this machine could decode it at most
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The bundle's folder
    bundle: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
    /// Number of sequences to decode at once, for the batch result
    #[arg(long, allow_negative_numbers = true, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Number of names to generate, for the names result; 0 for none
    #[arg(long, allow_negative_numbers = true, default_value_t = 500)]
    names: usize,
    /// Duration of the decode and batch measurements, after a round to warm up. At least one round is
    /// measured: three contexts and one of the batch
    #[arg(long, allow_negative_numbers = true, default_value_t = 3.0)]
    seconds: f64,
    /// Seed of the names
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Also measure the energy per token: on a Mac, with powermetrics, which needs root (`sudo -v` first);
    /// elsewhere the output explains why it is not measured
    #[arg(long)]
    energy: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(crate) fn run(self) -> Result<Exit> {
        ensure!(
            (0.0..=3600.0).contains(&self.seconds),
            "--seconds {} is not between 0 and 3600",
            self.seconds
        );
        let bundle = open::bundle(&self.bundle)?;
        let engine = self.engine.decoding()?;
        let options = BenchmarkOptions {
            threads: engine.mil_cpu().threads(),
            duration: Duration::from_secs_f64(self.seconds),
            batch: self.batch.into(),
            names: self.names,
            seed: self.seed,
            energy: self.energy,
        };
        let measured = benchmark(&bundle, &*engine.engine()?, &options)?;
        if self.json {
            output::print_json(&measured)?
        } else {
            output::print(&measured.to_string())?
        }
        Ok(Exit::Done)
    }
}
