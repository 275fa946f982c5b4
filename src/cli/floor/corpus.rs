//! `microgpt floor corpus`: the evidence. Also reads the corpora of other subcommands.

use std::path::{Path, PathBuf};

use ane_floor::corpus::{PlacementCorpus, SCHEMA};
use anyhow::Result;
use clap::Args;

use super::report_file::read_text;
use crate::cli::{Exit, output};

/// List the known placements with their sources
#[derive(Debug, Args)]
pub(super) struct ListCorpus {
    /// A file of rows to check and list instead of the built-in ones: one JSON object per line
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print the JSON Schema of a row
    #[arg(long, conflicts_with_all = ["file", "json"])]
    schema: bool,
    /// Print the rows as JSON
    #[arg(long)]
    json: bool,
}

impl ListCorpus {
    pub(super) fn run(self) -> Result<Exit> {
        if self.schema {
            output::print(SCHEMA)?;
            return Ok(Exit::Done);
        }
        let corpus = match &self.file {
            None => PlacementCorpus::built_in().clone(),
            Some(path) => read(path)?,
        };
        match self.json {
            true => output::print_json(&corpus.rows())?,
            false => output::print(&corpus.to_string())?,
        }
        Ok(Exit::Done)
    }
}

/// Reads a corpus that the user names.
pub(super) fn read(path: &Path) -> Result<PlacementCorpus> {
    Ok(PlacementCorpus::from_jsonl(&path.display().to_string(), &read_text(path)?)?)
}

/// Returns the built-in corpus with the rows of `files`.
pub(super) fn built_in_with(files: &[PathBuf]) -> Result<PlacementCorpus> {
    let mut corpus = PlacementCorpus::built_in().clone();
    for path in files {
        corpus = corpus.joined(&path.display().to_string(), read(path)?)?;
    }
    Ok(corpus)
}
