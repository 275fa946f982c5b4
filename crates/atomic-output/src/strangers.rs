//! The files in an earlier output that its writer did not write.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

/// Returns why `folder` must not be replaced or removed: the first file below it, in sorted order, that does not
/// belong to the output. Returns `None` if every file belongs.
///
/// `belongs` receives each path relative to `folder`, with `/`. An empty folder is passed with a `/` at its end. A
/// link is passed as a file, and is not followed. The files that macOS's Finder leaves, `.DS_Store`, always belong.
/// A path that is not UTF-8 never belongs, and a folder that cannot be listed is a reason as well.
pub fn stranger(folder: impl AsRef<Path>, belongs: impl Fn(&str) -> bool) -> Option<String> {
    let belongs = |path: &OsStr| path.to_str().is_some_and(&belongs);
    let mut strangers = Vec::new();
    let mut pending = vec![OsString::new()];
    while let Some(prefix) = pending.pop() {
        let dir = folder.as_ref().join(&prefix);
        let entries = match fs::read_dir(&dir).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(entries) => entries,
            Err(error) => return Some(format!("{} cannot be listed: {error}", dir.display())),
        };
        if entries.is_empty() && !prefix.is_empty() && !belongs(&prefix) {
            strangers.push(prefix.clone());
        }
        for entry in entries {
            let mut name = prefix.clone();
            name.push(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                name.push("/");
                pending.push(name);
            } else if entry.file_name() != ".DS_Store" && !belongs(&name) {
                strangers.push(name);
            }
        }
    }
    let first = strangers.into_iter().min()?;
    Some(format!("holds {}, which would be lost", first.to_string_lossy().trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_at_any_depth_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let found = || stranger(dir.path(), |path| path == "a" || path == "in/b");
        fs::create_dir_all(dir.path().join("in/deep")).unwrap();
        for name in ["a", "in/b", "in/.DS_Store"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(found().as_deref(), Some("holds in/deep, which would be lost"));
        fs::write(dir.path().join("in/deep/notes"), "").unwrap();
        assert_eq!(found().as_deref(), Some("holds in/deep/notes, which would be lost"));
        fs::remove_dir_all(dir.path().join("in/deep")).unwrap();
        assert_eq!(found(), None);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/", dir.path().join("in/link")).unwrap();
            assert_eq!(found().as_deref(), Some("holds in/link, which would be lost"));
        }
    }

    /// Linux allows names that are not UTF-8.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_is_not_utf_8_never_belongs() {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(OsStr::from_bytes(b"a\xfe"));
        fs::create_dir(&folder).unwrap();
        let found = || stranger(dir.path(), |_| true);
        assert_eq!(found().as_deref(), Some("holds a\u{fffd}, which would be lost"));
        fs::write(folder.join("b"), "").unwrap();
        assert_eq!(found().as_deref(), Some("holds a\u{fffd}/b, which would be lost"));
        assert_eq!(stranger(&folder, |path| path == "b"), None);
    }
}
