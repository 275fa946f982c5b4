//! Opens the folders that commands receive; distinguishes a folder of another kind from a damaged one.

use std::path::Path;

use anyhow::Result;
use microgpt_model::{Checkpoint, Trainer};
use mlpackage::{Bundle, Package};

use super::output;
use super::unfit::{Expected, expect};

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

/// Whether two paths, which need not exist, name the same file.
pub(super) fn same_file(a: &Path, b: &Path) -> bool {
    let resolved = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        path.canonicalize()
            .or_else(|_| Ok::<_, std::io::Error>(parent_of(path).canonicalize()?.join(name)))
            .ok()
    };
    a == b || resolved(a).is_some_and(|a| resolved(b) == Some(a))
}

fn parent_of(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a file, which need not exist, is inside a folder.
pub(super) fn holds(folder: &Path, file: &Path) -> bool {
    match (parent_of(file).canonicalize(), folder.canonicalize()) {
        (Ok(parent), Ok(folder)) => parent.starts_with(folder),
        _ => false,
    }
}
