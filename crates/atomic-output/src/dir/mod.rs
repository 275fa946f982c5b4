//! Folders that appear whole or not at all.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::{permissions, remains};

/// Returns why an existing folder must not be replaced; `None` allows it.
type Refusal = Box<dyn Fn(&Path) -> Option<String> + Send + Sync>;

/// A folder under construction. Dropped without [`commit`](Self::commit), it is removed.
#[must_use = "without `commit`, the folder is removed and never appears at its destination"]
pub struct AtomicDir {
    staging: Staging,
    destination: PathBuf,
    refusal: Refusal,
    /// Held until the commit, so that no other process mistakes the folder for one that a killed process
    /// left.
    _lock: Option<File>,
    parents: NewParents,
}

impl fmt::Debug for AtomicDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtomicDir").field("destination", &self.destination).finish_non_exhaustive()
    }
}

/// A hidden folder, which is removed on drop.
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        // If it cannot be removed, the next process with the same destination removes it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Folders that were created on the way to a destination. Those that are still empty are removed on drop.
#[derive(Debug, Default)]
struct NewParents(Vec<PathBuf>);

impl NewParents {
    fn create(parent: &Path) -> Result<Self> {
        let missing = parent.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists());
        let made = Self(missing.map(Path::to_owned).collect());
        fs::create_dir_all(parent).map_err(|e| Error::io("create folder", parent, e))?;
        Ok(made)
    }
}

impl Drop for NewParents {
    fn drop(&mut self) {
        for folder in &self.0 {
            // This fails for a folder that is not empty, which must stay.
            let _ = fs::remove_dir(folder);
        }
    }
}

impl AtomicDir {
    /// Opens a folder that becomes `destination` on [`commit`](Self::commit). Missing parents are created.
    ///
    /// An existing destination is replaced if it is an empty folder, or one for which `refusal` returns
    /// `None`. This is checked now and again at the commit. If a killed process left a folder for the same
    /// destination, an unfinished one is removed, and an unfinished replacement is completed.
    ///
    /// The folder gets the permissions that the umask leaves, or those of the folder that it replaces.
    ///
    /// # Errors
    ///
    /// [`Error::Occupied`] for any other destination; [`Error::Interrupted`] if a replacement cannot be
    /// completed; [`Error::Io`] if the destination does not end in a name, as `/` and `..` do not, or if
    /// nothing can be written beside it.
    pub fn create(
        destination: impl AsRef<Path>,
        refusal: impl Fn(&Path) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self> {
        let destination = folder_name(destination.as_ref())?;
        let parent = match destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let parents = NewParents::create(&parent)?;
        remains::settle(destination, &parent)?;
        check_replaceable(destination, &refusal)?;
        let (staging, lock) = stage(destination, &parent)?;
        let destination = destination.to_owned();
        Ok(Self { staging, destination, refusal: Box::new(refusal), _lock: lock, parents })
    }

    /// Returns the folder to write to until the commit.
    pub fn path(&self) -> &Path {
        &self.staging.0
    }

    /// Returns the path of the folder after the commit.
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// Returns the path that a file or folder below [`path`](Self::path) has after the commit. Errors name it,
    /// because the other one is hidden and exists no longer when they are read.
    pub fn final_path(&self, staged: impl AsRef<Path>) -> PathBuf {
        let staged = staged.as_ref();
        match staged.strip_prefix(self.path()) {
            // Joining an empty path would append a separator.
            Ok(below) if below.as_os_str().is_empty() => self.destination.clone(),
            Ok(below) => self.destination.join(below),
            Err(_) => staged.to_owned(),
        }
    }

    /// Flushes everything to disk and moves the folder to its destination, in one step if the file system
    /// supports that. Links inside the folder are moved and not followed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Occupied`] if the destination now holds something that must not be replaced.
    /// It is then unchanged.
    pub fn commit(self) -> Result<()> {
        sync_tree(self.path(), &self.destination)?;
        check_replaceable(&self.destination, &self.refusal)?;
        permissions::keep(&self.destination, self.path())
            .map_err(|e| Error::io("keep the permissions of", &self.destination, e))?;
        // Locals are dropped in reverse order: the parents can be removed only after the staged folder.
        let Self { mut parents, _lock, staging, destination, .. } = self;
        let moved = if destination.exists() {
            // After the exchange, the staging path holds the earlier folder, which is removed on drop.
            exchange(&staging.0, &destination)
        } else {
            fs::rename(&staging.0, &destination)
        };
        moved.map_err(|e| Error::io("move the finished folder to", &destination, e))?;
        parents.0.clear();
        if let Some(parent) = destination.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync(parent).map_err(|e| Error::io("flush", parent, e))?;
        }
        Ok(())
    }
}

/// Returns the path without what may follow the name at its end, `/` or `/.`, to which no folder can be renamed.
fn folder_name(destination: &Path) -> Result<&Path> {
    if destination.file_name().is_none() {
        let reason = "it is not the name of a folder: choose a path that ends in a name";
        let refused = io::Error::new(io::ErrorKind::InvalidInput, reason);
        return Err(Error::io("create folder", destination, refused));
    }
    Ok(destination.components().as_path())
}

/// Creates a hidden folder and locks it.
fn stage(destination: &Path, parent: &Path) -> Result<(Staging, Option<File>)> {
    let prefix = remains::prefix(destination);
    let mut builder = tempfile::Builder::new();
    // `Staging` removes the folder, because tempfile would remove it as a file.
    builder.prefix(&prefix).suffix(remains::PARTIAL).disable_cleanup(true);
    loop {
        let made = builder
            .make_in(parent, |path| permissions::create_dir(path, destination))
            .map_err(|e| Error::io("create a hidden folder beside", destination, e))?;
        let staging = Staging(made.path().to_owned());
        match File::open(&staging.0) {
            Ok(file) if remains::claim(&staging.0, &file) => return Ok((staging, Some(file))),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // Some systems cannot open a folder as a file, and so cannot lock it.
            Err(_) => return Ok((staging, None)),
        }
    }
}

fn check_replaceable(destination: &Path, refusal: &dyn Fn(&Path) -> Option<String>) -> Result<()> {
    let occupied =
        |reason: &str| Err(Error::Occupied { path: destination.to_owned(), reason: reason.to_owned() });
    match fs::symlink_metadata(destination) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("read the kind of", destination, e)),
        Ok(found) if found.is_symlink() => occupied("is a link"),
        Ok(found) if !found.is_dir() => occupied("is not a folder"),
        Ok(_) => {
            let mut entries = fs::read_dir(destination).map_err(|e| Error::io("list", destination, e))?;
            match entries.next().and_then(|_| refusal(destination)) {
                None => Ok(()),
                Some(reason) => occupied(&reason),
            }
        }
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn exchange(staged: &Path, destination: &Path) -> io::Result<()> {
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
fn exchange(staged: &Path, destination: &Path) -> io::Result<()> {
    step_aside(staged, destination)
}

/// Replaces a folder by two renames. If the second fails, the first is undone. If the process is killed
/// between them, the next process with the same destination does the second.
fn step_aside(staged: &Path, destination: &Path) -> io::Result<()> {
    let aside = staged.with_extension(&remains::REPLACED[1..]);
    // The lock stays on the folder when it is renamed, so no other process interferes with the replacement. A
    // lock that another process holds has the same effect.
    let _lock = remains::lock(destination);
    fs::rename(destination, &aside)?;
    if let Err(e) = fs::rename(staged, destination) {
        fs::rename(&aside, destination)?;
        return Err(e);
    }
    // If it cannot be removed, the next process removes it.
    let _ = fs::remove_dir_all(&aside);
    Ok(())
}

/// Flushes a folder and the files below it. Errors name `shown`, which the folder will be called. Links are not
/// followed: they may lead out of the folder, in a circle or nowhere. Pipes, sockets and devices have nothing to
/// flush, and opening a pipe would wait for a writer.
fn sync_tree(dir: &Path, shown: &Path) -> Result<()> {
    let list = |e| Error::io("list", shown, e);
    for entry in fs::read_dir(dir).map_err(list)? {
        let entry = entry.map_err(list)?;
        let kind = entry.file_type().map_err(list)?;
        let shown = shown.join(entry.file_name());
        if kind.is_dir() {
            sync_tree(&entry.path(), &shown)?;
        } else if kind.is_file() {
            sync(&entry.path()).map_err(|e| Error::io("flush", shown, e))?;
        }
    }
    sync(dir).map_err(|e| Error::io("flush", shown, e))
}

#[cfg(unix)]
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Windows cannot open a folder as a file, and flushes a file only through a handle that may write.
#[cfg(not(unix))]
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    File::options().write(true).open(path)?.sync_all()
}

#[cfg(test)]
mod tests;
