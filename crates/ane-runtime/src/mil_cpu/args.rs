//! The arguments of an operation, looked up among the values known so far.

use std::collections::BTreeMap;

use mlpackage::mil::{BindingRef, Container, Operation, Opset, TensorType, Value};
use mlpackage::ops::{Arg, Args, BlockTypes};

/// What is known about a value.
#[derive(Clone, Copy)]
pub(super) struct Bound<'e> {
    pub(super) ty: &'e TensorType,
    pub(super) container: Container,
    /// Whether the value is the same in every call.
    pub(super) constant: bool,
    /// The value itself, if it is known and short.
    pub(super) value: Option<&'e Value>,
}

/// Returns the arguments of an operation. `find` looks up a value by name.
pub(super) fn bind<'e>(
    operation: &'e Operation,
    opset: Opset,
    find: impl Fn(&str) -> Option<Bound<'e>>,
    blocks: Vec<BlockTypes>,
) -> Result<Args<'e>, String> {
    let mut bound = BTreeMap::new();
    for (param, bindings) in operation.arguments(opset) {
        let mut args = Vec::with_capacity(bindings.len());
        for binding in bindings {
            args.push(match binding {
                BindingRef::Name(name) => {
                    let known = find(name)
                        .ok_or_else(|| format!("{} of %{name}, which is not a tensor", operation.op))?;
                    let Bound { ty, container, constant, value } = known;
                    Arg { name: Some(name), ty, container, constant, value }
                }
                BindingRef::Value(value) => {
                    let (ty, container) =
                        value.ty.content().ok_or_else(|| format!("{} of {}", operation.op, value.ty))?;
                    Arg { name: None, ty, container, constant: true, value: Some(value) }
                }
            });
        }
        bound.insert(param, args);
    }
    Ok(Args::new(opset, bound, blocks))
}
