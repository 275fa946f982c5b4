//! Export with the predicted placement and the parity bounds in the bundle's model card.

use std::path::Path;

use ane_export::ExportOptions;
use ane_floor::PlacementReport;
use microgpt_model::{Backend, Checkpoint};
use serde::Serialize;

use crate::{Result, Verification, VerifyOptions, predict_placement, verify};

/// The results of an export.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Exported {
    /// Predicted placement of each shard.
    pub placement: Vec<PlacementReport>,
    /// Parity with the checkpoint; `None` if it was not checked.
    pub verification: Option<Verification>,
}

/// Exports a checkpoint, predicts its placement and, if `check` names a backend of burn, compares the result
/// with the checkpoint. All of this happens before anything is written to `out`.
///
/// # Errors
///
/// If export, placement or verification fails; `out` is then unchanged.
pub fn export(
    checkpoint: &Checkpoint,
    out: impl AsRef<Path>,
    options: &ExportOptions,
    check: Option<Backend>,
) -> Result<Exported> {
    export_with_progress(checkpoint, out, options, check, |_, _| {})
}

/// Exports a checkpoint as [`export`] does, and reports progress: before each matrix, `progress` receives its
/// number, counted from 1, and the number of all matrices.
///
/// # Errors
///
/// As for [`export`].
pub fn export_with_progress(
    checkpoint: &Checkpoint,
    out: impl AsRef<Path>,
    options: &ExportOptions,
    check: Option<Backend>,
    progress: impl FnMut(usize, usize),
) -> Result<Exported> {
    let mut staged = ane_export::export_with_progress(checkpoint, out.as_ref(), options, progress)?;
    let bundle = staged.open()?;
    let placement = predict_placement(&bundle)?;
    let verification = match check {
        Some(backend) => {
            let options =
                VerifyOptions::default().with_checkpoint(checkpoint).with_seed(SEED).with_backend(backend);
            Some(verify(&bundle, &options)?)
        }
        None => None,
    };
    staged.add_to_card(&card(&placement, verification.as_ref()))?;
    staged.publish()?;
    Ok(Exported { placement, verification })
}

/// Seed of the sequence for the check at export.
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
    // States the bounds that hold instead of the measurements, whose last digits differ between machines: the
    // same checkpoint must produce the same bundle on all of them.
    card.push_str("Checked at export over the context, or its first 1,024 positions; `microgpt verify` prints the figures.\n\n");
    card.push_str("| comparison | largest error at most | cosine at least | holds |\n|---|---|---|---|\n");
    for check in &verification.checks {
        let error = match check.tolerance.largest_error {
            _ if check.relative_to_f16 => "the error of f16, or 2^-10".to_owned(),
            bound if bound.is_finite() => format!("{bound:e}"),
            _ => "-".to_owned(),
        };
        let holds = if check.pass { "yes" } else { "NO" };
        let cosine = match check.relative_to_f16 {
            true => "that of f16, or 0.99999".to_owned(),
            false => check.tolerance.cosine.to_string(),
        };
        card.push_str(&format!("| {} | {error} | {cosine} | {holds} |\n", check.name));
    }
    card
}
