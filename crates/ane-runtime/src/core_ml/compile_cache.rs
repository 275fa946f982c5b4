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

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use mlpackage::{FolderKind, Package};
use serde::Serialize;

use super::cache_key::CacheKey;
use super::compiled::{Compiled, TemporaryFolder};
use super::progress::LoadStep;
use crate::error::{BoxError, Error, Result};

/// The compiled model in an entry.
const MODEL: &str = "model.mlmodelc";
const ABOUT: &str = "about.json";
const LOCK: &str = "lock";
/// Suffix of an entry that is being removed.
const REMOVED: &str = ".removed";
/// How often a lock held by another load is retried, and for how long. Its holder is compiling, which takes
/// minutes, or uses an entry that somebody has removed by hand.
const POLL: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(600);
/// Default size limit of a cache, in bytes.
const DEFAULT_LIMIT: u64 = 8 << 30;

/// Identifies an existing entry for the atomic folder writer.
const ENTRY: FolderKind = FolderKind {
    marker: ABOUT,
    fields: &["package", "system"],
    belongs: |_, path| path.split('/').next() == Some(MODEL),
};

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
    /// Returns whatever error `compile` fails with.
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

/// The contents of `about.json`.
#[derive(Serialize)]
struct About<'a> {
    package: String,
    system: &'a str,
    seconds: f64,
    bytes: u64,
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
    /// [`Error::Cache`] if the folder cannot be used; whatever error `compile` fails with, in which case
    /// nothing is left behind.
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

    /// Waits for the lock of a key; `None` if the file system has no locks.
    fn lock(&self, key: &CacheKey, kind: Kind, tell: impl Fn(&LoadStep)) -> Result<Option<File>> {
        let path = self.lock_path(key.as_str());
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        // A cache that belongs to another user is still readable.
        let file = file.or_else(|e| File::open(&path).map_err(|_| e)).map_err(|e| bad(&path, e))?;
        let begun = Instant::now();
        loop {
            let tried = match kind {
                Kind::Shared => file.try_lock_shared(),
                Kind::Alone => file.try_lock(),
            };
            match tried {
                Ok(()) => return Ok(Some(file)),
                Err(fs::TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => return Ok(None),
                Err(fs::TryLockError::Error(e)) => return Err(bad(&path, e)),
                Err(fs::TryLockError::WouldBlock) if begun.elapsed() >= self.patience => {
                    let reason = "another load holds it, for longer than compiling takes".to_owned();
                    return Err(Error::Cache { path, reason, source: None });
                }
                Err(fs::TryLockError::WouldBlock) => {
                    if begun.elapsed() < POLL {
                        tell(&LoadStep::Waiting);
                    }
                    std::thread::sleep(POLL);
                }
            }
        }
    }

    fn lock_path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.{LOCK}"))
    }

    /// Removes the least recently used entries until the rest is within the limit; never `newest`, and
    /// nothing that is in use.
    ///
    /// Lock files stay: everyone who waits for a key must wait for the same file.
    fn prune(&self, newest: &CacheKey) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let (hidden, entries): (Vec<_>, Vec<_>) =
            entries.flatten().partition(|entry| entry.file_name().to_string_lossy().starts_with('.'));
        // Left by processes that were killed while they removed or created an entry; nobody holds these any
        // more.
        for entry in hidden {
            let alone = File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok());
            if alone || entry.file_name().to_string_lossy().ends_with(REMOVED) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let mut entries: Vec<(SystemTime, PathBuf, u64)> = entries
            .into_iter()
            .filter(|entry| entry.path().join(ABOUT).is_file())
            .map(|entry| (last_use(&entry.path()), entry.path(), size_of(&entry.path())))
            .collect();
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, path, bytes) in entries {
            if total <= self.limit {
                return;
            }
            let Some(key) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if key == newest.as_str() {
                continue;
            }
            let Ok(lock) = File::options().write(true).open(self.lock_path(key)) else { continue };
            // Renamed before removal: a process that is killed halfway leaves nothing that looks complete.
            let aside = self.folder.join(format!(".{key}{REMOVED}"));
            if lock.try_lock().is_ok() && fs::rename(&path, &aside).is_ok() {
                // An entry that cannot be removed does no harm.
                let _ = fs::remove_dir_all(&aside);
                total -= bytes;
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Shared,
    Alone,
}

fn bad(path: &Path, error: impl Into<BoxError>) -> Error {
    let error = error.into();
    Error::Cache { path: path.to_owned(), reason: error.to_string(), source: Some(error) }
}

/// Returns whether an entry is complete. A tool that cleans caches may have removed parts of it.
fn is_whole(entry: &Path) -> bool {
    let holds_something = fs::read_dir(entry.join(MODEL)).is_ok_and(|mut files| files.next().is_some());
    entry.join(ABOUT).is_file() && holds_something
}

/// Returns the total size of the files in a folder, in bytes.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size_of(&entry.path()),
        Ok(_) => entry.metadata().map_or(0, |found| found.len()),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Returns when an entry was last used: the time when its `about.json` was last modified.
fn last_use(entry: &Path) -> SystemTime {
    entry.join(ABOUT).metadata().and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn touch(entry: &Path) {
    // A cache that is not writable is still readable.
    if let Ok(about) = File::options().append(true).open(entry.join(ABOUT)) {
        let _ = about.set_modified(SystemTime::now());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../mlpackage/tests/fixtures").join(name)
    }

    fn package() -> Package {
        Package::open(fixture("multifunction.mlpackage")).unwrap()
    }

    /// A compiler that counts its calls and creates a folder of `bytes` bytes.
    struct Compiler {
        folder: tempfile::TempDir,
        calls: Cell<usize>,
        bytes: usize,
    }

    impl Compiler {
        fn new(bytes: usize) -> Self {
            Self { folder: tempfile::tempdir().unwrap(), calls: Cell::new(0), bytes }
        }

        fn compile(&self, _: &Path) -> Result<PathBuf> {
            self.calls.set(self.calls.get() + 1);
            let made = self.folder.path().join("x.mlmodelc");
            fs::create_dir_all(made.join("weights")).unwrap();
            fs::write(made.join("weights/weight.bin"), vec![7; self.bytes]).unwrap();
            Ok(made)
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn a_package_is_compiled_once() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CompileCache::new(dir.path().join("cache"));
        let compiler = Compiler::new(10);
        let steps = RefCell::new(Vec::new());
        let get = |system: &str| {
            let tell = |step: &LoadStep| steps.borrow_mut().push(step.clone());
            cache.get_or_compile(&package(), system, tell, |p| compiler.compile(p)).unwrap()
        };
        let first = get("24G84");
        assert!(first.time().is_some());
        assert_eq!(fs::read(first.path().join("weights/weight.bin")).unwrap(), [7; 10]);
        let second = get("24G84");
        assert_eq!((second.path(), second.time()), (first.path(), None));
        assert_eq!(compiler.calls.get(), 1);
        let about = fs::read_to_string(first.path().parent().unwrap().join(ABOUT)).unwrap();
        assert!(
            about.contains("\"system\": \"24G84\"") && about.contains("multifunction.mlpackage"),
            "{about}"
        );
        get("24G90");
        assert_eq!((compiler.calls.get(), steps.into_inner()), (2, vec![LoadStep::Compiling; 2]));
    }

    #[test]
    fn a_compiler_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CompileCache::new(dir.path());
        let fails = |_: &Path| Err(Error::NeedsMac { what: "compiling" });
        let error = cache.get_or_compile(&package(), "s", |_| {}, fails).unwrap_err();
        assert!(error.to_string().contains("compiling: run this on a Mac"), "{error}");
        let left = names(dir.path());
        assert!(left.iter().all(|name| name.ends_with(".lock")), "{left:?}");
        let compiler = Compiler::new(1);
        cache.get_or_compile(&package(), "s", |_| {}, |p| compiler.compile(p)).unwrap();
        assert_eq!(names(compiler.folder.path()), [""; 0], "what was compiled was moved, not copied");
    }

    #[test]
    fn what_was_not_used_for_longest_goes_and_nothing_in_use_does() {
        let dir = tempfile::tempdir().unwrap();
        let compiler = Compiler::new(1000);
        let cache = CompileCache::new(dir.path()).with_limit(3 * 1300);
        let get =
            |system: &str| cache.get_or_compile(&package(), system, |_| {}, |p| compiler.compile(p)).unwrap();
        let at = |compiled: &Compiled, seconds: u64| {
            let about = compiled.path().parent().unwrap().join(ABOUT);
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            File::options().append(true).open(about).unwrap().set_modified(time).unwrap();
        };
        let in_use = get("oldest, in use");
        at(&in_use, 1);
        for (seconds, system) in [(2, "old"), (3, "newer")] {
            let compiled = get(system);
            at(&compiled, seconds);
        }
        get("newest");
        assert_eq!(compiler.calls.get(), 4);
        assert!(in_use.path().is_dir());
        get("newer");
        get("newest");
        assert_eq!(compiler.calls.get(), 4);
        get("old");
        assert_eq!(compiler.calls.get(), 5, "it had been removed");
        assert!(names(dir.path()).iter().all(|name| !name.starts_with('.')), "{:?}", names(dir.path()));
    }

    #[test]
    fn an_entry_that_lost_its_model_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CompileCache::new(dir.path());
        let compiler = Compiler::new(10);
        let get = || cache.get_or_compile(&package(), "s", |_| {}, |p| compiler.compile(p)).unwrap();
        let path = get().path().to_owned();
        fs::remove_dir_all(&path).unwrap();
        assert_eq!(get().path(), path);
        assert_eq!(compiler.calls.get(), 2);
        assert!(path.join("weights/weight.bin").is_file());
    }

    /// An entry is removed by hand while a model of this very process uses it; the process does not wait for
    /// itself forever.
    #[test]
    fn waiting_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CompileCache { patience: Duration::from_millis(60), ..CompileCache::new(dir.path()) };
        let compiler = Compiler::new(10);
        let steps = RefCell::new(Vec::new());
        let get = || {
            let tell = |step: &LoadStep| steps.borrow_mut().push(step.clone());
            cache.get_or_compile(&package(), "s", tell, |p| compiler.compile(p))
        };
        let in_use = get().unwrap();
        fs::remove_dir_all(in_use.path().parent().unwrap()).unwrap();
        let error = get().unwrap_err().to_string();
        assert!(error.contains(".lock") && error.contains("another load holds it"), "{error}");
        drop(in_use);
        get().unwrap();
        assert_eq!(steps.into_inner(), [LoadStep::Compiling, LoadStep::Waiting, LoadStep::Compiling]);
    }

    /// As after a run by root: existing entries are used, and nothing is changed.
    #[cfg(unix)]
    #[test]
    fn a_cache_that_is_only_readable_is_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let cache = CompileCache::new(dir.path());
        let compiler = Compiler::new(10);
        let get = || cache.get_or_compile(&package(), "s", |_| {}, |p| compiler.compile(p)).unwrap();
        let lock = cache.lock_path(get().path().parent().unwrap().file_name().unwrap().to_str().unwrap());
        fs::set_permissions(lock, fs::Permissions::from_mode(0o444)).unwrap();
        get();
        assert_eq!(compiler.calls.get(), 1);
    }

    #[test]
    fn a_cache_that_cannot_be_used_is_told_and_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let cache = CompileCache::new(dir.path().join("file/cache"));
        let compile = |_: &Path| {
            let made = dir.path().join("made.mlmodelc");
            fs::create_dir(&made).unwrap();
            Ok(made)
        };
        for (cache, system) in [(Some(&cache), Some("24G84")), (Some(&cache), None), (None, Some("24G84"))] {
            let steps = RefCell::new(Vec::new());
            let tell = |step: &LoadStep| steps.borrow_mut().push(step.clone());
            let compiled = Compiled::get(&package(), cache, system, tell, compile).unwrap();
            assert!(compiled.path().is_dir() && compiled.time().is_some());
            let told = steps.into_inner();
            let unusable = cache.is_some() && system.is_some();
            assert_eq!(told.len(), 1 + usize::from(unusable), "{told:?}");
            assert!(!unusable || matches!(&told[0], LoadStep::NotKept { reason } if reason.contains("file")));
            // The last user's drop removes it.
            drop(compiled);
            assert!(!dir.path().join("made.mlmodelc").exists());
        }
        let fails = |_: &Path| Err(Error::NeedsMac { what: "compiling" });
        let error = Compiled::get(&package(), Some(&cache), Some("s"), |_| {}, fails).unwrap_err();
        assert!(matches!(error, Error::NeedsMac { .. }), "{error}");
    }

    #[test]
    fn a_cache_that_cannot_be_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let cache = CompileCache::new(file.join("cache"));
        let error =
            cache.get_or_compile(&package(), "s", |_| {}, |_| unreachable!()).unwrap_err().to_string();
        assert!(error.starts_with("cache of compiled packages: ") && error.contains("file"), "{error}");
    }
}
