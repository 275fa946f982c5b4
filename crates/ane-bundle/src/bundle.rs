//! An opened bundle, and how its files are verified.

use std::path::{Path, PathBuf};

use mlpackage::{GitLfsPointer, Package, files};
use serde::Deserialize;

use crate::check;
use crate::digest::FileDigest;
use crate::error::{Error, Result};
use crate::manifest::{BUNDLE_FORMAT_VERSION, BUNDLE_MANIFEST, BundleManifest, Shard};

/// Size limit of the manifest, in bytes.
const MANIFEST_LIMIT: u64 = 16 << 20;

/// The description of `bundle.json` in errors.
const EXPECTED: &str = "the manifest of a bundle";

/// An opened bundle. Its manifest is valid, and every file has the size and hash that the manifest lists.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    manifest: BundleManifest,
}

impl Bundle {
    /// Opens a bundle and verifies the size and SHA-256 of every file.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with the invalid field or file; [`Error::Package`] if a file cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = files::read_small(path.join(BUNDLE_MANIFEST), MANIFEST_LIMIT)?;
        let unreadable = |e| Error::revealed(path, BUNDLE_MANIFEST, e);
        // The version is read first, because other versions may have other fields.
        let Version { format_version } = files::read_object(&bytes, EXPECTED).map_err(unreadable)?;
        if format_version != BUNDLE_FORMAT_VERSION {
            let reason = format!(
                "{format_version}, this version reads {BUNDLE_FORMAT_VERSION}: export the checkpoint again"
            );
            return Err(Error::invalid(path, "format_version", reason));
        }
        let manifest: BundleManifest = files::read_object(&bytes, EXPECTED).map_err(unreadable)?;
        check::manifest(&manifest).map_err(|fault| Error::invalid(path, fault.field, fault.reason))?;
        let bundle = Self { path: path.to_owned(), manifest };
        bundle.verify_files()?;
        Ok(bundle)
    }

    /// Returns the bundle's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &BundleManifest {
        &self.manifest
    }

    /// Opens the package of a shard.
    ///
    /// # Errors
    ///
    /// As [`Package::open`], and if the package lacks the shard's function.
    pub fn package(&self, shard: &Shard) -> Result<Package> {
        let package = Package::open(self.file(&shard.package)?)?;
        package.function(&shard.function)?;
        Ok(package)
    }

    /// Returns the path of a file in the bundle.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the path leads outside the bundle or does not exist.
    pub fn file(&self, relative: &str) -> Result<PathBuf> {
        files::inside(&self.path, relative).map_err(|e| Error::revealed(&self.path, relative, e))
    }

    fn verify_files(&self) -> Result<()> {
        let listed = |name: &str| self.manifest.files.contains_key(name);
        let tables = [&self.manifest.embeddings.file, &self.manifest.tokenizer.file];
        if let Some(missing) = tables.into_iter().find(|f| !listed(f)) {
            return Err(Error::invalid(&self.path, "files", format!("{missing:?} is not listed")));
        }
        for (name, expected) in &self.manifest.files {
            let path = self.file(name)?;
            let bytes = files::regular_file_size(&path)?;
            if bytes != expected.bytes {
                // A file of the wrong size is most often a Git LFS pointer rather than damaged.
                if bytes < GitLfsPointer::LONGEST {
                    files::read_small(&path, GitLfsPointer::LONGEST)?;
                }
                return Err(Error::invalid(
                    &self.path,
                    name,
                    format!("{bytes} bytes, expected {}", expected.bytes),
                ));
            }
            let found = FileDigest::of(&path)?;
            if found.sha256 != expected.sha256 {
                return Err(Error::invalid(
                    &self.path,
                    name,
                    format!(
                        "SHA-256 is {}, expected {}: the file was changed",
                        found.sha256, expected.sha256
                    ),
                ));
            }
        }
        for shard in &self.manifest.shards {
            let root = self.file(&shard.package)?;
            for name in files::files_below(&root)? {
                let name = format!("{}/{name}", shard.package);
                if !listed(&name) {
                    return Err(Error::invalid(
                        &self.path,
                        "files",
                        format!("{name:?} is in the bundle but not listed"),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The only field that every version has.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}
