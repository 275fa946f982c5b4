//! Operations that read or write elements at given indices.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::spec::{Inferred, OpSpec, Param};
use crate::finding::Fault;
use crate::mil::{Dim, Dims, Opset, TensorType};

const X: Param = Param::new("x", DTypeConstraint::WIDE_NUMBER);
const DATA: Param = Param::new("data", DTypeConstraint::NUMBER).domain('T');
const INDICES: Param = Param::new("indices", DTypeConstraint::INDICES);
const PLACES: Param = Param::new("indices", DTypeConstraint::INT32);
const UPDATES: Param = Param::new("updates", DTypeConstraint::NUMBER).domain('T');
const AXIS: Param = Param::constant("axis", DTypeConstraint::INT32).or_int(0);
const BATCH_DIMS: Param =
    Param::constant("batch_dims", DTypeConstraint::INT32).or_int(0).since(Opset::CoreML6);
const MODE: Param = Param::constant("mode", DTypeConstraint::STRING).or_string("add");
const VALIDATE: Param =
    Param::constant("validate_indices", DTypeConstraint::BOOL).or_bool(false).since(Opset::CoreML7);

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new("gather", &[X, INDICES, AXIS, BATCH_DIMS, VALIDATE], gather),
    OpSpec::new("gather_along_axis", &[X, INDICES, AXIS, VALIDATE], gather_along_axis),
    OpSpec::new("gather_nd", &[X, INDICES, BATCH_DIMS, VALIDATE], gather_nd),
    OpSpec::new("scatter", &[DATA, PLACES, UPDATES, AXIS, MODE, VALIDATE], scatter),
    OpSpec::new("scatter_along_axis", &[DATA, PLACES, UPDATES, AXIS, MODE, VALIDATE], scatter_along_axis),
    OpSpec::new("scatter_nd", &[DATA, PLACES, UPDATES, MODE, VALIDATE], scatter_nd),
];

fn batch_dims(args: &Args<'_>, most: usize) -> Result<usize, Fault> {
    let given = args.int("batch_dims")?.unwrap_or(0);
    let batch = usize::try_from(given).ok().filter(|&b| b <= most);
    batch.ok_or_else(|| Fault::value("batch_dims", format!("is {given}, expected 0 to {most}")))
}

/// Returns the axis that an optional argument names; 0 if the argument is missing.
fn axis_or_first(args: &Args<'_>, dims: &Dims) -> Result<usize, Fault> {
    match args.get("axis") {
        Some(_) => args.axis("axis", dims),
        None => dims.axis(0).ok_or_else(|| Fault::value("axis", "is not bound, but a scalar has no axis")),
    }
}

/// Returns `dims` with `indices` in place of `axis`: `dims[..axis] + indices + dims[axis + 1..]`.
fn replaced(dims: &Dims, axis: usize, indices: &[Dim]) -> Dims {
    [&dims.as_slice()[..axis], indices, &dims.as_slice()[axis + 1..]].concat().into()
}

/// Refuses stated indices that are out of range. A negative index counts from the end of the axis, unless
/// `validate_indices` is set: since iOS 17, negative indices are then out of range.
fn check_indices(args: &Args<'_>, size: Dim) -> Result<(), Fault> {
    check_index_rows(args, &[size])
}

/// Does the same as [`check_indices`] for rows of indices, which have an entry for each of `sizes`.
fn check_index_rows(args: &Args<'_>, sizes: &[Dim]) -> Result<(), Fault> {
    let validate = args.bool_or("validate_indices", false)?;
    let Some(indices) = args.ints_if_known("indices") else { return Ok(()) };
    for (index, size) in indices.into_iter().zip(sizes.iter().cycle()) {
        let Some(size) = size.known() else { continue };
        let least = if validate { 0 } else { -(size as i64) };
        if !(least..size as i64).contains(&i64::from(index)) {
            let negative =
                if validate && index < 0 { ", and validate_indices excludes negative indices" } else { "" };
            return Err(Fault::value(
                "indices",
                format!("holds {index}, the axis has {size} elements{negative}"),
            ));
        }
    }
    Ok(())
}

fn gather(args: &Args<'_>) -> Inferred {
    let (x, indices) = (args.ty("x")?, args.dims("indices")?);
    let axis = axis_or_first(args, &x.shape)?;
    check_indices(args, x.shape[axis])?;
    let batch = batch_dims(args, axis.min(indices.rank()))?;
    let same = (0..batch).all(|i| x.shape[i].may_be(indices[i]));
    if !same {
        return Err(format!("x {} and indices {indices} differ in their first {batch} axes", x.shape).into());
    }
    let shape = replaced(&x.shape, axis, &indices.as_slice()[batch..]);
    Ok(vec![TensorType { dtype: x.dtype, shape }])
}

fn same_but_for(axis: usize, a: &Dims, b: &Dims) -> bool {
    a.rank() == b.rank() && (0..a.rank()).all(|i| i == axis || a[i].may_be(b[i]))
}

fn gather_along_axis(args: &Args<'_>) -> Inferred {
    let (x, indices) = (args.ty("x")?, args.dims("indices")?);
    let axis = axis_or_first(args, &x.shape)?;
    check_indices(args, x.shape[axis])?;
    if !same_but_for(axis, &x.shape, indices) {
        return Err(format!("x {} and indices {indices} may differ on axis {axis} only", x.shape).into());
    }
    Ok(vec![TensorType { dtype: x.dtype, shape: indices.clone() }])
}

/// Returns the dimensions that `indices [.., K]` select from `dims`, which share the first `batch` axes.
fn named(dims: &Dims, indices: &Dims, batch: usize) -> Result<Dims, Fault> {
    let (outer, depth) = match indices.as_slice().split_last() {
        Some((Dim::Known(depth), outer)) => (outer, *depth),
        _ => {
            return Err(Fault::value(
                "indices",
                format!("is {indices}, expected a last axis of known length"),
            ));
        }
    };
    let rest = batch.checked_add(depth).and_then(|at| dims.as_slice().get(at..));
    let rest = rest.ok_or_else(|| format!("indices {indices} refer to more axes than {dims} has"))?;
    Ok([outer, rest].concat().into())
}

fn gather_nd(args: &Args<'_>) -> Inferred {
    let (x, indices) = (args.ty("x")?, args.dims("indices")?);
    let batch = batch_dims(args, x.shape.rank().min(indices.rank().saturating_sub(1)))?;
    if !(0..batch).all(|i| x.shape[i].may_be(indices[i])) {
        return Err(format!("x {} and indices {indices} differ in their first {batch} axes", x.shape).into());
    }
    let shape = named(&x.shape, indices, batch)?;
    let depth = indices[indices.rank() - 1].known().unwrap_or(0);
    check_index_rows(args, &x.shape.as_slice()[batch..batch + depth])?;
    Ok(vec![TensorType { dtype: x.dtype, shape }])
}

fn check_mode(args: &Args<'_>) -> Result<(), Fault> {
    match args.string("mode")?.unwrap_or("add") {
        "update" | "add" | "sub" | "mul" | "div" | "max" | "min" => Ok(()),
        mode => {
            Err(Fault::value("mode", format!("is {mode:?}, expected update, add, sub, mul, div, max or min")))
        }
    }
}

/// Returns one result of the type of `data`, if `updates` has the expected dimensions.
fn updated(args: &Args<'_>, expected: &Dims) -> Inferred {
    check_mode(args)?;
    let updates = args.dims("updates")?;
    if !updates.may_be(expected) {
        return Err(Fault::value("updates", format!("is {updates}, expected {expected}")));
    }
    Ok(vec![args.ty("data")?.clone()])
}

fn scatter(args: &Args<'_>) -> Inferred {
    let (data, indices) = (args.dims("data")?, args.dims("indices")?);
    let axis = axis_or_first(args, data)?;
    check_indices(args, data[axis])?;
    updated(args, &replaced(data, axis, indices.as_slice()))
}

fn scatter_along_axis(args: &Args<'_>) -> Inferred {
    let (data, indices) = (args.dims("data")?, args.dims("indices")?);
    let axis = axis_or_first(args, data)?;
    if !same_but_for(axis, data, indices) {
        return Err(format!("data {data} and indices {indices} may differ on axis {axis} only").into());
    }
    check_indices(args, data[axis])?;
    updated(args, indices)
}

fn scatter_nd(args: &Args<'_>) -> Inferred {
    let (data, indices) = (args.dims("data")?, args.dims("indices")?);
    let expected = named(data, indices, 0)?;
    let depth = indices[indices.rank() - 1].known().unwrap_or(0);
    check_index_rows(args, &data.as_slice()[..depth])?;
    updated(args, &expected)
}
