//! The operation `classify`.

use super::{Lowered, Node};

/// Lowers `classify`: the index of the most probable label, the first of equal ones, and the probabilities in
/// the order of the labels. The labels themselves are not numeric;
/// [`ModelFunction::classes`](crate::ModelFunction::classes) returns them.
pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    if node.op != "classify" {
        return Ok(None);
    }
    Ok(Some(Lowered::new(&["probabilities"], |call| {
        let probabilities = call.f32(0);
        let mut best = 0;
        for (i, probability) in probabilities.iter().enumerate() {
            let found = probabilities[best];
            if *probability > found || (found.is_nan() && !probability.is_nan()) {
                best = i;
            }
        }
        call.results[0][0] = best as u32;
        bytemuck::cast_slice_mut(&mut *call.results[1]).copy_from_slice(probabilities);
    })))
}
