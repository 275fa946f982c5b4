//! Operations that fold axes into one number, and softmax.

use super::args::Args;
use super::spec::{Inferred, Kind, OpSpec, Param};
use crate::mil::TensorType;
use crate::shape::Shape;

const REDUCE: &[Param] = &[
    Param::new("x", Kind::Number),
    Param::constant("axes", Kind::Int).optional(),
    Param::constant("keep_dims", Kind::Bool).or_bool(false),
];

const fn reduce(name: &'static str) -> OpSpec {
    OpSpec::new(name, REDUCE, reduced)
}

pub(super) const OPS: &[OpSpec] = &[
    reduce("reduce_mean"),
    reduce("reduce_sum"),
    reduce("reduce_max"),
    reduce("reduce_min"),
    reduce("reduce_sum_square"),
    reduce("reduce_l2_norm"),
    OpSpec::new(
        "softmax",
        &[Param::new("x", Kind::Float), Param::constant("axis", Kind::Int).or_int(-1)],
        softmax,
    ),
];

fn reduced(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let axes = args.axes("axes", &x.shape)?;
    let keep = args.bool_or("keep_dims", false)?;
    let dims: Vec<usize> = x
        .shape
        .dims()
        .iter()
        .enumerate()
        .filter_map(|(i, &d)| match axes.contains(&i) {
            true => keep.then_some(1),
            false => Some(d),
        })
        .collect();
    Ok(vec![TensorType { dtype: x.dtype, shape: Shape::from(dims) }])
}

fn softmax(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    if args.get("axis").is_some() {
        args.axis("axis", &x.shape)?;
    }
    Ok(vec![x.clone()])
}
