//! A cache of packages that Core ML has compiled, so that each is compiled only once.
//!
//! ```text
//! KEY.lock                 locked exclusively while KEY is being compiled, and shared while it is in use
//! KEY/about.json           what was compiled, for a person to read
//! KEY/model.mlmodelc       the compiled model
//! ```
//!
//! A key is derived from every byte of the package and from the build of the system, because another build
//! may compile differently. An entry appears whole or not at all, even if a process is killed halfway. If
//! several processes want the same entry, one compiles it and the others wait. When the cache outgrows its
//! limit, the least recently used entries are removed, except those in use.

mod entry;
mod lock;
mod prune;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mlpackage::Package;

use entry::{ABOUT, About, ENTRY, MODEL, is_whole, size_of, touch};
use lock::{Kind, PATIENCE};

use super::cache_key::CacheKey;
use super::compiled::{Compiled, TemporaryFolder};
use super::progress::LoadStep;
use crate::error::{BoxError, Error, Result};

/// Default size limit of a cache, in bytes.
const DEFAULT_LIMIT: u64 = 8 << 30;

/// A folder of compiled packages.
#[derive(Clone, Debug)]
pub struct CompileCache {
    folder: PathBuf,
    limit: u64,
    patience: Duration,
}

impl Compiled {
    /// Returns the compiled form of a package.
    ///
    /// It comes from `cache`, if there is one that can be used and `system` is known. Otherwise the package
    /// is compiled into a temporary folder that lives as long as the returned value. `tell` receives the slow
    /// steps. It also learns of a cache that cannot be used, for example because root owns it or the disk is
    /// full: that does not stop a model from running.
    ///
    /// # Errors
    ///
    /// Returns the error of `compile`.
    pub fn get(
        package: &Package,
        cache: Option<&CompileCache>,
        system: Option<&str>,
        tell: impl Fn(&LoadStep),
        compile: impl Fn(&Path) -> Result<PathBuf>,
    ) -> Result<Self> {
        // A package compiled on an unknown system is not kept.
        if let (Some(cache), Some(system)) = (cache, system) {
            match cache.get_or_compile(package, system, &tell, &compile) {
                Err(error @ Error::Cache { .. }) => tell(&LoadStep::NotKept { reason: error.to_string() }),
                compiled => return compiled,
            }
        }
        tell(&LoadStep::Compiling);
        let begun = Instant::now();
        let folder = TemporaryFolder(compile(package.path())?);
        Ok(Self::temporary(folder, begun.elapsed()))
    }
}

impl CompileCache {
    /// Creates a cache in a folder. The folder is created when it is first needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), limit: DEFAULT_LIMIT, patience: PATIENCE }
    }

    /// Returns the user's cache: `microgpt-ane/compiled` in the system's folder for caches; `None` if it has
    /// no such folder.
    pub fn of_user() -> Option<Self> {
        dirs::cache_dir().map(|folder| Self::new(folder.join("microgpt-ane").join("compiled")))
    }

    /// Sets the size limit in bytes, 8 GiB by default. A single entry may exceed it.
    #[must_use]
    pub fn with_limit(self, bytes: u64) -> Self {
        Self { limit: bytes, ..self }
    }

    /// Returns the cache's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the compiled form of a package on a system, calling `compile` if there is no entry yet.
    ///
    /// `compile` returns a folder that is moved into the cache. `tell` receives the slow steps.
    ///
    /// # Errors
    ///
    /// [`Error::Cache`] if the folder cannot be used; the error of `compile`, in which case no entry remains.
    pub fn get_or_compile(
        &self,
        package: &Package,
        system: &str,
        tell: impl Fn(&LoadStep),
        compile: impl Fn(&Path) -> Result<PathBuf>,
    ) -> Result<Compiled> {
        let key = CacheKey::of(package, system)?;
        let entry = self.folder.join(key.as_str());
        fs::create_dir_all(&self.folder).map_err(|e| bad(&self.folder, e))?;
        let mut time = None;
        // An exclusive lock cannot be downgraded to a shared one without releasing it, so another process may
        // prune the entry in between. That is rare.
        for _ in 0..3 {
            let in_use = self.lock(&key, Kind::Shared, &tell)?;
            if is_whole(&entry) {
                touch(&entry);
                return Ok(Compiled::kept(entry.join(MODEL), time, in_use));
            }
            drop(in_use);
            let _alone = self.lock(&key, Kind::Alone, &tell)?;
            if !is_whole(&entry) {
                tell(&LoadStep::Compiling);
                time = Some(self.fill(&entry, package, system, &compile)?);
                self.prune(&key);
            }
        }
        Err(Error::Cache {
            path: entry,
            reason: "other processes keep removing it right after it is compiled".into(),
            source: None,
        })
    }

    /// Compiles a package and moves the result to its final path.
    fn fill(
        &self,
        entry: &Path,
        package: &Package,
        system: &str,
        compile: impl Fn(&Path) -> Result<PathBuf>,
    ) -> Result<Duration> {
        let staged = ENTRY.create(entry).map_err(|e| bad(entry, e))?;
        let begun = Instant::now();
        let compiled = TemporaryFolder(compile(package.path())?);
        let time = begun.elapsed();
        let model = staged.path().join(MODEL);
        compiled.move_to(&model).map_err(|e| bad(&model, e))?;
        let about = About {
            package: package.path().display().to_string(),
            system,
            seconds: time.as_secs_f64(),
            bytes: size_of(&model),
        };
        let mut text = serde_json::to_string_pretty(&about).map_err(|e| bad(&model, e))?;
        text.push('\n');
        fs::write(staged.path().join(ABOUT), text).map_err(|e| bad(staged.path(), e))?;
        staged.commit().map_err(|e| bad(entry, e))?;
        Ok(time)
    }
}

fn bad(path: &Path, error: impl Into<BoxError>) -> Error {
    let error = error.into();
    Error::Cache { path: path.to_owned(), reason: error.to_string(), source: Some(error) }
}
