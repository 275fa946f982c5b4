//! Hazards of fp16: operations that run on the Neural Engine with wrong results.
//!
//! Matrix products above 32,752 can become infinite, integers above 2,048 lose units, masks must be finite
//! (-1e4 to -4e4), NaN is not preserved, and an epsilon that rounds to 0 in fp16 vanishes.

use super::{Card, Law, Statement};
use crate::op_context::OpContext;

/// Constants that fp16 cannot represent, and operations that lose significant values in it.
#[derive(Clone, Copy, Debug)]
pub struct Fp16Range;

/// The smallest positive fp16 value, 2^-24; half of it rounds to 0.
const SMALLEST: f32 = 5.960_464_5e-8;
/// The most negative mask value in use, Apple's own.
const MASK: f32 = -4e4;

const CARD: Card = Card {
    name: "numerics",
    says: "an epsilon that fp16 rounds to 0, and masks below -4e4, give inf or NaN on the Neural Engine",
    source: "ane-book, and Apple's guide to transformers",
    made_from: &[],
    statements: &[
        Statement::supporting("rsqrt, log and inverse need an explicit epsilon", "ane-book"),
        Statement::supporting(
            "masks use -1e4 or -4e4, never -inf",
            "ane-book, and Apple's guide to transformers",
        ),
        Statement::supporting(
            "tile, and softmax over lengths that are not powers of two, are suspect",
            "ane-book",
        ),
    ],
};

impl Law for Fp16Range {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn hazard(&self, context: &OpContext<'_>, contexts: &[OpContext<'_>]) -> Option<String> {
        let op = context.operation.op.as_str();
        match op {
            "rsqrt" | "log" | "inverse" => {
                let epsilon = context.stated("epsilon").and_then(|v| v.first().copied())?;
                // The sum before it may add an epsilon, if fp16 has not rounded it to 0.
                let sum = context.sources.iter().map(|&i| &contexts[i]).find(|s| s.operation.op == "add");
                let guarded = sum.is_some_and(|s| {
                    ["x", "y"]
                        .into_iter()
                        .filter_map(|param| s.stated(param))
                        .all(|v| v.iter().all(|v| *v > 0.0))
                });
                (!guarded && epsilon < SMALLEST / 2.0).then(|| {
                    format!("its epsilon of {epsilon:e} is 0 in fp16, and the {op} of 0 is not finite")
                })
            }
            "add" | "select" | "where" => {
                let masks = ["x", "y", "a", "b"].into_iter().filter_map(|param| context.stated(param));
                let least = masks.flatten().fold(0f32, f32::min);
                (least < MASK).then(|| {
                    format!("it uses the mask value {least:e}, which is below -4e4: the result can be -inf")
                })
            }
            "softmax" => {
                let ty = context.outputs.first()?;
                let axis = context.args.int("axis").ok().flatten().unwrap_or(-1);
                let n = ty.shape.axis(axis).and_then(|axis| ty.shape[axis].known())?;
                (!n.is_power_of_two())
                    .then(|| format!("softmax over {n} elements, not a power of two, is suspect"))
            }
            "tile" => Some("tile is suspect on the Neural Engine: use broadcasting instead".into()),
            _ => None,
        }
    }
}
