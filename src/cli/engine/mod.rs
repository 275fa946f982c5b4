//! Options that choose an engine.

mod load_progress;

use ane_runtime::{ComputeUnits, EngineKind, EngineOptions, Numerics};
use anyhow::{Result, bail, ensure};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use self::load_progress::progress;

/// Options that choose the engine.
#[derive(Debug, Args)]
pub(super) struct EngineChoice {
    /// auto selects Core ML on a Mac and mil-cpu elsewhere; without --engine, an option of one engine selects
    /// that engine
    #[arg(long, value_name = "ENGINE", value_parser = PossibleValuesParser::new(EngineKind::ALL.iter().map(|kind| kind.name())))]
    engine: Option<String>,
    /// Devices that Core ML may use [default: cpu-and-ane]
    #[arg(long, value_name = "UNITS", value_parser = PossibleValuesParser::new(ComputeUnits::ALL.iter().map(|units| units.name())))]
    compute_units: Option<String>,
}

/// Options that choose the engine, and those of mil-cpu.
#[derive(Debug, Args)]
pub(super) struct EngineArgs {
    #[command(flatten)]
    choice: EngineChoice,
    /// Arithmetic of the engine mil-cpu
    #[arg(long, value_enum)]
    numerics: Option<NumericsArg>,
    /// Threads of mil-cpu for fast arithmetic, at most the machine's hardware threads [default: the machine's
    /// hardware threads, up to 4]
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
    /// The fastest for decoders: projections and attention are fused and use several threads, with errors as small
    /// as those of fp16. Other operations, such as convolutions, run as in f32
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

impl EngineChoice {
    /// Returns the requested engine, or `otherwise` if none was requested. `of_mil_cpu` names an option in
    /// use that only mil-cpu has.
    pub(super) fn options(&self, otherwise: EngineKind, of_mil_cpu: Option<&str>) -> Result<EngineOptions> {
        let kind = match &self.engine {
            Some(name) => name.parse()?,
            None => otherwise,
        };
        let kind = match (kind, of_mil_cpu, &self.compute_units) {
            (_, Some(option), Some(_)) => {
                bail!("{option} is for mil-cpu, --compute-units for coreml: give one of them")
            }
            (EngineKind::CoreMl, Some(option), _) => bail!("{option} is for mil-cpu, not for coreml"),
            (EngineKind::MilCpu, None, Some(_)) if self.engine.is_some() => {
                bail!("--compute-units is for coreml, not for mil-cpu")
            }
            (EngineKind::Auto, Some(_), _) => EngineKind::MilCpu,
            (_, _, Some(_)) => EngineKind::CoreMl,
            (kind, _, _) => kind,
        };
        let mut options = EngineOptions::default().with_kind(kind).with_observer(progress());
        if let Some(name) = &self.compute_units {
            options.compute_units = name.parse()?;
        }
        Ok(options)
    }
}

impl EngineArgs {
    /// Returns the requested engine, or `otherwise` if none was requested. mil-cpu defaults to the arithmetic
    /// `numerics`.
    pub(super) fn options(&self, otherwise: EngineKind, numerics: Numerics) -> Result<EngineOptions> {
        let of_mil_cpu = [("--numerics", self.numerics.is_some()), ("--threads", self.threads.is_some())];
        let of_mil_cpu = of_mil_cpu.into_iter().find(|(_, given)| *given).map(|(name, _)| name);
        let mut options = self.choice.options(otherwise, of_mil_cpu)?;
        options.numerics = self.numerics.map_or(numerics, Numerics::from);
        options.threads = self.threads.map(usize::from);
        Ok(options)
    }

    /// Returns whether an engine or an option of one was given.
    pub(super) fn given(&self) -> bool {
        let EngineChoice { engine, compute_units } = &self.choice;
        engine.is_some() || compute_units.is_some() || self.numerics.is_some() || self.threads.is_some()
    }

    /// Returns the requested engine, or the machine's best engine for decoding.
    pub(super) fn decoding(&self) -> Result<EngineOptions> {
        self.options(EngineKind::Auto, Numerics::Fast)
    }

    /// Refuses to search for hazards on an engine that does not expose the results of its operations.
    pub(super) fn ensure_watchable(options: &EngineOptions) -> Result<()> {
        ensure!(
            options.kind.here() == EngineKind::MilCpu,
            "--hazards checks the result of each operation, which Core ML does not show: give --engine mil-cpu"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        engine: EngineArgs,
    }

    fn kind(arguments: &[&str]) -> Result<EngineKind> {
        let command = Command::try_parse_from([&["microgpt"], arguments].concat())?;
        Ok(command.engine.decoding()?.kind)
    }

    #[test]
    fn an_option_of_one_engine_chooses_it() {
        assert_eq!(kind(&[]).unwrap(), EngineKind::Auto);
        assert_eq!(kind(&["--numerics", "f16"]).unwrap(), EngineKind::MilCpu);
        assert_eq!(kind(&["--threads", "1"]).unwrap(), EngineKind::MilCpu);
        assert_eq!(kind(&["--compute-units", "cpu"]).unwrap(), EngineKind::CoreMl);
        assert_eq!(kind(&["--engine", "coreml", "--compute-units", "all"]).unwrap(), EngineKind::CoreMl);
        assert_eq!(kind(&["--engine", "mil-cpu", "--numerics", "f32"]).unwrap(), EngineKind::MilCpu);
    }

    #[test]
    fn an_option_of_the_other_engine_is_refused_by_name() {
        let refused = |arguments: &[&str]| kind(arguments).unwrap_err().to_string();
        assert!(refused(&["--engine", "coreml", "--threads", "1"]).contains("--threads is for mil-cpu"));
        assert!(refused(&["--engine", "mil-cpu", "--compute-units", "cpu"]).contains("not for mil-cpu"));
        assert!(refused(&["--numerics", "f32", "--compute-units", "cpu"]).contains("give one of them"));
        assert!(refused(&["--engine", "ane"]).contains("auto, coreml, mil-cpu"));
    }
}
