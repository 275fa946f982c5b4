//! A cache whose compiler is a function of the test.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mlpackage::Package;

use super::CompileCache;
use super::entry::ABOUT;
use crate::core_ml::{Compiled, LoadStep};
use crate::error::{Error, Result};

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
    assert!(about.contains("\"system\": \"24G84\"") && about.contains("multifunction.mlpackage"), "{about}");
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

/// The lock file is read-only, as after a run by root: the existing entry is used.
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
    let error = cache.get_or_compile(&package(), "s", |_| {}, |_| unreachable!()).unwrap_err().to_string();
    assert!(error.starts_with("cache of compiled packages: ") && error.contains("file"), "{error}");
}
