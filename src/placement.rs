//! Placement of a bundle. Larger decoders that would clear the floor are exported with random weights and
//! predicted as well.

use ane_bundle::Architecture;
use ane_bundle::Bundle;
use ane_export::{ExportOptions, write_probe};
use ane_floor::PlacementReport;
use microgpt_model::{GptConfig, MODEL_TYPE};
use mlpackage::Package;

use crate::{Error, Result};

/// Predicts the placement of every shard of a bundle. For a shard below the floor, the suggested larger
/// decoders are exported to a temporary folder with the bundle's own options and predicted as well, so every
/// suggestion has been tried.
///
/// # Errors
///
/// [`Error::Package`] or [`Error::Placement`] if a package cannot be read; [`Error::TemporaryFolder`] or
/// [`Error::LargerDecoder`] if a larger decoder cannot be exported.
pub fn predict_placement(bundle: &Bundle) -> Result<Vec<PlacementReport>> {
    let manifest = bundle.manifest();
    // Another exporter, or a version with other options: larger decoders are suggested, but not tried.
    let options = ExportOptions::of_exporter(&manifest.exporter).ok();
    let mut reports = Vec::new();
    for shard in &manifest.shards {
        let mut report = PlacementReport::predict(&bundle.package(shard)?, Some(&manifest.architecture))?;
        if let (Some(scalings), Some(options)) = (&mut report.scalings, &options) {
            for scaling in [&mut scalings.cheapest, &mut scalings.balanced].into_iter().flatten() {
                let larger = Architecture {
                    n_embd: scaling.n_embd,
                    n_head: scaling.n_head,
                    n_layer: scaling.n_layer,
                    ..manifest.architecture.clone()
                };
                scaling.predicted = Some(tried(&larger, options)?.verdict);
            }
        }
        reports.push(report);
    }
    Ok(reports)
}

/// Predicts the placement of a decoder of these dimensions.
fn tried(decoder: &Architecture, options: &ExportOptions) -> Result<PlacementReport> {
    let dir = tempfile::tempdir().map_err(Error::TemporaryFolder)?;
    let path = dir.path().join("larger.mlpackage");
    let config = GptConfig {
        model_type: MODEL_TYPE.to_owned(),
        vocab_size: decoder.vocab_size,
        n_embd: decoder.n_embd,
        n_head: decoder.n_head,
        n_layer: decoder.n_layer,
        block_size: decoder.context_length,
        rms_norm_eps: 1e-5,
    };
    write_probe(&config, options, 1, &path).map_err(Error::LargerDecoder)?;
    Ok(PlacementReport::predict(&Package::open(&path)?, None)?)
}
