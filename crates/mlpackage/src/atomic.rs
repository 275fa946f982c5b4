//! Folders that appear whole or not at all.
//!
//! What is written goes to a hidden folder beside the destination; [`AtomicDir::commit`] flushes it to disk and renames
//! it into place. A process that is killed before that leaves the hidden folder and nothing that loads.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, Result};

/// A folder under construction. Dropped without [`commit`](Self::commit), it is removed.
#[derive(Debug)]
pub struct AtomicDir {
    staging: TempDir,
    destination: PathBuf,
}

impl AtomicDir {
    /// Opens a folder that will become `destination`.
    ///
    /// A destination that exists is replaced on commit if it is an empty folder or holds a file called `marker`, that
    /// is, if it looks like an earlier output of the same kind.
    ///
    /// # Errors
    ///
    /// [`Error::Occupied`] for any other existing destination, [`Error::Io`] if nothing can be written beside it.
    pub fn create(destination: &Path, marker: &'static str) -> Result<Self> {
        check_replaceable(destination, marker)?;
        let parent = match destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        fs::create_dir_all(&parent).map_err(|e| Error::io("create folder", &parent, e))?;
        let name = destination.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // What the umask leaves of it: tempfile's own default would keep the result private.
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        let staging = builder.tempdir_in(&parent).map_err(|e| Error::io("create a folder in", &parent, e))?;
        Ok(Self { staging, destination: destination.to_owned() })
    }

    /// Where to write until the commit.
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Where the folder will stand.
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// Flushes everything to disk and puts the folder in its place, in one step even if something is replaced.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; the destination is then as it was.
    pub fn commit(self) -> Result<()> {
        sync_tree(self.staging.path())?;
        let Self { staging, destination } = self;
        let moved = if destination.exists() {
            // After the exchange the staging path holds what was replaced, and dropping it removes that.
            exchange(staging.path(), &destination)
        } else {
            fs::rename(staging.path(), &destination)
        };
        moved.map_err(|e| Error::io("move the finished folder to", &destination, e))?;
        if let Some(parent) = destination.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync(parent)?;
        }
        Ok(())
    }
}

fn check_replaceable(destination: &Path, marker: &'static str) -> Result<()> {
    let occupied = || Err(Error::Occupied { path: destination.to_owned(), marker });
    match fs::symlink_metadata(destination) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("look at", destination, e)),
        Ok(found) if !found.is_dir() => occupied(),
        Ok(_) if destination.join(marker).is_file() => Ok(()),
        Ok(_) => {
            let mut entries = fs::read_dir(destination).map_err(|e| Error::io("list", destination, e))?;
            if entries.next().is_none() { Ok(()) } else { occupied() }
        }
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn exchange(staged: &Path, destination: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, staged, CWD, destination, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // Some file systems cannot exchange two names.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            step_aside(staged, destination)
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn exchange(staged: &Path, destination: &Path) -> std::io::Result<()> {
    step_aside(staged, destination)
}

/// Two renames where one is not to be had; the old folder comes back if the second fails.
fn step_aside(staged: &Path, destination: &Path) -> std::io::Result<()> {
    let aside = staged.with_extension("replaced");
    fs::rename(destination, &aside)?;
    if let Err(e) = fs::rename(staged, destination) {
        fs::rename(&aside, destination)?;
        return Err(e);
    }
    fs::remove_dir_all(&aside)
}

fn sync_tree(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(|e| Error::io("list", dir, e))? {
        let path = entry.map_err(|e| Error::io("list", dir, e))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            sync(&path)?;
        }
    }
    sync(dir)
}

#[cfg(unix)]
fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|f| f.sync_all()).map_err(|e| Error::io("flush", path, e))
}

/// Windows cannot open a folder as a file, and flushes a file only through a handle that may write.
#[cfg(not(unix))]
fn sync(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    File::options().write(true).open(path).and_then(|f| f.sync_all()).map_err(|e| Error::io("flush", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_remains_without_commit() {
        let base = tempfile::tempdir().unwrap();
        let dir = AtomicDir::create(&base.path().join("out"), "marker").unwrap();
        fs::write(dir.path().join("half"), "x").unwrap();
        drop(dir);
        assert!(names(base.path()).is_empty());
    }

    #[test]
    fn replaces_an_earlier_output_and_leaves_no_trace_of_it() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        for content in ["first", "second"] {
            let dir = AtomicDir::create(&out, "marker").unwrap();
            fs::write(dir.path().join("marker"), content).unwrap();
            if content == "first" {
                fs::write(dir.path().join("old"), "").unwrap();
            }
            dir.commit().unwrap();
        }
        assert_eq!(fs::read_to_string(out.join("marker")).unwrap(), "second");
        assert_eq!(names(&out), ["marker"]);
        assert_eq!(names(base.path()), ["out"]);
    }

    #[test]
    fn a_folder_of_another_kind_is_never_replaced() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        fs::create_dir(&out).unwrap();
        fs::write(out.join("thesis.tex"), "years of work").unwrap();
        assert!(matches!(AtomicDir::create(&out, "marker"), Err(Error::Occupied { .. })));
        assert!(matches!(AtomicDir::create(&out.join("thesis.tex"), "marker"), Err(Error::Occupied { .. })));
        assert_eq!(names(base.path()), ["out"]);
    }

    #[cfg(unix)]
    #[test]
    fn the_result_is_not_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        AtomicDir::create(&out, "marker").unwrap().commit().unwrap();
        let plain = base.path().join("plain");
        fs::create_dir(&plain).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&out), mode(&plain));
    }
}
