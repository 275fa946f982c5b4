//! Resolves an operation whose operands have known types: the types of its results, and how they are computed.
//! Lowering and the interpreter share it.

use mlpackage::mil::{Container, Dim, Dims, Operation, TensorType, Value};
use mlpackage::ops::{Args, Inferred, OpSpec};
use mlpackage::{DType, Shape};

use super::kernels::{self, Lowered, Node};
use crate::inputs::{MAX_ELEMENTS, too_many};

/// How the results of an operation come about.
pub(super) enum Resolved {
    /// Every result is a tensor without elements.
    Empty(Vec<(DType, Shape)>),
    /// The result has the elements of the operand [`VIEWED`].
    View(DType, Shape),
    /// A kernel computes the results.
    Computed(Vec<(DType, Shape)>),
}

/// Why an operation cannot be resolved.
pub(super) enum Unresolved {
    /// The shape of this result depends on values.
    DependsOnValues(TensorType),
    /// The shapes of the operands are incompatible.
    Shapes(String),
    /// The engine lacks this.
    Missing(String),
}

impl From<String> for Unresolved {
    fn from(what: String) -> Self {
        Self::Missing(what)
    }
}

/// Resolves an operation. `inferred` are the types of its results as [`infer`] returns them.
pub(super) fn resolve(
    operation: &Operation,
    args: &Args<'_>,
    inferred: &[TensorType],
) -> Result<Resolved, Unresolved> {
    let op = operation.op.as_str();
    let mut results = Vec::with_capacity(inferred.len());
    for (ty, declared) in inferred.iter().zip(&operation.outputs) {
        let declared = declared.ty.tensor();
        let ty = as_declared(op, args, ty, declared);
        results.push((ty.dtype, concrete(op, &ty, declared.map(|ty| &ty.shape))?));
    }
    if are_empty(&results) {
        return Ok(Resolved::Empty(results));
    }
    let name = operation.outputs.first().map_or("", |output| output.name.as_str());
    for (dtype, shape) in &results {
        let (elements, rank, most) = (shape.checked_elements(), shape.rank(), kernels::MAX_RANK);
        match elements {
            Some(0..=MAX_ELEMENTS) if rank <= most => {}
            Some(0..=MAX_ELEMENTS) => {
                let what = format!("room for the {rank} axes of %{name}, {dtype} {shape}: {most} at most");
                return Err(Unresolved::Missing(what));
            }
            _ => {
                let what = format!("room for %{name}, {dtype} {shape}: {}", too_many(elements));
                return Err(Unresolved::Missing(what));
            }
        }
    }
    if let Some(reason) = unfit(op, args) {
        return Err(Unresolved::Missing(reason));
    }
    if is_view(op) {
        let (dtype, shape) = results.swap_remove(0);
        return Ok(Resolved::View(dtype, shape));
    }
    Ok(Resolved::Computed(results))
}

/// Checks that the results have the shapes that the program declares. Shapes that depend on values are known only
/// in a call.
pub(super) fn check_declared(
    operation: &Operation,
    args: &Args<'_>,
    inferred: &[TensorType],
) -> Result<(), String> {
    let op = operation.op.as_str();
    // The program declares no tensors for a classifier, and coremltools may declare other shapes for the other
    // operations of this list. The inferred shapes count.
    if ["classify", "crop_resize", "select", "reshape"].contains(&op) {
        return Ok(());
    }
    for (ty, output) in inferred.iter().zip(&operation.outputs) {
        let declared = output.ty.tensor();
        let ty = as_declared(op, args, ty, declared);
        if declared.is_some_and(|declared| !declared.shape.may_be(&ty.shape)) {
            return Err(format!("it returns {ty}, but the program declares {}", output.ty));
        }
    }
    Ok(())
}

/// Returns the kernel of an operation with these results.
pub(super) fn kernel(op: &str, args: &Args<'_>, results: &[(DType, Shape)]) -> Result<Lowered, String> {
    kernels::lower(&Node { op, args: args.clone(), results: results.to_vec() })
}

/// Returns whether an operation only changes the axes of its operand, which needs no computation.
fn is_view(op: &str) -> bool {
    ["identity", "reshape", "reshape_like", "flatten2d", "expand_dims", "squeeze"].contains(&op)
}

/// The parameter whose elements a view returns.
pub(super) const VIEWED: &str = "x";

/// Returns whether two calls with the same operands may return different results.
pub(super) fn is_random(op: &str) -> bool {
    op.starts_with("random_")
}

/// Returns the container of a constant's value. Anything else is a tensor.
pub(super) fn container_of(value: Option<&Value>) -> Container {
    value.and_then(|value| value.ty.content()).map_or(Container::Tensor, |(_, container)| container)
}

/// Infers the types of the tensors that the engine computes for an operation.
///
/// A classifier returns the index of the label, and the probabilities in the order of the labels.
pub(super) fn infer(spec: &OpSpec, args: &Args<'_>) -> Inferred {
    if spec.name != "classify" {
        return spec.infer_tensors(args);
    }
    spec.infer(args)?;
    let probabilities = args.ty("probabilities")?;
    let classes = probabilities.shape.elements();
    let classes = classes.ok_or_else(|| format!("the number of elements of {probabilities} is not known"))?;
    Ok(vec![TensorType::new(DType::Int32, Dims::default()), TensorType::new(DType::Fp32, [classes])])
}

/// Returns the shape of a result. If it depends on values, returns the declared shape for operations whose
/// kernels check it when they run.
fn concrete(op: &str, inferred: &TensorType, declared: Option<&Dims>) -> Result<Shape, Unresolved> {
    if let Some(shape) = inferred.shape.known() {
        return Ok(shape);
    }
    let checks = ["slice_by_index", "slice_by_size"].contains(&op);
    let declared = declared.filter(|d| checks && d.may_be(&inferred.shape)).and_then(Dims::known);
    declared.ok_or(Unresolved::DependsOnValues(inferred.clone()))
}

/// Returns whether there is nothing to compute, because every result is a tensor without elements.
fn are_empty(results: &[(DType, Shape)]) -> bool {
    let empty = |(_, shape): &(DType, Shape)| {
        shape.checked_elements() == Some(0) && shape.rank() <= kernels::MAX_RANK
    };
    !results.is_empty() && results.iter().all(empty)
}

/// Refines an inferred type by the declared one where inference is ambiguous: the element type of a mixed
/// product, and the axes that `squeeze` drops. An axis declared open is kept even if its size is 1 in this
/// call.
fn as_declared(
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
fn unfit(op: &str, args: &Args<'_>) -> Option<String> {
    let takes_nothing = ["shape", "concat", "slice_update", "scatter", "scatter_along_axis", "scatter_nd"];
    if is_view(op) || takes_nothing.contains(&op) {
        return None;
    }
    let mut all = args.iter().flat_map(|(param, args)| args.iter().map(move |arg| (param, arg)));
    let (param, arg) = all.find(|(_, arg)| arg.ty.shape.elements() == Some(0))?;
    Some(format!("way to compute {op} of {param} {}, which has no elements", arg.ty))
}
