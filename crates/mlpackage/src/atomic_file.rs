//! Files that appear whole or not at all.
//!
//! What is written goes to a hidden file beside the destination; [`AtomicFile::commit`] flushes it to disk and renames it into
//! place. Until then, whatever stood at the destination stands there unchanged.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::atomic::remains;
use crate::error::{Error, Result};

/// A file under construction. Dropped without [`commit`](Self::commit), it is removed.
#[derive(Debug)]
pub struct AtomicFile {
    staged: NamedTempFile,
    destination: PathBuf,
}

impl AtomicFile {
    /// Opens a file that will become `destination`, in the same folder and with the mode that the umask leaves. What an earlier
    /// process left half done of the same file is removed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] as [`check`](Self::check), or if nothing can be written beside the destination.
    pub fn create(destination: &Path) -> Result<Self> {
        Self::check(destination)?;
        let folder = folder_of(destination);
        let prefix = format!(".{}.", destination.file_name().unwrap_or_default().to_string_lossy());
        remove_remains(folder, &prefix);
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(remains::PARTIAL);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // The umask applies to it; tempfile's own default would keep the result private.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        // The kind of the error alone: tempfile adds the hidden name, which means nothing to the caller.
        let staged =
            builder.tempfile_in(folder).map_err(|e| Error::io("write", destination, e.kind().into()))?;
        // Held until the file is in its place, so that another process does not take it for remains. Elsewhere a locked file could
        // not be written to through another handle.
        #[cfg(unix)]
        let _ = staged.as_file().try_lock();
        Ok(Self { staged, destination: destination.to_owned() })
    }

    /// Whether a file may be written to `destination`, for finding out before hours of work.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a folder stands there, or the folder around it does not exist.
    pub fn check(destination: &Path) -> Result<()> {
        let refused =
            |kind, reason: String| Err(Error::io("write", destination, io::Error::new(kind, reason)));
        if destination.is_dir() {
            return refused(
                io::ErrorKind::IsADirectory,
                "it is a folder, not a regular file, so it is not replaced".into(),
            );
        }
        if destination.file_name().is_none() {
            return refused(io::ErrorKind::InvalidInput, "it is not the name of a file".into());
        }
        let folder = folder_of(destination);
        match folder.metadata() {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => refused(io::ErrorKind::NotADirectory, format!("{} is not a folder", folder.display())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                refused(e.kind(), format!("there is no folder {}: make it first", folder.display()))
            }
            Err(e) => Err(Error::io("write", destination, e)),
        }
    }

    /// Flushes the file to disk and puts it in its place, in one step even if it replaces another.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; the destination is then as it was.
    pub fn commit(self) -> Result<()> {
        let Self { staged, destination } = self;
        staged.as_file().sync_all().map_err(|e| Error::io("write", &destination, e))?;
        // The kind of the error alone, as above.
        staged.persist(&destination).map_err(|e| Error::io("write", &destination, e.error.kind().into()))?;
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.staged.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.staged.as_file_mut().flush()
    }
}

/// Writes a file whole or not at all. A link is followed to what it points to; what is neither a file nor a folder, such as a pipe or
/// `/dev/stdout`, is written to as it stands.
///
/// # Errors
///
/// [`Error::Io`]; what stood there before still does.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let found = path.metadata().ok();
    if found.as_ref().is_some_and(|m| !m.is_file() && !m.is_dir()) {
        return fs::write(path, bytes).map_err(|e| Error::io("write", path, e));
    }
    // Errors name the path as it was given.
    AtomicFile::check(path)?;
    let target = found.and_then(|_| path.canonicalize().ok());
    let mut file = AtomicFile::create(target.as_deref().unwrap_or(path))?;
    file.write_all(bytes).map_err(|e| Error::io("write", path, e))?;
    file.commit()
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes what processes that were killed left of the same file: hidden files whose lock nobody holds.
fn remove_remains(folder: &Path, prefix: &str) {
    // Without locks, a file in the making cannot be distinguished from remains.
    if cfg!(not(unix)) {
        return;
    }
    for path in remains::find(folder, prefix, remains::PARTIAL) {
        let is_file = fs::symlink_metadata(&path).is_ok_and(|m| m.is_file());
        if is_file && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            // If it cannot be removed, it disturbs nobody.
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

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
        assert!(at_work.staged.path().is_file(), "it is still being written");
        drop(at_work);
        assert_eq!(names(dir.path()), [".page.html.AbC123.bak", ".page.html.notes.partial", "page.html"]);
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
            assert!(AtomicFile::check(&path).is_err());
        }
        assert_eq!(names(dir.path()), ["file", "folder"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed_and_the_result_is_not_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_file(&link, b"new").unwrap();
        assert_eq!((fs::read_link(&link).unwrap(), fs::read(&target).unwrap()), (target, b"new".to_vec()));
        fs::write(dir.path().join("plain"), "").unwrap();
        write_file(&dir.path().join("ours"), b"").unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("ours"), mode("plain"));
        write_file(Path::new("/dev/null"), b"x").unwrap();
    }
}
