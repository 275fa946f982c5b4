//! A package in the form in which Core ML loads it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A compiled package, which stays as long as this lives.
#[derive(Debug)]
pub struct Compiled {
    path: PathBuf,
    time: Option<Duration>,
    _held: Held,
}

/// Why it stays.
#[derive(Debug)]
#[expect(dead_code, reason = "what they hold is held, and let go of in the end")]
enum Held {
    /// In a cache, whose lock is shared with others that use it; `None` on file systems that have no locks.
    Kept(Option<File>),
    /// Nowhere else.
    Temporary(TemporaryFolder),
}

impl Compiled {
    /// One that is in a cache.
    pub(super) fn kept(path: PathBuf, time: Option<Duration>, lock: Option<File>) -> Self {
        Self { path, time, _held: Held::Kept(lock) }
    }

    /// One that is nowhere else.
    pub(super) fn temporary(folder: TemporaryFolder, time: Duration) -> Self {
        Self { path: folder.0.clone(), time: Some(time), _held: Held::Temporary(folder) }
    }

    /// The `.mlmodelc`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How long it took to compile; `None` if it had been compiled before.
    pub fn time(&self) -> Option<Duration> {
        self.time
    }
}

/// A folder of Core ML's, removed unless it was moved.
#[derive(Debug)]
pub(super) struct TemporaryFolder(pub(super) PathBuf);

impl TemporaryFolder {
    /// Moves it, by way of a copy if the destination is on another file system.
    pub(super) fn move_to(&self, to: &Path) -> io::Result<()> {
        match fs::rename(&self.0, to) {
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => copy_folder(&self.0, to),
            moved => moved,
        }
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // Gone if it was moved; what cannot be removed is left to the system, which empties that place.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As where the folder for temporary files is on another disk.
    #[test]
    fn a_folder_is_copied_whole() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("deep/er")).unwrap();
        fs::write(from.join("deep/er/file"), "x").unwrap();
        copy_folder(&from, &dir.path().join("to")).unwrap();
        assert_eq!(fs::read(dir.path().join("to/deep/er/file")).unwrap(), b"x");
        assert!(copy_folder(&from, &dir.path().join("to")).is_err(), "what is there is not mixed with it");
    }
}
