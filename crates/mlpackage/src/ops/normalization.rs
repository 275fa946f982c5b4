//! Normalisations that are one operation.

use super::args::Args;
use super::elementwise::like_x;
use super::spec::{Inferred, Kind, OpSpec, Param};
use crate::finding::Fault;
use crate::mil::{Dim, Dims};

const X: Param = Param::new("x", Kind::Float);
const GAMMA: Param = Param::constant("gamma", Kind::Float).optional();
const BETA: Param = Param::constant("beta", Kind::Float).optional();
const EPSILON: Param = Param::constant("epsilon", Kind::Float).or_fp32(1e-5);

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new(
        "batch_norm",
        &[
            X,
            Param::constant("mean", Kind::Float),
            Param::constant("variance", Kind::Float),
            GAMMA,
            BETA,
            EPSILON,
        ],
        |args| per_channel(args, &["mean", "variance", "gamma", "beta"]),
    ),
    OpSpec::new("instance_norm", &[X, GAMMA, BETA, EPSILON], |args| per_channel(args, &["gamma", "beta"])),
    OpSpec::new(
        "layer_norm",
        &[X, Param::constant("axes", Kind::Int).optional(), GAMMA, BETA, EPSILON],
        layer_norm,
    ),
    OpSpec::new("l2_norm", &[X, Param::constant("epsilon", Kind::Float).or_fp32(1e-6)], |args| {
        at_least(args, 3)?;
        like_x(args)
    }),
    OpSpec::new(
        "local_response_norm",
        &[
            X,
            Param::constant("size", Kind::Int),
            Param::constant("alpha", Kind::Float).or_fp32(1e-4),
            Param::constant("beta", Kind::Float).or_fp32(0.75),
            Param::constant("k", Kind::Float).or_fp32(1.0),
        ],
        |args| {
            at_least(args, 3)?;
            args.extent("size")?;
            like_x(args)
        },
    ),
];

fn at_least(args: &Args<'_>, rank: usize) -> Result<(), Fault> {
    let x = args.dims("x")?;
    if x.rank() >= rank {
        Ok(())
    } else {
        Err(Fault::value("x", format!("is {x}, expected rank {rank} or more")))
    }
}

/// `x [N, C, ..]`, parameters `[C]`.
fn per_channel(args: &Args<'_>, params: &[&str]) -> Inferred {
    at_least(args, 3)?;
    let channels = args.dims("x")?[1];
    args.same_dtype(&[&["x"], params].concat())?;
    for (name, arg) in params.iter().filter_map(|name| args.get(name).map(|arg| (name, arg))) {
        let dims = &arg.ty.shape;
        if dims.rank() != 1 || !dims[0].may_be(channels) {
            return Err(Fault::value(
                name,
                format!("is {dims}, expected [{channels}], one for each channel of x"),
            ));
        }
    }
    like_x(args)
}

fn layer_norm(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    args.same_dtype(&["x", "gamma", "beta"])?;
    let axes = args.axes("axes", &x.shape)?;
    let normalized: Dims = axes.iter().map(|&a| x.shape[a]).collect::<Vec<Dim>>().into();
    for name in ["gamma", "beta"] {
        if let Some(arg) = args.get(name).filter(|a| !a.ty.shape.may_be(&normalized)) {
            return Err(Fault::value(name, format!("is {}, expected {normalized}", arg.ty.shape)));
        }
    }
    Ok(vec![x.clone()])
}
