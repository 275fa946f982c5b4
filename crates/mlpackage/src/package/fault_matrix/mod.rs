//! Fault matrix: each fault is planted in a package of its own, and its own rule must report it.
//!
//! The faults cover the checks of coremltools' loader and of other readers, and more that these readers lack. Each
//! table holds the faults of one part of the package.

mod arguments;
mod base;
mod control_flow;
mod description;
mod draft;
mod fault;
mod folder;
mod layers;
mod refused;
mod results;
mod values;
mod weight_file;

use std::collections::BTreeSet;

use base::Base;
use draft::Draft;
use fault::{Expected, Fault};

use super::Package;
use crate::finding::{Finding, Rule};

/// The tables of all faults.
const TABLES: [&[Fault]; 8] = [
    folder::FAULTS,
    values::FAULTS,
    arguments::FAULTS,
    results::FAULTS,
    control_flow::FAULTS,
    description::FAULTS,
    weight_file::FAULTS,
    refused::FAULTS,
];

fn describe(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("    {}: {f}\n", f.rule)).collect()
}

/// Plants a fault; returns the actual findings as an error if they are not as expected.
fn plant(base: Base, expected: Expected, plant: fn(&mut Draft)) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = base.write(dir.path());
    let mut draft = Draft::open(&path);
    plant(&mut draft);
    draft.save();
    match (expected, Package::check_path(&path)) {
        (Expected::Refused(words), Err(error)) if error.to_string().contains(words) => Ok(()),
        (Expected::Refused(_), Err(error)) => Err(format!("refused for another reason: {error}")),
        (Expected::Refused(_), Ok(findings)) => Err(format!("not refused:\n{}", describe(&findings))),
        (Expected::Finding(..), Err(error)) => Err(format!("refused: {error}")),
        (Expected::Finding(rule, words), Ok(findings)) => {
            let named = |f: &&Finding| f.rule == rule && f.to_string().contains(words);
            match findings.iter().find(named) {
                // One fault may cause several findings, but not many.
                Some(_) if findings.len() <= 5 => Ok(()),
                Some(_) => Err(format!("reported {} times:\n{}", findings.len(), describe(&findings))),
                None => Err(format!("not reported by {rule} with {words:?}:\n{}", describe(&findings))),
            }
        }
    }
}

fn all_faults() -> impl Iterator<Item = &'static Fault> {
    TABLES.into_iter().chain(layers::FAULTS).flatten()
}

#[test]
fn every_planted_fault_is_reported_by_its_rule() {
    let faults = all_faults;
    let mut names: Vec<&str> = faults().map(|(_, name, ..)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), faults().count(), "faults are distinct");
    // The entries of all tables; one of them needs symbolic links. A change that adds a fault changes the
    // number, and a table that is no longer searched does not pass unnoticed.
    assert_eq!(names.len(), 253 + usize::from(cfg!(unix)));
    let missed: Vec<String> = faults()
        .filter_map(|&(base, name, expected, change)| {
            plant(base, expected, change).err().map(|said| format!("{name}: {said}"))
        })
        .collect();
    assert!(missed.is_empty(), "{} of {} faults:\n{}", missed.len(), names.len(), missed.join("\n"));
}

/// Negative control: the package without a fault, and every fixture in which faults are planted, have no
/// findings.
#[test]
fn packages_without_a_fault_are_clean() {
    let fixtures: BTreeSet<&str> = all_faults()
        .filter_map(|(base, ..)| match base {
            Base::Fixture(name) => Some(*name),
            Base::Control | Base::Refusable => None,
        })
        .collect();
    assert!(fixtures.contains("control_flow"), "{fixtures:?}");
    let fixtures = fixtures.into_iter().map(Base::Fixture);
    for base in [Base::Control, Base::Refusable].into_iter().chain(fixtures) {
        let dir = tempfile::tempdir().unwrap();
        let path = base.write(dir.path());
        // Saved by `Draft` without a change, so that saving itself is known to cause no finding.
        Draft::open(&path).save();
        let found: Vec<_> = Package::check_path(&path).unwrap();
        assert_eq!(found, [], "{base:?}");
    }
}

/// Every rule has a fault that triggers it.
#[test]
fn every_rule_has_a_fault() {
    let found: Vec<Rule> = all_faults()
        .filter_map(|(_, _, expected, _)| match expected {
            Expected::Finding(rule, _) => Some(*rule),
            Expected::Refused(_) => None,
        })
        .collect();
    let missing: Vec<Rule> = Rule::ALL.iter().filter(|r| !found.contains(r)).copied().collect();
    assert_eq!(missing, []);
}
