//! Reading of files and folders that are not trusted.
//!
//! A path that a file names must stay inside its folder. Pipes, devices and links that lead outside are refused, and
//! no file is read beyond the limit of its kind.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::git_lfs::GitLfsPointer;

/// Why a path that a file names cannot be used. The message does not name the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The path is empty, absolute, or has a `..`.
    #[error("it must stay inside the folder")]
    Outside,
    /// The path is a link that leads out of the folder.
    #[error("it is a link that leads outside the folder")]
    Link,
    /// The path cannot be resolved.
    #[error(transparent)]
    Io(io::Error),
}

/// Why bytes are not the JSON object that they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The bytes do not begin with `{`.
    #[error("it is not a JSON object, expected {expected}")]
    NoObject {
        /// What the object should have been.
        expected: &'static str,
    },
    /// The bytes are not JSON, or a field is missing, unknown or of another type.
    #[error("it is not {expected}: {source}")]
    Json {
        /// What the object should have been.
        expected: &'static str,
        /// The location and the reason.
        source: serde_path_to_error::Error<serde_json::Error>,
    },
}

/// Joins `relative` to `base` if the result stays inside: no absolute path, no `..`, no link that leads
/// outside.
///
/// # Errors
///
/// [`PathError`], also if nothing exists at the path.
pub fn inside(base: impl AsRef<Path>, relative: &str) -> Result<PathBuf, PathError> {
    let base = base.as_ref();
    if !is_plain(relative) {
        return Err(PathError::Outside);
    }
    let joined = base.join(relative);
    let real = |p: &Path| p.canonicalize().map_err(PathError::Io);
    if !real(&joined)?.starts_with(real(base)?) {
        return Err(PathError::Link);
    }
    Ok(joined)
}

/// Returns whether a path is relative and has no `..`.
pub(crate) fn is_plain(relative: &str) -> bool {
    !relative.is_empty() && Path::new(relative).components().all(|c| matches!(c, Component::Normal(_)))
}

/// Returns whether `relative` is a valid path below `base` at which nothing exists, not even a dangling link.
pub(crate) fn is_absent(base: &Path, relative: &str) -> bool {
    let missing = |e: io::Error| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    is_plain(relative) && fs::symlink_metadata(base.join(relative)).is_err_and(missing)
}

/// Returns the size of a regular file, in bytes. Refuses pipes and devices, which could block on opening.
///
/// # Errors
///
/// [`Error::Io`].
pub fn regular_file_size(path: impl AsRef<Path>) -> Result<u64> {
    let path = path.as_ref();
    let metadata = fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
    if !metadata.is_file() {
        return Err(Error::io("open", path, io::Error::other("it is not a regular file")));
    }
    Ok(metadata.len())
}

/// Returns every file below `folder`, as sorted paths with `/`. Refuses links, which could form a cycle.
///
/// # Errors
///
/// [`Error::Io`], also for an entry that is neither a file nor a folder, or whose name is not UTF-8.
pub fn files_below(folder: impl AsRef<Path>) -> Result<Vec<String>> {
    let folder = folder.as_ref();
    let mut files = Vec::new();
    let mut pending = vec![String::new()];
    while let Some(prefix) = pending.pop() {
        let dir = folder.join(&prefix);
        for entry in fs::read_dir(&dir).map_err(|e| Error::io("list", &dir, e))? {
            let entry = entry.map_err(|e| Error::io("list", &dir, e))?;
            let kind = entry.file_type().map_err(|e| Error::io("read", entry.path(), e))?;
            let Ok(name) = entry.file_name().into_string() else {
                return Err(Error::io("read", entry.path(), io::Error::other("its name is not UTF-8")));
            };
            let name = format!("{prefix}{name}");
            if kind.is_dir() {
                pending.push(format!("{name}/"));
            } else if kind.is_file() {
                files.push(name);
            } else {
                return Err(Error::io("open", entry.path(), io::Error::other("neither a file nor a folder")));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a file that should be small; refuses one of more than `limit` bytes.
///
/// # Errors
///
/// [`Error::Io`], also for a file that is too large; [`Error::GitLfsPointer`].
pub fn read_small(path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    regular_file_size(path)?;
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    if bytes.len() as u64 > limit {
        let reason = io::Error::other(format!("more than {limit} bytes, the limit for a file of this kind"));
        return Err(Error::io("read", path, reason));
    }
    refuse_pointer(path, &bytes)?;
    Ok(bytes)
}

/// Parses a JSON object. The error names the expected content, `expected`, such as `the manifest of a
/// bundle`.
///
/// # Errors
///
/// [`ObjectError`].
pub fn read_object<T: DeserializeOwned>(bytes: &[u8], expected: &'static str) -> Result<T, ObjectError> {
    // Otherwise an array is read as the fields of a type, in order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(ObjectError::NoObject { expected });
    }
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(bytes))
        .map_err(|source| ObjectError::Json { expected, source })
}

/// Refuses a Git LFS pointer.
pub(crate) fn refuse_pointer(path: &Path, contents: &[u8]) -> Result<()> {
    match GitLfsPointer::parse(contents) {
        Some(pointer) => Err(Error::GitLfsPointer { path: path.to_owned(), pointer }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_leads_outside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::write(dir.path().join("secret"), "").unwrap();
        let base = dir.path().join("in");
        std::fs::write(base.join("ok"), "").unwrap();
        assert!(inside(&base, "ok").is_ok());
        for path in ["../secret", "/etc/passwd", "", ".", "a/../../secret"] {
            assert!(matches!(inside(&base, path), Err(PathError::Outside)), "{path}");
        }
        assert!(matches!(inside(&base, "missing"), Err(PathError::Io(_))));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("../secret", base.join("link")).unwrap();
            assert!(matches!(inside(&base, "link"), Err(PathError::Link)));
        }
    }

    #[test]
    fn large_files_are_refused_unread() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, [0; 9]).unwrap();
        assert!(read_small(&path, 8).unwrap_err().to_string().contains("more than 8 bytes"));
        assert_eq!(read_small(&path, 9).unwrap().len(), 9);
    }
}
