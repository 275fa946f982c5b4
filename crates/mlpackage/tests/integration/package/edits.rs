//! Changed copies of packages.

use std::fs;
use std::path::Path;

use mlpackage::mil::ValueData;
use mlpackage::{Package, Rule};

use super::{WEIGHTS, written};

/// The sizes of a split into eleven parts are stored in the weight file. They determine shapes, which are
/// checked.
#[test]
fn integers_in_a_weight_file_decide_shapes() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/blob_integers.mlpackage");
    let package = Package::open(&fixture).unwrap();
    let operations = &package.function("main").unwrap().block.operations;
    let sizes = operations.iter().find(|o| o.outputs[0].name.contains("split_sizes")).unwrap();
    let ValueData::Blob(at) = &sizes.attributes["val"].data else { panic!("{}", sizes.attributes["val"]) };
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.mlpackage");
    let bytes = |sizes: [i32; 11]| sizes.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>();
    let mut edit = package.edit();
    // The first two are 1 and 2.
    edit.replace_blob(at, bytes([2, 1, 3, 1, 2, 3, 1, 2, 3, 2, 2])).unwrap();
    let error = edit.save(&copy).unwrap_err().to_string();
    assert!(
        error.contains("%y_part_0 is declared tensor<fp16, [1, 2]>, inferred tensor<fp16, [2, 2]>"),
        "{error}"
    );
    let mut edit = package.edit();
    edit.replace_blob(at, bytes([1, 2, 3, 1, 2, 3, 1, 2, 3, 2, 2])).unwrap();
    edit.save(&copy).unwrap();

    // A file that contradicts the program is found when it is read.
    let weights = copy.join(WEIGHTS);
    let mut file = fs::read(&weights).unwrap();
    let start = at.offset as usize + 64;
    file[start..start + 4].copy_from_slice(&9i32.to_le_bytes());
    fs::write(&weights, file).unwrap();
    let found = Package::open(&copy).unwrap().check();
    assert_eq!(found.iter().map(|f| f.rule).collect::<Vec<_>>(), [Rule::ArgumentsMismatch], "{found:?}");
}

/// A copy with other values in one blob; all other bytes are the same.
#[test]
fn weights_are_swapped() {
    let (dir, path) = written();
    let package = Package::open(&path).unwrap();
    let constant =
        package.function("main").unwrap().block.operations.iter().find(|o| o.outputs[0].name == "w");
    let value = &constant.unwrap().attributes["val"];
    let ValueData::Blob(at) = &value.data else { panic!("{value}") };
    let copy = dir.path().join("copy.mlpackage");

    let mut edit = package.edit();
    let error = edit.replace_blob(at, vec![0; 95]).unwrap_err().to_string();
    assert!(error.contains("95 bytes given, it has 96"), "{error}");
    edit.replace_blob(at, vec![0x3c; 96]).unwrap();
    edit.description_mut().metadata.author = "somebody".into();
    edit.save(&copy).unwrap();

    let edited = Package::open(&copy).unwrap();
    assert_eq!(edited.check(), []);
    assert_eq!(edited.metadata().author, "somebody");
    assert_eq!(edited.blob_of(value).unwrap().unwrap().data, [0x3c; 96]);
    let bytes = |root: &Path| fs::read(root.join(WEIGHTS)).unwrap();
    assert_eq!(bytes(&copy)[..128], bytes(&path)[..128], "header and record");

    // An edited package can replace itself; an edit that breaks a rule changes nothing.
    let mut edit = edited.edit();
    edit.program_mut().functions.get_mut("main").unwrap().block.outputs.clear();
    assert!(edit.save(&copy).unwrap_err().to_string().contains("returns no outputs"));
    let mut edit = edited.edit();
    edit.description_mut().metadata.version = "2".into();
    edit.save(&copy).unwrap();
    assert_eq!(Package::open(&copy).unwrap().metadata().version, "2");
}

/// A constant must refer to a blob that the package has, and of its type; otherwise nothing is written.
#[test]
fn a_reference_to_another_blob_is_not_saved() {
    let (dir, path) = written();
    let package = Package::open(&path).unwrap();
    let refused = |change: &dyn Fn(&mut mlpackage::mil::BlobRef)| {
        let mut edit = package.edit();
        let operations = &mut edit.program_mut().functions.get_mut("main").unwrap().block.operations;
        let constant = operations.iter_mut().find(|o| o.outputs[0].name == "w").unwrap();
        let ValueData::Blob(at) = &mut constant.attributes.get_mut("val").unwrap().data else { panic!() };
        change(at);
        let copy = dir.path().join("refused.mlpackage");
        let error = edit.save(&copy).unwrap_err().to_string();
        assert!(!copy.exists(), "{error}");
        error
    };
    let error = refused(&|at| at.file = "@model_path/weights/other.bin".into());
    let expected = "is in the weight file \"@model_path/weights/other.bin\", the package has \
                    @model_path/weights/weight.bin";
    assert!(error.contains(expected), "{error}");
    let error = refused(&|at| at.file = "/etc/passwd".into());
    assert!(error.contains("is in the weight file \"/etc/passwd\""), "{error}");
    let error = refused(&|at| at.offset += 64);
    assert!(error.contains("is in a blob that is damaged"), "{error}");
}

/// Saving into the package would make the copy part of the original.
#[test]
fn a_package_is_not_saved_into_itself() {
    let (_dir, path) = written();
    let package = Package::open(&path).unwrap();
    let error = package.save(path.join("Data/copy.mlpackage")).unwrap_err().to_string();
    assert!(error.contains("it is inside the package that is copied"), "{error}");
    assert_eq!(package.check(), []);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_whose_name_is_not_utf_8_is_named() {
    use std::os::unix::ffi::OsStrExt as _;
    let (dir, path) = written();
    fs::write(path.join("Data").join(std::ffi::OsStr::from_bytes(b"n\xff")), "").unwrap();
    let error =
        Package::open(&path).unwrap().save(dir.path().join("copy.mlpackage")).unwrap_err().to_string();
    assert!(error.contains("Data/n\u{fffd}: its name is not UTF-8"), "{error}");
}
