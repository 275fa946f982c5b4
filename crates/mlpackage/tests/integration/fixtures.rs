//! Packages that coremltools 9.0 wrote (`fixtures/make.py`). Each opens without findings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mlpackage::Package;
use proptest::prelude::*;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut packages: Vec<PathBuf> =
        entries.filter(|p| p.extension().is_some_and(|e| e == "mlpackage")).collect();
    packages.sort();
    // `make.py` writes 57.
    assert_eq!(packages.len(), 57);
    packages
}

/// There are no false alarms, including warnings.
#[test]
fn every_fixture_checks_clean() {
    let mut findings = Vec::new();
    for path in fixtures() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let found = Package::check_path(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        findings.extend(found.iter().map(|e| format!("{name}: {e}")));
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// Every operation of the table occurs in a package that coremltools wrote, so every entry is tested.
#[test]
fn the_fixtures_cover_the_table() {
    let mut found = BTreeSet::new();
    for path in fixtures() {
        let package = Package::open(&path).unwrap();
        for function in package.program().functions.values() {
            found.extend(function.block.operations.iter().map(|o| o.op.clone()));
        }
    }
    let missing: Vec<&str> =
        mlpackage::ops::all().map(|o| o.name).filter(|name| !found.contains(*name)).collect();
    assert_eq!(missing, [""; 0]);
}

/// A saved package has the same contents, and its weights are the same bytes.
#[test]
fn every_fixture_is_written_again_without_loss() {
    for path in fixtures() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy.mlpackage");
        let package = Package::open(&path).unwrap();
        package.save(&copy).unwrap_or_else(|e| panic!("{name}: {e}"));
        let again = Package::open(&copy).unwrap();
        assert_eq!(again.program(), package.program(), "{name}");
        assert_eq!(again.description(), package.description(), "{name}");
        assert_eq!(again.specification_version(), package.specification_version(), "{name}");
        assert_eq!(again.check(), package.check(), "{name}");
        // coremltools orders maps arbitrarily, so the bytes of the model differ, but their number does not.
        // An argument without bindings is the default value of a map entry, which need not be written and has
        // two bytes.
        let operations = package.program().functions.values().flat_map(|f| f.block.all_operations());
        let empty = operations.flat_map(|o| o.inputs.values()).filter(|bindings| bindings.is_empty()).count();
        assert_eq!(again.model_bytes() + 2 * empty as u64, package.model_bytes(), "{name}");
        for file in ["Manifest.json", "Data/com.apple.CoreML/weights/weight.bin"] {
            let bytes = |root: &Path| std::fs::read(root.join(file)).ok();
            assert_eq!(bytes(&copy), bytes(&path), "{name}: {file}");
        }
        // Once in this crate's order, the model is reproduced byte for byte.
        let third = dir.path().join("third.mlpackage");
        again.save(&third).unwrap();
        let model = |root: &Path| std::fs::read(root.join("Data/com.apple.CoreML/model.mlmodel")).unwrap();
        assert_eq!(model(&third), model(&copy), "{name}");
    }
}

/// Flexible shapes are read as they were declared in coremltools.
#[test]
fn flexible_shapes_are_read() {
    use mlpackage::mil::Dim;
    use mlpackage::{AllowedShapes, DimRange, Shape};
    let open = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let package = Package::open(folder.join(name)).unwrap();
        package.interface("main").unwrap().inputs[0].array().unwrap().clone()
    };
    let x = open("flexible_ranged.mlpackage");
    assert_eq!(x.tensor.shape.as_slice(), [Dim::Known(1), Dim::Unknown, Dim::Known(4)]);
    let ranges = vec![DimRange::fixed(1), DimRange { lower: 1, upper: Some(64) }, DimRange::fixed(4)];
    assert_eq!(x.shapes, AllowedShapes::Ranged { default: Shape::from([1, 8, 4]), ranges });
    assert!(x.shapes.admits(&Shape::from([1, 64, 4])) && !x.shapes.admits(&Shape::from([1, 65, 4])));
    let x = open("flexible_enumerated.mlpackage");
    let shapes = [[1, 8, 4], [1, 16, 4], [1, 32, 4]].map(Shape::from).to_vec();
    let AllowedShapes::Enumerated { default, shapes: mut found } = x.shapes.clone() else {
        panic!("{:?}", x.shapes)
    };
    found.sort_by_key(|s| s.dims().to_vec());
    assert_eq!((default, found), (Shape::from([1, 16, 4]), shapes));
    assert_eq!(x.default_shape(), Some(Shape::from([1, 16, 4])));
    assert!(!x.shapes.admits(&Shape::from([1, 9, 4])));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Every table entry accepts or refuses an operation with arbitrary damage, without panic or endless
    /// work.
    #[test]
    fn damaged_programs_never_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        const MODEL: &str = "Data/com.apple.CoreML/model.mlmodel";
        let packages = fixtures();
        let fixture = &packages[which.index(packages.len())];
        let dir = tempfile::tempdir().unwrap();
        let files = [MODEL, "Data/com.apple.CoreML/weights/weight.bin", "Manifest.json"];
        for file in files.into_iter().filter(|f| fixture.join(f).exists()) {
            let target = dir.path().join(file);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(fixture.join(file), target).unwrap();
        }
        let mut bytes = std::fs::read(fixture.join(MODEL)).unwrap();
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        std::fs::write(dir.path().join(MODEL), bytes).unwrap();
        if let Ok(package) = Package::open(dir.path()) {
            package.check();
            let _ = package.program().to_string();
        }
    }
}

/// coremltools lists the folder of weights even if it is empty; a saved copy of such a package opens again.
#[test]
fn an_empty_folder_of_weights_is_written_too() {
    let dir = tempfile::tempdir().unwrap();
    let (original, copy) = (dir.path().join("a.mlpackage"), dir.path().join("b.mlpackage"));
    let unary = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/unary.mlpackage");
    let package = Package::open(&unary).unwrap();
    assert_eq!(package.weight_files().count(), 0);
    package.save(&original).unwrap();
    std::fs::create_dir_all(original.join("Data/com.apple.CoreML/weights")).unwrap();
    let manifest = std::fs::read_to_string(original.join("Manifest.json")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    manifest["itemInfoEntries"]["weights"] = serde_json::json!({
        "author": "com.apple.CoreML", "description": "", "name": "weights", "path": "com.apple.CoreML/weights"
    });
    std::fs::write(original.join("Manifest.json"), manifest.to_string()).unwrap();
    Package::open(&original).unwrap().save(&copy).unwrap();
    let findings = Package::open(&copy).unwrap().check();
    assert!(findings.is_empty(), "{findings:?}");
}
