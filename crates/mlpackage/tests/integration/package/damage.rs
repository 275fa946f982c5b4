//! Packages that are damaged, incomplete, or something else.

use std::fs;
use std::path::Path;

use mlpackage::{DType, Error, Package};
use proptest::prelude::*;

use super::{MODEL, WEIGHTS, written};

/// Replaces the first occurrence of `from` in the model file. The description precedes the program.
fn edit(path: &Path, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len(), "lengths are part of the encoding");
    let file = path.join(MODEL);
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    fs::write(file, bytes).unwrap();
}

#[track_caller]
fn check_reports(path: &Path, what: &str) {
    let package = Package::open(path).unwrap();
    let errors: Vec<String> = package.check().iter().map(ToString::to_string).collect();
    assert!(errors.iter().any(|e| e.contains(what)), "{errors:?}");
}

#[test]
fn a_description_that_differs_from_the_program_is_found() {
    for name in ["embedding", "logits", "cache"] {
        let (_dir, path) = written();
        edit(&path, name.as_bytes(), name.to_uppercase().as_bytes());
        check_reports(&path, "description differs");
    }
}

#[test]
fn an_unknown_operation_is_found() {
    let (_dir, path) = written();
    edit(&path, b"\x0a\x04relu", b"\x0a\x04rely");
    check_reports(&path, "rely -> %logits: unknown operation `rely`; did you mean `relu`?");
}

#[test]
fn a_reference_to_nothing_is_found() {
    let (_dir, path) = written();
    // The last mention of the convolution's result is its use by the sum.
    let file = path.join(MODEL);
    let mut bytes = fs::read(&file).unwrap();
    let mentions: Vec<usize> =
        bytes.windows(9).enumerate().filter(|(_, w)| w == b"projected").map(|(i, _)| i).collect();
    let last = *mentions.last().unwrap();
    bytes[last..last + 9].copy_from_slice(b"forgotten");
    fs::write(file, bytes).unwrap();
    check_reports(&path, "%forgotten, which is not defined");
}

#[test]
fn damaged_weights_are_found() {
    // Shorter than the program's blob requires.
    let (_dir, path) = written();
    let bytes = fs::read(path.join(WEIGHTS)).unwrap();
    fs::write(path.join(WEIGHTS), &bytes[..200]).unwrap();
    check_reports(&path, "weight.bin");
    // A record of another type: the element type at offset 64 + 4 is 1 for fp16, 2 for fp32.
    let (_dir, path) = written();
    let mut bytes = fs::read(path.join(WEIGHTS)).unwrap();
    assert_eq!(bytes[68], 1);
    bytes[68] = 2;
    fs::write(path.join(WEIGHTS), bytes).unwrap();
    check_reports(&path, "24 elements of fp32, the program declares tensor<fp16, [3, 16, 1, 1]>");
}

#[test]
fn what_is_missing_is_named() {
    for (file, what) in
        [(MODEL, "model.mlmodel"), (WEIGHTS, "weight.bin"), ("Manifest.json", "Manifest.json")]
    {
        let (_dir, path) = written();
        fs::remove_file(path.join(file)).unwrap();
        let error = Package::open(&path).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let error = Package::open(Path::new("/nowhere/p.mlpackage")).unwrap_err().to_string();
    assert!(error.contains("/nowhere/p.mlpackage"), "{error}");
}

/// A neural network is field 500 of `Model`, where an ML Program is 502.
#[test]
fn a_model_of_another_kind_is_refused() {
    let (_dir, path) = written();
    fs::write(path.join(MODEL), [0x08, 0x04, 0xa2, 0x1f, 0x00]).unwrap();
    let error = Package::open(&path).unwrap_err().to_string();
    assert!(error.contains("not an ML Program"), "{error}");
}

/// Opening a pipe would block forever.
#[cfg(target_os = "linux")]
#[test]
fn a_pipe_is_not_a_file() {
    for file in [MODEL, WEIGHTS, "Manifest.json"] {
        let (_dir, path) = written();
        let file = path.join(file);
        fs::remove_file(&file).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let error = Package::open(&path).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }
}

/// A package with arbitrary damage is either refused, or read, checked and printed, without panic or endless
/// work.
#[test]
fn damage_never_panics() {
    // Written once, because writing a package waits for the disk.
    let (_dir, path) = written();
    let [model, weights] = [MODEL, WEIGHTS].map(|file| fs::read(path.join(file)).unwrap());
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let cut = prop::option::of(any::<prop::sample::Index>());
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) };
    proptest!(config, |(changes in changes, cut in cut, in_weights in any::<bool>())| {
        let (file, mut bytes) = if in_weights { (WEIGHTS, weights.clone()) } else { (MODEL, model.clone()) };
        for (at, to) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *to;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(path.join(MODEL), &model).unwrap();
        fs::write(path.join(WEIGHTS), &weights).unwrap();
        fs::write(path.join(file), bytes).unwrap();
        if let Ok(package) = Package::open(&path) {
            let errors = package.check();
            let _ = package.program().to_string();
            for function in package.program().functions.values() {
                for value in function.block.operations.iter().flat_map(|o| o.attributes.values()) {
                    let floats = package.floats(value);
                    if errors.is_empty() {
                        let strings = matches!(value.dtype(), Some(DType::String | DType::Bool));
                        prop_assert!(floats.is_ok() || strings, "{:?}", floats);
                    }
                }
            }
        }
    });
}

/// Git without LFS leaves a short text in place of any large file.
#[test]
fn a_git_lfs_pointer_is_named_with_the_way_out() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 528451584\n";
    for file in ["Manifest.json", MODEL, WEIGHTS] {
        let (_dir, path) = written();
        fs::write(path.join(file), pointer).unwrap();
        let opened = Package::open(&path).unwrap_err();
        for error in [opened, Package::check_path(&path).unwrap_err()] {
            assert!(matches!(error, Error::GitLfsPointer { .. }), "{error:?}");
            let text = error.to_string();
            let name = file.rsplit('/').next().unwrap();
            for word in [name, "528451584 bytes were not downloaded", "`git lfs pull`"] {
                assert!(text.contains(word), "{text}");
            }
        }
    }
}

#[test]
fn what_is_given_in_place_of_a_package_is_named() {
    let (dir, path) = written();
    let refused = |path: &Path, words: &str| {
        for error in [Package::open(path).unwrap_err(), Package::check_path(path).unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains(words) && text.contains(&path.display().to_string()), "{text}");
        }
    };
    refused(&path.join(MODEL), "the model file of a package, expected the folder of a .mlpackage");
    // A specification version, then an empty message in field 500.
    let network = dir.path().join("old.mlmodel");
    fs::write(&network, [0x08, 0x04, 0xa2, 0x1f, 0x00]).unwrap();
    refused(&network, "a single-file model (.mlmodel): it is a neural network, not an ML Program");
    let compiled = dir.path().join("p.mlmodelc");
    fs::create_dir(&compiled).unwrap();
    fs::write(compiled.join("coremldata.bin"), "").unwrap();
    refused(&compiled, "a compiled model (.mlmodelc)");
    fs::write(dir.path().join("notes.txt"), "text").unwrap();
    refused(&dir.path().join("notes.txt"), "expected the folder of a .mlpackage");
    refused(&dir.path().join("nowhere"), "no such folder");
}
