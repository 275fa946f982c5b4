//! Element types.
//!
//! The Neural Engine computes in fp16. No source has seen fp32 placed; integers and bools are computed
//! elsewhere as well.

use mlpackage::DType;

use super::{Card, Law, Opinion, Statement};
use crate::corpus::GraphDtype;
use crate::device::Verdict;
use crate::features::Features;
use crate::op_context::OpContext;

/// Only fp16 is placed.
#[derive(Clone, Copy, Debug)]
pub struct ElementType;

const CARD: Card = Card {
    name: "element-type",
    says: "only what computes in fp16 is placed",
    source: "vx-lang, and all others",
    made_from: &["vx-lang, and all others"],
    statements: &[
        Statement::supporting("integer arithmetic is off the Neural Engine", "ane-book"),
        Statement::supporting("casts to and from integers are off the Neural Engine", "ane-book"),
    ],
};

impl Law for ElementType {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn graph(&self, features: &Features) -> Option<Opinion> {
        (features.dtype? == GraphDtype::Fp32).then(|| Opinion {
            outcome: Verdict::Cpu,
            reason: "it computes in fp32, which the Neural Engine does not have".into(),
            margin: 0.99,
        })
    }

    fn operation(&self, context: &OpContext<'_>) -> Option<String> {
        let of = |dtype: DType| (dtype != DType::Fp16).then(|| unplaced(dtype));
        if context.operation.op == "cast" {
            // A cast between float types brings fp32 inputs into an fp16 program, and is placed with its fp32
            // side.
            return of(context.dtype).or_else(|| context.inputs.first().and_then(|ty| of(ty.dtype)));
        }
        of(context.dtype).or_else(|| {
            // A comparison or a selection may have operands of another type than its result.
            let taken = context.inputs.iter().map(|ty| ty.dtype).find(|d| d.is_float() && *d != DType::Fp16);
            taken.map(unplaced)
        })
    }
}

fn unplaced(dtype: DType) -> String {
    match dtype {
        DType::Fp32 => "it computes in fp32, which the Neural Engine does not have".into(),
        DType::Bool => "it computes bools; the Neural Engine computes only in fp16".into(),
        dtype => format!("it computes in {dtype}; the Neural Engine computes only in fp16"),
    }
}
