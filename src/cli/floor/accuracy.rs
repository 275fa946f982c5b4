//! `microgpt floor accuracy`: how often each law is right.

use std::path::PathBuf;

use ane_floor::Accuracy;
use anyhow::Result;
use clap::Args;

use super::corpus;
use crate::cli::{Exit, output};

/// Evaluate every law on the corpus, and on sources that it was not made from
#[derive(Debug, Args)]
pub(super) struct EvaluateLaws {
    /// Rows to add to the built-in ones, such as those that `discover` wrote on a Mac
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
}

impl EvaluateLaws {
    pub(super) fn run(self) -> Result<Exit> {
        let accuracy = Accuracy::of(&corpus::built_in_with(&self.with)?);
        match self.json {
            true => output::print_json(&accuracy)?,
            false => output::print(&accuracy.to_string())?,
        }
        Ok(Exit::Done)
    }
}
