//! Types of MIL values.

use std::fmt;

use super::dims::{Dim, Dims};
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

/// The type of a function's input, of an operation's output or of a constant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// A tensor.
    Tensor(TensorType),
    /// Memory that outlives a call. Only `read_state` and `write_state` may touch it.
    State(TensorType),
    /// Values of one type in a row, such as the class names of a classifier.
    List {
        /// The type of each.
        element: Box<ValueType>,
        /// How many there are; `None` if the type does not say.
        length: Option<Dim>,
    },
    /// Values of several types in a row.
    Tuple(Vec<ValueType>),
    /// Values by key, such as the probabilities of a classifier.
    Dictionary {
        /// The type of the keys.
        key: Box<ValueType>,
        /// The type of the values.
        value: Box<ValueType>,
    },
}

impl ValueType {
    /// The tensor type, or that of the state's content; `None` for lists, tuples and dictionaries.
    pub fn tensor(&self) -> Option<&TensorType> {
        match self {
            Self::Tensor(t) | Self::State(t) => Some(t),
            Self::List { .. } | Self::Tuple(_) | Self::Dictionary { .. } => None,
        }
    }
}

impl From<TensorType> for ValueType {
    fn from(ty: TensorType) -> Self {
        Self::Tensor(ty)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(t) => t.fmt(f),
            Self::State(t) => write!(f, "state<{t}>"),
            Self::List { element, length: None } => write!(f, "list<{element}>"),
            Self::List { element, length: Some(length) } => write!(f, "list<{element}, {length}>"),
            Self::Tuple(types) => {
                f.write_str("tuple<")?;
                for (i, ty) in types.iter().enumerate() {
                    write!(f, "{}{ty}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(">")
            }
            Self::Dictionary { key, value } => write!(f, "dict<{key}, {value}>"),
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
