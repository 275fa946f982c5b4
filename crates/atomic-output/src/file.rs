//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::dir::sync;
use crate::error::{Error, Result};
use crate::{permissions, remains};

/// A file under construction. Dropped without [`commit`](Self::commit), it is removed.
#[must_use = "without `commit`, the file is removed and never appears at its destination"]
#[derive(Debug)]
pub struct AtomicFile {
    target: Target,
    /// The destination as the caller named it, for errors.
    destination: PathBuf,
}

#[derive(Debug)]
enum Target {
    /// A hidden file, and the path that it is renamed to.
    Staged { staged: NamedTempFile, path: PathBuf },
    /// A pipe or device, which is written to directly.
    Special(File),
}

impl AtomicFile {
    /// Opens a file that becomes `destination` on [`commit`](Self::commit). It gets the permissions that the umask
    /// leaves, or those of the file that it replaces.
    ///
    /// A symbolic link is followed, and the file that it leads to is replaced. A pipe or device, such as
    /// `/dev/stdout`, is written to directly. An unfinished file that a killed process left for the same
    /// destination is removed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], as for [`check_file`].
    pub fn create(destination: impl AsRef<Path>) -> Result<Self> {
        let destination = destination.as_ref();
        let refused = |e| Error::io("write", destination, e);
        let target = match target_of(destination)? {
            Place::Special => {
                Target::Special(File::options().write(true).open(destination).map_err(refused)?)
            }
            Place::File(path) => Target::Staged { staged: stage(&path).map_err(refused)?, path },
        };
        Ok(Self { target, destination: destination.to_owned() })
    }

    /// Flushes the file to disk. [`commit`](Self::commit) does this as well.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        match &self.target {
            Target::Staged { staged, .. } => {
                staged.as_file().sync_all().map_err(|e| Error::io("write", &self.destination, e))
            }
            // A pipe has nothing to flush to.
            Target::Special(_) => Ok(()),
        }
    }

    /// Flushes the file to disk and renames it to its destination.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; the destination is then unchanged.
    pub fn commit(self) -> Result<()> {
        self.prepare()?;
        self.rename()
    }

    /// Does everything but the rename, and checks that nothing that is known forbids it.
    fn prepare(&self) -> Result<()> {
        self.sync()?;
        let Target::Staged { staged, path } = &self.target else { return Ok(()) };
        let refused = |e| Error::io("write", &self.destination, e);
        // It is gone if its folder was moved or removed.
        fs::symlink_metadata(staged.path()).map_err(refused)?;
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(refused(io::Error::new(io::ErrorKind::IsADirectory, FOLDER)));
            }
            Ok(found) if !found.is_file() => {
                let reason = "it is no longer a regular file, so it is not replaced";
                return Err(refused(io::Error::other(reason)));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(refused(e)),
        }
        permissions::keep(path, staged.path()).map_err(refused)
    }

    fn rename(self) -> Result<()> {
        let Target::Staged { staged, path } = self.target else { return Ok(()) };
        staged.persist(&path).map_err(|e| Error::io("write", &self.destination, e.error))?;
        let folder = folder_of(&path);
        sync(folder).map_err(|e| Error::io("flush", folder, e))
    }
}

/// Why a folder is not replaced by a file.
const FOLDER: &str = "it is a folder, not a regular file, so it is not replaced";

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.target {
            Target::Staged { staged, .. } => staged.as_file_mut().write(bytes),
            Target::Special(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Staged { staged, .. } => staged.as_file_mut().flush(),
            Target::Special(file) => file.flush(),
        }
    }
}

/// Commits files that belong together. Before the first is renamed, all of them are on disk and every destination
/// has been checked. A mixture of old and new files can be left only by a crash between the renames, or if a
/// destination changes or the file system fails between them.
///
/// # Errors
///
/// [`Error::Io`]; unless a rename failed after the check, every destination is unchanged.
pub fn commit_all(files: Vec<AtomicFile>) -> Result<()> {
    files.iter().try_for_each(AtomicFile::prepare)?;
    files.into_iter().try_for_each(AtomicFile::rename)
}

/// Writes a file whole or not at all. Links, pipes and devices are treated as in [`AtomicFile::create`].
///
/// # Errors
///
/// [`Error::Io`]; the destination is then unchanged.
pub fn write_file(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    let path = path.as_ref();
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes.as_ref()).map_err(|e| Error::io("write", path, e))?;
    file.commit()
}

/// Checks that a file can be written to `destination`, before hours of work are spent on its content.
///
/// # Errors
///
/// [`Error::Io`] if `destination` is a folder, or if its parent does not exist or no file can be created
/// there.
pub fn check_file(destination: impl AsRef<Path>) -> Result<()> {
    let destination = destination.as_ref();
    match target_of(destination)? {
        Place::Special => Ok(()),
        Place::File(path) => stage(&path).map(drop).map_err(|e| Error::io("write", destination, e)),
    }
}

/// The kind of file that a destination leads to.
enum Place {
    Special,
    File(PathBuf),
}

fn target_of(destination: &Path) -> Result<Place> {
    let refused = |kind, reason: String| Err(Error::io("write", destination, io::Error::new(kind, reason)));
    let found = destination.metadata().ok();
    if found.as_ref().is_some_and(fs::Metadata::is_dir) {
        return refused(io::ErrorKind::IsADirectory, FOLDER.into());
    }
    if found.as_ref().is_some_and(|found| !found.is_file()) {
        return Ok(Place::Special);
    }
    let target = follow_links(destination).map_err(|e| Error::io("write", destination, e))?;
    if [destination, &target].iter().any(|path| !names_a_file(path)) {
        return refused(io::ErrorKind::InvalidInput, "it is not the name of a file".into());
    }
    let folder = folder_of(&target);
    match folder.metadata() {
        // The name may be too long for the file system, or hold a character that it does not allow.
        Ok(found) if found.is_dir() => match fs::symlink_metadata(&target) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("write", destination, e)),
            _ => Ok(Place::File(target)),
        },
        Ok(_) => refused(io::ErrorKind::NotADirectory, format!("{} is not a folder", folder.display())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            refused(e.kind(), format!("there is no folder {}: make it first", folder.display()))
        }
        Err(e) => Err(Error::io("write", destination, e)),
    }
}

/// Returns whether a path ends in a name: `..`, `x/` and `x/.` cannot name a file.
fn names_a_file(path: &Path) -> bool {
    // The components leave out what follows a name.
    path.file_name().is_some() && path.components().as_path().as_os_str() == path.as_os_str()
}

/// Follows symbolic links and returns the path that [`AtomicFile`] writes to. The last link may lead to a
/// file that does not exist yet.
///
/// # Errors
///
/// Returns an error if the links form a circle.
pub fn follow_links(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let mut path = path.as_ref().to_owned();
    // Linux follows the same number of links.
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(target) => path = folder_of(&path).join(target),
            // The path is not a link, or does not exist.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// Creates a locked hidden file beside `path`.
fn stage(path: &Path) -> io::Result<NamedTempFile> {
    let folder = folder_of(path);
    let prefix = remains::prefix(path);
    for left in remains::find(folder, &prefix, remains::PARTIAL) {
        if left.is_file() {
            remains::remove(&left);
        }
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(remains::PARTIAL);
    loop {
        // Unlike those of tempfile's own function, the errors of this closure do not name the hidden file.
        let staged = builder.make_in(folder, |hidden| permissions::create_file(hidden, path))?;
        // The lock is held until the rename, so that no other process mistakes the file for one that a killed
        // process left. Where locks are mandatory, a lock would keep this process from writing through
        // another handle.
        if cfg!(not(unix)) || remains::claim(staged.path(), staged.as_file()) {
            return Ok(staged);
        }
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::names;

    #[test]
    fn an_earlier_file_stays_whole_until_the_commit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        write_file(&path, b"first").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"sec").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        drop(file);
        assert_eq!(
            (fs::read(&path).unwrap(), names(dir.path())),
            (b"first".to_vec(), vec!["report.json".into()])
        );
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"second").unwrap();
        file.commit().unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), names(dir.path())),
            (b"second".to_vec(), vec!["report.json".into()])
        );
    }

    #[test]
    fn a_set_is_replaced_only_once_all_of_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        let staged = |text: &'static [u8]| {
            paths.iter().map(move |path| {
                let mut file = AtomicFile::create(path).unwrap();
                file.write_all(text).unwrap();
                file
            })
        };
        commit_all(staged(b"old").collect()).unwrap();
        drop(staged(b"new").collect::<Vec<_>>());
        assert!(paths.iter().all(|path| fs::read(path).unwrap() == b"old"));
        commit_all(staged(b"new").collect()).unwrap();
        assert!(paths.iter().all(|path| fs::read(path).unwrap() == b"new"));
        assert_eq!(names(dir.path()), ["a", "b"]);
    }

    #[cfg(unix)]
    #[test]
    fn remains_of_a_killed_process_are_removed_and_other_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page.html");
        for name in [".page.html.AbC123.partial", ".page.html.notes.partial", ".page.html.AbC123.bak"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let at_work = AtomicFile::create(&path).unwrap();
        write_file(&path, b"x").unwrap();
        assert_eq!(names(dir.path()).len(), 4, "the file under construction is still there");
        drop(at_work);
        assert_eq!(names(dir.path()), [".page.html.AbC123.bak", ".page.html.notes.partial", "page.html"]);
    }

    /// Many threads write one file while each removes the remains of others: none may lose its own.
    #[test]
    fn writers_at_the_same_time_do_not_remove_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page.html");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..50).for_each(|_| write_file(&path, b"whole").unwrap()));
            }
        });
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(dir.path()), ["page.html"]);
    }

    #[test]
    fn errors_name_the_destination_and_never_the_hidden_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        for (path, reason) in [
            ("nowhere/x.html", "nowhere: make it first"),
            ("file/x.html", "file is not a folder"),
            ("folder", "it is a folder"),
        ] {
            let path = dir.path().join(path);
            let error = write_file(&path, b"").unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(&*path.to_string_lossy()), "{error}");
            assert!(!error.contains("partial"), "{error}");
            assert!(check_file(&path).is_err());
        }
        assert_eq!(names(dir.path()), ["file", "folder"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_devices_are_written_to() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        check_file(&link).unwrap();
        write_file(&link, b"new").unwrap();
        assert_eq!(
            (fs::read_link(&link).unwrap(), fs::read(&target).unwrap()),
            (target.clone(), b"new".to_vec())
        );
        // A link to a file that does not exist yet, relative to its folder.
        fs::remove_file(&target).unwrap();
        let relative = dir.path().join("relative");
        std::os::unix::fs::symlink("target", &relative).unwrap();
        write_file(&relative, b"newer").unwrap();
        assert_eq!(
            (fs::read_link(&relative).unwrap(), fs::read(&target).unwrap()),
            ("target".into(), b"newer".to_vec())
        );
        // Links in a circle.
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::os::unix::fs::symlink(&a, &b).unwrap();
        std::os::unix::fs::symlink(&b, &a).unwrap();
        assert!(check_file(&a).unwrap_err().to_string().contains("too many symbolic links"));
        fs::remove_file(&a).unwrap();
        fs::write(dir.path().join("plain"), "").unwrap();
        write_file(dir.path().join("ours"), b"").unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("ours"), mode("plain"), "the result is not private");
        check_file(Path::new("/dev/null")).unwrap();
        write_file(Path::new("/dev/null"), b"x").unwrap();
    }

    #[test]
    fn a_set_is_not_begun_if_a_destination_cannot_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        fs::write(&paths[0], "old").unwrap();
        let files: Vec<_> = paths.iter().map(|path| AtomicFile::create(path).unwrap()).collect();
        fs::create_dir(&paths[1]).unwrap();
        let error = commit_all(files).unwrap_err().to_string();
        assert!(error.contains(&*paths[1].to_string_lossy()) && error.contains("it is a folder"), "{error}");
        assert_eq!(
            (fs::read(&paths[0]).unwrap(), names(dir.path())),
            (b"old".to_vec(), vec!["a".into(), "b".into()])
        );
        #[cfg(unix)]
        {
            fs::remove_dir(&paths[1]).unwrap();
            let files: Vec<_> = paths.iter().map(|path| AtomicFile::create(path).unwrap()).collect();
            std::os::unix::fs::symlink("a", &paths[1]).unwrap();
            let error = commit_all(files).unwrap_err().to_string();
            assert!(error.contains("it is no longer a regular file"), "{error}");
            assert_eq!(fs::read(&paths[0]).unwrap(), b"old");
        }
        // The folder of the second is gone.
        let gone = dir.path().join("gone");
        fs::create_dir(&gone).unwrap();
        let files = [paths[0].clone(), gone.join("c")].map(|path| AtomicFile::create(path).unwrap());
        fs::remove_dir_all(&gone).unwrap();
        let error = commit_all(files.into()).unwrap_err().to_string();
        assert!(error.contains(&*gone.join("c").to_string_lossy()) && !error.contains("partial"), "{error}");
        assert_eq!(fs::read(&paths[0]).unwrap(), b"old");
    }

    #[cfg(unix)]
    #[test]
    fn the_permissions_of_the_file_that_is_replaced_are_kept() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        // The last bits would run new content with the rights of its owner, so they are not kept.
        for (earlier, kept) in
            [(0o600, 0o600), (0o640, 0o640), (0o666, 0o666), (0o444, 0o444), (0o4755, 0o755)]
        {
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(earlier)).unwrap();
            let mut file = AtomicFile::create(&path).unwrap();
            let Target::Staged { staged, .. } = &file.target else { unreachable!("a regular file") };
            assert_eq!(mode(staged.path()) & !(kept | 0o600), 0, "{earlier:o}");
            file.write_all(b"new").unwrap();
            file.commit().unwrap();
            assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"new".to_vec(), kept), "{earlier:o}");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_destination_without_a_name_is_refused_before_the_work() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["x/", "x/.", "x/.."] {
            let path = dir.path().join(path);
            let error = AtomicFile::create(&path).map(drop).unwrap_err().to_string();
            assert!(error.contains("it is not the name of a file"), "{error}");
        }
        assert!(names(dir.path()).is_empty());
    }
}
