//! Finds models in and around a path.

use std::path::{Path, PathBuf};

use super::Expected;
use crate::cli::path_kind::PathKind;

/// Returns the packages in a folder, sorted.
pub(super) fn packages(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let mut packages: Vec<PathBuf> =
        entries.filter(|path| PathKind::of(path).is_ok_and(|kind| kind == PathKind::Package)).collect();
    packages.sort();
    packages
}

/// Limit of the entries of a folder that are examined for advice.
const ENTRIES: usize = 100;

/// Finds a model in a folder: one that the command accepts, or else one that needs another step first.
pub(super) fn inside(folder: &Path, expected: Expected) -> Option<(PathBuf, PathKind)> {
    let mut entries: Vec<PathBuf> =
        folder.read_dir().ok()?.flatten().take(ENTRIES).map(|entry| entry.path()).collect();
    entries.sort();
    let mut models: Vec<(PathBuf, PathKind)> = entries
        .into_iter()
        .filter_map(|path| Some((path.clone(), PathKind::of(&path).ok()?)))
        .filter(|(_, kind)| kind.is_of_this_project() || *kind == PathKind::Gguf)
        .collect();
    let best = models.iter().position(|(_, kind)| expected.takes(kind)).unwrap_or(0);
    (best < models.len()).then(|| models.swap_remove(best))
}

/// Returns the folder around a path, if it is of the wanted kind.
pub(super) fn around(path: &Path, wanted: &PathKind) -> Option<PathBuf> {
    let real = path.canonicalize().ok()?;
    let folder = real.parent()?;
    let is_wanted = PathKind::of(folder).is_ok_and(|kind| kind == *wanted);
    // As the user wrote it, unless that is another folder: `.` has no parent, and a link has another one.
    let written = path.file_name().and_then(|_| path.parent()).map(here);
    let written = written.filter(|written| written.canonicalize().is_ok_and(|written| written == folder));
    is_wanted.then(|| written.unwrap_or(folder).to_owned())
}

/// Returns the path, or `.` in place of the empty path of the current folder.
fn here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Finds the model that a file is a part of.
pub(super) fn belongs_to(file: &Path) -> Option<(PathBuf, PathKind)> {
    // Notes and pictures beside a model are no part of it.
    let extension = file.extension()?.to_str()?;
    if !["json", "jsonl", "safetensors", "bin", "mlmodel"].contains(&extension) {
        return None;
    }
    // A package's weights are four folders down.
    file.ancestors().skip(1).take(5).map(here).find_map(|folder| {
        let kind = PathKind::of(folder).ok()?;
        (kind.is_of_this_project() || matches!(kind, PathKind::HuggingFace { .. }))
            .then(|| (folder.to_owned(), kind))
    })
}
