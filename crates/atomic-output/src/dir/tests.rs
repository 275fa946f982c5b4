use super::*;
use crate::tests::names;

fn refusal(folder: &Path) -> Option<String> {
    (!folder.join("marker").is_file()).then(|| "has no marker".to_owned())
}

fn create(destination: &Path) -> Result<AtomicDir> {
    AtomicDir::create(destination, refusal)
}

fn marked(folder: &Path, text: &str) {
    fs::create_dir(folder).unwrap();
    fs::write(folder.join("marker"), text).unwrap();
}

fn marker(folder: &Path) -> String {
    fs::read_to_string(folder.join("marker")).unwrap()
}

#[test]
fn nothing_remains_without_commit() {
    let base = tempfile::tempdir().unwrap();
    let dir = create(&base.path().join("deep/er/out")).unwrap();
    fs::write(dir.path().join("half"), "x").unwrap();
    drop(dir);
    assert!(names(base.path()).is_empty());
}

#[test]
fn replaces_an_earlier_output_and_leaves_no_trace_of_it() {
    let base = tempfile::tempdir().unwrap();
    let out = base.path().join("out");
    for content in ["first", "second"] {
        let dir = create(&out).unwrap();
        fs::write(dir.path().join("marker"), content).unwrap();
        if content == "first" {
            fs::write(dir.path().join("old"), "").unwrap();
        }
        dir.commit().unwrap();
    }
    assert_eq!(marker(&out), "second");
    assert_eq!((names(&out), names(base.path())), (vec!["marker".into()], vec!["out".into()]));
}

#[test]
fn a_folder_that_is_refused_is_never_replaced() {
    let base = tempfile::tempdir().unwrap();
    let out = base.path().join("out");
    let refused = |path: &Path, words: &str| {
        let error = create(path).map(drop).unwrap_err();
        assert!(matches!(error, Error::Occupied { .. }));
        assert!(error.to_string().contains(words), "{error}");
    };
    // A folder that was created in the meantime is refused at the commit, too.
    let dir = create(&out).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.tex"), "years of work").unwrap();
    assert!(matches!(dir.commit(), Err(Error::Occupied { .. })));
    refused(&out, "has no marker");
    refused(&out.join("thesis.tex"), "is not a folder");
    assert_eq!((names(&out), names(base.path())), (vec!["thesis.tex".into()], vec!["out".into()]));
}

/// A process that is killed leaves its folder. The next process with the same output removes it, but not
/// the folder of a process that is still at work.
#[cfg(unix)]
#[test]
fn remains_of_the_dead_are_removed() {
    let base = tempfile::tempdir().unwrap();
    let out = base.path().join("out");
    fs::create_dir_all(base.path().join(".out.AbCd12.partial/inside")).unwrap();
    fs::create_dir(base.path().join(".out.notes.partial")).unwrap();
    let (at_work, another) = (create(&out).unwrap(), create(&out).unwrap());
    assert!(at_work.path().is_dir() && another.path().is_dir());
    drop((at_work, another));
    assert_eq!(names(base.path()), [".out.notes.partial"]);
    // Remains of numbered outputs are found by the start of their names.
    for name in [".step-000001.AbCd12.partial", ".step-notes.partial", ".other.AbCd12.partial"] {
        fs::create_dir(base.path().join(name)).unwrap();
    }
    crate::remove_remains(base.path(), ".step-");
    assert_eq!(names(base.path()), [".other.AbCd12.partial", ".out.notes.partial", ".step-notes.partial"]);
}

#[test]
fn two_renames_do_what_an_exchange_does() {
    let base = tempfile::tempdir().unwrap();
    let (staged, out) = (base.path().join(".out.AbCd12.partial"), base.path().join("out"));
    marked(&staged, "new");
    marked(&out, "old");
    step_aside(&staged, &out).unwrap();
    assert_eq!((marker(&out), names(base.path())), ("new".into(), vec!["out".into()]));
    // If the second one fails, the first is undone.
    step_aside(&staged, &out).unwrap_err();
    assert_eq!((marker(&out), names(base.path())), ("new".into(), vec!["out".into()]));
}

/// While a process is between its two renames, other processes leave both folders where they are.
#[cfg(unix)]
#[test]
fn a_replacement_that_is_going_on_is_not_disturbed() {
    let base = tempfile::tempdir().unwrap();
    let (staged, aside) = (base.path().join(".out.AbCd12.partial"), base.path().join(".out.AbCd12.replaced"));
    marked(&staged, "new");
    marked(&aside, "old");
    let locks = (remains::lock(&staged).unwrap(), remains::lock(&aside).unwrap());
    drop(create(&base.path().join("out")).unwrap());
    assert_eq!((marker(&staged), marker(&aside)), ("new".into(), "old".into()));
    drop(locks);
}

/// Covers every moment at which a process can be killed if two names cannot be exchanged.
#[test]
fn a_replacement_that_was_interrupted_is_completed() {
    let base = tempfile::tempdir().unwrap();
    let at = |name: &str| base.path().join(name);
    let (out, partial, aside) = (at("out"), at(".out.AbCd12.partial"), at(".out.AbCd12.replaced"));
    // Killed between the renames: the successor is complete.
    marked(&aside, "old");
    marked(&partial, "new");
    drop(create(&out).unwrap());
    assert_eq!((marker(&out), names(base.path())), ("new".into(), vec!["out".into()]));
    // Killed after the second rename.
    marked(&aside, "old");
    drop(create(&out).unwrap());
    assert_eq!((marker(&out), names(base.path())), ("new".into(), vec!["out".into()]));
    // The successor is gone and nothing has taken its place.
    fs::rename(&out, &aside).unwrap();
    drop(create(&out).unwrap());
    assert_eq!((marker(&out), names(base.path())), ("new".into(), vec!["out".into()]));
    // Something else has taken the destination: nothing is removed.
    marked(&aside, "old");
    marked(&partial, "newer");
    let error = create(&out).map(drop).unwrap_err();
    assert!(matches!(&error, Error::Interrupted { .. }), "{error}");
    assert_eq!([marker(&out), marker(&aside), marker(&partial)], ["new", "old", "newer"]);
}

#[cfg(unix)]
#[test]
fn the_result_is_not_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let base = tempfile::tempdir().unwrap();
    let out = base.path().join("out");
    create(&out).unwrap().commit().unwrap();
    let plain = base.path().join("plain");
    fs::create_dir(&plain).unwrap();
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&out), mode(&plain));
}

#[cfg(unix)]
#[test]
fn the_permissions_of_the_folder_that_is_replaced_are_kept() {
    use std::os::unix::fs::PermissionsExt as _;
    let base = tempfile::tempdir().unwrap();
    let out = base.path().join("out");
    marked(&out, "old");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o710)).unwrap();
    let dir = create(&out).unwrap();
    assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o077 & !0o010, 0);
    fs::write(dir.path().join("marker"), "new").unwrap();
    dir.commit().unwrap();
    assert_eq!(marker(&out), "new");
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o710);
}

/// Flushing must neither wait for a writer of a pipe nor leave the folder: two links to the next folder in
/// each of 40 would be 2^40 paths.
#[cfg(target_os = "linux")]
#[test]
fn links_and_special_files_are_moved_and_not_followed() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    use std::os::unix::fs::symlink;
    let base = tempfile::tempdir().unwrap();
    let out = base.path().join("out");
    let dir = create(&out).unwrap();
    let at = |name: &str| dir.path().join(name);
    mkfifoat(CWD, at("pipe"), Mode::from_raw_mode(0o600)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink(".", at("itself")).unwrap();
    symlink("pipe", at("link to the pipe")).unwrap();
    for i in 0..40 {
        fs::create_dir(at(&format!("d{i}"))).unwrap();
        for link in ["a", "b"] {
            symlink(format!("../d{}", i + 1), at(&format!("d{i}/{link}"))).unwrap();
        }
    }
    dir.commit().unwrap();
    assert_eq!(names(&out).len(), 5 + 40);
    assert_eq!(fs::read_link(out.join("d39/b")).unwrap(), Path::new("../d40"));
}

/// Nothing that a stranger puts beside a destination keeps an output from being created.
#[cfg(target_os = "linux")]
#[test]
fn a_pipe_with_a_hidden_name_is_left_alone() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    let base = tempfile::tempdir().unwrap();
    let hidden = [".out.AbCd12.partial", ".out.AbCd12.replaced"];
    for name in hidden {
        mkfifoat(CWD, base.path().join(name), Mode::from_raw_mode(0o600)).unwrap();
    }
    std::os::unix::fs::symlink(hidden[0], base.path().join(".out.AbCd34.partial")).unwrap();
    create(&base.path().join("out")).unwrap().commit().unwrap();
    crate::write_file(base.path().join("page"), b"x").unwrap();
    crate::remove_remains(base.path(), ".out.");
    assert_eq!(names(base.path()), [hidden[0], hidden[1], ".out.AbCd34.partial", "out", "page"]);
}

#[cfg(unix)]
#[test]
fn errors_name_the_path_after_the_commit() {
    use std::os::unix::fs::PermissionsExt as _;
    let base = tempfile::tempdir().unwrap();
    let out = base.path().join("out");
    let dir = create(&out).unwrap();
    assert_eq!(dir.final_path(dir.path()), out);
    assert_eq!(dir.final_path(dir.path().join("in/file")), out.join("in/file"));
    assert_eq!(dir.final_path("elsewhere"), Path::new("elsewhere"));
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may list every folder.
    if fs::read_dir(&locked).is_err() {
        let error = dir.commit().unwrap_err().to_string();
        assert!(error.contains(&*out.join("locked").to_string_lossy()), "{error}");
        assert!(!error.contains("partial"), "{error}");
    }
    // What fails for everyone is a folder that was removed.
    let dir = create(&out).unwrap();
    fs::remove_dir(dir.path()).unwrap();
    let error = dir.commit().unwrap_err().to_string();
    assert_eq!(error, format!("list {}: No such file or directory (os error 2)", out.display()));
}

#[test]
fn a_destination_without_a_name_is_refused_before_the_work() {
    let base = tempfile::tempdir().unwrap();
    for path in ["/", "x/..", ".."] {
        let error = create(&base.path().join(path)).map(drop).unwrap_err().to_string();
        assert!(error.contains(path) && error.contains("it is not the name of a folder"), "{error}");
    }
    for path in ["", "."] {
        let error = create(Path::new(path)).map(drop).unwrap_err().to_string();
        assert!(error.contains("it is not the name of a folder"), "{error}");
    }
    assert!(names(base.path()).is_empty());
    // What follows a name means nothing.
    for path in ["a/", "b/.", "c/./"] {
        create(&base.path().join(path)).unwrap().commit().unwrap();
    }
    assert_eq!(names(base.path()), ["a", "b", "c"]);
}

#[test]
fn new_parents_stay_if_the_path_leads_back_out_of_them() {
    let base = tempfile::tempdir().unwrap();
    create(&base.path().join("new/../out")).unwrap().commit().unwrap();
    assert_eq!(names(base.path()), ["new", "out"]);
}

/// Linux allows names that are not UTF-8; two of them are not confused.
#[cfg(target_os = "linux")]
#[test]
fn remains_belong_to_the_very_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let base = tempfile::tempdir().unwrap();
    let at = |name: &[u8]| base.path().join(OsStr::from_bytes(name));
    marked(&at(b".a\xff.AbCd12.replaced"), "of ff");
    fs::create_dir(at(b".a\xff.AbCd12.partial")).unwrap();
    let other = create(&at(b"a\xfe")).unwrap();
    assert!(!at(b"a\xfe").exists() && at(b".a\xff.AbCd12.replaced").exists());
    drop(other);
    drop(create(&at(b"a\xff")).unwrap());
    assert!(at(b"a\xff").exists() && !at(b".a\xff.AbCd12.partial").exists());
}

/// File systems allow names of 255 bytes, and hidden names are longer than what they hide.
#[cfg(target_os = "linux")]
#[test]
fn long_names_are_written_or_refused_before_the_work() {
    let base = tempfile::tempdir().unwrap();
    for length in [237, 238, 255] {
        let name = "é".repeat(length / 2) + &"x".repeat(length % 2);
        let out = base.path().join(&name);
        create(&out).unwrap().commit().unwrap();
        assert_eq!(names(base.path()), [name.as_str()]);
        let page = base.path().join("p".repeat(length));
        crate::write_file(&page, b"x").unwrap();
        fs::remove_file(page).unwrap();
        fs::remove_dir(out).unwrap();
    }
    // Abbreviated names that begin alike are not confused.
    let names = ["a", "b"].map(|end| base.path().join("x".repeat(254) + end));
    assert_ne!(remains::prefix(&names[0]), remains::prefix(&names[1]));
    assert_eq!(remains::prefix(&names[0]).len(), 240);
    let too_long = base.path().join("x".repeat(256));
    let text = "File name too long (os error 36)";
    for error in [create(&too_long).map(drop), crate::AtomicFile::create(&too_long).map(drop)] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains(&*too_long.to_string_lossy()) && error.ends_with(text), "{error}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn errors_keep_the_words_of_the_system() {
    let error = create(Path::new("/proc/x")).map(drop).unwrap_err().to_string();
    assert_eq!(error, "create a hidden folder beside /proc/x: No such file or directory (os error 2)");
    let error = crate::write_file("/proc/x", b"").unwrap_err().to_string();
    assert_eq!(error, "write /proc/x: No such file or directory (os error 2)");
}
