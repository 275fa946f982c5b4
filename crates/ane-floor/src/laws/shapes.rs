//! Shapes: rank, axis sizes, kernels, unknown dimensions, alignment.
//!
//! Rank 4 is safe, 5 is tolerated according to some sources. Axes may have up to 16,384 elements on A15, M3
//! and earlier, and up to 65,536 from A16 and M4 on. Kernels may have sizes up to 16. The last axis is padded
//! to 64 bytes: in fp16, one of size 1 takes 32 times its size.

use mlpackage::mil::TensorType;

use super::{Card, Law, Statement};
use crate::op_context::OpContext;

/// Tensors beyond the engine's limits are kept off it.
#[derive(Clone, Copy, Debug)]
pub struct Shapes;

const SAFE_RANK: usize = 4;
const MAX_RANK: usize = 5;
const SAFE_AXIS: usize = 16_384;
const MAX_AXIS: usize = 65_536;
const MAX_KERNEL: usize = 16;
/// Elements of fp16 in 64 bytes.
const PADDED: usize = 32;
/// Smaller padded tensors are not reported: the engine has 2 MB or more of on-chip memory.
const PADDED_BYTES: usize = 256 << 10;

const CARD: Card = Card {
    name: "shapes",
    says: "tensors of rank above 5, axes above 65,536 and kernels above 16 stay off",
    source: "ane-book, and Apple's guide to transformers",
    made_from: &[],
    statements: &[
        Statement::supporting("axes up to 16,384 to A15 and M3, up to 65,536 from A16 and M4", "ane-book"),
        Statement::supporting("rank 4 is safe, 5 is tolerated by some", "ane-book"),
        Statement::supporting("kernels of convolutions up to 16", "ane-book"),
    ],
};

impl Law for Shapes {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn operation(&self, context: &OpContext<'_>) -> Option<String> {
        if let Some(ty) = tensors(context).find(|ty| ty.shape.rank() > MAX_RANK) {
            return Some(format!(
                "{ty} has rank {}; {MAX_RANK} is the highest that was seen placed",
                ty.shape.rank()
            ));
        }
        if let Some((ty, n)) =
            tensors(context).find_map(|ty| longest(ty).filter(|&n| n > MAX_AXIS).map(|n| (ty, n)))
        {
            return Some(format!(
                "{ty} has an axis of size {n}; the largest is {MAX_AXIS}, from A16 and M4 on"
            ));
        }
        let kernel = context.kernel.iter().max().filter(|&&k| k > MAX_KERNEL);
        kernel.map(|k| format!("its kernel size is {k}; the largest is {MAX_KERNEL}"))
    }

    fn hazard(&self, context: &OpContext<'_>, _: &[OpContext<'_>]) -> Option<String> {
        let open = tensors(context).find(|ty| ty.shape.iter().any(|d| d.known().is_none()));
        if let Some(ty) = open {
            return Some(format!(
                "{ty} has an unknown dimension: enumerated shapes reach the Neural Engine, ranges often do not"
            ));
        }
        if let Some(ty) = tensors(context).find(|ty| ty.shape.rank() > SAFE_RANK) {
            return Some(format!("{ty} has rank {MAX_RANK}, which only some sources saw placed"));
        }
        if let Some((ty, n)) =
            tensors(context).find_map(|ty| longest(ty).filter(|&n| n > SAFE_AXIS).map(|n| (ty, n)))
        {
            return Some(format!("{ty} has an axis of size {n}: too large before A16 and M4"));
        }
        // A single column is padded to 32 elements; after a long axis, most of the memory is padding.
        let padded = context.outputs.iter().find(|ty| {
            let dims: Vec<usize> = ty.shape.iter().filter_map(|d| d.known()).collect();
            matches!(dims[..], [.., before, 1] if dims.len() >= 3 && before >= PADDED)
                && ty.shape.least_elements().is_some_and(|n| n >= PADDED_BYTES / 64)
        });
        padded.map(|ty| {
            format!("{ty} ends in an axis of size 1, which is padded to {PADDED}: put the long axis last")
        })
    }
}

fn tensors<'s>(context: &'s OpContext<'_>) -> impl Iterator<Item = &'s TensorType> {
    context.inputs.iter().chain(&context.outputs)
}

fn longest(ty: &TensorType) -> Option<usize> {
    ty.shape.iter().filter_map(|d| d.known()).max()
}

#[cfg(test)]
mod tests {
    use mlpackage::DType;
    use mlpackage::mil::TensorType;

    use super::*;
    use crate::op_context::tests::{contexts, kept_off};

    #[test]
    fn what_is_too_long_or_of_too_many_axes_stays_off() {
        let relu = |shape: &[usize]| {
            let contexts = contexts(|f| {
                let x = f.input("x", DType::Fp16, shape.to_vec())?;
                let y = f.op("relu", "y").arg("x", &x).one()?;
                f.output(&y);
                Ok(())
            });
            (kept_off(&Shapes, &contexts, "y").is_some(), Shapes.hazard(&contexts[0], &contexts).is_some())
        };
        assert_eq!(relu(&[1, 64, 1, 128]), (false, false));
        assert_eq!(relu(&[1, 2, 3, 4, 5]), (false, true), "rank 5: tolerated according to some sources");
        assert!(relu(&[1, 1, 2, 3, 4, 5]).0, "rank 6");
        assert_eq!(relu(&[1, 16_384]), (false, false));
        assert_eq!(relu(&[1, 16_385]), (false, true), "too large before A16 and M4");
        assert!(relu(&[1, 65_537]).0);
        // 4,096 rows of one column: 256 kB once padded.
        assert_eq!(relu(&[1, 1, 4_096, 1]), (false, true));
        assert_eq!(relu(&[1, 1, 64, 1]), (false, false), "too small to matter");
    }

    #[test]
    fn kernels_are_up_to_16() {
        let conv = |k: usize| {
            let contexts = contexts(|f| {
                let x = f.input("x", DType::Fp16, [1, 1, 32, 32])?;
                let w = f.weight("w", TensorType::new(DType::Fp16, [1, 1, k, 1]), &vec![0; 2 * k])?;
                let y = f.op("conv", "y").arg("x", &x).arg("weight", &w).one()?;
                f.output(&y);
                Ok(())
            });
            kept_off(&Shapes, &contexts, "y")
        };
        assert!(conv(16).is_none());
        assert_eq!(conv(17).as_deref(), Some("its kernel size is 17; the largest is 16"));
    }
}
