//! Quantization and dequantization of activations.

use mlpackage::DType;

use super::{Lowered, Node, pairs, position};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    const OPERANDS: &[&str] = &["input", "scale", "zero_point"];
    if !["quantize", "dequantize"].contains(&node.op) {
        return Ok(None);
    }
    let shape = node.shape("input")?;
    let zero_point = position(node, OPERANDS, "zero_point");
    // One value for the whole tensor, or one for each index of an axis. The scale and the zero point are
    // independent.
    let index_of = |name: &str| -> Result<_, String> {
        let (inner, count) = match node.has(name) && node.shape(name)?.rank() > 0 {
            false => (1, 1),
            true => {
                let axis = node.axis("axis", &shape, 0)?;
                (shape.dims()[axis + 1..].iter().product::<usize>(), shape.dims()[axis])
            }
        };
        Ok(move |i: usize| i / inner % count)
    };
    let (scale_of, zero_of) = (index_of("scale")?, index_of("zero_point")?);
    if node.op == "dequantize" {
        return Ok(Some(Lowered::new(OPERANDS, move |call| {
            let (input, scale) = (call.i32(0), call.f32(1));
            let zero = zero_point.map(|z| call.i32(z));
            for (i, (out, q)) in pairs(call.out_f32(), input).enumerate() {
                let zero = zero.map_or(0, |z| z[zero_of(i)]);
                *out = scale[scale_of(i)] * (q - zero) as f32;
            }
        })));
    }
    let (low, high) = if node.results[0].0 == DType::Int8 { (-128.0, 127.0) } else { (0.0, 255.0) };
    // Rounds ties to even, as NumPy and PyTorch do, and limits the result to the range of the type.
    Ok(Some(Lowered::new(OPERANDS, move |call| {
        let (input, scale) = (call.f32(0), call.f32(1));
        let zero = zero_point.map(|z| call.i32(z));
        for (i, (out, x)) in pairs(call.out_i32(), input).enumerate() {
            let zero = zero.map_or(0, |z| z[zero_of(i)]) as f32;
            *out = ((x / scale[scale_of(i)]).round_ties_even() + zero).clamp(low, high) as i32;
        }
    })))
}
