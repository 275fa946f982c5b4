//! Holds a program that was read against the table of operations.

use std::collections::{BTreeMap, HashMap};

use super::opset::Opset;
use super::program::{Binding, Function, Operation, Program};
use super::types::{TensorType, ValueType};
use super::value::Value;
use crate::error::{Error, Result};
use crate::ops::{self, Arg, Args, OpSpec};

/// An operation with its row of the table and its arguments looked up.
#[derive(Debug)]
pub struct Resolved<'a> {
    /// The operation.
    pub operation: &'a Operation,
    /// Its row; `None` for `const`.
    pub spec: Option<&'static OpSpec>,
    /// Its arguments; empty for `const`.
    pub args: Args<'a>,
}

/// Every rule of MIL that the program breaks, in order; empty if it is sound.
pub fn check(program: &Program) -> Vec<Error> {
    program.functions.iter().flat_map(|(name, f)| resolve(name, f).err().unwrap_or_default()).collect()
}

/// Looks up the arguments of every operation and infers every type again.
///
/// # Errors
///
/// Every rule that the function breaks.
pub fn resolve<'a>(name: &'a str, function: &'a Function) -> Result<Vec<Resolved<'a>>, Vec<Error>> {
    let mut errors = Vec::new();
    let mut scope = Scope::new(name, function, &mut errors);
    let mut resolved = Vec::with_capacity(function.block.operations.len());
    for operation in &function.block.operations {
        match scope.resolve(operation, function) {
            Ok(found) => resolved.push(found),
            Err(reason) => errors.push(Error::Operation {
                function: name.to_owned(),
                operation: operation.label(),
                reason,
            }),
        }
        scope.define(operation, &mut errors);
    }
    for output in &function.block.outputs {
        if scope.values.get(output.as_str()).is_none_or(|v| v.is_state) {
            errors.push(Error::Function {
                function: name.to_owned(),
                reason: format!("it returns %{output}, which nothing defines as a tensor"),
            });
        }
    }
    if function.block.outputs.is_empty() {
        errors.push(Error::Function { function: name.to_owned(), reason: "it returns nothing".into() });
    }
    if errors.is_empty() { Ok(resolved) } else { Err(errors) }
}

/// The values that an operation may refer to.
struct Scope<'a> {
    function: &'a str,
    values: HashMap<&'a str, Known<'a>>,
}

#[derive(Clone, Copy)]
struct Known<'a> {
    ty: &'a TensorType,
    is_state: bool,
    constant: bool,
    value: Option<&'a Value>,
}

impl<'a> Scope<'a> {
    fn new(name: &'a str, function: &'a Function, errors: &mut Vec<Error>) -> Self {
        let mut scope = Self { function: name, values: HashMap::new() };
        for input in &function.inputs {
            let is_state = matches!(input.ty, ValueType::State(_));
            scope.insert(
                &input.name,
                Known { ty: input.ty.tensor(), is_state, constant: false, value: None },
                errors,
            );
        }
        scope
    }

    fn insert(&mut self, name: &'a str, known: Known<'a>, errors: &mut Vec<Error>) {
        let bad = |reason| Error::Function { function: self.function.to_owned(), reason };
        if !is_identifier(name) {
            errors.push(bad(format!(
                "%{name} is no identifier: letters, digits, _ and @, not starting with a digit"
            )));
        }
        if self.values.insert(name, known).is_some() {
            errors.push(bad(format!("%{name} is defined twice")));
        }
    }

    fn define(&mut self, operation: &'a Operation, errors: &mut Vec<Error>) {
        let value = operation.attributes.get("val").filter(|_| operation.op == "const");
        let constant = value.is_some() || operation.op.starts_with("constexpr_");
        for output in &operation.outputs {
            let is_state = matches!(output.ty, ValueType::State(_));
            self.insert(&output.name, Known { ty: output.ty.tensor(), is_state, constant, value }, errors);
        }
    }

    fn resolve(&self, operation: &'a Operation, function: &Function) -> Result<Resolved<'a>, String> {
        if operation.op == "const" {
            return check_const(operation).map(|()| Resolved {
                operation,
                spec: None,
                args: Args::new(function.opset, BTreeMap::new()),
            });
        }
        let spec =
            ops::lookup(&operation.op).ok_or("operation is not in the table of those that are known")?;
        if spec.since > function.opset {
            return Err(format!("it exists since opset {}, the function has {}", spec.since, function.opset));
        }
        let mut bound = BTreeMap::new();
        for (param, bindings) in &operation.inputs {
            let args = bindings.iter().map(|b| self.arg(b)).collect::<Result<Vec<_>, _>>();
            bound.insert(param.as_str(), args.map_err(|e| format!("argument {param}: {e}"))?);
        }
        if attributes_are_arguments(&operation.op, function.opset) {
            for (param, value) in operation.attributes.iter().filter(|(name, _)| *name != "name") {
                let arg =
                    Arg { name: None, ty: &value.ty, is_state: false, constant: true, value: Some(value) };
                bound.insert(param.as_str(), vec![arg]);
            }
        }
        let args = Args::new(function.opset, bound);
        args.check_against(spec)?;
        let inferred = (spec.infer)(&args)?;
        if inferred.len() != operation.outputs.len() {
            return Err(format!(
                "{} outputs are declared, it has {}",
                operation.outputs.len(),
                inferred.len()
            ));
        }
        for (output, ty) in operation.outputs.iter().zip(&inferred) {
            let declared = match &output.ty {
                ValueType::Tensor(declared) => declared.dtype == ty.dtype && declared.shape.may_be(&ty.shape),
                ValueType::State(_) => false,
            };
            if !declared {
                return Err(format!("%{} is declared {}, it is {ty}", output.name, output.ty));
            }
        }
        Ok(Resolved { operation, spec: Some(spec), args })
    }

    fn arg(&self, binding: &'a Binding) -> Result<Arg<'a>, String> {
        match binding {
            Binding::Value(value) => {
                Ok(Arg { name: None, ty: &value.ty, is_state: false, constant: true, value: Some(value) })
            }
            Binding::Name(name) => {
                let Known { ty, is_state, constant, value } = *self
                    .values
                    .get(name.as_str())
                    .ok_or_else(|| format!("%{name} is not defined before it is used"))?;
                Ok(Arg { name: Some(name), ty, is_state, constant, value })
            }
        }
    }
}

/// Whether an operation of that type keeps its arguments among its attributes, as the `constexpr` forms did up to iOS 17.
pub(crate) fn attributes_are_arguments(op: &str, opset: Opset) -> bool {
    opset < Opset::CoreML8 && op.starts_with("constexpr_")
}

fn check_const(operation: &Operation) -> Result<(), String> {
    let value = operation.attributes.get("val").ok_or("it has no attribute val")?;
    match operation.outputs.as_slice() {
        [output] if output.ty == ValueType::Tensor(value.ty.clone()) && operation.inputs.is_empty() => Ok(()),
        [output] => Err(format!("%{} is declared {}, its value is {}", output.name, output.ty, value.ty)),
        outputs => Err(format!("{} outputs, expected one", outputs.len())),
    }
}

/// Whether `name` is `[A-Za-z_][A-Za-z0-9_@]*`.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '@'))
}
