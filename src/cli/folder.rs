//! Opens the folders that commands are given; one of another kind is told from one that is damaged.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use microgpt_model::Checkpoint;
use mlpackage::bundle::BUNDLE_MANIFEST;
use mlpackage::{Bundle, Package};

/// Whether the folder looks like a checkpoint, and not like a bundle.
pub(super) fn is_checkpoint(path: &Path) -> bool {
    path.join("config.json").exists() && !path.join(BUNDLE_MANIFEST).exists()
}

fn is_bundle(path: &Path) -> bool {
    path.join(BUNDLE_MANIFEST).exists()
}

fn is_package(path: &Path) -> bool {
    path.join("Manifest.json").exists()
}

/// A bundle.
pub(super) fn bundle(path: &Path) -> Result<Bundle> {
    if path.is_dir() && !is_bundle(path) {
        let found = path.display();
        if is_checkpoint(path) {
            bail!("{found} is a checkpoint: make a bundle of it with `microgpt export {found} --out BUNDLE`");
        }
        if is_package(path) {
            bail!("{found} is a package: give the bundle that it is in");
        }
        bail!("{found}: no bundle is there (bundle.json), no checkpoint either (config.json)");
    }
    Ok(Bundle::open(path)?)
}

/// A checkpoint.
pub(super) fn checkpoint(path: &Path) -> Result<Checkpoint> {
    let found = path.display();
    ensure!(!is_bundle(path), "{found} is a bundle: give the checkpoint that it was exported from");
    ensure!(!path.is_dir() || is_checkpoint(path), "{found}: no checkpoint is there (config.json)");
    Ok(Checkpoint::open(path)?)
}

/// A package.
pub(super) fn package(path: &Path) -> Result<Package> {
    expect_package(path)?;
    Ok(Package::open(path)?)
}

/// Refuses a folder that is of another kind than a package, and says which.
pub(super) fn expect_package(path: &Path) -> Result<()> {
    ensure!(!path.is_file(), "{} is a file, expected the folder of a bundle or package", path.display());
    if path.is_dir() && !is_package(path) {
        let found = path.display();
        if is_checkpoint(path) {
            bail!("{found} is a checkpoint: make a bundle of it with `microgpt export {found} --out BUNDLE`");
        }
        bail!("{found}: no bundle (bundle.json) and no package (Manifest.json) is there");
    }
    Ok(())
}

/// Whether a file that may not be there yet lies in a folder.
pub(super) fn holds(folder: &Path, file: &Path) -> bool {
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (parent.canonicalize(), folder.canonicalize()) {
        (Ok(parent), Ok(folder)) => parent.starts_with(folder),
        _ => false,
    }
}
