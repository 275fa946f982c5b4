//! Shapes: rank, length of axes, kernels, dimensions left open, alignment.
//!
//! Rank 4 is safe, 5 is tolerated by some; axes are up to 16,384 long on A15 and M3 and before, and up to 65,536 from A16 and M4 on;
//! kernels are up to 16. The last axis is padded to 64 bytes: one of length 1 in fp16 takes 32 times its size.

use mlpackage::mil::TensorType;

use super::{Card, Law, Statement};
use crate::site::Site;

/// Tensors beyond the engine's limits stay off it.
#[derive(Clone, Copy, Debug)]
pub struct Shapes;

const SAFE_RANK: usize = 4;
const MAX_RANK: usize = 5;
const SAFE_AXIS: usize = 16_384;
const MAX_AXIS: usize = 65_536;
const MAX_KERNEL: usize = 16;
/// Elements of fp16 in 64 bytes.
const PADDED: usize = 32;
/// Padded tensors smaller than this are not worth a word: the engine has 2 MB and more on chip.
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

    fn operation(&self, site: &Site<'_>) -> Option<String> {
        if let Some(ty) = tensors(site).find(|ty| ty.shape.rank() > MAX_RANK) {
            return Some(format!(
                "{ty} is of rank {}; {MAX_RANK} is the most that was seen placed",
                ty.shape.rank()
            ));
        }
        if let Some((ty, n)) =
            tensors(site).find_map(|ty| longest(ty).filter(|&n| n > MAX_AXIS).map(|n| (ty, n)))
        {
            return Some(format!("{ty} has an axis of {n}; {MAX_AXIS} is the most, from A16 and M4 on"));
        }
        let kernel = site.kernel.iter().max().filter(|&&k| k > MAX_KERNEL);
        kernel.map(|k| format!("its kernel is {k} long; {MAX_KERNEL} is the most"))
    }

    fn hazard(&self, site: &Site<'_>, _: &[Site<'_>]) -> Option<String> {
        let open = tensors(site).find(|ty| ty.shape.iter().any(|d| d.known().is_none()));
        if let Some(ty) = open {
            return Some(format!(
                "{ty} has a dimension left open: enumerated shapes reach the Neural Engine, ranges often do not"
            ));
        }
        if let Some(ty) = tensors(site).find(|ty| ty.shape.rank() > SAFE_RANK) {
            return Some(format!("{ty} is of rank {MAX_RANK}, which only some see placed"));
        }
        if let Some((ty, n)) =
            tensors(site).find_map(|ty| longest(ty).filter(|&n| n > SAFE_AXIS).map(|n| (ty, n)))
        {
            return Some(format!("{ty} has an axis of {n}: too long before A16 and M4"));
        }
        // A single column is padded to 32; where the axis before it is long, that is most of the memory.
        let padded = site.outputs.iter().find(|ty| {
            let dims: Vec<usize> = ty.shape.iter().filter_map(|d| d.known()).collect();
            matches!(dims[..], [.., before, 1] if dims.len() >= 3 && before >= PADDED)
                && ty.shape.least_elements().is_some_and(|n| n >= PADDED_BYTES / 64)
        });
        padded.map(|ty| {
            format!("{ty} ends in an axis of 1, which is padded to {PADDED}: put the long axis last")
        })
    }
}

fn tensors<'s>(site: &'s Site<'_>) -> impl Iterator<Item = &'s TensorType> {
    site.inputs.iter().chain(&site.outputs)
}

fn longest(ty: &TensorType) -> Option<usize> {
    ty.shape.iter().filter_map(|d| d.known()).max()
}

#[cfg(test)]
mod tests {
    use mlpackage::DType;
    use mlpackage::mil::TensorType;

    use super::*;
    use crate::site::tests::{kept_off, sites};

    #[test]
    fn what_is_too_long_or_of_too_many_axes_stays_off() {
        let relu = |shape: &[usize]| {
            let sites = sites(|f| {
                let x = f.input("x", DType::Fp16, shape.to_vec())?;
                let y = f.op("relu", "y").arg("x", &x).one()?;
                f.output(&y);
                Ok(())
            });
            (kept_off(&Shapes, &sites, "y").is_some(), Shapes.hazard(&sites[0], &sites).is_some())
        };
        assert_eq!(relu(&[1, 64, 1, 128]), (false, false));
        assert_eq!(relu(&[1, 2, 3, 4, 5]), (false, true), "rank 5: tolerated by some");
        assert!(relu(&[1, 1, 2, 3, 4, 5]).0, "rank 6");
        assert_eq!(relu(&[1, 16_384]), (false, false));
        assert_eq!(relu(&[1, 16_385]), (false, true), "too long before A16 and M4");
        assert!(relu(&[1, 65_537]).0);
        // 4,096 rows of one column: 256 kB once padded.
        assert_eq!(relu(&[1, 1, 4_096, 1]), (false, true));
        assert_eq!(relu(&[1, 1, 64, 1]), (false, false), "too small to matter");
    }

    #[test]
    fn kernels_are_up_to_16() {
        let conv = |k: usize| {
            let sites = sites(|f| {
                let x = f.input("x", DType::Fp16, [1, 1, 32, 32])?;
                let w = f.weight("w", TensorType::new(DType::Fp16, [1, 1, k, 1]), &vec![0; 2 * k])?;
                let y = f.op("conv", "y").arg("x", &x).arg("weight", &w).one()?;
                f.output(&y);
                Ok(())
            });
            kept_off(&Shapes, &sites, "y")
        };
        assert!(conv(16).is_none());
        assert_eq!(conv(17).as_deref(), Some("its kernel is 17 long; 16 is the most"));
    }
}
