//! Types of MIL values.

use std::fmt;

use super::dims::Dims;
use crate::dtype::DType;

/// Element type and shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: Dims,
}

impl TensorType {
    /// A tensor type.
    pub fn new(dtype: DType, shape: impl Into<Dims>) -> Self {
        Self { dtype, shape: shape.into() }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tensor<{}, {}>", self.dtype, self.shape)
    }
}

/// The type of a function's input or of an operation's output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// A tensor.
    Tensor(TensorType),
    /// Memory that outlives a call. Only `read_state` and `write_state` may touch it.
    State(TensorType),
}

impl ValueType {
    /// The tensor type, or that of the state's content.
    pub fn tensor(&self) -> &TensorType {
        match self {
            Self::Tensor(t) | Self::State(t) => t,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(t) => t.fmt(f),
            Self::State(t) => write!(f, "state<{t}>"),
        }
    }
}

/// A name with its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedType {
    /// Unique in the function.
    pub name: String,
    /// Its type.
    pub ty: ValueType,
}
