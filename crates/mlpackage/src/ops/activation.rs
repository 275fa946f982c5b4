//! Activations: elementwise functions with parameters, and softmax.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::elementwise::like_x;
use super::spec::{Inferred, OpSpec, Param};
use crate::finding::Fault;
use crate::mil::Opset;

const X: Param = Param::new("x", DTypeConstraint::FLOAT);
const ALPHA: Param = Param::constant("alpha", DTypeConstraint::FLOAT);
const BETA: Param = Param::constant("beta", DTypeConstraint::FLOAT);
const IOS17: Opset = Opset::CoreML7;
/// Up to iOS 16 the parameters have the type of `x`; since iOS 17 they need only agree with each other.
const X_AND_ALPHA: &[Param] =
    &[X.domain('T'), ALPHA.domain('T').until(IOS17), ALPHA.domain('U').since(IOS17)];
const X_ALPHA_AND_BETA: &[Param] = &[
    X.domain('T'),
    ALPHA.domain('T').until(IOS17),
    BETA.domain('T').until(IOS17),
    ALPHA.domain('U').since(IOS17),
    BETA.domain('U').since(IOS17),
];

const fn plain(name: &'static str) -> OpSpec {
    OpSpec::new(name, &[X], like_x)
}

const fn with_alpha(name: &'static str) -> OpSpec {
    OpSpec::new(name, X_AND_ALPHA, like_x)
}

const fn with_alpha_and_beta(name: &'static str) -> OpSpec {
    OpSpec::new(name, X_ALPHA_AND_BETA, like_x)
}

pub(super) const OPS: &[OpSpec] = &[
    plain("relu"),
    plain("relu6"),
    plain("sigmoid"),
    plain("silu"),
    plain("softplus"),
    plain("softsign"),
    with_alpha("elu"),
    with_alpha("leaky_relu"),
    with_alpha("thresholded_relu"),
    with_alpha_and_beta("clamped_relu"),
    with_alpha_and_beta("linear_activation"),
    with_alpha_and_beta("scaled_tanh"),
    with_alpha_and_beta("sigmoid_hard"),
    OpSpec::new("prelu", X_AND_ALPHA, |args| match args.dims("x")?.rank() {
        3..=5 => per_channel(args),
        _ => Err(Fault::value("x", format!("is {}, expected rank 3 to 5", args.ty("x")?))),
    }),
    OpSpec::new("softplus_parametric", X_ALPHA_AND_BETA, per_channel),
    OpSpec::new("gelu", &[X, Param::constant("mode", DTypeConstraint::STRING).or_string("EXACT")], gelu),
    OpSpec::new("softmax", &[X, Param::constant("axis", DTypeConstraint::INT32).or_int(-1)], softmax),
];

/// Infers the type of an activation of `x [N, C, ..]` with parameters `[C]`.
fn per_channel(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    if x.shape.rank() < 3 {
        return Err(Fault::value("x", format!("is {x}, expected rank 3 or more")));
    }
    for name in ["alpha", "beta"] {
        if let Some(arg) = args.get(name) {
            let dims = &arg.ty.shape;
            if dims.rank() != 1 || !dims[0].may_be(x.shape[1]) {
                return Err(Fault::value(
                    name,
                    format!("is {dims}, expected [{}], one for each channel of x", x.shape[1]),
                ));
            }
        }
    }
    like_x(args)
}

fn gelu(args: &Args<'_>) -> Inferred {
    match args.string("mode")?.unwrap_or("EXACT") {
        "EXACT" | "TANH_APPROXIMATION" | "SIGMOID_APPROXIMATION" => like_x(args),
        mode => Err(Fault::value(
            "mode",
            format!("is {mode:?}, expected EXACT, TANH_APPROXIMATION or SIGMOID_APPROXIMATION"),
        )),
    }
}

fn softmax(args: &Args<'_>) -> Inferred {
    let x = args.dims("x")?;
    if args.get("axis").is_some() {
        args.axis("axis", x)?;
    }
    if x.rank() == 0 {
        return Err(Fault::value("x", "is a scalar, which has no axis"));
    }
    like_x(args)
}
