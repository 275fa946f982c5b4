//! Puts a finished folder in its place in one step.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, Result};

/// Says why an existing folder must not be replaced; `None` if it is an earlier output.
pub(crate) type Judge = fn(&Path) -> Option<String>;

/// Lets `fill` write into a hidden folder beside `destination`, flushes it and renames it into place. An existing folder
/// is replaced if it is empty or `judge` has nothing against it, and stays whole until the new one takes its place. What a killed
/// process left half done of the same destination is removed; what it had moved aside and not yet replaced is put back.
pub(crate) fn folder(destination: &Path, judge: Judge, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let Stage { parent, staging, parents: _parents, _lock } = stage(destination, judge)?;
    // The temporary folder is private; what is filled and moved is a plain one inside it.
    let new = staging.path().join("new");
    fs::create_dir(&new).map_err(|e| Error::io("create folder", &new, e))?;
    fill(&new)?;
    flush(&new)?;
    let aside = staging.path().with_extension(REPLACED);
    let placed =
        if destination.exists() { swap(&new, destination, &aside) } else { fs::rename(&new, destination) };
    placed.map_err(|e| Error::io("move the finished folder to", destination, e))?;
    flush_one(&parent)
}

/// Whether `destination` is free or holds what may be replaced, and its parent can be written to.
///
/// # Errors
///
/// [`Error::Occupied`] if not; [`Error::Io`].
pub(crate) fn check(destination: &Path, judge: Judge) -> Result<()> {
    stage(destination, judge).map(|_| ())
}

/// Where a folder is filled.
struct Stage {
    /// Of the destination; made if need be.
    parent: PathBuf,
    /// A hidden folder in it.
    staging: TempDir,
    /// What was made on the way.
    parents: NewParents,
    /// Held as long as the process lives, so that another one can tell what was left behind from what is in the making.
    _lock: Option<File>,
}

/// How the name of a folder under construction ends.
const SUFFIX: &str = ".partial";

/// The extension of what stood at a destination, while two renames replace it.
const REPLACED: &str = "replaced";

/// Folders that were made on the way to a destination; those that are still empty go when this is dropped.
struct NewParents(Vec<PathBuf>);

impl Drop for NewParents {
    fn drop(&mut self) {
        for folder in &self.0 {
            // Not empty any more, or gone: either is as it should be.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn stage(destination: &Path, judge: Judge) -> Result<Stage> {
    let parent = match destination.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let missing = parent.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists());
    let parents = NewParents(missing.map(Path::to_owned).collect());
    fs::create_dir_all(&parent).map_err(|e| Error::io("create folder", &parent, e))?;
    let prefix = format!(".{}.", destination.file_name().unwrap_or_default().to_string_lossy());
    put_back(destination, &parent, &prefix);
    remove_remains(&parent, &prefix);
    replaceable(destination, judge)?;
    let staging = tempfile::Builder::new().prefix(&prefix).suffix(SUFFIX).tempdir_in(&parent);
    // The kind of the error alone: tempfile adds a name that means nothing to the caller.
    let staging = staging.map_err(|e| Error::io("create a folder in", &parent, e.kind().into()))?;
    let lock = File::open(staging.path()).ok().filter(|folder| folder.try_lock().is_ok());
    Ok(Stage { parent, staging, parents, _lock: lock })
}

/// Puts back what a process had moved aside when it was killed between two renames, unless the second one was done.
fn put_back(destination: &Path, parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let random =
            name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(REPLACED)?.strip_suffix('.'));
        if !random.is_some_and(is_random) || !File::open(entry.path()).is_ok_and(|f| f.try_lock().is_ok()) {
            continue;
        }
        // A failure leaves it where it is, under its hidden name: nothing is lost.
        let _ = match fs::symlink_metadata(destination) {
            Ok(_) => fs::remove_dir_all(entry.path()),
            Err(_) => fs::rename(entry.path(), destination),
        };
    }
}

/// Whether it is what tempfile puts into a name.
fn is_random(part: &str) -> bool {
    part.len() == 6 && part.chars().all(|c| c.is_ascii_alphanumeric())
}

/// Removes what processes that were killed left of the same output: folders whose lock nobody holds.
pub(crate) fn remove_remains(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let random = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(SUFFIX));
        // Of a state's folder, the number of its step comes before.
        let random = random.map(|rest| rest.rsplit_once('.').map_or(rest, |(_, random)| random));
        if random.is_some_and(is_random)
            && File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok())
        {
            // If it cannot be removed, it disturbs nobody.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn replaceable(destination: &Path, judge: Judge) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(destination) else { return Ok(()) };
    let occupied = |reason: String| Err(Error::Occupied { path: destination.to_owned(), reason });
    if !found.is_dir() {
        return occupied("is no folder".into());
    }
    let mut entries = fs::read_dir(destination).map_err(|e| Error::io("list", destination, e))?;
    match entries.next().and_then(|_| judge(destination)) {
        None => Ok(()),
        Some(reason) => occupied(reason),
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn swap(new: &Path, destination: &Path, aside: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, new, CWD, destination, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // Some file systems cannot exchange two names.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            step_aside(new, destination, aside)
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn swap(new: &Path, destination: &Path, aside: &Path) -> std::io::Result<()> {
    step_aside(new, destination, aside)
}

/// Two renames where the file system cannot exchange two names. The old folder comes back if the second fails; if the process is
/// killed between them, the next one with the same destination puts it back.
fn step_aside(new: &Path, destination: &Path, aside: &Path) -> std::io::Result<()> {
    fs::rename(destination, aside)?;
    fs::rename(new, destination).or_else(|e| {
        fs::rename(aside, destination)?;
        Err(e)
    })?;
    fs::remove_dir_all(aside)
}

fn flush(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(|e| Error::io("list", dir, e))? {
        let path = entry.map_err(|e| Error::io("list", dir, e))?.path();
        if path.is_dir() { flush(&path)? } else { flush_one(&path)? }
    }
    flush_one(dir)
}

fn flush_one(path: &Path) -> Result<()> {
    if cfg!(not(unix)) && path.is_dir() {
        return Ok(());
    }
    // Windows flushes only through a handle that may write.
    let opened = if cfg!(unix) { File::open(path) } else { File::options().write(true).open(path) };
    opened.and_then(|f| f.sync_all()).map_err(|e| Error::io("flush", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(folder: &Path) -> Option<String> {
        (!folder.join("m").is_file()).then(|| "has no m".to_owned())
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        folder(&out, judge, |d| fs::write(d.join("m"), "1").map_err(|e| Error::io("write", d, e))).unwrap();
        let failed = folder(&out, judge, |d| {
            fs::write(d.join("m"), "2").map_err(|e| Error::io("write", d, e))?;
            Err(Error::file(d, "planted"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(out.join("m")).unwrap(), "1");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
        folder(&out, judge, |d| fs::write(d.join("m"), "3").map_err(|e| Error::io("write", d, e))).unwrap();
        assert_eq!(fs::read_to_string(out.join("m")).unwrap(), "3");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_another_makes_is_not() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        let left = base.path().join(".out.abc123.partial");
        fs::create_dir_all(left.join("new")).unwrap();
        folder(&out, judge, |d| {
            // While this one is in the making, another comes.
            folder(&out, judge, |d| fs::write(d.join("m"), "2").map_err(|e| Error::io("write", d, e)))?;
            fs::write(d.join("m"), "1").map_err(|e| Error::io("write", d, e))
        })
        .unwrap();
        assert_eq!(fs::read_to_string(out.join("m")).unwrap(), "1");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
    }

    #[test]
    fn two_renames_do_what_an_exchange_does() {
        let base = tempfile::tempdir().unwrap();
        let (new, out) = (base.path().join("new"), base.path().join("out"));
        for (folder, text) in [(&new, "2"), (&out, "1")] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("m"), text).unwrap();
        }
        let aside = base.path().join(".out.AbCd12.replaced");
        step_aside(&new, &out, &aside).unwrap();
        assert_eq!(fs::read_to_string(out.join("m")).unwrap(), "2");
        assert!(step_aside(&base.path().join("nothing"), &out, &aside).is_err());
        assert_eq!(fs::read_to_string(out.join("m")).unwrap(), "2", "what was there is back");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
        // Killed between the two: the next process with the same destination finds it as it was.
        fs::rename(&out, &aside).unwrap();
        check(&out, judge).unwrap();
        assert_eq!(fs::read_to_string(out.join("m")).unwrap(), "2");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_of_another_kind_is_never_replaced() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("thesis.tex"), "").unwrap();
        assert!(matches!(folder(base.path(), judge, |_| Ok(())), Err(Error::Occupied { .. })));
    }
}
