//! Folders that appear whole or not at all.
//!
//! What is written goes to a hidden folder beside the destination; [`AtomicDir::commit`] flushes it to disk and renames
//! it into place. A process that is killed before that leaves the hidden folder and nothing that loads; what stood at the
//! destination before stays there, whole, until the new folder takes its place.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::paths;

/// A folder under construction. Dropped without [`commit`](Self::commit), it is removed.
#[derive(Debug)]
pub struct AtomicDir {
    staging: TempDir,
    destination: PathBuf,
    /// Held as long as the process lives, so that another one can tell what was left behind from what is in the making.
    _lock: Option<File>,
    parents: NewParents,
}

/// A kind of folder, by which an earlier output is told from what must not be replaced.
#[derive(Clone, Copy, Debug)]
pub struct FolderKind {
    /// The file by which it is known, a JSON object.
    pub marker: &'static str,
    /// Fields that the object has.
    pub fields: &'static [&'static str],
    /// What else stands beside the file; `*.x` for anything that ends in `.x`.
    pub entries: &'static [&'static str],
}

/// A `.mlpackage`.
pub(crate) const PACKAGE: FolderKind = FolderKind {
    marker: "Manifest.json",
    fields: &["fileFormatVersion", "itemInfoEntries", "rootModelIdentifier"],
    entries: &["Data"],
};

/// The marker is small; a file that is not is none.
const MARKER_LIMIT: u64 = 64 << 20;

impl FolderKind {
    /// Why `folder` is none of this kind; `None` if it is one.
    fn differs(&self, folder: &Path) -> Option<String> {
        let marker = self.marker;
        let Ok(bytes) = paths::read_small(&folder.join(marker), MARKER_LIMIT) else {
            return Some(format!("has no {marker}"));
        };
        let object: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(&bytes).ok();
        if !object.is_some_and(|o| self.fields.iter().all(|field| o.contains_key(*field))) {
            return Some(format!("its {marker} was not written by this program"));
        }
        let belongs = |name: &str| {
            let listed = |entry: &str| match entry.strip_prefix('*') {
                Some(end) => name.ends_with(end),
                None => entry == name,
            };
            name == marker || name == ".DS_Store" || self.entries.iter().any(|e| listed(e))
        };
        let names =
            fs::read_dir(folder).ok()?.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
        let mut strangers: Vec<String> = names.filter(|name| !belongs(name)).collect();
        strangers.sort();
        strangers.first().map(|name| format!("holds {name}, which would be lost"))
    }
}

/// Folders that were made on the way to a destination; those that are still empty go when this is dropped.
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
            // Not empty any more, or gone: either is as it should be.
            let _ = fs::remove_dir(folder);
        }
    }
}

impl AtomicDir {
    /// Opens a folder that will become `destination`.
    ///
    /// A destination that exists is replaced on commit if it is an empty folder, or one of that kind with nothing else in
    /// it. What an earlier process left half done beside it is removed; what it had moved aside and not yet replaced is put back.
    ///
    /// # Errors
    ///
    /// [`Error::Occupied`] for any other existing destination, [`Error::Io`] if nothing can be written beside it.
    pub fn create(destination: &Path, kind: &FolderKind) -> Result<Self> {
        let parent = match destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let parents = NewParents::create(&parent)?;
        let name = destination.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.");
        remains::settle(destination, &parent, &prefix);
        check_replaceable(destination, kind)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(remains::PARTIAL);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // What the umask leaves of it: tempfile's own default would keep the result private.
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        // The kind of the error alone: tempfile adds a name that means nothing to the caller.
        let staging = builder
            .tempdir_in(&parent)
            .map_err(|e| Error::io("create a folder in", &parent, e.kind().into()))?;
        let lock = File::open(staging.path()).ok().filter(|folder| folder.try_lock().is_ok());
        Ok(Self { staging, destination: destination.to_owned(), _lock: lock, parents })
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
        let Self { staging, destination, _lock, parents } = self;
        let moved = if destination.exists() {
            // After the exchange the staging path holds what was replaced, and dropping it removes that.
            exchange(staging.path(), &destination)
        } else {
            fs::rename(staging.path(), &destination)
        };
        moved.map_err(|e| Error::io("move the finished folder to", &destination, e))?;
        drop(parents);
        if let Some(parent) = destination.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync(parent)?;
        }
        Ok(())
    }
}

/// What killed processes left beside a destination: `.NAME.RANDOM.partial` was being written, `.NAME.RANDOM.replaced` stood at the
/// destination.
pub(crate) mod remains {
    use std::fs::{self, File};
    use std::path::{Path, PathBuf};

    pub(crate) const PARTIAL: &str = ".partial";
    pub(super) const REPLACED: &str = ".replaced";

    /// Entries of `parent` whose names are `prefix`, six letters or digits, and `suffix`.
    pub(crate) fn find(parent: &Path, prefix: &str, suffix: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
        let ours = |entry: &fs::DirEntry| {
            let name = entry.file_name();
            let random = name.to_str().and_then(|n| n.strip_prefix(prefix)?.strip_suffix(suffix));
            random.is_some_and(|r| r.len() == 6 && r.chars().all(|c| c.is_ascii_alphanumeric()))
        };
        entries.flatten().filter(ours).map(|entry| entry.path()).collect()
    }

    /// Puts back what a killed process had moved aside if nothing has taken its place, and removes the rest: folders whose lock
    /// nobody holds.
    pub(super) fn settle(destination: &Path, parent: &Path, prefix: &str) {
        let unused = |folder: &PathBuf| File::open(folder).is_ok_and(|f| f.try_lock().is_ok());
        for replaced in find(parent, prefix, REPLACED).iter().filter(|p| unused(p)) {
            // A failure leaves it where it is, under its hidden name: nothing is lost.
            let _ = match fs::symlink_metadata(destination) {
                Ok(_) => fs::remove_dir_all(replaced),
                Err(_) => fs::rename(replaced, destination),
            };
        }
        for partial in find(parent, prefix, PARTIAL).iter().filter(|p| unused(p)) {
            // If it cannot be removed, it disturbs nobody.
            let _ = fs::remove_dir_all(partial);
        }
    }
}

fn check_replaceable(destination: &Path, kind: &FolderKind) -> Result<()> {
    let occupied =
        |reason: &str| Err(Error::Occupied { path: destination.to_owned(), reason: reason.to_owned() });
    match fs::symlink_metadata(destination) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("look at", destination, e)),
        Ok(found) if !found.is_dir() => occupied("is no folder"),
        Ok(_) => {
            let mut entries = fs::read_dir(destination).map_err(|e| Error::io("list", destination, e))?;
            match entries.next().and_then(|_| kind.differs(destination)) {
                None => Ok(()),
                Some(reason) => occupied(&reason),
            }
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

/// Two renames where the file system cannot exchange two names. The old folder comes back if the second fails; if the process is
/// killed between them, the next one with the same destination puts it back.
fn step_aside(staged: &Path, destination: &Path) -> std::io::Result<()> {
    let aside = staged.with_extension(&remains::REPLACED[1..]);
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

    const KIND: FolderKind = FolderKind { marker: "marker", fields: &["ours"], entries: &["old"] };

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_remains_without_commit() {
        let base = tempfile::tempdir().unwrap();
        let dir = AtomicDir::create(&base.path().join("deep/er/out"), &KIND).unwrap();
        fs::write(dir.path().join("half"), "x").unwrap();
        drop(dir);
        assert!(names(base.path()).is_empty());
    }

    #[test]
    fn replaces_an_earlier_output_and_leaves_no_trace_of_it() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        for content in ["first", "second"] {
            let dir = AtomicDir::create(&out, &KIND).unwrap();
            fs::write(dir.path().join("marker"), format!("{{\"ours\": \"{content}\"}}")).unwrap();
            if content == "first" {
                fs::write(dir.path().join("old"), "").unwrap();
            }
            dir.commit().unwrap();
        }
        assert!(fs::read_to_string(out.join("marker")).unwrap().contains("second"));
        assert_eq!(names(&out), ["marker"]);
        assert_eq!(names(base.path()), ["out"]);
    }

    #[test]
    fn a_folder_of_another_kind_is_never_replaced() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        fs::create_dir(&out).unwrap();
        let refused = |path: &Path, words: &str| {
            let error = AtomicDir::create(path, &KIND).map(|_| ()).unwrap_err();
            assert!(matches!(error, Error::Occupied { .. }));
            assert!(error.to_string().contains(words), "{error}");
        };
        fs::write(out.join("thesis.tex"), "years of work").unwrap();
        refused(&out, "has no marker");
        refused(&out.join("thesis.tex"), "is no folder");
        // Many kinds of folder have a file of a common name.
        fs::write(out.join("marker"), "{\"theirs\": 1}").unwrap();
        refused(&out, "was not written by this program");
        fs::write(out.join("marker"), "{\"ours\": 1}").unwrap();
        refused(&out, "holds thesis.tex, which would be lost");
        fs::rename(out.join("thesis.tex"), out.join("old")).unwrap();
        AtomicDir::create(&out, &KIND).map(|_| ()).unwrap();
        assert_eq!(names(base.path()), ["out"]);
    }

    /// A process that is killed leaves its folder; the next one with the same output removes it, but not that of one which
    /// is still at work.
    #[cfg(unix)]
    #[test]
    fn remains_of_the_dead_are_removed() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        fs::create_dir(base.path().join(".out.AbCd12.partial")).unwrap();
        fs::create_dir(base.path().join(".out.notes.partial")).unwrap();
        let at_work = AtomicDir::create(&out, &KIND).unwrap();
        let another = AtomicDir::create(&out, &KIND).unwrap();
        assert!(at_work.path().is_dir() && another.path().is_dir());
        drop((at_work, another));
        assert_eq!(names(base.path()), [".out.notes.partial"]);
    }

    /// Killed between the two renames of a file system that cannot exchange two names.
    #[test]
    fn what_was_moved_aside_and_not_replaced_is_put_back() {
        let base = tempfile::tempdir().unwrap();
        let (out, aside) = (base.path().join("out"), base.path().join(".out.AbCd12.replaced"));
        let partial = base.path().join(".out.AbCd12.partial");
        let marked = |folder: &Path, text: &str| {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("marker"), format!("{{\"ours\": \"{text}\"}}")).unwrap();
        };
        marked(&aside, "finished work");
        marked(&partial, "half");
        drop(AtomicDir::create(&out, &KIND).unwrap());
        assert_eq!(names(base.path()), ["out"]);
        assert!(fs::read_to_string(out.join("marker")).unwrap().contains("finished work"));
        // Killed after the second rename: the new one is in its place.
        marked(&aside, "older");
        drop(AtomicDir::create(&out, &KIND).unwrap());
        assert_eq!(names(base.path()), ["out"]);
        assert!(fs::read_to_string(out.join("marker")).unwrap().contains("finished work"));
    }

    #[cfg(unix)]
    #[test]
    fn the_result_is_not_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        AtomicDir::create(&out, &KIND).unwrap().commit().unwrap();
        let plain = base.path().join("plain");
        fs::create_dir(&plain).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&out), mode(&plain));
    }
}
