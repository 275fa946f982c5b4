//! Normalizations that MIL defines as single operations.

use super::strided::Lines;
use super::{Lowered, Node, pairs, position};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    Ok(Some(match node.op {
        "batch_norm" => batch_norm(node)?,
        "instance_norm" => {
            const OPERANDS: &[&str] = &["x", "gamma", "beta"];
            let x = node.shape("x")?;
            let spatial: Vec<usize> = (2..x.rank()).collect();
            let channels = x.dims()[1];
            // One group for each channel of each image, with the parameters of the channel.
            norm(node, &spatial, OPERANDS, move |line, _| line % channels)?
        }
        "layer_norm" => {
            let axes = node.args.axes("axes", node.args.dims("x")?)?;
            norm(node, &axes, &["x", "gamma", "beta"], |_, number| number)?
        }
        "l2_norm" => {
            let x = node.shape("x")?;
            let last: Vec<usize> = (x.rank() - 3..x.rank()).collect();
            let lines = Lines::new(x.dims(), &last);
            let epsilon = f64::from(node.args.float_or("epsilon", 1e-6)?);
            Lowered::new(&["x"], move |call| {
                let x = call.f32(0);
                let out = call.out_f32();
                lines.each(|_, start| {
                    let length = (lines.sum(x, start, |v| v * v) + epsilon).sqrt();
                    lines.along(start, |_, at| out[at] = (f64::from(x[at]) / length) as f32);
                });
            })
        }
        "local_response_norm" => local_response_norm(node)?,
        _ => return Ok(None),
    }))
}

/// Lowers `batch_norm`: `gamma (x - mean) / sqrt(variance + epsilon) + beta`, for `x [N, C, ..]` and parameters
/// `[C]`.
fn batch_norm(node: &Node<'_>) -> Result<Lowered, String> {
    const OPERANDS: &[&str] = &["x", "mean", "variance", "gamma", "beta"];
    let x = node.shape("x")?;
    let (channels, inner) = (x.dims()[1], x.dims()[2..].iter().product::<usize>());
    let epsilon = node.args.float_or("epsilon", 1e-5)?;
    let (gamma, beta) = (position(node, OPERANDS, "gamma"), position(node, OPERANDS, "beta"));
    Ok(Lowered::new(OPERANDS, move |call| {
        let (x, mean, variance) = (call.f32(0), call.f32(1), call.f32(2));
        let (gamma, beta) = (call.maybe(gamma), call.maybe(beta));
        assert_eq!(x.len(), call.results[0].len(), "a result for each element");
        let out = call.out_f32().chunks_exact_mut(inner);
        for (i, (out, x)) in out.zip(x.chunks_exact(inner)).enumerate() {
            let channel = i % channels;
            let scale = gamma.map_or(1.0, |g| g[channel]) / (variance[channel] + epsilon).sqrt();
            let shift = beta.map_or(0.0, |b| b[channel]);
            pairs(out, x).for_each(|(out, x)| *out = (x - mean[channel]) * scale + shift);
        }
    }))
}

/// Normalizes each group to mean 0 and variance 1, then multiplies by gamma and adds beta. `parameter`
/// returns the index of the element of gamma and beta that applies at a position in a group.
fn norm(
    node: &Node<'_>,
    axes: &[usize],
    operands: &'static [&'static str],
    parameter: impl Fn(usize, usize) -> usize + Send + Sync + 'static,
) -> Result<Lowered, String> {
    let lines = Lines::new(node.shape("x")?.dims(), axes);
    let epsilon = f64::from(node.args.float_or("epsilon", 1e-5)?);
    let (gamma, beta) = (position(node, operands, "gamma"), position(node, operands, "beta"));
    Ok(Lowered::new(operands, move |call| {
        let (x, gamma, beta) = (call.f32(0), call.maybe(gamma), call.maybe(beta));
        let out = call.out_f32();
        let n = lines.len as f64;
        lines.each(|line, start| {
            let mean = lines.sum(x, start, |v| v) / n;
            let variance = lines.sum(x, start, |v| (v - mean) * (v - mean)) / n;
            let scale = 1.0 / (variance + epsilon).sqrt();
            lines.along(start, |number, at| {
                let p = parameter(line, number);
                let y = ((f64::from(x[at]) - mean) * scale) as f32;
                out[at] = y * gamma.map_or(1.0, |g| g[p]) + beta.map_or(0.0, |b| b[p]);
            });
        });
    }))
}

/// Lowers `local_response_norm`: `x / (k + alpha / size * squares)^beta`, where `squares` is the sum of squares
/// over the `size` channels around each element's own.
fn local_response_norm(node: &Node<'_>) -> Result<Lowered, String> {
    let x = node.shape("x")?;
    let (channels, inner) = (x.dims()[1], x.dims()[2..].iter().product::<usize>());
    let size = node.args.extent("size")?.unwrap_or(1);
    let [alpha, beta, k] = [("alpha", 1e-4), ("beta", 0.75), ("k", 1.0)]
        .map(|(name, default)| node.args.float_or(name, default).map(f64::from));
    let (alpha, beta, k) = (alpha?, beta?, k?);
    Ok(Lowered::new(&["x"], move |call| {
        let x = call.f32(0);
        for (i, out) in call.out_f32().iter_mut().enumerate() {
            let (image, channel) = (i / (channels * inner), i / inner % channels);
            let (first, last) = (channel.saturating_sub(size / 2), channel + (size - 1) / 2);
            let squares = (first..=last.min(channels - 1)).map(|c| {
                let v = f64::from(x[(image * channels + c) * inner + i % inner]);
                v * v
            });
            *out = (f64::from(x[i]) / (k + alpha / size as f64 * squares.sum::<f64>()).powf(beta)) as f32;
        }
    }))
}
