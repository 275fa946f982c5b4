//! Which engine a command runs on.

use ane_runtime::{MilCpu, Numerics};
use clap::{Args, ValueEnum};

/// What the engine mil-cpu computes with.
#[derive(Debug, Args)]
pub(super) struct EngineArgs {
    /// Arithmetic of the engine mil-cpu
    #[arg(long, value_enum, default_value = "fast")]
    pub(super) numerics: NumericsArg,
    /// Threads for fast arithmetic, never more than the machine runs at once [default: those of the machine, but no more than 4]
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

/// Arithmetic of the engine mil-cpu.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum NumericsArg {
    /// Every operation in f32
    F32,
    /// Every fp16 result rounded to fp16
    F16,
    /// The fastest: fused operations on all threads, with errors as small as those of fp16
    Fast,
}

impl From<NumericsArg> for Numerics {
    fn from(numerics: NumericsArg) -> Self {
        match numerics {
            NumericsArg::F32 => Self::F32,
            NumericsArg::F16 => Self::F16,
            NumericsArg::Fast => Self::Fast,
        }
    }
}

impl EngineArgs {
    pub(super) fn engine(&self) -> MilCpu {
        let engine = MilCpu::new(self.numerics.into());
        match self.threads {
            Some(threads) => engine.with_threads(threads.into()),
            None => engine,
        }
    }
}
