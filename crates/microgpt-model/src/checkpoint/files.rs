//! Reading and writing of whole files.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// Size limit of configs.
const CONFIG_LIMIT: u64 = 1 << 20;

/// Size limit of reports and states, which list every evaluation of a run.
pub(crate) const REPORT_LIMIT: u64 = 1 << 30;

/// Reads a file of at most [`CONFIG_LIMIT`] bytes.
pub(super) fn read_small(path: &Path) -> Result<Vec<u8>> {
    read_file(path, CONFIG_LIMIT)
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let metadata = fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
    if !metadata.is_file() {
        return Err(Error::file(path, "not a file"));
    }
    let size = metadata.len();
    if size > limit {
        return Err(Error::file(path, format!("{size} bytes, expected at most {limit}")));
    }
    fs::read(path).map_err(|e| Error::io("read", path, e))
}

/// Writes a file.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|e| Error::io("write", path, e))
}
