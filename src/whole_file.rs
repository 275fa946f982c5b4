//! Text files that appear whole or not at all, with the context that a command's errors have.

use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use mlpackage::AtomicFile;

/// Writes a text file in one step, with the mode that the umask leaves. A link is followed to what it leads to; what is neither a
/// file nor a folder, such as a pipe, is written to as it stands.
///
/// # Errors
///
/// If it cannot be written; what stood there still does.
pub fn write(path: &Path, text: &str) -> Result<()> {
    Ok(mlpackage::write_file(path, text.as_bytes())?)
}

/// Writes several text files that belong together into a folder. All of them are on disk before the first takes its place, so that
/// only a stop in the moment of the renames can leave some files of this set beside some of an earlier one.
///
/// # Errors
///
/// If one cannot be written; before the first takes its place, everything that stood there still does.
pub fn write_set(folder: &Path, files: &[(&str, &str)]) -> Result<()> {
    let mut staged = Vec::new();
    for (name, text) in files {
        let mut file = AtomicFile::create(&folder.join(name))?;
        file.write_all(text.as_bytes())?;
        staged.push(file);
    }
    staged.into_iter().try_for_each(|file| Ok(file.commit()?))
}
