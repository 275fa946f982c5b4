//! `microgpt floor corpus | laws | accuracy | refit`: the evidence, the laws, their accuracy, and the fit.

use std::path::{Path, PathBuf};

use ane_floor::Accuracy;
use ane_floor::corpus::{PlacementCorpus, SCHEMA};
use ane_floor::laws::{self, AnchorAndWork, Card, TERMS};
use anyhow::{Result, ensure};
use clap::Args;
use mlpackage::counted;

use super::super::{Outcome, folder, output};
use super::read_text;

/// List the known placements with their sources
#[derive(Debug, Args)]
pub(super) struct Evidence {
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

/// List the laws: what each states, its source, and the statements for and against it
#[derive(Debug, Args)]
pub(super) struct Laws {
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// Evaluate every law on the corpus, and on sources that it was not made from
#[derive(Debug, Args)]
pub(super) struct Record {
    /// Rows to add to the built-in ones, such as those that `discover` wrote on a Mac
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
}

/// Fit the law of anchor and work to the corpus again, and print the fit
#[derive(Debug, Args)]
pub(super) struct Refit {
    /// Rows to add to the built-in ones
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    /// Where to write the fit as JSON; in this project, crates/ane-floor/corpus/anchor_and_work.json
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn read_corpus(path: &Path) -> Result<PlacementCorpus> {
    Ok(PlacementCorpus::from_jsonl(&path.display().to_string(), &read_text(path)?)?)
}

/// The built-in corpus with the rows of `files`.
fn corpus_with(files: &[PathBuf]) -> Result<PlacementCorpus> {
    let mut corpus = PlacementCorpus::built_in().clone();
    for path in files {
        corpus = corpus.joined(&path.display().to_string(), read_corpus(path)?)?;
    }
    Ok(corpus)
}

impl Evidence {
    pub(super) fn run(self) -> Result<Outcome> {
        if self.schema {
            output::print(SCHEMA)?;
            return Ok(Outcome::Done);
        }
        let corpus = match &self.file {
            None => PlacementCorpus::built_in().clone(),
            Some(path) => read_corpus(path)?,
        };
        match self.json {
            true => output::print_json(&corpus.rows())?,
            false => output::print(&corpus.to_string())?,
        }
        Ok(Outcome::Done)
    }
}

impl Laws {
    pub(super) fn run(self) -> Result<Outcome> {
        let cards: Vec<&Card> = laws::all().into_iter().map(|law| law.card()).collect();
        if self.json {
            output::print_json(&cards)?;
            return Ok(Outcome::Done);
        }
        let mut text = String::new();
        for Card { name, says, source, statements, .. } in cards {
            text.push_str(&format!("{name}: {says} ({source})\n"));
            for statement in *statements {
                let side = if statement.supports { "for" } else { "against" };
                text.push_str(&format!("  {side}: {} ({})\n", statement.text, statement.source));
            }
        }
        text.push_str(&fit_table(AnchorAndWork::built_in()));
        output::print(&text)?;
        Ok(Outcome::Done)
    }
}

impl Record {
    pub(super) fn run(self) -> Result<Outcome> {
        let accuracy = Accuracy::of(&corpus_with(&self.with)?);
        match self.json {
            true => output::print_json(&accuracy)?,
            false => output::print(&accuracy.to_string())?,
        }
        Ok(Outcome::Done)
    }
}

impl Refit {
    pub(super) fn run(self) -> Result<Outcome> {
        if let Some(out) = &self.out {
            let read: Vec<(&str, &Path)> = self.with.iter().map(|file| ("--with", file.as_path())).collect();
            folder::check_output("--out", out, &read)?;
        }
        let law = AnchorAndWork::fit(&corpus_with(&self.with)?, |_| false);
        ensure!(!law.fitted().rows.is_empty(), "no row of the corpus has enough data for a fit");
        let fitted = law.fitted();
        if fitted.price <= 0.0 {
            output::tell(
                "warning: by this fit an empty graph is placed: the rows have too few that were not placed",
            );
        } else if fitted.earns.iter().all(|earns| *earns == 0.0) {
            output::tell(
                "warning: by this fit nothing is placed: nothing in the rows correlates with placement",
            );
        }
        if let Some(path) = &self.out {
            let mut json = serde_json::to_string_pretty(law.fitted())?;
            json.push('\n');
            atomic_output::write_file(path, &json)?;
        }
        output::print(&fit_table(&law))?;
        Ok(Outcome::Done)
    }
}

/// The fitted terms, one per line.
fn fit_table(law: &AnchorAndWork) -> String {
    let fitted = law.fitted();
    let mut text = format!(
        "\nanchor-and-work, fitted to {}: a graph is placed if its terms earn more than {:.3}\n",
        counted(fitted.rows.len(), "row"),
        fitted.price
    );
    for (i, (term, earns)) in TERMS.iter().zip(&fitted.earns).enumerate() {
        let alone = match law.alone(i) {
            Some(raw) if term.name == "weights" => format!("; alone enough at {:.2} MB", raw / 1e6),
            Some(raw) if term.name == "anchor" => {
                format!("; alone enough at {:.1} M multiply-adds", raw / 1e6)
            }
            Some(raw) => format!("; alone enough at {raw:.1} layers"),
            None => String::new(),
        };
        text.push_str(&format!("  {earns:>6.3}  {} ({}){alone}\n", term.name, term.what));
    }
    text
}
