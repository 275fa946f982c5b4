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
    /// What tools say of the program, such as coremltools' `buildInfo`. Core ML ignores it.
    pub attributes: BTreeMap<String, Value>,
    /// A note on the program; usually empty.
    pub doc: String,
}

impl Program {
    /// A program of these functions.
    pub fn new<N: Into<String>>(functions: impl IntoIterator<Item = (N, Function)>) -> Self {
        let functions = functions.into_iter().map(|(name, f)| (name.into(), f)).collect();
        Self { functions, ..Self::default() }
    }
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
    /// Whatever else is said of it; usually nothing.
    pub attributes: BTreeMap<String, Value>,
}

/// A list of operations, each of which sees the results of those before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// What a nested block is given: the variables of a `while_loop`. Empty for a function's own block.
    pub inputs: Vec<NamedType>,
    /// In order of execution.
    pub operations: Vec<Operation>,
    /// Names of the values that the block returns.
    pub outputs: Vec<String>,
    /// Whatever else is said of it; usually nothing.
    pub attributes: BTreeMap<String, Value>,
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
    /// The branches of a `cond`, the condition and body of a `while_loop`; nothing for other operations.
    pub blocks: Vec<Block>,
    /// Attributes by name: `name` on most, `val` on constants, everything on the constexpr forms of iOS 16.
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
            _ => None,
        })
    }

    /// States, in order.
    pub fn states(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.inputs.iter().filter_map(|i| match &i.ty {
            ValueType::State(t) => Some((i.name.as_str(), t)),
            _ => None,
        })
    }

    /// The tensors that the function returns, in order. Names that nothing defines are skipped; [`super::check`]
    /// reports those.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.all_outputs().filter_map(|(name, ty)| Some((name, ty.tensor()?)))
    }

    /// Everything that the function returns, in order: tensors, and the dictionary of a classifier. Names that nothing defines are
    /// skipped.
    pub fn all_outputs(&self) -> impl Iterator<Item = (&str, &ValueType)> {
        self.block.outputs.iter().filter_map(|name| {
            let produced = self.block.operations.iter().flat_map(|o| &o.outputs);
            let found = produced.chain(&self.inputs).find(|v| &v.name == name)?;
            Some((name.as_str(), &found.ty))
        })
    }
}

impl Block {
    /// Its operations and those of the blocks within them, in order.
    pub fn all_operations(&self) -> impl Iterator<Item = &Operation> {
        // A stack, so that neither depth nor borrowing asks for recursion.
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

/// One binding of an argument, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BindingRef<'a> {
    /// A function input or an earlier result.
    Name(&'a str),
    /// A constant.
    Value(&'a Value),
}

impl Operation {
    /// Whether it unfolds a compressed weight when the program is loaded.
    pub fn is_constexpr(&self) -> bool {
        self.op.starts_with("constexpr_")
    }

    /// What its parameters are bound to in a function of `opset`: its inputs, and of the `constexpr` forms of iOS 16, which
    /// keep their arguments among their attributes, those.
    pub fn arguments(&self, opset: Opset) -> impl Iterator<Item = (&str, Vec<BindingRef<'_>>)> {
        let inputs = self.inputs.iter().map(|(param, bindings)| {
            let bindings = bindings.iter().map(|binding| match binding {
                Binding::Name(name) => BindingRef::Name(name),
                Binding::Value(value) => BindingRef::Value(value),
            });
            (param.as_str(), bindings.collect())
        });
        let among_attributes = super::check::attributes_are_arguments(&self.op, opset);
        let attributes = self.attributes.iter().filter(move |(name, _)| among_attributes && *name != "name");
        inputs.chain(attributes.map(|(param, value)| (param.as_str(), vec![BindingRef::Value(value)])))
    }

    /// Every constant that it states: bound directly, or an attribute. Of a `const` that is its attribute `val`; the
    /// `constexpr` forms that unfold compressed weights have theirs in either place.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        let bound = self.inputs.values().flatten().filter_map(|b| match b {
            Binding::Value(v) => Some(v),
            Binding::Name(_) => None,
        });
        bound.chain(self.attributes.values())
    }

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
