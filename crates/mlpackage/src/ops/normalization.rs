//! Normalizations that are a single operation.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::elementwise::like_x;
use super::spec::{Inferred, OpSpec, Param};
use crate::finding::Fault;
use crate::mil::{Dim, Dims, Opset};

const IOS17: Opset = Opset::CoreML7;
const X: Param = Param::new("x", DTypeConstraint::FLOAT).domain('T');
const MEAN: Param = Param::constant("mean", DTypeConstraint::FLOAT);
const VARIANCE: Param = Param::constant("variance", DTypeConstraint::FLOAT);
const GAMMA: Param = Param::constant("gamma", DTypeConstraint::FLOAT).optional();
const BETA: Param = Param::constant("beta", DTypeConstraint::FLOAT).optional();
const EPSILON: Param = Param::constant("epsilon", DTypeConstraint::FLOAT).or_fp32(1e-5);

/// Returns the parameter in the form up to iOS 16, which has the type of `x`.
const fn early(param: Param) -> Param {
    param.domain('T').until(IOS17)
}

/// Returns the parameter in the form since iOS 17, which need only agree with the other parameters.
const fn late(param: Param) -> Param {
    param.domain('U').since(IOS17)
}

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new(
        "batch_norm",
        &[
            X,
            early(MEAN),
            early(VARIANCE),
            early(GAMMA),
            early(BETA),
            early(EPSILON),
            late(MEAN),
            late(VARIANCE),
            late(GAMMA),
            late(BETA),
            late(EPSILON),
        ],
        |args| per_channel(args, &["mean", "variance", "gamma", "beta"]),
    ),
    OpSpec::new(
        "instance_norm",
        &[X, early(GAMMA), early(BETA), early(EPSILON), late(GAMMA), late(BETA), late(EPSILON)],
        |args| per_channel(args, &["gamma", "beta"]),
    ),
    OpSpec::new(
        "layer_norm",
        &[
            X,
            Param::constant("axes", DTypeConstraint::INT32).optional(),
            early(GAMMA),
            early(BETA),
            early(EPSILON),
            late(GAMMA),
            late(BETA),
            late(EPSILON),
        ],
        layer_norm,
    ),
    OpSpec::new("l2_norm", &[X, early(L2_EPSILON), L2_EPSILON.since(IOS17)], |args| {
        at_least(args, 3)?;
        like_x(args)
    }),
    OpSpec::new(
        "local_response_norm",
        &[
            X,
            Param::constant("size", DTypeConstraint::INT32),
            early(LRN_ALPHA),
            early(LRN_BETA),
            early(LRN_K),
            late(LRN_ALPHA),
            late(LRN_BETA),
            late(LRN_K),
        ],
        |args| {
            at_least(args, 3)?;
            args.extent("size")?;
            like_x(args)
        },
    ),
];

const L2_EPSILON: Param = Param::constant("epsilon", DTypeConstraint::FLOAT).or_fp32(1e-6);
const LRN_ALPHA: Param = Param::constant("alpha", DTypeConstraint::FLOAT).or_fp32(1e-4);
const LRN_BETA: Param = Param::constant("beta", DTypeConstraint::FLOAT).or_fp32(0.75);
const LRN_K: Param = Param::constant("k", DTypeConstraint::FLOAT).or_fp32(1.0);

fn at_least(args: &Args<'_>, rank: usize) -> Result<(), Fault> {
    let x = args.dims("x")?;
    if x.rank() >= rank {
        Ok(())
    } else {
        Err(Fault::value("x", format!("is {x}, expected rank {rank} or more")))
    }
}

/// Infers the type of a norm of `x [N, C, ..]` with parameters `[C]`.
fn per_channel(args: &Args<'_>, params: &[&str]) -> Inferred {
    at_least(args, 3)?;
    let channels = args.dims("x")?[1];
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
    let axes = args.axes("axes", &x.shape)?;
    let normalized: Dims = axes.iter().map(|&a| x.shape[a]).collect::<Vec<Dim>>().into();
    for name in ["gamma", "beta"] {
        if let Some(arg) = args.get(name).filter(|a| !a.ty.shape.may_be(&normalized)) {
            return Err(Fault::value(name, format!("is {}, expected {normalized}", arg.ty.shape)));
        }
    }
    Ok(vec![x.clone()])
}
