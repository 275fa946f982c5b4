//! Programs, functions, blocks and operations.

use std::collections::BTreeMap;

use super::opset::Opset;
use super::types::{NamedType, TensorType, ValueType};
use super::value::Value;

/// An ML Program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Functions by name. The default function is usually `main`.
    pub functions: BTreeMap<String, Function>,
    /// Attributes that tools add, such as coremltools' `buildInfo`. Core ML ignores them.
    pub attributes: BTreeMap<String, Value>,
    /// A documentation string; usually empty.
    pub doc: String,
}

impl Program {
    /// Creates a program from its functions. Of functions with the same name, the last one is kept.
    pub fn new<N: Into<String>>(functions: impl IntoIterator<Item = (N, Function)>) -> Self {
        let functions = functions.into_iter().map(|(name, f)| (name.into(), f)).collect();
        Self { functions, ..Self::default() }
    }
}

/// A function, which is an entry point of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Tensors and states, in order.
    pub inputs: Vec<NamedType>,
    /// The opset, which determines the available operations.
    pub opset: Opset,
    /// The body.
    pub block: Block,
    /// Attributes; usually none.
    pub attributes: BTreeMap<String, Value>,
}

/// A list of operations, each of which may use the results of earlier ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// Inputs of a nested block, such as the variables of a `while_loop`. Empty for a function's own block.
    pub inputs: Vec<NamedType>,
    /// Operations in execution order.
    pub operations: Vec<Operation>,
    /// Names of the values that the block returns.
    pub outputs: Vec<String>,
    /// Attributes; usually none.
    pub attributes: BTreeMap<String, Value>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// The operation's type, such as `conv`.
    pub op: String,
    /// Arguments by parameter name.
    pub inputs: BTreeMap<String, Argument>,
    /// The results.
    pub outputs: Vec<NamedType>,
    /// The branches of a `cond`, or the condition and body of a `while_loop`; empty for other operations.
    pub blocks: Vec<Block>,
    /// Attributes by name: usually `name`, `val` for a `const`, and all arguments for the constexpr
    /// operations of iOS 16.
    pub attributes: BTreeMap<String, Value>,
}

/// The bindings of an argument; several for variadic parameters such as `concat`'s `values`.
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
    /// Returns the tensor inputs, in order.
    pub fn tensor_inputs(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.inputs.iter().filter_map(|i| match &i.ty {
            ValueType::Tensor(t) => Some((i.name.as_str(), t)),
            _ => None,
        })
    }

    /// Returns the states, in order.
    pub fn states(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.inputs.iter().filter_map(|i| match &i.ty {
            ValueType::State(t) => Some((i.name.as_str(), t)),
            _ => None,
        })
    }

    /// Returns the output tensors, in order. Skips names that nothing defines, which [`check`](crate::check)
    /// reports.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.all_outputs().filter_map(|(name, ty)| Some((name, ty.tensor()?)))
    }

    /// Returns all outputs, in order: tensors, and the dictionary of a classifier. Skips names that nothing
    /// defines.
    pub fn all_outputs(&self) -> impl Iterator<Item = (&str, &ValueType)> {
        self.block.outputs.iter().filter_map(|name| {
            let produced = self.block.operations.iter().flat_map(|o| &o.outputs);
            let found = produced.chain(&self.inputs).find(|v| &v.name == name)?;
            Some((name.as_str(), &found.ty))
        })
    }
}

impl Block {
    /// Iterates over the block's operations and those of nested blocks, in order.
    pub fn all_operations(&self) -> impl Iterator<Item = &Operation> {
        // An explicit stack avoids recursion, whose depth a file could control.
        let mut pending: Vec<std::slice::Iter<'_, Operation>> = vec![self.operations.iter()];
        std::iter::from_fn(move || {
            loop {
                let Some(operation) = pending.last_mut()?.next() else {
                    pending.pop();
                    continue;
                };
                pending.extend(operation.blocks.iter().rev().map(|b| b.operations.iter()));
                return Some(operation);
            }
        })
    }
}

/// A borrowed binding of an argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BindingRef<'a> {
    /// A function input or an earlier result.
    Name(&'a str),
    /// A constant.
    Value(&'a Value),
}

impl Operation {
    /// Returns whether the operation decompresses a weight when the program is loaded.
    pub fn is_constexpr(&self) -> bool {
        self.op.starts_with("constexpr_")
    }

    /// Returns the bindings of the operation's parameters in a function of `opset`. These are its inputs and,
    /// for the `constexpr` operations of iOS 16, the attributes that hold their arguments.
    pub fn arguments(&self, opset: Opset) -> impl Iterator<Item = (&str, Vec<BindingRef<'_>>)> {
        let inputs = self.inputs.iter().map(|(param, bindings)| {
            let bindings = bindings.iter().map(|binding| match binding {
                Binding::Name(name) => BindingRef::Name(name),
                Binding::Value(value) => BindingRef::Value(value),
            });
            (param.as_str(), bindings.collect())
        });
        let among_attributes = attributes_are_arguments(&self.op, opset);
        let attributes = self.attributes.iter().filter(move |(name, _)| among_attributes && *name != "name");
        inputs.chain(attributes.map(|(param, value)| (param.as_str(), vec![BindingRef::Value(value)])))
    }

    /// Returns every constant of the operation, bound directly or held in an attribute. A `const` has its
    /// value in the attribute `val`; a `constexpr` operation has its constants in either place.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        let bound = self.inputs.values().flatten().filter_map(|b| match b {
            Binding::Value(v) => Some(v),
            Binding::Name(_) => None,
        });
        bound.chain(self.attributes.values())
    }

    /// Returns the operation's type and outputs, as errors name it: `conv -> %logits`.
    pub fn label(&self) -> String {
        let mut label = self.op.clone();
        for (i, output) in self.outputs.iter().enumerate() {
            label.push_str(if i == 0 { " -> %" } else { ", %" });
            label.push_str(&output.name);
        }
        label
    }
}

/// Returns whether an operation of that type stores its arguments as attributes, as the `constexpr`
/// operations of iOS 16 do. Up to iOS 17 all of them do; later only those that iOS 18 did not change.
pub(crate) fn attributes_are_arguments(op: &str, opset: Opset) -> bool {
    let unchanged = ["constexpr_affine_dequantize", "constexpr_cast"].contains(&op);
    op.starts_with("constexpr_") && (opset < Opset::CoreML8 || unchanged)
}

/// Returns whether `name` is `[A-Za-z_][A-Za-z0-9_@]*`.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '@'))
}
