//! An entry of the cache: its files, its size and its last use.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use mlpackage::FolderKind;
use serde::Serialize;

/// The compiled model in an entry.
pub(super) const MODEL: &str = "model.mlmodelc";
/// The description of an entry.
pub(super) const ABOUT: &str = "about.json";

/// Identifies an existing entry for the atomic folder writer.
pub(super) const ENTRY: FolderKind = FolderKind {
    marker: ABOUT,
    fields: &["package", "system"],
    belongs: |_, path| path.split('/').next() == Some(MODEL),
};

/// The contents of `about.json`.
#[derive(Serialize)]
pub(super) struct About<'a> {
    pub(super) package: String,
    pub(super) system: &'a str,
    pub(super) seconds: f64,
    pub(super) bytes: u64,
}

/// Returns whether an entry is complete. A tool that cleans caches may have removed parts of it.
pub(super) fn is_whole(entry: &Path) -> bool {
    let holds_something = fs::read_dir(entry.join(MODEL)).is_ok_and(|mut files| files.next().is_some());
    entry.join(ABOUT).is_file() && holds_something
}

/// Returns the total size of the files in a folder, in bytes.
pub(super) fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size_of(&entry.path()),
        Ok(_) => entry.metadata().map_or(0, |found| found.len()),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Returns when an entry was last used: the time when its `about.json` was last modified.
pub(super) fn last_use(entry: &Path) -> SystemTime {
    entry.join(ABOUT).metadata().and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Records that an entry is used now.
pub(super) fn touch(entry: &Path) {
    // A cache that is not writable is still readable.
    if let Ok(about) = File::options().append(true).open(entry.join(ABOUT)) {
        let _ = about.set_modified(SystemTime::now());
    }
}
