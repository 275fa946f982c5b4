//! The cache of compiled packages with several processes, which race for one package or are killed halfway.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ane_runtime::core_ml::CompileCache;
use mlpackage::Package;

/// Environment variable with the test's folder, set for the processes that a test starts.
const FOLDER: &str = "COMPILE_CACHE_TEST_FOLDER";
/// Environment variable that makes such a process's compiler hang.
const HANGS: &str = "COMPILE_CACHE_TEST_HANGS";
/// Number of files of a compiled package, written one by one.
const FILES: usize = 20;

/// Compiles slowly and logs its calls.
fn compile(folder: &Path) -> PathBuf {
    let id = std::process::id();
    let mut log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    writeln!(log, "{id}").unwrap();
    let made = folder.join(format!("made-by-{id}"));
    fs::create_dir(&made).unwrap();
    for i in 0..FILES {
        fs::write(made.join(i.to_string()), [i as u8; 100]).unwrap();
        if i == FILES / 2 && std::env::var_os(HANGS).is_some() {
            println!("half done");
            std::thread::sleep(Duration::from_secs(600));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    made
}

/// Runs in each process: gets the package, whichever process compiled it, and checks that it is complete.
fn get(folder: &Path) {
    let fixture = "../mlpackage/tests/fixtures/multifunction.mlpackage";
    let package = Package::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture)).unwrap();
    let cache = CompileCache::new(folder.join("cache"));
    let compiled = cache.get_or_compile(&package, "24G84", |_| {}, |_| Ok(compile(folder))).unwrap();
    for i in 0..FILES {
        assert_eq!(fs::read(compiled.path().join(i.to_string())).unwrap(), [i as u8; 100]);
    }
}

#[test]
fn one_process() {
    match std::env::var_os(FOLDER) {
        Some(folder) => get(Path::new(&folder)),
        None => get(tempfile::tempdir().unwrap().path()),
    }
}

/// Starts this program again, to run the test above in `folder`.
fn start(folder: &Path, hangs: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "compile_cache::one_process", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped());
    if hangs {
        command.env(HANGS, "1");
    }
    command.spawn().unwrap()
}

fn compilations(folder: &Path) -> usize {
    fs::read_to_string(folder.join("log")).unwrap().lines().count()
}

#[test]
fn of_processes_that_race_one_compiles() {
    let dir = tempfile::tempdir().unwrap();
    let racers: Vec<Child> = (0..4).map(|_| start(dir.path(), false)).collect();
    for racer in racers {
        let output = racer.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(compilations(dir.path()), 1);
}

#[test]
fn a_process_that_is_killed_leaves_nothing_that_loads() {
    let dir = tempfile::tempdir().unwrap();
    let mut victim = start(dir.path(), true);
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("half done")));
    // Meanwhile another process waits for it, and must not wait forever.
    let waits = start(dir.path(), false);
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(waits.wait_with_output().unwrap().status.success());
    assert_eq!(compilations(dir.path()), 2);
    let entries = fs::read_dir(dir.path().join("cache")).unwrap();
    let names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), 2, "the entry and its lock: {names:?}");
}
