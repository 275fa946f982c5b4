//! Scaled dot-product attention as one operation.

use mlpackage::DType;

use super::elementwise::larger;
use super::linear::dot;
use super::strided::{Strided, broadcast_strides};
use super::{Call, Lowered, Node};

/// Lowers `scaled_dot_product_attention`: `softmax(query key^T / sqrt(E) + mask) value`, for `query [.., L, E]`,
/// `key [.., S, E]` and `value [.., S, EV]`.
///
/// A boolean mask selects the positions that may be seen. If a query may see none, its result is NaN,
/// according to the formula in the documentation of coremltools. PyTorch returns zeros there since 2.5.
pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    if node.op != "scaled_dot_product_attention" {
        return Ok(None);
    }
    let (query, value) = (node.shape("query")?, node.shape("value")?);
    let rank = query.rank();
    let [l, e] = [query.dims()[rank - 2], query.dims()[rank - 1]];
    let [s, ev] = [value.dims()[rank - 2], value.dims()[rank - 1]];
    let scale = 1.0 / (e as f32).sqrt();
    // The start of the mask's row for each query, its stride along the keys, and whether it is boolean.
    let mask = match node.args.get("attn_mask") {
        None => None,
        Some(mask) => {
            let scores = [&query.dims()[..rank - 1], &[s]].concat();
            let strides = broadcast_strides(node.shape("attn_mask")?.dims(), &scores);
            let rows = Strided::new(&scores[..rank - 1], [&strides[..rank - 1]], [0]);
            Some((rows, strides[rank - 1] as usize, mask.ty.dtype == DType::Bool))
        }
    };
    let lowered = Lowered::new(&["query", "key", "value", "attn_mask"], move |call: &mut Call<'_, '_>| {
        let (query, key, value) = (call.f32(0), call.f32(1), call.f32(2));
        let mask_words = if mask.is_some() { call.words(3) } else { &[] };
        let scores = std::mem::take(&mut call.scratch);
        let out = call.out_f32();
        let mut row = 0;
        let mut attend = |mask_at: Option<(usize, usize, bool)>| {
            let head = row / l;
            let (q, keys) = (&query[row * e..][..e], &key[head * s * e..][..s * e]);
            let mut max = f32::NEG_INFINITY;
            for (j, k) in keys.chunks_exact(e).enumerate() {
                scores[j] = dot(q, k) * scale;
                match mask_at.map(|(at, stride, bools)| (mask_words[at + j * stride], bools)) {
                    None => {}
                    Some((0, true)) => scores[j] = f32::NEG_INFINITY,
                    Some((_, true)) => {}
                    Some((word, false)) => scores[j] += f32::from_bits(word),
                }
                max = larger(scores[j], max);
            }
            let mut total = 0.0;
            for score in scores[..s].iter_mut() {
                *score = (*score - max).exp();
                total += *score;
            }
            let out = &mut out[row * ev..][..ev];
            out.fill(0.0);
            for (score, v) in scores[..s].iter().zip(value[head * s * ev..].chunks_exact(ev)) {
                out.iter_mut().zip(v).for_each(|(out, v)| *out += score / total * v);
            }
            row += 1;
        };
        match &mask {
            None => (0..query.len() / e).for_each(|_| attend(None)),
            Some((rows, stride, bools)) => rows.rows(|[at], n, [step]| {
                (0..n).for_each(|i| attend(Some((at + i * step as usize, *stride, *bools))));
            }),
        }
    });
    Ok(Some(lowered.scratch(s)))
}
