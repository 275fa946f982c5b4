//! Size and hash of a file.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Result;

/// The expected size and hash of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256, in lower-case hexadecimal.
    pub sha256: String,
}

impl FileDigest {
    /// Computes the size and hash of a file.
    ///
    /// # Errors
    ///
    /// [`Error::Package`](crate::Error::Package) if it cannot be read, or is not a regular file.
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |action, source| mlpackage::Error::Io { action, path: path.to_owned(), source };
        // Opening a pipe would wait for a writer.
        mlpackage::files::regular_file_size(path)?;
        let mut file = File::open(path).map_err(|e| failed("open", e))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        let mut bytes = 0u64;
        loop {
            let n = file.read(&mut buffer).map_err(|e| failed("read", e))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            bytes += n as u64;
        }
        let sha256 = hasher.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self { bytes, sha256 })
    }
}
