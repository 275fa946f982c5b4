//! Normalisations that are one operation.

use super::args::Args;
use super::spec::{Inferred, Kind, OpSpec, Param};
use crate::mil::Opset;

pub(super) const OPS: &[OpSpec] = &[OpSpec::new(
    "layer_norm",
    &[
        Param::new("x", Kind::Float),
        Param::constant("axes", Kind::Int).optional(),
        Param::constant("gamma", Kind::Float).optional(),
        Param::constant("beta", Kind::Float).optional(),
        Param::constant("epsilon", Kind::Float).or_fp32(1e-5),
    ],
    layer_norm,
)
.since(Opset::CoreML7)];

fn layer_norm(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    args.same_dtype(&["x", "gamma", "beta"])?;
    let axes = args.axes("axes", &x.shape)?;
    let normalized: Vec<usize> = axes.iter().map(|&a| x.shape.dims()[a]).collect();
    for name in ["gamma", "beta"] {
        if let Some(arg) = args.get(name).filter(|a| a.ty.shape.dims() != normalized) {
            return Err(format!("{name} {}, expected {normalized:?}", arg.ty.shape));
        }
    }
    Ok(vec![x.clone()])
}
