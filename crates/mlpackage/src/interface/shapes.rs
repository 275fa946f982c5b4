//! The shapes that a tensor feature allows.

use crate::dim_range::DimRange;
use crate::mil::{Dim, Dims};
use crate::shape::Shape;

/// The allowed shapes of a tensor feature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedShapes {
    /// The shape of the type, if it has no unknown dimension; for outputs, the shape that follows from the
    /// inputs.
    #[default]
    FromType,
    /// One of several shapes.
    Enumerated {
        /// The default, which is one of `shapes`.
        default: Shape,
        /// The allowed shapes.
        shapes: Vec<Shape>,
    },
    /// A range for each dimension.
    Ranged {
        /// The default.
        default: Shape,
        /// One range for each dimension.
        ranges: Vec<DimRange>,
    },
}

impl AllowedShapes {
    /// Returns the dimensions that all shapes share, the others as unknown; `None` if the type states the
    /// shape.
    pub(crate) fn dims(&self) -> Option<Dims> {
        match self {
            Self::FromType => None,
            Self::Enumerated { shapes, .. } => {
                let first = shapes.first()?;
                let dim = |axis: usize| {
                    let extent = first.dims()[axis];
                    let same = shapes.iter().all(|s| s.dims().get(axis) == Some(&extent));
                    if same { Dim::Known(extent) } else { Dim::Unknown }
                };
                Some((0..first.rank()).map(dim).collect())
            }
            Self::Ranged { ranges, .. } => Some(ranges.iter().map(|r| r.dim()).collect()),
        }
    }

    /// Returns whether `shape` is allowed.
    pub fn admits(&self, shape: &Shape) -> bool {
        match self {
            Self::FromType => true,
            Self::Enumerated { shapes, .. } => shapes.contains(shape),
            Self::Ranged { ranges, .. } => {
                let within = |(&d, r): (&usize, &DimRange)| r.admits(d);
                shape.rank() == ranges.len() && shape.dims().iter().zip(ranges).all(within)
            }
        }
    }
}
