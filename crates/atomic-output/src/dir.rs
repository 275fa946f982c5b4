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

    #[cfg(unix)]
    #[test]
    fn the_permissions_of_the_folder_that_is_replaced_are_kept() {
        use std::os::unix::fs::PermissionsExt as _;
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        marked(&out, "old");
        fs::set_permissions(&out, fs::Permissions::from_mode(0o710)).unwrap();
        let dir = create(&out).unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o077 & !0o010, 0);
        fs::write(dir.path().join("marker"), "new").unwrap();
        dir.commit().unwrap();
        assert_eq!(marker(&out), "new");
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o710);
    }

    /// Flushing must neither wait for a writer of a pipe nor leave the folder: two links to the next folder in
    /// each of 40 would be 2^40 paths.
    #[cfg(target_os = "linux")]
    #[test]
    fn links_and_special_files_are_moved_and_not_followed() {
        use rustix::fs::{CWD, Mode, mkfifoat};
        use std::os::unix::fs::symlink;
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        let dir = create(&out).unwrap();
        let at = |name: &str| dir.path().join(name);
        mkfifoat(CWD, at("pipe"), Mode::from_raw_mode(0o600)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink(".", at("itself")).unwrap();
        symlink("pipe", at("link to the pipe")).unwrap();
        for i in 0..40 {
            fs::create_dir(at(&format!("d{i}"))).unwrap();
            for link in ["a", "b"] {
                symlink(format!("../d{}", i + 1), at(&format!("d{i}/{link}"))).unwrap();
            }
        }
        dir.commit().unwrap();
        assert_eq!(names(&out).len(), 5 + 40);
        assert_eq!(fs::read_link(out.join("d39/b")).unwrap(), Path::new("../d40"));
    }

    /// Nothing that a stranger puts beside a destination keeps an output from being created.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_with_a_hidden_name_is_left_alone() {
        use rustix::fs::{CWD, Mode, mkfifoat};
        let base = tempfile::tempdir().unwrap();
        let hidden = [".out.AbCd12.partial", ".out.AbCd12.replaced"];
        for name in hidden {
            mkfifoat(CWD, base.path().join(name), Mode::from_raw_mode(0o600)).unwrap();
        }
        std::os::unix::fs::symlink(hidden[0], base.path().join(".out.AbCd34.partial")).unwrap();
        create(&base.path().join("out")).unwrap().commit().unwrap();
        crate::write_file(base.path().join("page"), b"x").unwrap();
        crate::remove_remains(base.path(), ".out.");
        assert_eq!(names(base.path()), [hidden[0], hidden[1], ".out.AbCd34.partial", "out", "page"]);
    }

    #[cfg(unix)]
    #[test]
    fn errors_name_the_path_after_the_commit() {
        use std::os::unix::fs::PermissionsExt as _;
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("out");
        let dir = create(&out).unwrap();
        assert_eq!(dir.final_path(dir.path()), out);
        assert_eq!(dir.final_path(dir.path().join("in/file")), out.join("in/file"));
        assert_eq!(dir.final_path("elsewhere"), Path::new("elsewhere"));
        let locked = dir.path().join("locked");
        fs::create_dir(&locked).unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
        // The superuser may list every folder.
        if fs::read_dir(&locked).is_err() {
            let error = dir.commit().unwrap_err().to_string();
            assert!(error.contains(&*out.join("locked").to_string_lossy()), "{error}");
            assert!(!error.contains("partial"), "{error}");
        }
        // What fails for everyone is a folder that was removed.
        let dir = create(&out).unwrap();
        fs::remove_dir(dir.path()).unwrap();
        let error = dir.commit().unwrap_err().to_string();
        assert_eq!(error, format!("list {}: No such file or directory (os error 2)", out.display()));
    }

    #[test]
    fn a_destination_without_a_name_is_refused_before_the_work() {
        let base = tempfile::tempdir().unwrap();
        for path in ["/", "x/..", ".."] {
            let error = create(&base.path().join(path)).map(drop).unwrap_err().to_string();
            assert!(error.contains(path) && error.contains("it is not the name of a folder"), "{error}");
        }
        for path in ["", "."] {
            let error = create(Path::new(path)).map(drop).unwrap_err().to_string();
            assert!(error.contains("it is not the name of a folder"), "{error}");
        }
        assert!(names(base.path()).is_empty());
        // What follows a name means nothing.
        for path in ["a/", "b/.", "c/./"] {
            create(&base.path().join(path)).unwrap().commit().unwrap();
        }
        assert_eq!(names(base.path()), ["a", "b", "c"]);
    }

    #[test]
    fn new_parents_stay_if_the_path_leads_back_out_of_them() {
        let base = tempfile::tempdir().unwrap();
        create(&base.path().join("new/../out")).unwrap().commit().unwrap();
        assert_eq!(names(base.path()), ["new", "out"]);
    }

    /// Linux allows names that are not UTF-8; two of them are not confused.
    #[cfg(target_os = "linux")]
    #[test]
    fn remains_belong_to_the_very_name() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;
        let base = tempfile::tempdir().unwrap();
        let at = |name: &[u8]| base.path().join(OsStr::from_bytes(name));
        marked(&at(b".a\xff.AbCd12.replaced"), "of ff");
        fs::create_dir(at(b".a\xff.AbCd12.partial")).unwrap();
        let other = create(&at(b"a\xfe")).unwrap();
        assert!(!at(b"a\xfe").exists() && at(b".a\xff.AbCd12.replaced").exists());
        drop(other);
        drop(create(&at(b"a\xff")).unwrap());
        assert!(at(b"a\xff").exists() && !at(b".a\xff.AbCd12.partial").exists());
    }

    /// File systems allow names of 255 bytes, and hidden names are longer than what they hide.
    #[cfg(target_os = "linux")]
    #[test]
    fn long_names_are_written_or_refused_before_the_work() {
        let base = tempfile::tempdir().unwrap();
        for length in [237, 238, 255] {
            let name = "é".repeat(length / 2) + &"x".repeat(length % 2);
            let out = base.path().join(&name);
            create(&out).unwrap().commit().unwrap();
            assert_eq!(names(base.path()), [name.as_str()]);
            let page = base.path().join("p".repeat(length));
            crate::write_file(&page, b"x").unwrap();
            fs::remove_file(page).unwrap();
            fs::remove_dir(out).unwrap();
        }
        // Abbreviated names that begin alike are not confused.
        let names = ["a", "b"].map(|end| base.path().join("x".repeat(254) + end));
        assert_ne!(remains::prefix(&names[0]), remains::prefix(&names[1]));
        assert_eq!(remains::prefix(&names[0]).len(), 240);
        let too_long = base.path().join("x".repeat(256));
        let text = "File name too long (os error 36)";
        for error in [create(&too_long).map(drop), crate::AtomicFile::create(&too_long).map(drop)] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains(&*too_long.to_string_lossy()) && error.ends_with(text), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn errors_keep_the_words_of_the_system() {
        let error = create(Path::new("/proc/x")).map(drop).unwrap_err().to_string();
        assert_eq!(error, "create a hidden folder beside /proc/x: No such file or directory (os error 2)");
        let error = crate::write_file("/proc/x", b"").unwrap_err().to_string();
        assert_eq!(error, "write /proc/x: No such file or directory (os error 2)");
    }
}
