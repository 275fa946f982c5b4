//! Ceilings in bytes.
//!
//! The ane-book states a limit of about 250 MB per package, and error -14 above 1 GB. Its own rows contradict
//! this: shards of 288 MB to 2,016 MB were placed, and one of 2,300 MB was not; feed-forward shards of 364
//! and 398 MB went to the GPU. Both ceilings are kept as laws: the higher one decides, the lower one is only
//! reported.

use super::{Card, Law, Opinion, Statement, megabytes};
use crate::device::Verdict;
use crate::features::Features;

/// Between the largest shard known to be placed (2,016 MB) and the smallest that was rejected for its size
/// (2,300 MB).
pub const PROGRAM_BYTES: u64 = 2_150_000_000;
/// The stated limit of about 250 MB per package.
pub const PACKAGE_BYTES: u64 = 250_000_000;

/// Programs above about 2.1 GB go to the CPU as a whole.
#[derive(Clone, Copy, Debug)]
pub struct ByteCeiling;

/// Packages above about 250 MB are not placed: the stated ceiling, which the ane-book's own rows contradict.
#[derive(Clone, Copy, Debug)]
pub struct PackageCeiling;

const CEILING: Card = Card {
    name: "byte-ceiling",
    says: "a program of more than about 2.1 GB is placed on the CPU as a whole",
    source: "ane-book, history: 2,016 MB placed, 2,300 MB not",
    made_from: &["ane-book, history"],
    statements: &[Statement::supporting("about 3 GB of memory per process on the Neural Engine", "ane-book")],
};

const PACKAGE: Card = Card {
    name: "package-ceiling",
    says: "a package of more than about 250 MB is not placed",
    source: "ane-book",
    made_from: &[],
    statements: &[Statement::opposing(
        "error -14 occurred between 3,164 and 3,284 operations, in a package of 51 MB: operations, not bytes",
        "mil_spec",
    )],
};

impl Law for ByteCeiling {
    fn card(&self) -> &'static Card {
        &CEILING
    }

    fn graph(&self, features: &Features) -> Option<Opinion> {
        above(features.stored_bytes?, PROGRAM_BYTES, Verdict::Cpu)
    }
}

impl Law for PackageCeiling {
    fn card(&self) -> &'static Card {
        &PACKAGE
    }

    fn graph(&self, features: &Features) -> Option<Opinion> {
        above(features.stored_bytes?, PACKAGE_BYTES, Verdict::Gpu)
    }
}

/// Returns an opinion only above the ceiling: a ceiling does not determine what is placed below it.
fn above(bytes: u64, ceiling: u64, outcome: Verdict) -> Option<Opinion> {
    (bytes > ceiling).then(|| {
        let reason = format!("{} is above the ceiling of {}", megabytes(bytes), megabytes(ceiling));
        Opinion::at_threshold(outcome, reason, bytes as f64, ceiling as f64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Family;
    use crate::features::tests::unknown;

    fn of(bytes: u64) -> Features {
        Features { stored_bytes: Some(bytes), ..unknown(Family::Decoder) }
    }

    /// The ceiling is between two rows: 2,016 MB placed, 2,300 MB not.
    #[test]
    fn ceilings_speak_only_above_themselves() {
        assert!(ByteCeiling.graph(&of(2_016_000_000)).is_none());
        assert_eq!(ByteCeiling.graph(&of(2_300_000_000)).map(|o| o.outcome), Some(Verdict::Cpu));
        assert!(ByteCeiling.graph(&unknown(Family::Decoder)).is_none(), "of unknown size");
        // Rows of 227 MB (placed) and 364 MB (GPU) support it. For 288 MB, which was placed, it is wrong.
        assert!(PackageCeiling.graph(&of(227_000_000)).is_none());
        assert_eq!(PackageCeiling.graph(&of(364_000_000)).map(|o| o.outcome), Some(Verdict::Gpu));
        assert_eq!(PackageCeiling.graph(&of(288_000_000)).map(|o| o.outcome), Some(Verdict::Gpu));
    }
}
