//! Folders that appear whole or not at all.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::remains;

/// Returns why an existing folder must not be replaced; `None` allows it.
type Refusal = Box<dyn Fn(&Path) -> Option<String> + Send + Sync>;

/// A folder under construction. Dropped without [`commit`](Self::commit), it is removed.
pub struct AtomicDir {
    staging: TempDir,
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
    /// # Errors
    ///
    /// [`Error::Occupied`] for any other destination; [`Error::Interrupted`] if a replacement cannot be
    /// completed; [`Error::Io`] if nothing can be written beside the destination.
    pub fn create(
        destination: impl AsRef<Path>,
        refusal: impl Fn(&Path) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self> {
        let destination = destination.as_ref();
        let parent = match destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let parents = NewParents::create(&parent)?;
        remains::settle(destination, &parent)?;
        check_replaceable(destination, &refusal)?;
        let (staging, lock) = stage(&parent, &remains::prefix(destination))?;
        let destination = destination.to_owned();
        Ok(Self { staging, destination, refusal: Box::new(refusal), _lock: lock, parents })
    }

    /// Returns the folder to write to until the commit.
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Returns the path of the folder after the commit.
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// Flushes everything to disk and moves the folder to its destination, in one step if the file system
    /// supports that.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Occupied`] if the destination now holds something that must not be replaced.
    /// It is then unchanged.
    pub fn commit(self) -> Result<()> {
        sync_tree(self.staging.path())?;
        check_replaceable(&self.destination, &self.refusal)?;
        let Self { staging, destination, _lock, parents, .. } = self;
        let moved = if destination.exists() {
            // After the exchange, the staging path holds the earlier folder, which is removed on drop.
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

/// Creates a hidden folder and locks it.
fn stage(parent: &Path, prefix: &str) -> Result<(TempDir, Option<File>)> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(remains::PARTIAL);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // The umask applies to it; tempfile's default would keep the result private.
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    loop {
        // Keeps only the kind of the error: tempfile adds a name that means nothing to the caller.
        let staging = builder
            .tempdir_in(parent)
            .map_err(|e| Error::io("create a folder in", parent, e.kind().into()))?;
        match File::open(staging.path()) {
            Ok(file) if remains::claim(staging.path(), &file) => return Ok((staging, Some(file))),
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
        Err(e) => Err(Error::io("look at", destination, e)),
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
pub(crate) fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|f| f.sync_all()).map_err(|e| Error::io("flush", path, e))
}

/// Windows cannot open a folder as a file, and flushes a file only through a handle that may write.
#[cfg(not(unix))]
pub(crate) fn sync(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    File::options().write(true).open(path).and_then(|f| f.sync_all()).map_err(|e| Error::io("flush", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::names;

    fn refusal(folder: &Path) -> Option<String> {
        (!folder.join("marker").is_file()).then(|| "has no marker".to_owned())
    }

    fn create(destination: &Path) -> Result<AtomicDir> {
        AtomicDir::create(destination, refusal)
    }

    fn marked(folder: &Path, text: &str) {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("marker"), text).unwrap();
    }

    fn marker(folder: &Path) -> String {
        fs::read_to_string(folder.join("marker")).unwrap()
    }

    #[test]
    fn nothing_remains_without_commit() {
        let base = tempfile::tempdir().unwrap();
        let dir = create(&base.path().join("deep/er/out")).unwrap();
        fs::write(dir.path().join("half"), "x").unwrap();
        drop(dir);
        assert!(names(base.path()).is_empty());
    }

    #[test]
    fn replaces_an_earlier_output_and_leaves_no_trace_of_it() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        for content in ["first", "second"] {
            let dir = create(&out).unwrap();
            fs::write(dir.path().join("marker"), content).unwrap();
            if content == "first" {
                fs::write(dir.path().join("old"), "").unwrap();
            }
            dir.commit().unwrap();
        }
        assert_eq!(marker(&out), "second");
        assert_eq!((names(&out), names(base.path())), (vec!["marker".into()], vec!["out".into()]));
    }

    #[test]
    fn a_folder_that_is_refused_is_never_replaced() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        let refused = |path: &Path, words: &str| {
            let error = create(path).map(drop).unwrap_err();
            assert!(matches!(error, Error::Occupied { .. }));
            assert!(error.to_string().contains(words), "{error}");
        };
        // A folder that was created in the meantime is refused at the commit, too.
        let dir = create(&out).unwrap();
        fs::create_dir(&out).unwrap();
        fs::write(out.join("thesis.tex"), "years of work").unwrap();
        assert!(matches!(dir.commit(), Err(Error::Occupied { .. })));
        refused(&out, "has no marker");
        refused(&out.join("thesis.tex"), "is not a folder");
        assert_eq!((names(&out), names(base.path())), (vec!["thesis.tex".into()], vec!["out".into()]));
    }

    /// A process that is killed leaves its folder. The next process with the same output removes it, but not
    /// the folder of a process that is still at work.
    #[cfg(unix)]
    #[test]
    fn remains_of_the_dead_are_removed() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        fs::create_dir_all(base.path().join(".out.AbCd12.partial/inside")).unwrap();
        fs::create_dir(base.path().join(".out.notes.partial")).unwrap();
        let (at_work, another) = (create(&out).unwrap(), create(&out).unwrap());
        assert!(at_work.path().is_dir() && another.path().is_dir());
        drop((at_work, another));
        assert_eq!(names(base.path()), [".out.notes.partial"]);
        // Remains of numbered outputs are found by the start of their names.
        for name in [".step-000001.AbCd12.partial", ".step-notes.partial", ".other.AbCd12.partial"] {
            fs::create_dir(base.path().join(name)).unwrap();
        }
        crate::remove_remains(base.path(), ".step-");
        assert_eq!(
            names(base.path()),
            [".other.AbCd12.partial", ".out.notes.partial", ".step-notes.partial"]
        );
    }

    #[test]
    fn two_renames_do_what_an_exchange_does() {
        let base = tempfile::tempdir().unwrap();
        let (staged, out) = (base.path().join(".out.AbCd12.partial"), base.path().join("out"));
        marked(&staged, "new");
        marked(&out, "old");
        step_aside(&staged, &out).unwrap();
        assert_eq!((marker(&out), names(base.path())), ("new".into(), vec!["out".into()]));
        // If the second one fails, the first is undone.
        step_aside(&staged, &out).unwrap_err();
        assert_eq!((marker(&out), names(base.path())), ("new".into(), vec!["out".into()]));
    }

    /// While a process is between its two renames, other processes leave both folders where they are.
    #[cfg(unix)]
    #[test]
    fn a_replacement_that_is_going_on_is_not_disturbed() {
        let base = tempfile::tempdir().unwrap();
        let (staged, aside) =
            (base.path().join(".out.AbCd12.partial"), base.path().join(".out.AbCd12.replaced"));
        marked(&staged, "new");
        marked(&aside, "old");
        let locks = (remains::lock(&staged).unwrap(), remains::lock(&aside).unwrap());
        drop(create(&base.path().join("out")).unwrap());
        assert_eq!((marker(&staged), marker(&aside)), ("new".into(), "old".into()));
        drop(locks);
    }

    /// Covers every moment at which a process can be killed if two names cannot be exchanged.
    #[test]
    fn a_replacement_that_was_interrupted_is_completed() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        let (out, partial, aside) = (at("out"), at(".out.AbCd12.partial"), at(".out.AbCd12.replaced"));
        // Killed between the renames: the successor is complete.
        marked(&aside, "old");
        marked(&partial, "new");
        drop(create(&out).unwrap());
        assert_eq!((marker(&out), names(base.path())), ("new".into(), vec!["out".into()]));
        // Killed after the second rename.
        marked(&aside, "old");
        drop(create(&out).unwrap());
        assert_eq!((marker(&out), names(base.path())), ("new".into(), vec!["out".into()]));
        // The successor is gone and nothing has taken its place.
        fs::rename(&out, &aside).unwrap();
        drop(create(&out).unwrap());
        assert_eq!((marker(&out), names(base.path())), ("new".into(), vec!["out".into()]));
        // Something else has taken the destination: nothing is removed.
        marked(&aside, "old");
        marked(&partial, "newer");
        let error = create(&out).map(drop).unwrap_err();
        assert!(matches!(&error, Error::Interrupted { .. }), "{error}");
        assert_eq!([marker(&out), marker(&aside), marker(&partial)], ["new", "old", "newer"]);
    }

    #[cfg(unix)]
    #[test]
    fn the_result_is_not_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        create(&out).unwrap().commit().unwrap();
        let plain = base.path().join("plain");
        fs::create_dir(&plain).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&out), mode(&plain));
    }
}
