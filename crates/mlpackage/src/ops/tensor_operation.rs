//! Operations that join, split, repeat or pad tensors.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::spec::{Inferred, OpSpec, Param};
use crate::finding::Fault;
use crate::mil::{Dim, Dims, TensorType, axis_of};

const PLAIN_X: Param = Param::new("x", DTypeConstraint::ELEMENT);
const VALUES: Param = Param::new("values", DTypeConstraint::WIDE_ELEMENT).variadic();

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new(
        "concat",
        &[
            VALUES,
            Param::constant("axis", DTypeConstraint::INT32),
            Param::constant("interleave", DTypeConstraint::BOOL).or_bool(false),
        ],
        concat,
    ),
    OpSpec::new("stack", &[VALUES, Param::constant("axis", DTypeConstraint::INT32)], stack),
    OpSpec::new(
        "split",
        &[
            PLAIN_X,
            Param::constant("num_splits", DTypeConstraint::INT32).optional(),
            Param::constant("split_sizes", DTypeConstraint::INT32).optional(),
            Param::constant("axis", DTypeConstraint::INT32),
        ],
        split,
    ),
    OpSpec::new("tile", &[PLAIN_X, Param::new("reps", DTypeConstraint::INT32)], tile),
    OpSpec::new(
        "pad",
        &[
            Param::new("x", DTypeConstraint::FLOAT).domain('T'),
            Param::new("pad", DTypeConstraint::INT32),
            Param::constant("mode", DTypeConstraint::STRING).or_string("constant"),
            Param::constant("constant_val", DTypeConstraint::FLOAT).or_fp32(0.0).domain('T'),
        ],
        pad,
    ),
    OpSpec::new(
        "sliding_windows",
        &[
            Param::new("x", DTypeConstraint::WINDOWED),
            Param::constant("axis", DTypeConstraint::INT32),
            Param::constant("size", DTypeConstraint::INT32),
            Param::constant("stride", DTypeConstraint::INT32).or_int(1),
        ],
        sliding_windows,
    ),
];

fn concat(args: &Args<'_>) -> Inferred {
    let dtype = args.same_dtype(&["values"])?;
    let shapes: Vec<&Dims> = args.many("values").iter().map(|a| &a.ty.shape).collect();
    let first = shapes[0];
    // Scalars are joined to a vector.
    if first.rank() == 0 && shapes.iter().all(|s| s.rank() == 0) {
        if let Some(axis) = args.int("axis")?.filter(|axis| ![0, -1].contains(axis)) {
            return Err(Fault::value("axis", format!("names axis {axis}, which is outside of a vector")));
        }
        return Ok(vec![TensorType { dtype, shape: [shapes.len()].into() }]);
    }
    let axis = args.axis("axis", first)?;
    let interleave = args.bool_or("interleave", false)?;
    let mut dims = first.as_slice().to_vec();
    for shape in &shapes[1..] {
        if shape.rank() != first.rank() {
            return Err(format!("values {first} and {shape} differ in rank").into());
        }
        for i in 0..dims.len() {
            let joined = match i == axis {
                true if interleave && !first[axis].may_be(shape[axis]) => None,
                true => dims[i].zip(shape[i], usize::checked_add),
                false => dims[i].meet(shape[i]),
            };
            dims[i] = joined
                .ok_or_else(|| format!("values {first} and {shape} cannot be joined on axis {axis}"))?;
        }
    }
    Ok(vec![TensorType { dtype, shape: dims.into() }])
}

fn stack(args: &Args<'_>) -> Inferred {
    let dtype = args.same_dtype(&["values"])?;
    let shapes: Vec<&Dims> = args.many("values").iter().map(|a| &a.ty.shape).collect();
    let mut dims = shapes[0].as_slice().to_vec();
    for shape in &shapes[1..] {
        let differ = || format!("values {} and {shape} differ", shapes[0]);
        if shape.rank() != dims.len() {
            return Err(differ().into());
        }
        for i in 0..dims.len() {
            dims[i] = dims[i].meet(shape[i]).ok_or_else(differ)?;
        }
    }
    let axis = args.int("axis")?.ok_or_else(|| Fault::missing("axis"))?;
    let at = axis_of(axis, dims.len() + 1);
    let at = at.ok_or_else(|| {
        Fault::value("axis", format!("names axis {axis}, which is outside of {}", shapes[0]))
    })?;
    dims.insert(at, Dim::Known(shapes.len()));
    Ok(vec![TensorType { dtype, shape: dims.into() }])
}

fn split(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let axis = args.axis("axis", &x.shape)?;
    let size = x.shape[axis];
    let sizes: Vec<Dim> = match (args.get("num_splits"), args.get("split_sizes")) {
        (count, Some(_)) => {
            let sizes = args.ints("split_sizes")?.unwrap_or_default();
            if count.is_some() && args.extent("num_splits")? != Some(sizes.len()) {
                return Err(Fault::value(
                    "num_splits",
                    format!("must be {}, the number of split_sizes", sizes.len()),
                ));
            }
            let known: Option<Vec<usize>> =
                sizes.iter().map(|&s| usize::try_from(s).ok().filter(|&s| s > 0)).collect();
            let total = known.as_ref().and_then(|s| s.iter().try_fold(0usize, |n, &s| n.checked_add(s)));
            match (known, total) {
                (Some(known), Some(total)) if size.may_be(total) => {
                    known.into_iter().map(Dim::Known).collect()
                }
                _ => {
                    return Err(
                        format!("split sizes {sizes:?} do not add up to {size} on axis {axis}").into()
                    );
                }
            }
        }
        (Some(_), None) => {
            let n = args.extent("num_splits")?.unwrap_or(1);
            let part = size.map(|size| size.is_multiple_of(n).then(|| size / n));
            let part = part.ok_or_else(|| format!("{size} elements cannot be split into {n} equal parts"))?;
            // More parts than this indicate a damaged file.
            if n > 1 << 16 {
                return Err(format!("{n} parts are too many").into());
            }
            vec![part; n]
        }
        (None, None) => return Err("num_splits or split_sizes must be given".into()),
    };
    let part = |size: Dim| {
        let dims = x.shape.iter().enumerate().map(|(i, d)| if i == axis { size } else { d });
        TensorType { dtype: x.dtype, shape: dims.collect() }
    };
    Ok(sizes.into_iter().map(part).collect())
}

fn tile(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let Some(reps) = args.ints_if_known("reps") else {
        let shape = vec![Dim::Unknown; x.shape.rank()].into();
        return Ok(vec![TensorType { dtype: x.dtype, shape }]);
    };
    let bad = || {
        let reason = format!("is {reps:?}, expected {} positive integers", x.shape.rank());
        Fault::value("reps", reason)
    };
    if reps.len() != x.shape.rank() || reps.is_empty() {
        return Err(bad());
    }
    let dims = x.shape.iter().zip(&reps).map(|(d, &n)| {
        let n = usize::try_from(n).ok().filter(|&n| n > 0).ok_or_else(bad)?;
        d.map(|d| d.checked_mul(n)).ok_or_else(|| Fault::from("the result has too many elements"))
    });
    Ok(vec![TensorType { dtype: x.dtype, shape: dims.collect::<Result<Dims, Fault>>()? }])
}

/// Infers the type of a padded `x`. `pad` holds the padding at the beginning and the end of the last axes; if it
/// is computed, of all axes.
fn pad(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let mode = args.string("mode")?.unwrap_or("constant");
    if !matches!(mode, "constant" | "reflect" | "replicate") {
        return Err(Fault::value("mode", format!("is {mode:?}, expected constant, reflect or replicate")));
    }
    let mut dims = x.shape.as_slice().to_vec();
    let Some(pad) = args.ints_if_known("pad") else {
        let given = args.dims("pad")?;
        if given.rank() != 1 || !given[0].may_be(2 * dims.len()) {
            let expected = format!("[{}], two integers for each axis of x {}", 2 * dims.len(), x.shape);
            return Err(Fault::value("pad", format!("is computed, of shape {given}; expected {expected}")));
        }
        let shape = vec![Dim::Unknown; dims.len()].into();
        return Ok(vec![TensorType { dtype: x.dtype, shape }]);
    };
    let bad = || {
        let axes = format!("for each of the last axes of {}", x.shape);
        Fault::value("pad", format!("is {pad:?}, expected two non-negative integers {axes}"))
    };
    let first =
        dims.len().checked_sub(pad.len() / 2).filter(|_| pad.len().is_multiple_of(2)).ok_or_else(bad)?;
    for (dim, pair) in dims[first..].iter_mut().zip(pad.chunks_exact(2)) {
        let [before, behind] = [pair[0], pair[1]].map(usize::try_from);
        let (Ok(before), Ok(behind)) = (before, behind) else { return Err(bad()) };
        *dim = dim.map(|d| d.checked_add(before)?.checked_add(behind)).ok_or_else(bad)?;
    }
    Ok(vec![TensorType { dtype: x.dtype, shape: dims.into() }])
}

fn sliding_windows(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let axis = args.axis("axis", &x.shape)?;
    let size = args.extent("size")?.ok_or_else(|| Fault::missing("size"))?;
    let stride = args.extent("stride")?.unwrap_or(1);
    let mut dims = x.shape.as_slice().to_vec();
    let windows = dims[axis].map(|d| Some(d.checked_sub(size)? / stride + 1));
    dims[axis] =
        windows.ok_or_else(|| format!("windows of {size} do not fit into axis {axis} of {}", x.shape))?;
    dims.insert(axis + 1, Dim::Known(size));
    Ok(vec![TensorType { dtype: x.dtype, shape: dims.into() }])
}
