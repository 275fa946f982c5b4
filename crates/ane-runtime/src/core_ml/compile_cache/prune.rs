//! Removal of entries, so that a cache stays within its limit.

use std::fs::{self, DirEntry, File};
use std::path::PathBuf;
use std::time::SystemTime;

use super::CompileCache;
use super::entry::{ABOUT, last_use, size_of};
use crate::core_ml::cache_key::CacheKey;

/// Suffix of an entry that is being removed.
const REMOVED: &str = ".removed";

impl CompileCache {
    /// Removes the least recently used entries until the rest is within the limit; never `newest`, and
    /// nothing that is in use.
    ///
    /// Lock files are never removed, because all processes that wait for a key must wait for the same file.
    pub(super) fn prune(&self, newest: &CacheKey) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let (hidden, entries): (Vec<_>, Vec<_>) =
            entries.flatten().partition(|entry| entry.file_name().to_string_lossy().starts_with('.'));
        hidden.iter().for_each(remove_remains);
        let mut entries: Vec<(SystemTime, PathBuf, u64)> = entries
            .into_iter()
            .filter(|entry| entry.path().join(ABOUT).is_file())
            .map(|entry| (last_use(&entry.path()), entry.path(), size_of(&entry.path())))
            .collect();
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, path, bytes) in entries {
            if total <= self.limit {
                return;
            }
            let Some(key) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if key == newest.as_str() {
                continue;
            }
            let Ok(lock) = File::options().write(true).open(self.lock_path(key)) else { continue };
            // The entry is renamed before it is removed, so that a process killed halfway leaves no entry that
            // looks complete.
            let aside = self.folder.join(format!(".{key}{REMOVED}"));
            if lock.try_lock().is_ok() && fs::rename(&path, &aside).is_ok() {
                // An entry that cannot be removed does no harm.
                let _ = fs::remove_dir_all(&aside);
                total -= bytes;
            }
        }
    }
}

/// Removes a hidden folder of a process that was killed while it removed or created an entry. No process has
/// locked such a folder.
fn remove_remains(entry: &DirEntry) {
    let alone = File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok());
    if alone || entry.file_name().to_string_lossy().ends_with(REMOVED) {
        let _ = fs::remove_dir_all(entry.path());
    }
}
