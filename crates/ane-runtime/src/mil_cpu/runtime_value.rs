//! Values while a function is interpreted, and the operands of an operation.

use std::collections::HashMap;
use std::sync::Arc;

use mlpackage::mil::{Container, TensorType, Value};
use mlpackage::ops::Args;
use mlpackage::{DType, Shape};

use super::compressed::Packed;
use super::constants;
use super::hazards::Watched;
use super::kernels::{Lowered, is_non_zero};
use super::lists::List;
use super::resolve::{VIEWED, container_of};

/// A value while the function runs.
#[derive(Clone)]
pub(super) struct RuntimeValue {
    pub(super) ty: TensorType,
    pub(super) elements: Elements,
    /// Whether the value is the same in every call.
    pub(super) constant: bool,
    /// Bytes that a computed value occupies; 0 for inputs, constants, states and views.
    pub(super) bytes: u64,
    /// The value itself, if it is short: shapes may depend on it.
    pub(super) value: Option<Value>,
}

#[derive(Clone)]
pub(super) enum Elements {
    Words(Arc<[u32]>),
    Packed(Arc<Packed>),
    List(Arc<List>),
    /// Not a numeric tensor, such as a string.
    None,
}

impl RuntimeValue {
    pub(super) fn new(dtype: DType, shape: Shape, words: Arc<[u32]>) -> Self {
        let value = constants::value_of(dtype, &shape, &words);
        let ty = TensorType { dtype, shape: shape.into() };
        Self { ty, elements: Elements::Words(words), constant: false, bytes: 0, value }
    }

    pub(super) fn words(&self) -> Arc<[u32]> {
        match &self.elements {
            Elements::Words(words) => Arc::clone(words),
            Elements::Packed(packed) => packed.unpack().into_iter().map(f32::to_bits).collect(),
            Elements::List(_) | Elements::None => Arc::from([]),
        }
    }

    pub(super) fn list(list: List) -> Self {
        let (ty, bytes) = (list.ty.clone(), list.bytes());
        Self { ty, elements: Elements::List(Arc::new(list)), constant: false, bytes, value: None }
    }

    pub(super) fn container(&self) -> Container {
        match &self.elements {
            Elements::List(list) => list.container(),
            _ => container_of(self.value.as_ref()),
        }
    }
}

/// The arguments of an operation, and the values that they refer to.
pub(super) struct Operands<'e, 'a> {
    pub(super) args: &'e Args<'a>,
    pub(super) known: &'e HashMap<String, RuntimeValue>,
}

impl Operands<'_, '_> {
    /// Returns whether a binding of a parameter is the same in every call.
    pub(super) fn is_constant(&self, param: &str, index: usize) -> bool {
        let arg = self.args.many(param).get(index);
        arg.and_then(|arg| self.known.get(arg.name?)).is_none_or(|known| known.constant)
    }

    /// Returns the elements of a binding of a parameter.
    pub(super) fn elements(&self, param: &str, index: usize) -> Result<Elements, String> {
        let arg = self.args.many(param).get(index).ok_or_else(|| format!("no {param}"))?;
        if let Some(known) = arg.name.and_then(|name| self.known.get(name)) {
            return Ok(known.elements.clone());
        }
        let words = arg.value.and_then(|value| constants::immediate(value, arg.ty));
        words.map(|w| Elements::Words(w.into())).ok_or_else(|| format!("{param} is not numeric"))
    }

    /// Returns the viewed operand with another type and shape.
    pub(super) fn view(&self, dtype: DType, shape: Shape) -> Result<RuntimeValue, String> {
        let (elements, constant) = (self.elements(VIEWED, 0)?, self.is_constant(VIEWED, 0));
        Ok(match elements {
            Elements::Words(words) => RuntimeValue { constant, ..RuntimeValue::new(dtype, shape, words) },
            elements => {
                let ty = TensorType { dtype, shape: shape.into() };
                RuntimeValue { ty, elements, constant, bytes: 0, value: None }
            }
        })
    }

    /// Returns the operands of a kernel in its order, and what a watch has to know about each.
    pub(super) fn of_kernel(&self, lowered: &Lowered) -> Result<(Vec<Elements>, Vec<Watched>), String> {
        let (mut elements, mut watched) = (Vec::new(), Vec::new());
        for &param in lowered.operands {
            for (index, arg) in self.args.many(param).iter().enumerate() {
                let constant = self.is_constant(param, index);
                watched.push(Watched { param, constant, is_float: arg.ty.dtype.is_float() });
                elements.push(match (self.elements(param, index)?, lowered.packed.contains(&param)) {
                    (Elements::Packed(packed), false) => {
                        Elements::Words(packed.unpack().into_iter().map(f32::to_bits).collect())
                    }
                    (elements, _) => elements,
                });
            }
        }
        Ok((elements, watched))
    }
}

/// Returns the type of the result of `non_zero`, which depends on the values of `x`.
pub(super) fn count_non_zero(operands: &Operands<'_, '_>) -> Result<TensorType, String> {
    let x = operands.args.ty("x").map_err(String::from)?;
    let words = match operands.elements("x", 0)? {
        Elements::Words(words) => words,
        Elements::Packed(packed) => packed.unpack().into_iter().map(f32::to_bits).collect(),
        Elements::List(_) | Elements::None => Arc::from([]),
    };
    let count = words.iter().filter(|word| is_non_zero(**word, x.dtype.is_float())).count();
    Ok(TensorType::new(DType::Int32, [count, x.shape.rank()]))
}
