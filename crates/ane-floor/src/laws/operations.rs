//! A ceiling on the number of operations.
//!
//! A decoder of 135 M parameters (51 MB in fp16, 29 MB in INT8) compiled with 3,164 operations and failed
//! with error -14 with 3,284 (mil_spec, M4): the error depends on operations, not bytes.

use super::{Card, Law, Opinion, Statement};
use crate::device::Verdict;
use crate::features::Features;

/// Between the 3,164 operations that compiled and the 3,284 that did not.
pub const OPERATION_CEILING: u64 = 3_200;

/// Programs of more than about 3,200 operations do not compile for the Neural Engine.
#[derive(Clone, Copy, Debug)]
pub struct OperationCeiling;

const CARD: Card = Card {
    name: "operation-ceiling",
    says: "a program of more than about 3,200 operations fails with error -14",
    source: "mil_spec (M4)",
    made_from: &["mil_spec"],
    statements: &[Statement::opposing(
        "a decoder of 1.5 B parameters in one package fails with error -14 for its 1,500 MB",
        "ane-book",
    )],
};

impl Law for OperationCeiling {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn graph(&self, features: &Features) -> Option<Opinion> {
        let operations = features.operations?;
        (operations > OPERATION_CEILING).then(|| {
            let reason = format!(
                "{operations} operations are above the ceiling of {OPERATION_CEILING}: error -14 is known there"
            );
            // Known to within 120 of 3,200, far more precisely than the thresholds in bytes.
            let margin = if operations >= 3_284 { 0.95 } else { 0.6 };
            Opinion { outcome: Verdict::Error, reason, margin }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Family;
    use crate::features::tests::unknown;

    /// mil_spec's two data points.
    #[test]
    fn it_lies_between_what_compiled_and_what_did_not() {
        let of =
            |n: u64| OperationCeiling.graph(&Features { operations: Some(n), ..unknown(Family::Decoder) });
        assert!(of(3_164).is_none());
        assert_eq!(of(3_284).map(|o| o.outcome), Some(Verdict::Error));
    }
}
