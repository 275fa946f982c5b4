//! `microgpt export`

use std::path::PathBuf;

use ane_export::{CacheUpdate, ExportOptions, NormForm, Projections, Quantization};
use anyhow::Result;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use microgpt_ane::export_with_progress;
use microgpt_model::Backend;

use super::{Exit, open, out_file, output};

/// Defines a parser that lists an option's values in the help text.
macro_rules! values {
    ($option:ty) => {
        PossibleValuesParser::new(<$option>::ALL.iter().map(|v| v.name())).try_map(|s| s.parse::<$option>())
    };
}

/// Export a checkpoint as a bundle: a Core ML package and the files that a host needs.
///
/// The exported program is compared with the checkpoint; the table of results is printed and kept in the
/// bundle's README.md. A bundle that differs from its checkpoint by more than the bounds is written all the
/// same, with a warning and exit code 0: `microgpt verify` is the gate.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The checkpoint's folder
    #[arg(value_name = "CKPT")]
    checkpoint: PathBuf,
    /// Where to write the bundle
    #[arg(long, value_name = "BUNDLE")]
    out: PathBuf,
    /// How weights are stored
    #[arg(long, value_parser = values!(Quantization), default_value_t = Quantization::default())]
    quantize: Quantization,
    /// Layout of the query, key and value projections
    #[arg(long, value_parser = values!(Projections), default_value_t = Projections::default())]
    projections: Projections,
    /// How the new key and value enter the cache
    #[arg(long, value_parser = values!(CacheUpdate), default_value_t = CacheUpdate::default())]
    cache_update: CacheUpdate,
    /// How RMSNorm is written in fp16
    #[arg(long, value_parser = values!(NormForm), default_value_t = NormForm::default())]
    norm: NormForm,
    /// Do not compare the exported program with the checkpoint
    #[arg(long)]
    no_verify: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Export {
    pub(crate) fn run(self) -> Result<Exit> {
        let checkpoint = open::checkpoint(&self.checkpoint)?;
        out_file::check_outside_models("--out", &self.out)?;
        let options = ExportOptions::default()
            .with_quantization(self.quantize)
            .with_projections(self.projections)
            .with_cache_update(self.cache_update)
            .with_norm(self.norm);
        let bar = output::progress_bar(0, "matrices");
        let check = (!self.no_verify).then(Backend::default);
        let exported = export_with_progress(&checkpoint, &self.out, &options, check, |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            if done == total {
                bar.set_message("checking the result");
            }
        })?;
        bar.finish_and_clear();
        let next = format!("microgpt chat {}", output::path(&self.out));
        if self.json {
            output::print_json(&exported)?;
            output::next(&next);
            return Ok(Exit::Done);
        }
        let mut text = format!("bundle: {}\n", self.out.display());
        for report in &exported.placement {
            text.push_str(&report.to_string());
        }
        if let Some(verification) = &exported.verification {
            text.push_str(&super::verify::describe(verification));
            if !verification.pass {
                output::tell(
                    "warning: the exported program is not within the bounds of its checkpoint; see the table",
                );
            }
        }
        output::print(&text)?;
        output::next(&next);
        Ok(Exit::Done)
    }
}
