//! Operations on a box inside a tensor.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::spec::{Inferred, OpSpec, Param};
use crate::finding::Fault;
use crate::mil::{Dim, Dims, Opset, TensorType};

const X: Param = Param::new("x", DTypeConstraint::WIDE_ELEMENT);
const BEGIN: Param = Param::new("begin", DTypeConstraint::SHAPE);
const END: Param = Param::new("end", DTypeConstraint::SHAPE);
const STRIDE: Param = Param::constant("stride", DTypeConstraint::SHAPE).optional();
const SIZE: Param = Param::new("size", DTypeConstraint::SHAPE);
const IOS17: Opset = Opset::CoreML7;
const BEGIN_MASK: Param = Param::constant("begin_mask", DTypeConstraint::BOOL).optional();
const END_MASK: Param = Param::constant("end_mask", DTypeConstraint::BOOL).optional();
const SQUEEZE_MASK: Param = Param::constant("squeeze_mask", DTypeConstraint::BOOL).optional();

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new(
        "slice_by_index",
        &[
            X,
            BEGIN.until(IOS17),
            END.until(IOS17),
            STRIDE.until(IOS17),
            BEGIN.domain('U').since(IOS17),
            END.domain('U').since(IOS17),
            STRIDE.domain('U').since(IOS17),
            BEGIN_MASK,
            END_MASK,
            SQUEEZE_MASK,
        ],
        |args| Ok(vec![TensorType { dtype: args.ty("x")?.dtype, shape: box_dims(args)? }]),
    ),
    OpSpec::new(
        "slice_by_size",
        &[
            X,
            BEGIN.until(IOS17),
            SIZE.until(IOS17),
            BEGIN.domain('U').since(IOS17),
            SIZE.domain('U').since(IOS17),
        ],
        slice_by_size,
    ),
    OpSpec::new(
        "slice_update",
        &[
            X.domain('T'),
            Param::new("update", DTypeConstraint::WIDE_ELEMENT).domain('T'),
            BEGIN.domain('U'),
            END.domain('U'),
            STRIDE.domain('U'),
            BEGIN_MASK,
            END_MASK,
            SQUEEZE_MASK,
        ],
        slice_update,
    )
    .since(Opset::CoreML8),
];

/// The elements that `slice_by_index` selects on one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceRange {
    /// First index.
    pub begin: usize,
    /// Distance between indices; negative for a reversed slice.
    pub step: isize,
    /// Number of indices.
    pub len: usize,
    /// Whether the axis is removed from the result.
    pub squeeze: bool,
}

/// The arguments of `slice_by_index` and `slice_update` that specify a box. Their lengths are checked.
#[derive(Clone, Debug)]
pub struct SliceBounds {
    begin: Option<Vec<i32>>,
    end: Option<Vec<i32>>,
    stride: Vec<i32>,
    begin_mask: Vec<bool>,
    end_mask: Vec<bool>,
    squeeze_mask: Vec<bool>,
}

impl SliceBounds {
    /// Reads the arguments.
    ///
    /// # Errors
    ///
    /// If a length does not match the rank of `x`, or a stride is 0.
    pub fn of(args: &Args<'_>) -> Result<Self, Fault> {
        let x = args.dims("x")?;
        let rank = x.rank();
        let length = |name: &str, len: usize| match len == rank {
            true => Ok(()),
            false => Err(Fault::value(name, format!("has {len} entries, x {x} has rank {rank}"))),
        };
        for name in ["begin", "end"] {
            match args.dims(name)?.as_slice() {
                &[len] if len.may_be(rank) => {}
                _ => return Err(Fault::value(name, format!("is {}, x {x} has rank {rank}", args.ty(name)?))),
            }
        }
        let stride = args.ints("stride")?.unwrap_or_else(|| vec![1; rank]);
        length("stride", stride.len())?;
        if let Some(axis) = stride.iter().position(|&s| s == 0) {
            return Err(Fault::value("stride", format!("is 0 on axis {axis}")));
        }
        let mask = |name: &str| -> Result<Vec<bool>, Fault> {
            let mask = args.bools(name)?.map_or_else(|| vec![false; rank], <[bool]>::to_vec);
            length(name, mask.len())?;
            Ok(mask)
        };
        Ok(Self {
            begin: args.ints_if_known("begin"),
            end: args.ints_if_known("end"),
            stride,
            begin_mask: mask("begin_mask")?,
            end_mask: mask("end_mask")?,
            squeeze_mask: mask("squeeze_mask")?,
        })
    }

    /// Returns whether the program states `begin` and `end`.
    pub fn are_stated(&self) -> bool {
        self.begin.is_some() && self.end.is_some()
    }

    /// Returns the range on one axis of `size`. `begin` and `end` supply bounds that the program does not
    /// state; the result is `None` if a bound is needed and missing.
    ///
    /// Bounds follow numpy: a negative bound counts from the end of the axis, and a bound beyond the axis is
    /// clamped, so `-8:` selects all of an axis of size five.
    ///
    /// # Errors
    ///
    /// If a single index is out of range, or a non-empty forward range begins beyond the end of the axis.
    pub fn range(
        &self,
        axis: usize,
        size: usize,
        begin: Option<i32>,
        end: Option<i32>,
    ) -> Result<Option<SliceRange>, Fault> {
        let size = i64::try_from(size).map_err(|_| format!("axis {axis} is too long"))?;
        let bound = |stated: &Option<Vec<i32>>, given: Option<i32>| {
            stated.as_ref().and_then(|values| values.get(axis).copied()).or(given).map(i64::from)
        };
        let begin = if self.begin_mask[axis] { None } else { Some(bound(&self.begin, begin)) };
        let end = if self.end_mask[axis] { None } else { Some(bound(&self.end, end)) };
        let outside = |what: String| Fault::from(format!("{what} is outside of axis {axis} of {size}"));
        if self.squeeze_mask[axis] {
            let Some(index) = begin.unwrap_or(Some(0)) else { return Ok(None) };
            let at = if index < 0 { index + size } else { index };
            if !(0..size).contains(&at) {
                return Err(outside(format!("index {index}")));
            }
            return Ok(Some(SliceRange { begin: at as usize, step: 1, len: 1, squeeze: true }));
        }
        if let (Some(None), _) | (_, Some(None)) = (begin, end) {
            return Ok(None);
        }
        let (begin, end) = (begin.flatten(), end.flatten());
        let step = i64::from(self.stride[axis]);
        // The limits of the bounds in the direction of the slice.
        let (lowest, highest) = if step > 0 { (0, size) } else { (-1, size - 1) };
        let place = |bound: i64| (if bound < 0 { bound + size } else { bound }).clamp(lowest, highest);
        let first = begin.map_or(if step > 0 { lowest } else { highest }, place);
        let last = end.map_or(if step > 0 { highest } else { lowest }, place);
        let len = extent(if step > 0 { last - first } else { first - last }, step);
        if len == 0 {
            // A non-empty range that begins beyond the end of the axis selects nothing, which indicates an
            // error in the program.
            if let Some(begin) = begin.filter(|&b| step > 0 && b > size && end != Some(b)) {
                let end = end.map_or_else(String::new, |end| end.to_string());
                return Err(outside(format!("[{begin}:{end}] by {step}")));
            }
            return Ok(Some(SliceRange { begin: 0, step: step as isize, len: 0, squeeze: false }));
        }
        Ok(Some(SliceRange { begin: first as usize, step: step as isize, len: len as usize, squeeze: false }))
    }

    /// Returns the largest number of indices that a range on one axis can have, over all values of unknown
    /// bounds and an unknown size; `None` if there is no limit.
    fn longest(&self, axis: usize, size: Dim) -> Option<usize> {
        /// A position on an axis, relative to its begin or its end.
        #[derive(Clone, Copy)]
        enum Place {
            FromBegin(i64),
            BeforeEnd(i64),
        }
        use Place::{BeforeEnd, FromBegin};

        let step = i64::from(self.stride[axis]);
        let size = size.known().and_then(|size| i64::try_from(size).ok());
        let place = |masked: bool, stated: &Option<Vec<i32>>, open: Place| {
            let stated = stated.as_ref().and_then(|values| values.get(axis).copied()).filter(|_| !masked);
            let place = match stated.map(i64::from) {
                None => open,
                Some(bound) if bound < 0 => BeforeEnd(-bound),
                Some(bound) => FromBegin(bound),
            };
            match (place, size) {
                (BeforeEnd(n), Some(size)) => FromBegin((size - n).max(if step > 0 { 0 } else { -1 })),
                (FromBegin(n), Some(size)) => FromBegin(n.min(if step > 0 { size } else { size - 1 })),
                (place, None) => place,
            }
        };
        let backwards = step < 0;
        // An unknown bound is assumed at the border for which the range is longest.
        let first =
            place(self.begin_mask[axis], &self.begin, if backwards { BeforeEnd(1) } else { FromBegin(0) });
        let last =
            place(self.end_mask[axis], &self.end, if backwards { FromBegin(-1) } else { BeforeEnd(0) });
        let span = match (first, last, backwards) {
            (FromBegin(a), FromBegin(b), false) => b - a,
            (BeforeEnd(a), BeforeEnd(b), false) => a - b,
            (BeforeEnd(a), FromBegin(b), false) => a.min(b),
            (FromBegin(a), FromBegin(b), true) => a - b,
            (BeforeEnd(a), BeforeEnd(b), true) => b - a,
            (FromBegin(a), BeforeEnd(b), true) => (a + 1).min(b - 1),
            (FromBegin(_), BeforeEnd(_), false) | (BeforeEnd(_), FromBegin(_), true) => return None,
        };
        usize::try_from(extent(span, step)).ok()
    }
}

/// Returns the number of steps needed to cross a span.
fn extent(span: i64, step: i64) -> i64 {
    if span > 0 { (span - 1) / step.abs() + 1 } else { 0 }
}

/// Returns the dimensions of a box, without squeezed axes.
fn box_dims(args: &Args<'_>) -> Result<Dims, Fault> {
    let (x, bounds) = (args.dims("x")?, SliceBounds::of(args)?);
    let mut dims = Vec::new();
    for (axis, size) in x.iter().enumerate() {
        let range = size.known().map(|size| bounds.range(axis, size, None, None)).transpose()?.flatten();
        if !bounds.squeeze_mask[axis] {
            dims.push(range.map_or(Dim::Unknown, |r| Dim::Known(r.len)));
        }
    }
    Ok(dims.into())
}

/// Returns the begin of a box on one axis; a negative begin counts from the end. `None` if it is out of
/// range.
pub fn box_begin(begin: i32, size: usize) -> Option<usize> {
    let begin = i64::from(begin);
    let begin = if begin < 0 { begin.checked_add(i64::try_from(size).ok()?)? } else { begin };
    usize::try_from(begin).ok().filter(|&begin| begin <= size)
}

/// Infers the type of a box of constant size. A `size` of -1 selects all remaining elements.
fn slice_by_size(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    for name in ["begin", "size"] {
        match args.dims(name)?.as_slice() {
            &[len] if len.may_be(x.shape.rank()) => {}
            _ => return Err(Fault::value(name, format!("is {}, x is {x}", args.ty(name)?))),
        }
    }
    let (begin, size) = (args.ints_if_known("begin"), args.ints_if_known("size"));
    let mut dims = Vec::new();
    for (axis, full) in x.shape.iter().enumerate() {
        let begin = begin.as_ref().map(|b| b[axis]);
        let Some(size) = size.as_ref().map(|s| s[axis]) else {
            dims.push(Dim::Unknown);
            continue;
        };
        let bad = || {
            let begin = begin.map_or("?".to_owned(), |begin| begin.to_string());
            format!("size {size} from begin {begin} is outside of axis {axis} of {}", x.shape)
        };
        // The elements from the begin to the end of the axis; all of the axis if the begin is computed.
        let left = match (begin, full) {
            (None, full) => full,
            (Some(begin), Dim::Known(full)) => Dim::Known(full - box_begin(begin, full).ok_or_else(bad)?),
            (Some(begin), Dim::Unknown) if begin < 0 => Dim::Known(begin.unsigned_abs() as usize),
            (Some(_), Dim::Unknown) => Dim::Unknown,
        };
        dims.push(match usize::try_from(size) {
            Ok(size) if left.known().is_none_or(|left| size <= left) => Dim::Known(size),
            Err(_) if size == -1 && begin.is_some() => left,
            Err(_) if size == -1 => Dim::Unknown,
            _ => return Err(bad().into()),
        });
    }
    Ok(vec![TensorType { dtype: x.dtype, shape: dims.into() }])
}

fn slice_update(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    args.same_dtype(&["x", "update"])?;
    let (expected, update) = (box_dims(args)?, args.dims("update")?);
    if update.rank() == 0 || !update.may_be(&expected) {
        return Err(format!("update is {update}, the bounds specify a box of {expected}").into());
    }
    // The size of an unknown dimension is limited, too.
    let bounds = SliceBounds::of(args)?;
    let axes = (0..x.shape.rank()).filter(|&axis| !bounds.squeeze_mask[axis]);
    for (axis, extent) in axes.zip(update.iter()) {
        let most = bounds.longest(axis, x.shape[axis]);
        if let (Some(extent), Some(most)) = (extent.known(), most)
            && extent > most
        {
            let reason = format!(
                "is {update}, the bounds specify at most {most} elements on axis {axis} of x {}",
                x.shape
            );
            return Err(Fault::value("update", reason));
        }
    }
    Ok(vec![x.clone()])
}
