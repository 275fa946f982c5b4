//! Operations on a box within a tensor.

use super::args::Args;
use super::kind::Kind;
use super::spec::{Inferred, OpSpec, Param};
use crate::finding::Fault;
use crate::mil::{Dim, Dims, Opset, TensorType};

const X: Param = Param::new("x", Kind::WIDE_ELEMENT);
const BEGIN: Param = Param::new("begin", Kind::SHAPE);
const END: Param = Param::new("end", Kind::SHAPE);
const STRIDE: Param = Param::constant("stride", Kind::SHAPE).optional();
const SIZE: Param = Param::new("size", Kind::SHAPE);
const IOS17: Opset = Opset::CoreML7;
const BEGIN_MASK: Param = Param::constant("begin_mask", Kind::BOOL).optional();
const END_MASK: Param = Param::constant("end_mask", Kind::BOOL).optional();
const SQUEEZE_MASK: Param = Param::constant("squeeze_mask", Kind::BOOL).optional();

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
            Param::new("update", Kind::WIDE_ELEMENT).domain('T'),
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

/// What `slice_by_index` takes from one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceRange {
    /// First index.
    pub begin: usize,
    /// Distance between indices; negative to walk backwards.
    pub step: isize,
    /// Number of indices.
    pub len: usize,
    /// Whether the axis is dropped from the result.
    pub squeeze: bool,
}

/// The arguments of `slice_by_index` and `slice_update` that name a box, checked for their lengths.
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
    /// If lengths do not match the rank of `x`, or a stride is 0.
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

    /// Whether `begin` and `end` are stated in the program.
    pub fn are_stated(&self) -> bool {
        self.begin.is_some() && self.end.is_some()
    }

    /// The range on one axis of `size`, with `begin` and `end` where the program does not state them; `None` if one of
    /// them is needed and missing.
    ///
    /// # Errors
    ///
    /// If the range is empty or outside of the axis.
    pub fn range(
        &self,
        axis: usize,
        size: usize,
        begin: Option<i32>,
        end: Option<i32>,
    ) -> Result<Option<SliceRange>, Fault> {
        let size = i64::try_from(size).map_err(|_| format!("axis {axis} is too long"))?;
        let squeeze = self.squeeze_mask[axis];
        let step = if squeeze { 1 } else { i64::from(self.stride[axis]) };
        let bound = |stated: &Option<Vec<i32>>, given: Option<i32>| {
            let stated = stated.as_ref().and_then(|values| values.get(axis).copied());
            let v = i64::from(stated.or(given)?);
            Some(if v < 0 { v + size } else { v })
        };
        let first = match self.begin_mask[axis] {
            true if step > 0 => Some(0),
            true => Some(size - 1),
            false => bound(&self.begin, begin),
        };
        let Some(first) = first else { return Ok(None) };
        let last = match (squeeze, self.end_mask[axis]) {
            (true, _) => Some(first + 1),
            (false, true) => Some(if step > 0 { size } else { -1 }),
            (false, false) => bound(&self.end, end),
        };
        // As in numpy, an end beyond the axis is the end of the axis.
        let Some(last) = last.map(|last| last.clamp(-1, size)) else { return Ok(None) };
        let span = if step > 0 { last - first } else { first - last };
        let len = if span > 0 { (span - 1) / step.abs() + 1 } else { 0 };
        let tail = first + step * (len - 1).max(0);
        // coremltools writes slices of nothing into programs that it has not optimised; they lie between two elements.
        if len == 0 && first == last && !squeeze {
            return Ok(Some(SliceRange { begin: 0, step: step as isize, len: 0, squeeze }));
        }
        if len == 0 || !(0..size).contains(&first) || !(0..size).contains(&tail) {
            return Err(format!("[{first}, {last}) by {step} is outside of axis {axis} of {size}").into());
        }
        Ok(Some(SliceRange { begin: first as usize, step: step as isize, len: len as usize, squeeze }))
    }
}

/// The dimensions of a box, squeezed axes left out.
fn box_dims(args: &Args<'_>) -> Result<Dims, Fault> {
    let (x, bounds) = (args.dims("x")?, SliceBounds::of(args)?);
    let mut dims = Vec::new();
    for (axis, size) in x.iter().enumerate().filter(|(axis, _)| !bounds.squeeze_mask[*axis]) {
        let range = size.known().map(|size| bounds.range(axis, size, None, None)).transpose()?.flatten();
        dims.push(range.map_or(Dim::Unknown, |r| Dim::Known(r.len)));
    }
    for (axis, size) in x.iter().enumerate().filter(|(axis, _)| bounds.squeeze_mask[*axis]) {
        size.known().map(|size| bounds.range(axis, size, None, None)).transpose()?;
    }
    Ok(dims.into())
}

/// `size` -1 takes all that is left.
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
        let begin = begin.as_ref().map(|b| i64::from(b[axis]));
        let bad = |size: i64| {
            let begin = begin.map_or("?".to_owned(), |begin| begin.to_string());
            format!("size {size} from {begin} on is outside of axis {axis} of {}", x.shape)
        };
        dims.push(match (size.as_ref().map(|s| i64::from(s[axis])), begin) {
            (None, _) => Dim::Unknown,
            (Some(-1), None) => Dim::Unknown,
            (Some(-1), Some(begin)) => {
                full.map(|full| full.checked_sub(usize::try_from(begin).ok()?)).ok_or_else(|| bad(-1))?
            }
            (Some(size), begin) => {
                let extent = usize::try_from(size).map_err(|_| bad(size))?;
                if let (Some(full), Some(begin)) = (full.known(), begin) {
                    let end = usize::try_from(begin).ok().and_then(|b| b.checked_add(extent));
                    if end.is_none_or(|end| end > full) {
                        return Err(bad(size).into());
                    }
                }
                Dim::Known(extent)
            }
        });
    }
    Ok(vec![TensorType { dtype: x.dtype, shape: dims.into() }])
}

fn slice_update(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    args.same_dtype(&["x", "update"])?;
    let (expected, update) = (box_dims(args)?, args.dims("update")?);
    if update.rank() == 0 || !update.may_be(&expected) {
        return Err(format!("update {update}, the bounds name a box of {expected}").into());
    }
    Ok(vec![x.clone()])
}
