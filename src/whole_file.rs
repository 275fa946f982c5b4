//! Files that appear whole or not at all.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Writes a text file in one step, with the mode that the umask leaves. A link is followed to what it leads to; what is neither a
/// file nor a folder, such as a pipe, is written to as it stands.
///
/// # Errors
///
/// If it cannot be written; what stood there still does.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let found = path.metadata().ok();
    if found.as_ref().is_some_and(std::fs::Metadata::is_dir) {
        bail!("write {}: it is a folder", path.display());
    }
    if found.as_ref().is_some_and(|m| !m.is_file()) {
        return std::fs::write(path, text).with_context(|| format!("write {}", path.display()));
    }
    let led = found.and_then(|_| path.canonicalize().ok());
    let path = led.as_deref().unwrap_or(path);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // What the umask leaves of it, as of the files beside it.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut staged =
        builder.tempfile_in(folder).with_context(|| format!("create a file in {}", folder.display()))?;
    std::io::Write::write_all(&mut staged, text.as_bytes())
        .with_context(|| format!("write {}", path.display()))?;
    staged.as_file().sync_all().with_context(|| format!("write {}", path.display()))?;
    staged.persist(path).with_context(|| format!("write {}", path.display()))?;
    Ok(())
}
