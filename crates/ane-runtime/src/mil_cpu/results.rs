//! The results of an operation: their types, and whether there is anything to compute.

use mlpackage::mil::{Dim, TensorType};
use mlpackage::ops::Args;
use mlpackage::{DType, Shape};

use super::kernels;
use super::lowering::is_view;

/// Whether there is nothing to compute, because every result is a tensor without elements.
pub(super) fn are_empty(results: &[(DType, Shape)]) -> bool {
    let empty = |(_, shape): &(DType, Shape)| {
        shape.checked_elements() == Some(0) && shape.rank() <= kernels::MAX_RANK
    };
    !results.is_empty() && results.iter().all(empty)
}

/// Refines an inferred type by the declared one where inference is ambiguous: the element type of a mixed
/// product, and the axes that `squeeze` drops. An axis declared open is kept even if its size is 1 in this
/// call.
pub(super) fn as_declared(
    op: &str,
    args: &Args<'_>,
    inferred: &TensorType,
    declared: Option<&TensorType>,
) -> TensorType {
    let mut ty = inferred.clone();
    // A classifier declares a string or a dictionary, but the engine returns numeric tensors.
    let Some(declared) = declared.filter(|_| op != "classify") else { return ty };
    ty.dtype = declared.dtype;
    if op == "squeeze"
        && declared.shape.rank() != ty.shape.rank()
        && let Ok(x) = args.dims("x")
        && let Some(shape) = without_ones(x.as_slice(), declared.shape.as_slice())
    {
        ty.shape = shape.into();
    }
    ty
}

/// Drops axes of size 1 from `dims` until the rest matches `declared`; `None` if no choice matches.
fn without_ones(dims: &[Dim], declared: &[Dim]) -> Option<Vec<Dim>> {
    let Some((&first, rest)) = dims.split_first() else {
        return declared.is_empty().then(Vec::new);
    };
    if let Some((expected, others)) = declared.split_first()
        && first.may_be(*expected)
        && let Some(mut kept) = without_ones(rest, others)
    {
        kept.insert(0, first);
        return Some(kept);
    }
    // Only if more axes are left than declared, which keeps the search short.
    (first == Dim::Known(1) && dims.len() > declared.len()).then(|| without_ones(rest, declared)).flatten()
}

/// Returns what the engine lacks if an argument is a tensor without elements, which kernels cannot compute
/// with.
pub(super) fn unfit(op: &str, args: &Args<'_>) -> Option<String> {
    let takes_nothing = ["shape", "concat", "slice_update", "scatter", "scatter_along_axis", "scatter_nd"];
    if is_view(op) || takes_nothing.contains(&op) {
        return None;
    }
    let mut all = args.iter().flat_map(|(param, args)| args.iter().map(move |arg| (param, arg)));
    let (param, arg) = all.find(|(_, arg)| arg.ty.shape.elements() == Some(0))?;
    Some(format!("way to compute {op} of {param} {}, which has no elements", arg.ty))
}
