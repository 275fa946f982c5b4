//! A planted fault: the package, the name, the expected report and the change.

use super::base::Base;
use super::draft::Draft;
use crate::finding::Rule;

/// The expected report of a fault.
#[derive(Clone, Copy)]
pub(super) enum Expected {
    /// A finding of this rule whose text contains the words.
    Finding(Rule, &'static str),
    /// An error whose text contains the words; the package cannot be read.
    Refused(&'static str),
}

pub(super) type Fault = (Base, &'static str, Expected, fn(&mut Draft));

pub(super) const fn fault(
    name: &'static str,
    rule: Rule,
    words: &'static str,
    plant: fn(&mut Draft),
) -> Fault {
    (Base::Control, name, Expected::Finding(rule, words), plant)
}

pub(super) const fn in_fixture(
    fixture: &'static str,
    name: &'static str,
    rule: Rule,
    words: &'static str,
    plant: fn(&mut Draft),
) -> Fault {
    (Base::Fixture(fixture), name, Expected::Finding(rule, words), plant)
}

pub(super) const fn refused(name: &'static str, words: &'static str, plant: fn(&mut Draft)) -> Fault {
    (Base::Control, name, Expected::Refused(words), plant)
}
