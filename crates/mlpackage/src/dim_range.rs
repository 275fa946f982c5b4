//! Ranges of sizes.

use std::fmt;

use crate::mil::Dim;
use crate::proto;

/// The allowed sizes of a dimension, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DimRange {
    /// The smallest size.
    pub lower: usize,
    /// The largest size; `None` if there is no bound.
    pub upper: Option<usize>,
}

impl fmt::Display for DimRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.upper {
            Some(upper) if upper == self.lower => write!(f, "{upper}"),
            Some(upper) => write!(f, "{}..{upper}", self.lower),
            None => write!(f, "{}..", self.lower),
        }
    }
}

impl DimRange {
    /// Creates a range of one size.
    pub fn fixed(extent: usize) -> Self {
        Self { lower: extent, upper: Some(extent) }
    }

    /// Returns whether `extent` is within the range.
    pub fn admits(self, extent: usize) -> bool {
        extent >= self.lower && self.upper.is_none_or(|upper| extent <= upper)
    }

    /// Converts a range from a package's description; `None` if the upper end is below the lower.
    pub(crate) fn from_proto(range: &proto::SizeRange) -> Option<Self> {
        let lower = usize::try_from(range.lower_bound).ok()?;
        let upper = match range.upper_bound {
            ..0 => None,
            upper => Some(usize::try_from(upper).ok().filter(|&u| u >= lower)?),
        };
        Some(Self { lower, upper })
    }

    pub(crate) fn to_proto(self) -> proto::SizeRange {
        proto::SizeRange {
            lower_bound: self.lower as u64,
            upper_bound: self.upper.map_or(-1, |upper| upper as i64),
        }
    }

    /// Returns the size if there is only one.
    pub(crate) fn dim(self) -> Dim {
        if self.upper == Some(self.lower) { Dim::Known(self.lower) } else { Dim::Unknown }
    }
}
