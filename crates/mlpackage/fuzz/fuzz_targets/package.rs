//! A whole package on disk. The first six bytes of the input are the lengths of manifest, model and weights,
//! which follow.

#![no_main]

#[path = "bounded.rs"]
mod bounded;

use std::cell::OnceCell;
use std::fs;

use mlpackage::Package;

thread_local! {
    static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((lengths, rest)) = data.split_at_checked(6) else { return };
    let length = |i: usize| u16::from_le_bytes([lengths[2 * i], lengths[2 * i + 1]]) as usize;
    let (manifest, rest) = rest.split_at(length(0).min(rest.len()));
    let (model, rest) = rest.split_at(length(1).min(rest.len()));
    let weights = &rest[..length(2).min(rest.len())];
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap());
        let package = folder.path().join("p.mlpackage");
        let data_folder = package.join("Data/com.apple.CoreML");
        fs::create_dir_all(data_folder.join("weights")).unwrap();
        fs::write(package.join("Manifest.json"), manifest).unwrap();
        fs::write(data_folder.join("model.mlmodel"), model).unwrap();
        fs::write(data_folder.join("weights/weight.bin"), weights).unwrap();
        bounded::bounded(data, |_| {
            let findings = Package::check_path(&package);
            if let Ok(opened) = Package::open(&package) {
                let sound = findings.unwrap().iter().all(|f| !f.is_error());
                for function in opened.program().functions.values() {
                    for value in function.block.all_operations().flat_map(|o| o.values()) {
                        let floats = opened.floats(value);
                        // Constants that the check accepts can be read.
                        assert!(!sound || floats.is_ok() || opened.blob_of(value).is_ok());
                    }
                }
            }
        });
    });
});
