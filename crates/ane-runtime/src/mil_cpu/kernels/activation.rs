//! Activations (elementwise functions with their own parameters) and softmax.

use super::elementwise::{larger, map};
use super::strided::Lines;
use super::{Lowered, Node, pairs};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    let alpha = || node.args.float_or("alpha", 1.0);
    let beta = || node.args.float_or("beta", 0.0);
    Ok(Some(match node.op {
        // All of these keep NaN.
        "relu" => map(|x| if x < 0.0 { 0.0 } else { x }),
        "relu6" => map(|x| x.clamp(0.0, 6.0)),
        "sigmoid" => map(sigmoid),
        "silu" => map(|x| x * sigmoid(x)),
        "softplus" => map(softplus),
        "softsign" => map(|x| x / (1.0 + x.abs())),
        "elu" => {
            let alpha = alpha()?;
            map(move |x| if x > 0.0 { x } else { alpha * x.exp_m1() })
        }
        "leaky_relu" => {
            let alpha = alpha()?;
            map(move |x| if x < 0.0 { alpha * x } else { x })
        }
        "thresholded_relu" => {
            let alpha = alpha()?;
            map(move |x| if x < alpha { 0.0 } else { x })
        }
        "clamped_relu" => {
            let (alpha, beta) = (alpha()?, beta()?);
            map(move |x| if x >= 0.0 { -larger(-x, -beta) } else { -larger(-(alpha * x), -beta) })
        }
        "linear_activation" => {
            let (alpha, beta) = (alpha()?, beta()?);
            map(move |x| alpha * x + beta)
        }
        "scaled_tanh" => {
            let (alpha, beta) = (alpha()?, beta()?);
            map(move |x| alpha * (beta * x).tanh())
        }
        "sigmoid_hard" => {
            let (alpha, beta) = (alpha()?, beta()?);
            map(move |x| (alpha * x + beta).clamp(0.0, 1.0))
        }
        "prelu" => per_channel(node, &["x", "alpha"], |x, alpha, _| if x < 0.0 { alpha * x } else { x })?,
        "softplus_parametric" => {
            per_channel(node, &["x", "alpha", "beta"], |x, alpha, beta| alpha * softplus(beta * x))?
        }
        "gelu" => gelu(node)?,
        "softmax" => {
            let shape = node.shape("x")?;
            let lines = Lines::new(shape.dims(), &[node.axis("axis", &shape, -1)?]);
            Lowered::new(&["x"], move |call| {
                let x = call.f32(0);
                softmax(x, &lines, call.out_f32());
            })
        }
        _ => return Ok(None),
    }))
}

fn gelu(node: &Node<'_>) -> Result<Lowered, String> {
    Ok(match node.args.string("mode")?.unwrap_or("EXACT") {
        "TANH_APPROXIMATION" => map(|x| {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }),
        "SIGMOID_APPROXIMATION" => map(|x| x * sigmoid(1.702 * x)),
        _ => map(|x| 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))),
    })
}

/// Returns `1 / (1 + exp(-x))`, without overflow of `exp(-x)`, of which `x * sigmoid(x)` would show the error.
pub(super) fn sigmoid(x: f32) -> f32 {
    let e = (-x.abs()).exp();
    if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}

/// Returns `log(1 + exp(x))`, without overflow of `exp(x)`.
fn softplus(x: f32) -> f32 {
    let positive = if x > 0.0 { x } else { 0.0 };
    if x.is_nan() { x } else { positive + (-x.abs()).exp().ln_1p() }
}

/// Applies `f` to each element of `x [N, C, ..]` and the parameters of its channel.
fn per_channel(
    node: &Node<'_>,
    operands: &'static [&'static str],
    f: fn(f32, f32, f32) -> f32,
) -> Result<Lowered, String> {
    let shape = node.shape("x")?;
    let inner: usize = shape.dims()[2..].iter().product();
    let channels = shape.dims()[1];
    let has_beta = operands.len() == 3;
    Ok(Lowered::new(operands, move |call| {
        let (x, alpha) = (call.f32(0), call.f32(1));
        let beta = if has_beta { call.f32(2) } else { &[] };
        for (i, (out, x)) in pairs(call.out_f32(), x).enumerate() {
            let channel = i / inner % channels;
            *out = f(*x, alpha[channel], if has_beta { beta[channel] } else { 1.0 });
        }
    }))
}

/// Computes softmax along each line. Subtracts the largest element first, so that no exponential overflows.
pub(super) fn softmax(x: &[f32], lines: &Lines, out: &mut [f32]) {
    lines.each(|_, start| {
        let mut max = f32::NEG_INFINITY;
        lines.along(start, |_, at| max = larger(x[at], max));
        let mut total = 0.0;
        lines.along(start, |_, at| {
            let e = (x[at] - max).exp();
            out[at] = e;
            total += e;
        });
        lines.along(start, |_, at| out[at] /= total);
    });
}
