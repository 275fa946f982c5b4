//! The permissions of an output: those of what it replaces, or those that the umask leaves.

#[cfg(unix)]
use std::fs;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::path::Path;

/// Creates a folder that will replace `earlier`, if there is one.
#[cfg_attr(not(unix), expect(unused_mut, unused_variables, reason = "only Unix has modes"))]
pub(crate) fn create_dir(path: &Path, earlier: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        // This process must be able to write to the folder until it is complete.
        builder.mode(unix::mode(earlier, fs::FileType::is_dir).map_or(0o777, |mode| mode | 0o700));
    }
    builder.create(path)
}

/// Creates a file that will replace `earlier`, if there is one.
#[cfg_attr(not(unix), expect(unused_variables, reason = "only Unix has modes"))]
pub(crate) fn create_file(path: &Path, earlier: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // The file is never more public than the one that it replaces. Its owner must be able to read it, so that
        // the next process can lock and remove it if this one is killed.
        options.mode(unix::mode(earlier, fs::FileType::is_file).map_or(0o666, |mode| mode | 0o600));
    }
    options.open(path)
}

/// Gives an output the permissions of the file or folder that it is about to replace, if there is one.
#[cfg_attr(not(unix), expect(unused_variables, reason = "only Unix has modes"))]
pub(crate) fn keep(earlier: &Path, staged: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let kind = fs::symlink_metadata(staged)?.file_type();
        let same_kind = |found: &fs::FileType| *found == kind;
        let wanted = unix::mode(earlier, same_kind);
        if let Some(wanted) = wanted.filter(|_| wanted != unix::mode(staged, same_kind)) {
            fs::set_permissions(staged, fs::Permissions::from_mode(wanted))?;
        }
    }
    Ok(())
}

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    /// Returns the permission bits of what is at `path`, if it is of the kind that `is_kind` accepts.
    pub(super) fn mode(path: &Path, is_kind: impl Fn(&fs::FileType) -> bool) -> Option<u32> {
        let found = fs::symlink_metadata(path).ok().filter(|found| is_kind(&found.file_type()))?;
        // New content must not run with the rights of a file's owner. On a folder, the upper bits say whom new
        // files belong to and who may remove them.
        let bits = if found.is_dir() { 0o7777 } else { 0o777 };
        Some(found.permissions().mode() & bits)
    }
}
