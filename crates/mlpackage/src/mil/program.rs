//! Programs, functions, blocks and operations.

use std::collections::BTreeMap;

use super::opset::Opset;
use super::types::{NamedType, TensorType, ValueType};
use super::value::Value;

/// An ML Program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// By name. The default one is usually `main`.
    pub functions: BTreeMap<String, Function>,
}

/// One entry point of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Tensors and states, in order.
    pub inputs: Vec<NamedType>,
    /// The operations it may use.
    pub opset: Opset,
    /// What it does.
    pub block: Block,
}

/// A list of operations, each of which sees the results of those before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// In order of execution.
    pub operations: Vec<Operation>,
    /// Names of the values that the block returns.
    pub outputs: Vec<String>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Its type, such as `conv`.
    pub op: String,
    /// Arguments by parameter name.
    pub inputs: BTreeMap<String, Argument>,
    /// Results.
    pub outputs: Vec<NamedType>,
    /// Attributes by name: `name` on most, `val` on constants, everything on the constexpr forms before iOS 18.
    pub attributes: BTreeMap<String, Value>,
}

/// What an argument is bound to; several bindings for variadic ones such as `concat`'s `values`.
pub type Argument = Vec<Binding>;

/// One binding of an argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Binding {
    /// A function input or an earlier result.
    Name(String),
    /// A constant.
    Value(Value),
}

impl Function {
    /// Inputs that are tensors, in order.
    pub fn tensor_inputs(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.inputs.iter().filter_map(|i| match &i.ty {
            ValueType::Tensor(t) => Some((i.name.as_str(), t)),
            ValueType::State(_) => None,
        })
    }

    /// States, in order.
    pub fn states(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.inputs.iter().filter_map(|i| match &i.ty {
            ValueType::State(t) => Some((i.name.as_str(), t)),
            ValueType::Tensor(_) => None,
        })
    }

    /// What the function returns, in order. Names that nothing defines are skipped; [`super::check`] reports those.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.block.outputs.iter().filter_map(|name| {
            let produced = self.block.operations.iter().flat_map(|o| &o.outputs);
            let found = produced.chain(&self.inputs).find(|v| &v.name == name)?;
            Some((name.as_str(), found.ty.tensor()))
        })
    }
}

impl Operation {
    /// Type and outputs, as errors name the operation: `conv -> %logits`.
    pub fn label(&self) -> String {
        let mut label = self.op.clone();
        for (i, output) in self.outputs.iter().enumerate() {
            label.push_str(if i == 0 { " -> %" } else { ", %" });
            label.push_str(&output.name);
        }
        label
    }
}
