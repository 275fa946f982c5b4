//! Operations that move elements without computing with them.

use super::args::Args;
use super::spec::{Inferred, Kind, OpSpec, Param};
use crate::mil::TensorType;
use crate::shape::Shape;

const X: Param = Param::new("x", Kind::Any);

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new("identity", &[X], |args| Ok(vec![args.ty("x")?.clone()])),
    OpSpec::new("reshape", &[X, Param::constant("shape", Kind::Int)], reshape),
    OpSpec::new("transpose", &[X, Param::constant("perm", Kind::Int)], transpose),
    OpSpec::new("expand_dims", &[X, Param::constant("axes", Kind::Int)], expand_dims),
    OpSpec::new("squeeze", &[X, Param::constant("axes", Kind::Int).optional()], squeeze),
    OpSpec::new(
        "concat",
        &[
            Param::new("values", Kind::Any).variadic(),
            Param::constant("axis", Kind::Int),
            Param::constant("interleave", Kind::Bool).or_bool(false),
        ],
        concat,
    ),
    OpSpec::new(
        "split",
        &[
            X,
            Param::constant("num_splits", Kind::Int).optional(),
            Param::constant("split_sizes", Kind::Int).optional(),
            Param::constant("axis", Kind::Int),
        ],
        split,
    ),
    OpSpec::new(
        "slice_by_index",
        &[
            X,
            Param::constant("begin", Kind::Int),
            Param::constant("end", Kind::Int),
            Param::constant("stride", Kind::Int).optional(),
            Param::constant("begin_mask", Kind::Bool).optional(),
            Param::constant("end_mask", Kind::Bool).optional(),
            Param::constant("squeeze_mask", Kind::Bool).optional(),
        ],
        |args| {
            let x = args.ty("x")?;
            let dims = slice_ranges(args)?.iter().filter(|r| !r.squeeze).map(|r| r.len).collect::<Vec<_>>();
            Ok(vec![TensorType { dtype: x.dtype, shape: Shape::from(dims) }])
        },
    ),
];

fn reshape(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let wanted = args.ints("shape")?.ok_or("argument shape is missing")?;
    let cannot = || format!("x {} cannot be reshaped to {wanted:?}", x.shape);
    // -1 stands for what is left over; a 0 copies the extent that stands at the same place counted from the right.
    let mut dims = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (i, &d) in wanted.iter().enumerate() {
        dims.push(match d {
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            0 => {
                let from_right = wanted.len() - i;
                let at = x.shape.rank().checked_sub(from_right).ok_or_else(cannot)?;
                x.shape.dims()[at]
            }
            d => usize::try_from(d).map_err(|_| cannot())?,
        });
    }
    let elements = x.shape.elements();
    if let Some(i) = open {
        let known = Shape::from(dims.as_slice()).checked_elements().filter(|&k| k > 0).ok_or_else(cannot)?;
        dims[i] = elements / known;
    }
    let shape = Shape::from(dims);
    if shape.checked_elements() == Some(elements) {
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    } else {
        Err(cannot())
    }
}

fn transpose(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let perm = args.ints("perm")?.unwrap_or_default();
    let axes: Option<Vec<usize>> = perm.iter().map(|&p| x.shape.axis(p)).collect();
    let axes = axes.filter(|axes| axes.len() == x.shape.rank() && (0..axes.len()).all(|i| axes.contains(&i)));
    let axes = axes.ok_or_else(|| format!("perm {perm:?} is no permutation of the axes of {}", x.shape))?;
    let dims: Vec<usize> = axes.iter().map(|&a| x.shape.dims()[a]).collect();
    Ok(vec![TensorType { dtype: x.dtype, shape: Shape::from(dims) }])
}

fn expand_dims(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let count = args.ints("axes")?.map_or(0, <[i32]>::len);
    let mut rest = x.shape.dims().iter().copied();
    let expanded = Shape::from(vec![1; x.shape.rank() + count]);
    let axes = args.axes("axes", &expanded)?;
    let dims: Vec<usize> =
        (0..expanded.rank()).map(|i| if axes.contains(&i) { 1 } else { rest.next().unwrap_or(1) }).collect();
    Ok(vec![TensorType { dtype: x.dtype, shape: Shape::from(dims) }])
}

fn squeeze(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let dims = x.shape.dims();
    let axes: Vec<usize> = match args.get("axes") {
        Some(_) => args.axes("axes", &x.shape)?,
        None => (0..dims.len()).filter(|&i| dims[i] == 1).collect(),
    };
    if let Some(&axis) = axes.iter().find(|&&a| dims[a] != 1) {
        return Err(format!("axis {axis} of {} is not 1", x.shape));
    }
    let left: Vec<usize> = (0..dims.len()).filter(|i| !axes.contains(i)).map(|i| dims[i]).collect();
    Ok(vec![TensorType { dtype: x.dtype, shape: Shape::from(left) }])
}

fn concat(args: &Args<'_>) -> Inferred {
    let dtype = args.same_dtype(&["values"])?;
    let shapes: Vec<&Shape> = args.many("values").iter().map(|a| &a.ty.shape).collect();
    let first = shapes[0];
    let axis = args.axis("axis", first)?;
    let interleave = args.bool_or("interleave", false)?;
    let mut total = 0usize;
    for shape in &shapes {
        let fits = shape.rank() == first.rank()
            && (0..first.rank()).all(|i| (i == axis && !interleave) || shape.dims()[i] == first.dims()[i]);
        if !fits {
            return Err(format!("values {first} and {shape} cannot be joined on axis {axis}"));
        }
        total = total.checked_add(shape.dims()[axis]).ok_or("the result has too many elements")?;
    }
    let mut dims = first.dims().to_vec();
    dims[axis] = total;
    Ok(vec![TensorType { dtype, shape: Shape::from(dims) }])
}

fn split(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let axis = args.axis("axis", &x.shape)?;
    let size = x.shape.dims()[axis];
    let sizes: Vec<usize> = match (args.int("num_splits")?, args.ints("split_sizes")?) {
        (None, Some(sizes)) => sizes.iter().map(|&s| usize::try_from(s).unwrap_or(0)).collect(),
        (Some(n), None) => match usize::try_from(n) {
            Ok(n) if n > 0 && size.is_multiple_of(n) => vec![size / n; n],
            _ => return Err(format!("{size} elements cannot be split into {n} equal parts")),
        },
        _ => return Err("exactly one of num_splits and split_sizes must be given".into()),
    };
    if sizes.contains(&0) || sizes.iter().try_fold(0usize, |n, &s| n.checked_add(s)) != Some(size) {
        return Err(format!("split sizes {sizes:?} do not add up to {size} on axis {axis}"));
    }
    let part = |s: usize| {
        let mut dims = x.shape.dims().to_vec();
        dims[axis] = s;
        TensorType { dtype: x.dtype, shape: Shape::from(dims) }
    };
    Ok(sizes.into_iter().map(part).collect())
}

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

/// The ranges that a `slice_by_index` names, one for each axis of `x`.
///
/// # Errors
///
/// If lengths do not match, a stride is 0, or an index is out of range.
pub fn slice_ranges(args: &Args<'_>) -> Result<Vec<SliceRange>, String> {
    let x = args.shape("x")?;
    let rank = x.rank();
    let len_is = |name: &str, len: usize| {
        if len == rank { Ok(()) } else { Err(format!("{name} has {len} entries, x {x} has rank {rank}")) }
    };
    let begin = args.ints("begin")?.unwrap_or_default();
    let end = args.ints("end")?.unwrap_or_default();
    let stride = args.ints("stride")?.map_or_else(|| vec![1; rank], <[i32]>::to_vec);
    len_is("begin", begin.len())?;
    len_is("end", end.len())?;
    len_is("stride", stride.len())?;
    let mask = |name: &str| -> Result<Vec<bool>, String> {
        let mask = args.bools(name)?.map_or_else(|| vec![false; rank], <[bool]>::to_vec);
        len_is(name, mask.len())?;
        Ok(mask)
    };
    let (begin_mask, end_mask, squeeze) = (mask("begin_mask")?, mask("end_mask")?, mask("squeeze_mask")?);
    (0..rank)
        .map(|i| {
            let size = i64::try_from(x.dims()[i]).map_err(|_| format!("axis {i} is too long"))?;
            let from_end = |v: i32| if v < 0 { i64::from(v) + size } else { i64::from(v) };
            let step = if squeeze[i] { 1 } else { i64::from(stride[i]) };
            if step == 0 {
                return Err(format!("stride 0 on axis {i}"));
            }
            let first = match begin_mask[i] {
                true if step > 0 => 0,
                true => size - 1,
                false => from_end(begin[i]),
            };
            let last = match (squeeze[i], end_mask[i]) {
                (true, _) => first + 1,
                (false, true) => {
                    if step > 0 {
                        size
                    } else {
                        -1
                    }
                }
                (false, false) => from_end(end[i]),
            };
            let span = if step > 0 { last - first } else { first - last };
            let len = if span > 0 { (span - 1) / step.abs() + 1 } else { 0 };
            let tail = first + step * (len - 1).max(0);
            if len == 0 || !(0..size).contains(&first) || !(0..size).contains(&tail) {
                return Err(format!("[{first}, {last}) by {step} is outside of axis {i} of {x}"));
            }
            Ok(SliceRange {
                begin: first as usize,
                step: step as isize,
                len: len as usize,
                squeeze: squeeze[i],
            })
        })
        .collect()
}
