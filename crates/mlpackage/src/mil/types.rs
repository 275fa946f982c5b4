//! Types of MIL values.

use std::fmt;

use super::dims::{Dim, Dims};
use crate::dtype::DType;

/// An element type and a shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: Dims,
}

impl TensorType {
    /// Creates a tensor type.
    pub fn new(dtype: DType, shape: impl Into<Dims>) -> Self {
        Self { dtype, shape: shape.into() }
    }

    /// Returns whether the two can be equal at run time.
    pub fn may_be(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape.may_be(&other.shape)
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
    /// A tensor that persists between calls. Only `read_state` and `write_state` may use it.
    State(TensorType),
    /// A sequence of values of one type, such as the class names of a classifier.
    List {
        /// The type of each value.
        element: Box<ValueType>,
        /// The number of values; `None` if the type does not state it.
        length: Option<Dim>,
    },
    /// A sequence of values of several types.
    Tuple(Vec<ValueType>),
    /// Values by key, such as the probabilities of a classifier.
    Dictionary {
        /// The type of the keys.
        key: Box<ValueType>,
        /// The type of the values.
        value: Box<ValueType>,
    },
}

/// The structure that holds a value's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Container {
    /// A single tensor.
    Tensor,
    /// A tensor that persists between calls.
    State,
    /// A sequence of tensors of one type, with the length that the type states, if any. A list that grows
    /// keeps its type, so this is the initial length.
    List(Option<Dim>),
    /// A scalar for each key.
    Dictionary {
        /// The type of the keys.
        key: DType,
    },
}

impl ValueType {
    /// Creates the type of a `container` that holds `content`.
    pub fn new(content: TensorType, container: Container) -> Self {
        match container {
            Container::Tensor => Self::Tensor(content),
            Container::State => Self::State(content),
            Container::List(length) => Self::List { element: Box::new(content.into()), length },
            Container::Dictionary { key } => Self::Dictionary {
                key: Box::new(TensorType::new(key, Dims::default()).into()),
                value: Box::new(content.into()),
            },
        }
    }

    /// Returns the content's type and its container; `None` for tuples, and for lists and dictionaries of
    /// anything but tensors.
    pub fn content(&self) -> Option<(&TensorType, Container)> {
        match self {
            Self::Tensor(ty) => Some((ty, Container::Tensor)),
            Self::State(ty) => Some((ty, Container::State)),
            Self::List { element, length } => match element.as_ref() {
                Self::Tensor(ty) => Some((ty, Container::List(*length))),
                _ => None,
            },
            Self::Dictionary { key, value } => match (key.as_ref(), value.as_ref()) {
                (Self::Tensor(key), Self::Tensor(value)) if key.shape.rank() == 0 => {
                    Some((value, Container::Dictionary { key: key.dtype }))
                }
                _ => None,
            },
            Self::Tuple(_) => None,
        }
    }

    /// Returns whether the two can be equal at run time. Lengths of lists are not compared, because a list
    /// may grow without a change of its type.
    pub fn may_be(&self, other: &Self) -> bool {
        match (self.content(), other.content()) {
            (Some((a, Container::List(_))), Some((b, Container::List(_)))) => a.may_be(b),
            (Some((a, holder)), Some((b, other))) => holder == other && a.may_be(b),
            _ => self == other,
        }
    }

    /// Keeps what the two types have in common; they must satisfy [`may_be`](Self::may_be).
    pub(crate) fn in_common(&self, other: &Self) -> Self {
        let (Some((a, container)), Some((b, other))) = (self.content(), other.content()) else {
            return self.clone();
        };
        let content = TensorType { dtype: a.dtype, shape: a.shape.in_common(&b.shape) };
        let container = match (container, other) {
            (Container::List(a), Container::List(b)) => Container::List(a.filter(|_| a == b)),
            (container, _) => container,
        };
        Self::new(content, container)
    }

    /// Returns the type of a tensor or of a state's content; `None` for lists, tuples and dictionaries.
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
    /// The name, which is unique in the function.
    pub name: String,
    /// The type.
    pub ty: ValueType,
}
