//! Values and states of a function under construction.

use crate::mil::{Container, Dims, TensorType, Value, ValueType};

/// A tensor or a list of the function under construction, or the result of [`classify`](crate::ops).
#[derive(Clone, Debug)]
pub struct Var {
    pub(super) name: String,
    pub(super) ty: TensorType,
    pub(super) container: Container,
    pub(super) constant: bool,
    pub(super) value: Option<Value>,
}

impl Var {
    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the tensor type; for a list or dictionary, the type of its contents.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// Returns the type, including the container.
    pub fn value_type(&self) -> ValueType {
        ValueType::new(self.ty.clone(), self.container)
    }

    /// Returns the dimensions.
    pub fn dims(&self) -> &Dims {
        &self.ty.shape
    }
}

/// A state of the function under construction.
#[derive(Clone, Debug)]
pub struct StateVar {
    pub(super) name: String,
    pub(super) ty: TensorType,
}

impl StateVar {
    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the type of the state's tensor.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }
}
