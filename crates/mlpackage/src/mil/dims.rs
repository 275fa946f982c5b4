//! Dimensions of a tensor type, some of which may be unknown until the function is called.

use std::fmt;

use crate::shape::Shape;

/// One dimension of a tensor type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Fixed.
    Known(usize),
    /// Unknown: a ranged or enumerated dimension of an input, or one that depends on such a dimension.
    Unknown,
}

impl Dim {
    /// Returns the size, if it is fixed.
    pub fn known(self) -> Option<usize> {
        match self {
            Self::Known(n) => Some(n),
            Self::Unknown => None,
        }
    }

    /// Returns whether the two can be equal at run time.
    pub fn may_be(self, other: impl Into<Self>) -> bool {
        match (self, other.into()) {
            (Self::Known(a), Self::Known(b)) => a == b,
            _ => true,
        }
    }

    /// Returns the more specific of the two; `None` if they contradict each other.
    pub fn meet(self, other: impl Into<Self>) -> Option<Self> {
        let other = other.into();
        match self {
            Self::Unknown => Some(other),
            Self::Known(_) => self.may_be(other).then_some(self),
        }
    }

    /// Applies `f` to a fixed size; an unknown one stays unknown. `None` if `f` returns `None`.
    pub fn map(self, f: impl FnOnce(usize) -> Option<usize>) -> Option<Self> {
        match self {
            Self::Known(n) => f(n).map(Self::Known),
            Self::Unknown => Some(Self::Unknown),
        }
    }

    /// Applies `f` to two fixed sizes; the result is unknown if either is. `None` if `f` returns `None`.
    pub fn zip(self, other: impl Into<Self>, f: impl FnOnce(usize, usize) -> Option<usize>) -> Option<Self> {
        match (self, other.into()) {
            (Self::Known(a), Self::Known(b)) => f(a, b).map(Self::Known),
            _ => Some(Self::Unknown),
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self::Known(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(n) => n.fmt(f),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// The dimensions of a tensor type, outermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dims {
    /// Empty if the rank is unknown.
    dims: Vec<Dim>,
    any_rank: bool,
}

impl Dims {
    /// Creates dimensions of unknown rank, such as those of a tensor whose shape is a vector of unknown
    /// length.
    pub fn of_any_rank() -> Self {
        Self { dims: Vec::new(), any_rank: true }
    }

    /// Returns whether the rank is unknown. [`rank`](Self::rank) is then 0, and there are no dimensions.
    pub fn is_of_any_rank(&self) -> bool {
        self.any_rank
    }

    /// Returns the number of axes.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Iterates over the dimensions.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Dim> + ExactSizeIterator {
        self.dims.iter().copied()
    }

    /// Returns the dimensions as a slice.
    pub fn as_slice(&self) -> &[Dim] {
        &self.dims
    }

    /// Returns the shape if every dimension is fixed.
    pub fn known(&self) -> Option<Shape> {
        if self.any_rank {
            return None;
        }
        self.iter().map(Dim::known).collect::<Option<Vec<_>>>().map(Shape::from)
    }

    /// Returns the number of elements; `None` if a dimension is unknown or the number does not fit in a
    /// `usize`.
    pub fn elements(&self) -> Option<usize> {
        self.known()?.checked_elements()
    }

    /// Returns the number of elements with 1 in place of every unknown dimension; `None` if it does not fit
    /// in a `usize`.
    pub fn least_elements(&self) -> Option<usize> {
        self.iter().try_fold(1usize, |n, d| n.checked_mul(d.known().unwrap_or(1)))
    }

    /// Resolves an axis, which counts from the end if negative; `None` if it is out of range.
    pub fn axis(&self, axis: i32) -> Option<usize> {
        axis_of(axis, self.rank())
    }

    /// Returns whether the two can be equal at run time.
    pub fn may_be(&self, other: &Self) -> bool {
        if self.any_rank || other.any_rank {
            return true;
        }
        self.rank() == other.rank() && self.iter().zip(other.iter()).all(|(a, b)| a.may_be(b))
    }

    /// Keeps the dimensions in which the two agree and makes the others unknown. Both must have the same
    /// rank, unless the rank of one is unknown, and so is that of the result.
    pub fn in_common(&self, other: &Self) -> Self {
        if self.any_rank || other.any_rank {
            return Self::of_any_rank();
        }
        let pairs = self.iter().zip(other.iter());
        pairs.map(|(a, b)| if a == b { a } else { Dim::Unknown }).collect()
    }

    /// Broadcasts two shapes by numpy's rule; `None` if they are incompatible. An unknown dimension is
    /// assumed to equal a fixed one other than 1.
    pub fn broadcast(&self, other: &Self) -> Option<Self> {
        if self.any_rank || other.any_rank {
            return Some(Self::of_any_rank());
        }
        let rank = self.rank().max(other.rank());
        let dim = |dims: &Self, i: usize| {
            let missing = rank - dims.rank();
            if i < missing { Dim::Known(1) } else { dims.dims[i - missing] }
        };
        (0..rank)
            .map(|i| match (dim(self, i), dim(other, i)) {
                (Dim::Known(1), b) => Some(b),
                (a, Dim::Known(1)) => Some(a),
                (a, b) => a.meet(b),
            })
            .collect::<Option<Vec<_>>>()
            .map(Self::from)
    }
}

/// Resolves an axis of a tensor of `rank`; a negative axis counts from the end. `None` if it is out of range.
pub(crate) fn axis_of(axis: i32, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = i64::from(axis);
    let axis = if axis < 0 { axis + rank } else { axis };
    (0..rank).contains(&axis).then_some(axis as usize)
}

impl std::ops::Index<usize> for Dims {
    type Output = Dim;

    fn index(&self, axis: usize) -> &Dim {
        &self.dims[axis]
    }
}

impl FromIterator<Dim> for Dims {
    fn from_iter<I: IntoIterator<Item = Dim>>(dims: I) -> Self {
        Self { dims: dims.into_iter().collect(), any_rank: false }
    }
}

impl From<Vec<Dim>> for Dims {
    fn from(dims: Vec<Dim>) -> Self {
        Self { dims, any_rank: false }
    }
}

impl From<Vec<usize>> for Dims {
    fn from(dims: Vec<usize>) -> Self {
        dims.into_iter().map(Dim::Known).collect()
    }
}

impl From<&[usize]> for Dims {
    fn from(dims: &[usize]) -> Self {
        dims.iter().map(|&n| Dim::Known(n)).collect()
    }
}

impl<const N: usize> From<[usize; N]> for Dims {
    fn from(dims: [usize; N]) -> Self {
        Self::from(&dims[..])
    }
}

impl<const N: usize> From<[Dim; N]> for Dims {
    fn from(dims: [Dim; N]) -> Self {
        Self { dims: dims.to_vec(), any_rank: false }
    }
}

impl From<&Shape> for Dims {
    fn from(shape: &Shape) -> Self {
        Self::from(shape.dims())
    }
}

impl From<Shape> for Dims {
    fn from(shape: Shape) -> Self {
        Self::from(shape.dims())
    }
}

impl PartialEq<Shape> for Dims {
    fn eq(&self, shape: &Shape) -> bool {
        *self == *shape.dims()
    }
}

impl PartialEq<[usize]> for Dims {
    fn eq(&self, dims: &[usize]) -> bool {
        self.rank() == dims.len() && self.iter().zip(dims).all(|(a, &b)| a == Dim::Known(b))
    }
}

impl<const N: usize> PartialEq<[usize; N]> for Dims {
    fn eq(&self, dims: &[usize; N]) -> bool {
        *self == dims[..]
    }
}

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.any_rank {
            return f.write_str("[..]");
        }
        f.write_str("[")?;
        for (i, dim) in self.iter().enumerate() {
            write!(f, "{}{dim}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::Dim::{Known, Unknown};
    use super::*;

    #[test]
    fn unknown_dimensions_broadcast_to_known_ones() {
        let dims = |d: &[Dim]| Dims::from(d.to_vec());
        let cases = [
            (dims(&[Unknown, Known(3)]), dims(&[Known(1), Known(3)]), Some(dims(&[Unknown, Known(3)]))),
            (dims(&[Unknown]), dims(&[Known(4)]), Some(dims(&[Known(4)]))),
            (dims(&[Unknown]), dims(&[Unknown]), Some(dims(&[Unknown]))),
            (dims(&[Known(2), Unknown]), dims(&[Known(3), Known(1)]), None),
            (dims(&[]), dims(&[Unknown]), Some(dims(&[Unknown]))),
        ];
        for (a, b, expected) in cases {
            assert_eq!(a.broadcast(&b), expected, "{a} {b}");
            assert_eq!(b.broadcast(&a), expected, "{b} {a}");
        }
    }

    #[test]
    fn an_unknown_rank_stays_unknown() {
        let (any, scalar, matrix) = (Dims::of_any_rank(), Dims::from([0; 0]), Dims::from([2, 3]));
        for other in [&scalar, &matrix, &any] {
            assert!(any.in_common(other).is_of_any_rank() && other.in_common(&any).is_of_any_rank());
            assert_eq!(any.broadcast(other), Some(any.clone()));
            assert_eq!(other.broadcast(&any), Some(any.clone()));
        }
        assert_ne!(any, scalar);
    }

    #[test]
    fn known_only_if_all_are() {
        assert_eq!(Dims::from([2, 3]).known(), Some(Shape::from([2, 3])));
        assert_eq!(Dims::from([Known(2), Unknown]).known(), None);
        assert_eq!(Dims::from([Known(2), Unknown]).least_elements(), Some(2));
        assert!(Dims::from([Known(2), Unknown]).may_be(&Dims::from([2, 7])));
        assert!(!Dims::from([Known(2), Unknown]).may_be(&Dims::from([3, 7])));
        assert_eq!(Dims::from([Known(2), Unknown]).to_string(), "[2, ?]");
    }

    #[test]
    fn dimensions_of_unknown_rank_match_any() {
        let any = Dims::of_any_rank();
        assert!(any.may_be(&Dims::from([2, 3])) && Dims::default().may_be(&any));
        assert_eq!((any.known(), any.elements(), any.to_string()), (None, None, "[..]".into()));
    }
}
