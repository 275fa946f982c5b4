//! A package in the form that Core ML loads.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A compiled package, which exists on disk as long as this value lives.
#[derive(Debug)]
pub struct Compiled {
    path: PathBuf,
    time: Option<Duration>,
    _held: Storage,
}

/// Why the package stays on disk.
#[derive(Debug)]
#[expect(dead_code, reason = "held for their effect on drop")]
enum Storage {
    /// In a cache, with a shared lock on its entry; `None` on file systems without locks.
    Kept(Option<File>),
    /// In a temporary folder, which is removed on drop.
    Temporary(TemporaryFolder),
}

impl Compiled {
    /// Creates one that is in a cache.
    pub(super) fn kept(path: PathBuf, time: Option<Duration>, lock: Option<File>) -> Self {
        Self { path, time, _held: Storage::Kept(lock) }
    }

    /// Creates one that is only in a temporary folder.
    pub(super) fn temporary(folder: TemporaryFolder, time: Duration) -> Self {
        Self { path: folder.0.clone(), time: Some(time), _held: Storage::Temporary(folder) }
    }

    /// Returns the path of the `.mlmodelc`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how long compiling took; `None` if the package had been compiled before.
    pub fn time(&self) -> Option<Duration> {
        self.time
    }
}

/// A temporary folder made by Core ML, removed on drop unless it was moved.
#[derive(Debug)]
pub(super) struct TemporaryFolder(pub(super) PathBuf);

impl TemporaryFolder {
    /// Moves the folder, by copying it if the destination is on another file system.
    pub(super) fn move_to(&self, to: &Path) -> io::Result<()> {
        match fs::rename(&self.0, to) {
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => copy_folder(&self.0, to),
            moved => moved,
        }
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // After a move, the folder is gone. If it cannot be removed, the system cleans up its temporary
        // files.
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

    /// As if the temporary folder were on another disk.
    #[test]
    fn a_folder_is_copied_whole() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("deep/er")).unwrap();
        fs::write(from.join("deep/er/file"), "x").unwrap();
        copy_folder(&from, &dir.path().join("to")).unwrap();
        assert_eq!(fs::read(dir.path().join("to/deep/er/file")).unwrap(), b"x");
        let error = copy_folder(&from, &dir.path().join("to")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "what is there is not mixed with it");
    }
}
