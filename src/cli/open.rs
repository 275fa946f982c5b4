//! Opens the folders that commands receive; distinguishes a folder of another kind from a damaged one.

use std::path::Path;

use ane_bundle::Bundle;
use anyhow::Result;
use microgpt_model::{Checkpoint, Trainer};
use mlpackage::Package;

use super::expected::{Expected, expect};
use super::output;

/// Opens a bundle.
pub(super) fn bundle(path: &Path) -> Result<Bundle> {
    expect(path, Expected::Bundle)?;
    Ok(Bundle::open(path)?)
}

/// Opens a checkpoint.
pub(super) fn checkpoint(path: &Path) -> Result<Checkpoint> {
    expect(path, Expected::Checkpoint)?;
    let checkpoint = Checkpoint::open(path)?;
    if Trainer::is_unfinished(path) {
        let name = output::path(path);
        output::tell(&format!(
            "note: {name} holds a finished model, which is used, and a later run that is not finished; `microgpt train --resume {name}` \
             continues that run"
        ));
    }
    Ok(checkpoint)
}

/// Opens a package.
pub(super) fn package(path: &Path) -> Result<Package> {
    expect(path, Expected::Package)?;
    Ok(Package::open(path)?)
}
