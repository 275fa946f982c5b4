//! Packages that coremltools 9.0 wrote (`fixtures/make.py`): each opens and checks clean.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use mlpackage::Package;
use proptest::prelude::*;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut packages: Vec<PathBuf> =
        entries.filter(|p| p.extension().is_some_and(|e| e == "mlpackage")).collect();
    packages.sort();
    assert!(packages.len() >= 25, "{} packages", packages.len());
    packages
}

#[test]
fn every_fixture_checks_clean() {
    let mut findings = Vec::new();
    for path in fixtures() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match Package::open(&path) {
            Ok(package) => findings.extend(package.check().iter().map(|e| format!("{name}: {e}"))),
            Err(e) => findings.push(format!("{name}: {e}")),
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// Every operation of the table stands in a package that coremltools wrote, so that no row is untried.
#[test]
fn the_fixtures_cover_the_table() {
    let mut found = std::collections::BTreeSet::new();
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

/// Shapes that a caller may choose, as coremltools was told.
#[test]
fn flexible_shapes_are_read() {
    use mlpackage::mil::Dim;
    use mlpackage::{AllowedShapes, DimRange, Shape};
    let open = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let package = Package::open(&folder.join(name)).unwrap();
        package.interface("main").unwrap().inputs[0].clone()
    };
    let x = open("flexible_ranged.mlpackage");
    assert_eq!(x.ty.shape.as_slice(), [Dim::Known(1), Dim::Unknown, Dim::Known(4)]);
    let ranges = vec![DimRange::fixed(1), DimRange { lower: 1, upper: Some(64) }, DimRange::fixed(4)];
    assert_eq!(x.shapes, AllowedShapes::Ranged { default: Shape::from([1, 8, 4]), ranges });
    assert!(x.shapes.admit(&Shape::from([1, 64, 4])) && !x.shapes.admit(&Shape::from([1, 65, 4])));
    let x = open("flexible_enumerated.mlpackage");
    let shapes = [[1, 16, 4], [1, 8, 4], [1, 32, 4]].map(Shape::from);
    assert_eq!(x.shapes, AllowedShapes::Enumerated(shapes.to_vec()));
    assert_eq!(x.default_shape(), Some(Shape::from([1, 16, 4])));
    assert!(!x.shapes.admit(&Shape::from([1, 9, 4])));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Whatever happens to the bytes of a program, every operation's row takes it or refuses it: no panic, no endless work.
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
