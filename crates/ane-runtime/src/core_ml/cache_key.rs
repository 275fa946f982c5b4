//! The key of a compiled package in the cache.

use ane_bundle::BundleManifest;
use mlpackage::Package;
use sha2::{Digest as _, Sha256};

use crate::error::Result;

/// Changes whenever the layout of the cache's entries does.
const LAYOUT: &str = "compiled package, layout 1";

/// A key: 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey(String);

impl CacheKey {
    /// Computes the key of a package on a system, identified by its build of macOS such as `24G84`.
    ///
    /// The package's location does not affect the key.
    ///
    /// # Errors
    ///
    /// Returns an error if a file of the package cannot be read.
    pub fn of(package: &Package, system: &str) -> Result<Self> {
        let mut hash = Sha256::new();
        // Each part is preceded by its length, so no two lists of parts produce the same bytes.
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(LAYOUT.as_bytes());
        part(system.as_bytes());
        for (file, digest) in BundleManifest::digest_folder(package.path())? {
            part(file.as_bytes());
            part(digest.sha256.as_bytes());
        }
        Ok(Self(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Returns the digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_key_is_of_the_content_and_the_system() {
        let dir = tempfile::tempdir().unwrap();
        let fixture =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../mlpackage/tests/fixtures/multifunction.mlpackage");
        let copy = |name: &str| {
            let path = dir.path().join(name);
            Package::open(&fixture).unwrap().save(&path).unwrap();
            Package::open(&path).unwrap()
        };
        let (here, elsewhere) = (copy("here.mlpackage"), copy("elsewhere.mlpackage"));
        let key = |package: &Package, system: &str| CacheKey::of(package, system).unwrap();
        assert_eq!(key(&here, "24G84"), key(&elsewhere, "24G84"));
        assert_ne!(key(&here, "24G84"), key(&here, "24G90"));
        assert_eq!(key(&here, "24G84").as_str().len(), 64);
        // Any changed byte changes the key.
        let weights = elsewhere.path().join("Data/com.apple.CoreML/weights/weight.bin");
        let mut bytes = fs::read(&weights).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&weights, bytes).unwrap();
        assert_ne!(key(&here, "24G84"), key(&elsewhere, "24G84"));
        // Parts do not run into one another.
        assert_ne!(key(&here, ""), key(&here, " "));
    }
}
