//! The hidden files and folders that killed processes leave beside a destination.
//!
//! `.NAME.RANDOM.partial` is an output that was being written. `.NAME.RANDOM.replaced` is an earlier folder
//! that was moved aside because the file system cannot exchange two names; its successor has the same RANDOM
//! and is complete. A process holds a lock on each of them for as long as it needs it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub(crate) const PARTIAL: &str = ".partial";
pub(crate) const REPLACED: &str = ".replaced";

/// Returns the start of the hidden names of a destination.
pub(crate) fn prefix(destination: &Path) -> String {
    format!(".{}.", destination.file_name().unwrap_or_default().to_string_lossy())
}

/// Returns the entries of `parent` whose names are `prefix`, six letters or digits, and `suffix`.
pub(crate) fn find(parent: &Path, prefix: &str, suffix: &str) -> Vec<PathBuf> {
    entries(parent, |name| {
        name.strip_prefix(prefix).and_then(|n| n.strip_suffix(suffix)).is_some_and(is_random)
    })
}

fn entries(parent: &Path, ours: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let ours = |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(&ours);
    entries.flatten().filter(ours).map(|entry| entry.path()).collect()
}

/// Returns whether `part` has the form of tempfile's random names.
fn is_random(part: &str) -> bool {
    part.len() == 6 && part.chars().all(|c| c.is_ascii_alphanumeric())
}

/// Locks a file or folder that no other process uses. Returns `None` if it is in use, or the file system has
/// no locks.
pub(crate) fn lock(path: &Path) -> Option<File> {
    File::open(path).ok().filter(|file| file.try_lock().is_ok())
}

/// Locks the output under construction at `path`, which is open as `file`. Returns whether this process now
/// owns it: before the lock, another process may have mistaken it for an output that a killed process left,
/// and removed or locked it.
pub(crate) fn claim(path: &Path, file: &File) -> bool {
    match file.try_lock() {
        Ok(()) => names(path, file),
        Err(TryLockError::WouldBlock) => false,
        // Without locks in the file system, other processes cannot lock the output either, and so do not
        // remove it.
        Err(TryLockError::Error(_)) => true,
    }
}

/// Returns whether `path` still names the open `file`.
#[cfg(unix)]
fn names(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |found: io::Result<fs::Metadata>| found.ok().map(|m| (m.dev(), m.ino()));
    let open = id(file.metadata());
    open.is_some() && open == id(fs::symlink_metadata(path))
}

#[cfg(not(unix))]
fn names(path: &Path, _: &File) -> bool {
    path.exists()
}

/// Completes the replacements that killed processes began, and removes their unfinished outputs.
///
/// # Errors
///
/// [`Error::Interrupted`] if a replacement cannot be completed without losing something; [`Error::Io`] if a
/// rename fails.
pub(crate) fn settle(destination: &Path, parent: &Path) -> Result<()> {
    let prefix = prefix(destination);
    for earlier in find(parent, &prefix, REPLACED) {
        let Some(_lock) = lock(&earlier) else { continue };
        let successor = earlier.with_extension(&PARTIAL[1..]);
        let is_there = fs::symlink_metadata(destination).is_ok();
        let rename = |from: &Path| {
            fs::rename(from, destination)
                .map_err(|e| Error::io("move the finished folder to", destination, e))
        };
        match (is_there, successor.is_dir()) {
            // Killed between the two renames. The successor was complete before the first one.
            (false, true) => {
                rename(&successor)?;
                // If it cannot be removed, the next process removes it.
                let _ = fs::remove_dir_all(&earlier);
            }
            (false, false) => rename(&earlier)?,
            // Killed after the second rename.
            (true, false) => drop(fs::remove_dir_all(&earlier)),
            (true, true) => {
                return Err(Error::Interrupted { path: destination.to_owned(), earlier, successor });
            }
        }
    }
    for partial in find(parent, &prefix, PARTIAL) {
        remove(&partial);
    }
    Ok(())
}

/// Removes the unfinished outputs in `parent` whose names begin with `prefix` and which no process has
/// locked. This is for outputs whose destinations are not known, such as numbered ones.
pub fn remove_remains(parent: impl AsRef<Path>, prefix: &str) {
    let ours = |name: &str| {
        let rest = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(PARTIAL));
        rest.is_some_and(|rest| is_random(rest.rsplit_once('.').map_or(rest, |(_, random)| random)))
    };
    entries(parent.as_ref(), ours).iter().for_each(|path| remove(path));
}

/// Removes a file or folder that no process has locked. A failure does no harm, because the next process
/// tries again.
pub(crate) fn remove(path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    // Where locks on files are mandatory, files under construction are not locked, so they are not removed.
    if found.is_file() && cfg!(not(unix)) {
        return;
    }
    let Some(_lock) = lock(path) else { return };
    let _ = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}
