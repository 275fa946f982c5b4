//! `microgpt settle`

mod bundle_variant;
mod probe;
mod program_variant;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use self::probe::settle;
use super::engine::EngineArgs;
use super::{Exit, open, output};

/// Probe which forms of a program an engine accepts, and whether the epsilon of norms survives.
///
/// Only Core ML can answer these questions; on mil-cpu the command tests the probes themselves.
#[derive(Debug, Args)]
pub(crate) struct Settle {
    /// The bundle's folder
    bundle: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print the answers as JSON
    #[arg(long)]
    json: bool,
}

impl Settle {
    pub(crate) fn run(self) -> Result<Exit> {
        let bundle = open::bundle(&self.bundle)?;
        let settled = settle(&bundle, &*self.engine.decoding()?.engine()?)?;
        if self.json {
            output::print_json(&settled)?;
        } else {
            output::print(&settled.to_string())?;
        }
        Ok(Exit::Done)
    }
}
