//! Activations as integers, and back.

use mlpackage::DType;

use super::{Lowered, Node, position};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    const OPERANDS: &[&str] = &["input", "scale", "zero_point"];
    if !["quantize", "dequantize"].contains(&node.op) {
        return Ok(None);
    }
    let shape = node.shape("input")?;
    let zero_point = position(node, OPERANDS, "zero_point");
    // One scale for everything, or one for each index of an axis.
    let (inner, count) = match node.shape("scale")?.rank() {
        0 => (1, 1),
        _ => {
            let axis = node.axis("axis", &shape, 0)?;
            (shape.dims()[axis + 1..].iter().product(), shape.dims()[axis])
        }
    };
    let index = move |i: usize| i / inner % count;
    if node.op == "dequantize" {
        return Ok(Some(Lowered::new(OPERANDS, move |call| {
            let (input, scale) = (call.i32(0), call.f32(1));
            let zero = zero_point.map(|z| call.i32(z));
            for (i, (out, q)) in call.out_f32().iter_mut().zip(input).enumerate() {
                let zero = zero.map_or(0, |z| z[index(i) % z.len()]);
                *out = scale[index(i)] * (q - zero) as f32;
            }
        })));
    }
    let (low, high) = if node.results[0].0 == DType::Int8 { (-128.0, 127.0) } else { (0.0, 255.0) };
    // Ties to even, as numpy and PyTorch have it; what does not fit becomes the nearest bound.
    Ok(Some(Lowered::new(OPERANDS, move |call| {
        let (input, scale) = (call.f32(0), call.f32(1));
        let zero = zero_point.map(|z| call.i32(z));
        for (i, (out, x)) in call.out_i32().iter_mut().zip(input).enumerate() {
            let zero = zero.map_or(0, |z| z[index(i) % z.len()]) as f32;
            *out = ((x / scale[index(i)]).round_ties_even() + zero).clamp(low, high) as i32;
        }
    })))
}
