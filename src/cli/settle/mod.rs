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
/// Only Core ML can answer these questions; on mil-cpu they test the probes themselves.
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ane_export::ExportOptions;
    use microgpt_model::{Checkpoint, GptConfig, Preset, Tokenizer, Weights};
    use mlpackage::Bundle;

    /// A bundle of the original preset with random weights, in a folder.
    pub(super) fn bundle(folder: &Path) -> Bundle {
        let tokenizer = Tokenizer::characters(&["abcdefghijklmnopqrstuvwxyz"]);
        let config = GptConfig::preset(Preset::Original, tokenizer.vocab_size());
        let (checkpoint, bundle) = (folder.join("checkpoint"), folder.join("bundle"));
        let weights = Weights::random(&config, 0.08, 5);
        Checkpoint::write(&checkpoint, &config, &tokenizer, &weights, None).unwrap();
        let checkpoint = Checkpoint::open(&checkpoint).unwrap();
        let staged = ane_export::export(&checkpoint, &bundle, &ExportOptions::default(), |_, _| {}).unwrap();
        staged.publish().unwrap();
        Bundle::open(&bundle).unwrap()
    }
}
