//! `microgpt floor`

use std::path::PathBuf;

use ane_floor::{Device, PlacementReport};
use anyhow::Result;
use clap::{Args, ValueEnum};
use mlpackage::bundle::BUNDLE_MANIFEST;

use super::{Outcome, folder, output};

/// Tell where a bundle or package will be placed, by which law, and what would change it.
#[derive(Debug, Args)]
pub(crate) struct Floor {
    /// A bundle or a .mlpackage
    #[arg(value_name = "BUNDLE|PACKAGE")]
    path: PathBuf,
    /// Exit with 1 unless everything is placed there
    #[arg(long, value_enum)]
    require: Option<Require>,
    /// Print the report as JSON: one object a package, in a list
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Require {
    /// The Neural Engine
    Ane,
}

impl Floor {
    pub(crate) fn run(self) -> Result<Outcome> {
        let mut reports = Vec::new();
        if self.path.join(BUNDLE_MANIFEST).exists() {
            let bundle = folder::bundle(&self.path)?;
            for shard in &bundle.manifest().shards {
                let package = bundle.package(shard)?;
                reports.push(PlacementReport::predict(&package, Some(&bundle.manifest().architecture))?);
            }
        } else {
            reports.push(PlacementReport::predict(&folder::package(&self.path)?, None)?);
        }
        if self.json {
            output::print_json(&reports)?;
        } else {
            let text: Vec<String> = reports.iter().map(ToString::to_string).collect();
            output::print(&text.concat())?;
        }
        let placed = reports.iter().all(|r| r.verdict == Device::Ane && r.pass);
        if self.require.is_some() && !placed {
            eprintln!("required: everything on the ANE; predicted otherwise");
        }
        Ok(Outcome::of(placed || self.require.is_none()))
    }
}
