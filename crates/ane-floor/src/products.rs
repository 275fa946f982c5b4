//! The size of operations based on products: convolutions, matrix products, attention and recurrent layers.

use std::collections::HashMap;

use mlpackage::mil::{Operation, TensorType};
use mlpackage::ops::Args;

use crate::weight_info::{Weight, elements};

/// Returns the size of an axis, with an unknown or missing one as 1.
fn extent(ty: &TensorType, axis: usize) -> u64 {
    ty.shape.as_slice().get(axis).and_then(|d| d.known()).unwrap_or(1) as u64
}

/// Returns the sizes of a convolution's kernel, with unknown ones as 1; empty for other operations.
pub(crate) fn kernel(operation: &Operation, args: &Args<'_>) -> Vec<usize> {
    // The kernel follows the weight's two channel axes.
    let sizes = |weight: &TensorType| weight.shape.iter().skip(2).map(|d| d.known().unwrap_or(1)).collect();
    match operation.op.as_str() {
        "conv" | "conv_transpose" => args.get("weight").map_or(Vec::new(), |a| sizes(a.ty)),
        _ => Vec::new(),
    }
}

/// Returns the number of rows, at least 1, that an operation based on products computes: batch times
/// positions.
pub(crate) fn rows(operation: &Operation, outputs: &[TensorType]) -> u64 {
    let Some(out) = outputs.first() else { return 1 };
    let channels = match operation.op.as_str() {
        "conv" | "conv_transpose" => extent(out, 1),
        _ => out.shape.rank().checked_sub(1).map_or(1, |last| extent(out, last)),
    };
    (elements(out) / channels.max(1)).max(1)
}

/// Computes the multiply-adds of operations based on products; 0 for all others.
pub(crate) fn multiply_adds(
    operation: &Operation,
    args: &Args<'_>,
    outputs: &[TensorType],
    weight: Option<Weight>,
) -> u64 {
    let shape = |param: &str| args.get(param).map(|a| a.ty);
    let out = outputs.first().map_or(0, elements);
    let last = |ty: &TensorType, from_end: usize| {
        ty.shape.rank().checked_sub(from_end).map_or(1, |axis| extent(ty, axis))
    };
    match operation.op.as_str() {
        // [Co, Ci / groups, kernel...]
        "conv" => shape("weight").map_or(0, |w| out.saturating_mul(elements(w) / extent(w, 0).max(1))),
        // [Ci, Co / groups, kernel...]
        "conv_transpose" => match (shape("x"), shape("weight")) {
            (Some(x), Some(w)) => elements(x).saturating_mul(elements(w) / extent(w, 0).max(1)),
            _ => 0,
        },
        "linear" => shape("weight").map_or(0, |w| out.saturating_mul(last(w, 1))),
        "matmul" => shape("x").map_or(0, |x| {
            let transposed = args.bool_or("transpose_x", false).unwrap_or(false);
            out.saturating_mul(if transposed { last(x, 2) } else { last(x, 1) })
        }),
        // Two products: queries with keys, and attention weights with values.
        "scaled_dot_product_attention" => match (shape("query"), shape("key"), shape("value")) {
            (Some(q), Some(k), Some(v)) => {
                let scores = (elements(q) / last(q, 1).max(1)).saturating_mul(last(k, 2));
                scores.saturating_mul(last(q, 1).saturating_add(last(v, 1)))
            }
            _ => 0,
        },
        "einsum" => einsum(args).unwrap_or(0),
        "lstm" | "gru" | "rnn" => weight.map_or(0, |w| w.elements),
        _ => 0,
    }
}

/// Returns the product of the sizes of all distinct axes of an einsum.
fn einsum(args: &Args<'_>) -> Option<u64> {
    let equation = args.get("equation")?.value?.as_str()?;
    let (inputs, _) = equation.split_once("->")?;
    let mut seen: HashMap<char, u64> = HashMap::new();
    for (letters, arg) in inputs.split(',').zip(args.many("values")) {
        for (axis, letter) in letters.trim().chars().enumerate() {
            let n = seen.entry(letter).or_insert(1);
            *n = (*n).max(extent(arg.ty, axis));
        }
    }
    Some(seen.values().fold(1u64, |product, &n| product.saturating_mul(n)))
}
