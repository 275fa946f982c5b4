//! Packages that coremltools 9.0 wrote (`fixtures/make.py`): each opens, checks clean and comes back as it was.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use mlpackage::Package;

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
