//! Tensor shapes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The sizes of a tensor's axes, outermost first. Rank 0 is a scalar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// Returns the shape of a scalar.
    pub fn scalar() -> Self {
        Self(Vec::new())
    }

    /// Returns the number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Returns the sizes of the axes.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Returns the number of elements; `None` if it does not fit in a `usize`.
    pub fn checked_elements(&self) -> Option<usize> {
        self.0.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }

    /// Returns the number of elements, saturating. Shapes that were read from a file are already checked for
    /// overflow.
    pub fn elements(&self) -> usize {
        self.checked_elements().unwrap_or(usize::MAX)
    }

    /// Resolves an axis, which counts from the end if negative; `None` if it is out of range.
    pub fn axis(&self, axis: i32) -> Option<usize> {
        let rank = i64::try_from(self.rank()).ok()?;
        let axis = i64::from(axis);
        let axis = if axis < 0 { axis + rank } else { axis };
        (0..rank).contains(&axis).then_some(axis as usize)
    }

    /// Broadcasts two shapes by numpy's rule; `None` if they are incompatible.
    pub fn broadcast(&self, other: &Self) -> Option<Self> {
        let rank = self.rank().max(other.rank());
        let dim = |s: &Self, i: usize| {
            let missing = rank - s.rank();
            if i < missing { 1 } else { s.0[i - missing] }
        };
        (0..rank)
            .map(|i| match (dim(self, i), dim(other, i)) {
                (a, b) if a == b => Some(a),
                (1, b) => Some(b),
                (a, 1) => Some(a),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .map(Self)
    }
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Self {
        Self(dims)
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Self(dims.to_vec())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self(dims.to_vec())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasts_like_numpy() {
        let s = |d: &[usize]| Shape::from(d);
        assert_eq!(s(&[1, 8, 64, 64]).broadcast(&s(&[1, 1, 64, 1])), Some(s(&[1, 8, 64, 64])));
        assert_eq!(s(&[3]).broadcast(&s(&[])), Some(s(&[3])));
        assert_eq!(s(&[2, 3]).broadcast(&s(&[2])), None);
    }

    #[test]
    fn axis_counts_from_the_end() {
        let s = Shape::from([2, 3, 4]);
        assert_eq!(s.axis(-1), Some(2));
        assert_eq!(s.axis(3), None);
        assert_eq!(s.axis(-4), None);
        assert_eq!(s.axis(i32::MIN), None);
    }

    #[test]
    fn element_count_overflow_is_seen() {
        assert_eq!(Shape::from([usize::MAX, 2]).checked_elements(), None);
        assert_eq!(Shape::scalar().elements(), 1);
    }
}
