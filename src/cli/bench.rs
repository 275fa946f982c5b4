//! `microgpt bench`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use microgpt_ane::benchmark::{BenchmarkOptions, benchmark};

use super::engine::EngineArgs;
use super::{Outcome, folder, output};

/// Measure how fast a bundle decodes, next to what this machine could do at most
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The bundle's folder
    bundle: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
    /// Sequences that are decoded at once, for the second figure
    #[arg(long, allow_negative_numbers = true, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Names that are generated, for the third; 0 for none
    #[arg(long, allow_negative_numbers = true, default_value_t = 500)]
    names: usize,
    /// For how long the first two are measured, after a round to warm up; one round, of 4 contexts and one of the batch, is the
    /// least
    #[arg(long, allow_negative_numbers = true, default_value_t = 3.0)]
    seconds: f64,
    /// Seed of the names
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Measure the energy of a token as well: on a Mac, by powermetrics, which is for root (`sudo -v` first); elsewhere it says why not
    #[arg(long)]
    energy: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(crate) fn run(self) -> Result<Outcome> {
        ensure!(
            (0.0..=3600.0).contains(&self.seconds),
            "--seconds {} is not between 0 and 3600",
            self.seconds
        );
        let bundle = folder::bundle(&self.bundle)?;
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
        Ok(Outcome::Done)
    }
}
