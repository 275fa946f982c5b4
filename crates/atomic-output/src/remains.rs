//! The hidden files and folders that killed processes leave beside a destination.
//!
//! `.NAME.RANDOM.partial` is an output that was being written. `.NAME.RANDOM.replaced` is an earlier folder
//! that was moved aside because the file system cannot exchange two names; its successor has the same RANDOM
//! and is complete. A process holds a lock on each of them for as long as it needs it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub(crate) const PARTIAL: &str = ".partial";
pub(crate) const REPLACED: &str = ".replaced";

/// Longest name, in bytes, that a hidden name contains as it is. File systems allow 255 bytes; a hidden name adds 17
/// to the 238 of an abbreviated name, which is longer than any that is not.
const LONGEST_NAME: usize = 237;

/// Returns the start of the hidden names of a destination. It is different for each name in a folder.
pub(crate) fn prefix(destination: &Path) -> OsString {
    let name = destination.file_name().unwrap_or_default();
    let mut prefix = OsString::from(".");
    if name.len() <= LONGEST_NAME {
        prefix.push(name);
    } else {
        let bytes = name.as_encoded_bytes();
        // The start of the name is for a person who finds the file; the hash distinguishes it from other names.
        let start = String::from_utf8_lossy(&bytes[..200]).replace(char::REPLACEMENT_CHARACTER, "");
        prefix.push(&start);
        prefix.push("~".repeat(LONGEST_NAME + 1 - 16 - start.len()));
        prefix.push(format!("{:016x}", fnv_1a(bytes)));
    }
    prefix.push(".");
    prefix
}

/// Returns the 64-bit FNV-1a hash, the same in every process: <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Returns the entries of `parent` whose names are `prefix`, six letters or digits, and `suffix`.
pub(crate) fn find(parent: &Path, prefix: &OsStr, suffix: &str) -> Vec<PathBuf> {
    entries(parent, |name| between(name, prefix, suffix).is_some_and(is_random))
}

/// Returns what stands between `prefix` and `suffix` in a name.
fn between<'n>(name: &'n OsStr, prefix: &OsStr, suffix: &str) -> Option<&'n [u8]> {
    let rest = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes())?;
    rest.strip_suffix(suffix.as_bytes())
}

/// Returns the files and folders of `parent` with names of ours. Links, pipes and other special files are never ours.
fn entries(parent: &Path, ours: impl Fn(&OsStr) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let regular = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file() || kind.is_dir());
    let ours = |entry: &fs::DirEntry| ours(&entry.file_name()) && regular(entry);
    entries.flatten().filter(ours).map(|entry| entry.path()).collect()
}

/// Returns whether `part` has the form of tempfile's random names.
fn is_random(part: &[u8]) -> bool {
    part.len() == 6 && part.iter().all(u8::is_ascii_alphanumeric)
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
        match (is_there, fs::symlink_metadata(&successor).is_ok_and(|found| found.is_dir())) {
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
    let ours = |name: &OsStr| {
        between(name, prefix.as_ref(), PARTIAL)
            .and_then(|rest| rest.rsplit(|byte| *byte == b'.').next())
            .is_some_and(is_random)
    };
    entries(parent.as_ref(), ours).iter().for_each(|path| remove(path));
}

/// Removes a file or folder that no process has locked. A failure does no harm, because the next process
/// tries again.
pub(crate) fn remove(path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    // Opening a pipe to lock it would wait for a writer.
    if !found.is_file() && !found.is_dir() {
        return;
    }
    // Where locks on files are mandatory, files under construction are not locked, so they are not removed.
    if found.is_file() && cfg!(not(unix)) {
        return;
    }
    let Some(_lock) = lock(path) else { return };
    let _ = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}
