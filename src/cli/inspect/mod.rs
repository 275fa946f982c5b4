//! `microgpt inspect`

mod check;
mod summary;
mod text;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use self::summary::{Inspected, summary};
use self::text::describe;
use super::expected::{Expected, expect};
use super::path_kind::PathKind;
use super::{Exit, open, output};

/// Show what is in a checkpoint, a bundle or a .mlpackage.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A checkpoint, a bundle or a .mlpackage
    path: PathBuf,
    /// Print the program of each package as MIL text
    #[arg(long, conflicts_with = "json")]
    mil: bool,
    /// Check the packages against every rule of the format: exit code 0 without errors, 1 with errors.
    /// Constructs that the format allows but Core ML is reported to refuse are listed, but are not errors
    #[arg(long, conflicts_with = "mil")]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(crate) fn run(self) -> Result<Exit> {
        if self.check {
            return check::report(&self.path, self.json);
        }
        let mut packages = Vec::new();
        let mut found = None;
        let kind = expect(&self.path, Expected::Model)?;
        if kind == PathKind::Bundle {
            let bundle = open::bundle(&self.path)?;
            for shard in &bundle.manifest().shards {
                packages.push(bundle.package(shard)?);
            }
            let manifest = Box::new(bundle.manifest().clone());
            found = Some(Inspected::Bundle { manifest, packages: packages.iter().map(summary).collect() });
        } else if kind == PathKind::Checkpoint {
            let checkpoint = open::checkpoint(&self.path)?;
            let name = output::path(&self.path);
            ensure!(
                !self.mil,
                "{name} is a checkpoint, which has no program: `microgpt export {name} --out bundle` makes a bundle, which has one"
            );
            let config = checkpoint.config().clone();
            let (parameters, report) = (config.parameters(), checkpoint.report().cloned().map(Box::new));
            found = Some(Inspected::Checkpoint { config, parameters, report });
        } else {
            packages.push(open::package(&self.path)?);
        }
        if self.mil {
            let text: Vec<String> = packages.iter().map(|p| p.program().to_string()).collect();
            output::print(&text.concat())?;
            return Ok(Exit::Done);
        }
        let found = found.unwrap_or_else(|| Inspected::Package(summary(&packages[0])));
        if self.json {
            output::print_json(&found)?;
        } else {
            output::print(&describe(&found))?;
        }
        Ok(Exit::Done)
    }
}
