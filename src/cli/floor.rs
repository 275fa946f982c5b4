//! `microgpt floor`

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use ane_floor::corpus::{Corpus, SCHEMA};
use ane_floor::{Device, PlacementReport};
use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use mlpackage::bundle::BUNDLE_MANIFEST;

use super::{Outcome, folder, output};

/// Tell where a bundle or package will be placed, by which law, and what would change it.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Floor {
    #[command(subcommand)]
    about: Option<About>,
    /// A bundle or a .mlpackage
    #[arg(value_name = "BUNDLE|PACKAGE", required = true)]
    path: Option<PathBuf>,
    /// Exit with 1 unless everything is placed there
    #[arg(long, value_enum)]
    require: Option<Require>,
    /// Print the report as JSON: one object a package, in a list
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum About {
    Corpus(Evidence),
}

/// List what is known of placements, and who says so
#[derive(Debug, Args)]
struct Evidence {
    /// Rows to check and list instead of those that come with the program: a JSON object a line
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print the JSON Schema of a row
    #[arg(long, conflicts_with_all = ["file", "json"])]
    schema: bool,
    /// Print the rows as JSON
    #[arg(long)]
    json: bool,
}

/// More rows than anybody has.
const CORPUS_LIMIT: u64 = 64 << 20;

impl Evidence {
    fn run(self) -> Result<Outcome> {
        if self.schema {
            output::print(SCHEMA)?;
            return Ok(Outcome::Done);
        }
        let corpus = match &self.file {
            None => Corpus::built_in(),
            Some(path) => {
                let mut text = String::new();
                let name = path.display();
                let file = File::open(path).with_context(|| format!("open {name}"))?;
                file.take(CORPUS_LIMIT + 1)
                    .read_to_string(&mut text)
                    .with_context(|| format!("read {name}"))?;
                ensure!(text.len() as u64 <= CORPUS_LIMIT, "{name}: more than {CORPUS_LIMIT} bytes");
                Corpus::from_jsonl(&name.to_string(), &text)?
            }
        };
        match self.json {
            true => output::print_json(&corpus.rows())?,
            false => output::print(&corpus.to_string())?,
        }
        Ok(Outcome::Done)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Require {
    /// The Neural Engine
    Ane,
}

impl Floor {
    pub(crate) fn run(self) -> Result<Outcome> {
        let path = match (self.about, self.path) {
            (Some(About::Corpus(evidence)), _) => return evidence.run(),
            (None, path) => path.context("a bundle or package is missing")?,
        };
        let mut reports = Vec::new();
        if path.join(BUNDLE_MANIFEST).exists() {
            let bundle = folder::bundle(&path)?;
            for shard in &bundle.manifest().shards {
                let package = bundle.package(shard)?;
                reports.push(PlacementReport::predict(&package, Some(&bundle.manifest().architecture))?);
            }
        } else {
            reports.push(PlacementReport::predict(&folder::package(&path)?, None)?);
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
