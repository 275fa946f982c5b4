//! Files that appear whole or not at all.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Writes a text file in one step, with the mode that the umask leaves.
///
/// # Errors
///
/// If it cannot be written; what stood there still does.
pub fn write(path: &Path, text: &str) -> Result<()> {
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
