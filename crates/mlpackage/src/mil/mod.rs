//! MIL, the language of ML Programs, as typed data.
//!
//! A [`Program`] has functions. A [`Function`] has tensor inputs, states and one [`Block`], which is an
//! ordered list of [`Operation`]s. Each operation binds its arguments to earlier results or to constants, and
//! each result has a unique name. [`FunctionBuilder`](crate::builder::FunctionBuilder) creates functions and
//! infers every type; the module [`check`](crate::check) repeats the inference for programs that were read.

mod blob_ints;
mod decode;
mod dims;
pub(crate) mod elements;
mod encode;
mod opset;
mod program;
mod text;
mod types;
mod value;

pub use blob_ints::BlobInts;
pub(crate) use decode::program_from_proto;
pub(crate) use dims::axis_of;
pub use dims::{Dim, Dims};
pub(crate) use encode::program_to_proto;
#[cfg(test)]
pub(crate) use encode::value as value_to_proto;
pub use opset::Opset;
pub use program::{Argument, Binding, BindingRef, Block, Function, Operation, Program};
pub(crate) use program::{attributes_are_arguments, is_identifier};
pub use types::{Container, NamedType, TensorType, ValueType};
pub use value::{BlobRef, Literal, Value, ValueData};
