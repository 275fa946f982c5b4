//! `microgpt floor laws`: what each law states, and the evidence for and against it.

use ane_floor::laws::{self, AnchorAndWork, Card};
use anyhow::Result;
use clap::Args;

use super::refit::fit_table;
use crate::cli::{Exit, output};

/// List the laws: what each states, its source, and the statements for and against it
#[derive(Debug, Args)]
pub(super) struct ListLaws {
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

impl ListLaws {
    pub(super) fn run(self) -> Result<Exit> {
        let cards: Vec<&Card> = laws::all().map(|law| law.card()).collect();
        if self.json {
            output::print_json(&cards)?;
            return Ok(Exit::Done);
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
        Ok(Exit::Done)
    }
}
