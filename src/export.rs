//! Export with everything that a bundle's model card should say: the predicted placement and what parity holds.

use std::path::Path;

use ane_export::ExportOptions;
use ane_floor::PlacementReport;
use anyhow::Result;
use microgpt_model::{Backend, Checkpoint};
use serde::Serialize;

use crate::placement;
use crate::verification::{Verification, verify};

/// What came of an export.
#[derive(Clone, Debug, Serialize)]
pub struct Exported {
    /// Predicted placement of each shard.
    pub placement: Vec<PlacementReport>,
    /// Parity with the checkpoint; `None` if it was not asked for.
    pub verification: Option<Verification>,
}

/// Exports a checkpoint, predicts its placement and, if `check` names a backend, runs the result against the checkpoint,
/// before anything is put at `out`.
///
/// # Errors
///
/// Whatever export, floor or verification report; nothing is then at `out` that was not there before.
pub fn export(
    checkpoint: &Checkpoint,
    out: &Path,
    options: &ExportOptions,
    check: Option<Backend>,
    progress: impl FnMut(usize, usize),
) -> Result<Exported> {
    let mut staged = ane_export::export(checkpoint, out, options, progress)?;
    let bundle = staged.open()?;
    let placement = placement::of_bundle(&bundle)?;
    let verification = match check {
        Some(backend) => Some(verify(&bundle, Some(checkpoint), None, SEED, backend)?.0),
        None => None,
    };
    staged.add_to_card(&card(&placement, verification.as_ref()))?;
    staged.publish()?;
    Ok(Exported { placement, verification })
}

/// Seed of the sequence that an export is checked on.
const SEED: u64 = 0;

fn card(placement: &[PlacementReport], verification: Option<&Verification>) -> String {
    let mut card = String::from("\n## Placement\n\n```text\n");
    for report in placement {
        card.push_str(&report.to_string());
    }
    card.push_str("```\n\n## Parity\n\n");
    let Some(verification) = verification else {
        card.push_str("Not checked at export; `microgpt verify BUNDLE --checkpoint CHECKPOINT` does.\n");
        return card;
    };
    // The bounds that hold, not the figures: those differ in the last digits from machine to machine, and the same
    // checkpoint must give the same bundle.
    card.push_str("Checked at export over a full context; `microgpt verify` prints the figures.\n\n");
    card.push_str("| comparison | largest error at most | cosine at least | holds |\n|---|---|---|---|\n");
    for check in &verification.checks {
        let error = match check.tolerance.largest_error {
            _ if check.relative_to_f16 => "what f16 loses, or 2^-10".to_owned(),
            bound if bound.is_finite() => format!("{bound:e}"),
            _ => "-".to_owned(),
        };
        let holds = if check.pass { "yes" } else { "NO" };
        let cosine = match check.relative_to_f16 {
            true => "what f16 has, or 0.99999".to_owned(),
            false => check.tolerance.cosine.to_string(),
        };
        card.push_str(&format!("| {} | {error} | {cosine} | {holds} |\n", check.name));
    }
    card
}
