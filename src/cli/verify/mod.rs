//! `microgpt verify`

mod dump;

use std::fmt::Write as _;
use std::path::PathBuf;

use ane_runtime::EngineKind;
use anyhow::Result;
use clap::Args;
use microgpt_ane::{Verification, VerifyOptions, verify};
use microgpt_model::Backend;
use mlpackage::counted;

use super::engine::EngineChoice;
use super::{Exit, open, out_file, output};

/// Compare a bundle with the checkpoint that it was exported from. Exits with 1 if they differ by more than
/// rounding. Every arithmetic of mil-cpu is compared; another engine, Core ML, is compared with mil-cpu.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The bundle's folder
    bundle: PathBuf,
    /// The checkpoint; without one, the bundle's f16 and fast results are compared with its f32 results
    #[arg(long, value_name = "CKPT")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineChoice,
    /// Seed of the compared sequence
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write every step's inputs and logits as safetensors, for other executors to compare with
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// Search for silent failures of fp16: the first operation that overflows, produces a NaN, or produces only
    /// zeros, and nonzero constants that round to zero. Each counts as a failure
    #[arg(long)]
    hazards: bool,
    /// burn's backend: flex, or ndarray in a build with `--features ndarray`
    #[arg(long, default_value_t = Backend::default())]
    backend: Backend,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(crate) fn run(self) -> Result<Exit> {
        let bundle = open::bundle(&self.bundle)?;
        let checkpoint = self.checkpoint.as_deref().map(open::checkpoint).transpose()?;
        if let Some(path) = &self.dump {
            out_file::check("--dump", path, &[])?;
        }
        let engine = self.engine.options(EngineKind::Auto, None)?;
        let other = match engine.kind.here() {
            EngineKind::CoreMl => Some(engine.engine()?),
            _ => None,
        };
        let spinner = output::spinner("running the bundle and its reference");
        let mut options = VerifyOptions::default()
            .with_seed(self.seed)
            .with_backend(self.backend)
            .with_hazards(self.hazards);
        if let Some(checkpoint) = &checkpoint {
            options = options.with_checkpoint(checkpoint);
        }
        if let Some(engine) = &other {
            options = options.with_engine(&**engine);
        }
        let verification = verify(&bundle, &options)?;
        spinner.finish_and_clear();
        if let Some(path) = &self.dump {
            dump::write(path, &bundle, &verification)?;
        }
        if self.json {
            output::print_json(&verification)?;
        } else {
            output::print(&describe(&verification))?;
        }
        Ok(Exit::of(verification.pass))
    }
}

/// Formats the comparisons as a table.
pub(super) fn describe(verification: &Verification) -> String {
    let mut text = format!("parity over {}:\n", counted(verification.tokens.len(), "position"));
    for check in &verification.checks {
        let p = &check.parity;
        let verdict = if check.pass { "ok  " } else { "FAIL" };
        let bound = match check.tolerance.largest_error {
            bound if check.relative_to_f16 => format!(" (at most {bound:.2e}, from the error of f16)"),
            bound if bound.is_finite() => format!(" (at most {bound:.0e})"),
            _ => String::new(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  {verdict} {}: largest error {:.2e}{bound}, cosine {:.7} (at least {}), argmax {}/{}",
            check.name, p.largest_error, p.cosine, check.tolerance.cosine, p.argmax_agreement, p.positions
        );
    }
    if let Some(hazards) = &verification.hazards {
        let _ = match hazards.len() {
            0 => writeln!(text, "no hazards in fp16"),
            n => writeln!(text, "{} in fp16:", counted(n, "hazard")),
        };
        for hazard in hazards {
            let _ = writeln!(text, "  FAIL {hazard}");
        }
    }
    text
}
