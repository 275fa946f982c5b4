//! `microgpt floor refit`: fits the law of anchor and work to the corpus.

use std::path::{Path, PathBuf};

use ane_floor::laws::{AnchorAndWork, TERMS};
use anyhow::{Result, ensure};
use clap::Args;
use mlpackage::counted;

use super::corpus;
use crate::cli::{Exit, out_file, output};

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

impl Refit {
    pub(super) fn run(self) -> Result<Exit> {
        if let Some(out) = &self.out {
            let read: Vec<(&str, &Path)> = self.with.iter().map(|file| ("--with", file.as_path())).collect();
            out_file::check("--out", out, &read)?;
        }
        let law = AnchorAndWork::fit(&corpus::built_in_with(&self.with)?, |_| false);
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
        Ok(Exit::Done)
    }
}

/// Returns the fitted terms, one per line.
pub(super) fn fit_table(law: &AnchorAndWork) -> String {
    let fitted = law.fitted();
    let mut text = format!(
        "\nanchor-and-work, fitted to {}: a graph is placed if its terms sum to more than {:.3}\n",
        counted(fitted.rows.len(), "row"),
        fitted.price
    );
    for (i, (term, earns)) in TERMS.iter().zip(&fitted.earns).enumerate() {
        let alone = match law.alone(i) {
            Some(raw) if term.name == "weights" => format!("; sufficient by itself at {:.2} MB", raw / 1e6),
            Some(raw) if term.name == "anchor" => {
                format!("; sufficient by itself at {:.1} M multiply-adds", raw / 1e6)
            }
            Some(raw) => format!("; sufficient by itself at {raw:.1} layers"),
            None => String::new(),
        };
        text.push_str(&format!("  {earns:>6.3}  {} ({}){alone}\n", term.name, term.what));
    }
    text
}
