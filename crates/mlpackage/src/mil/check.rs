//! Holds a program that was read against the table of operations.

use std::collections::{BTreeMap, HashMap};

use super::blob_ints::BlobInts;
use super::opset::Opset;
use super::program::{BindingRef, Block, Function, Operation, Program};
use super::types::{NamedType, TensorType, ValueType};
use super::value::{Value, ValueData};
use crate::dtype::DType;
use crate::finding::{Fault, Finding, Rule};
use crate::ops::{self, Arg, Args, BlockTypes, OpSpec};

/// An operation with its row of the table and its arguments looked up.
#[derive(Debug)]
pub struct Resolved<'a> {
    /// The operation.
    pub operation: &'a Operation,
    /// Its row; `None` for `const`, and for those whose types are [not inferred](ops::is_unchecked).
    pub spec: Option<&'static OpSpec>,
    /// Its arguments; empty where there is no row.
    pub args: Args<'a>,
    /// The operations of each block that it has.
    pub blocks: Vec<Vec<Resolved<'a>>>,
}

/// Every rule of MIL that the program breaks, in order; empty if there is nothing to say. `ints` are the integers that
/// it keeps in weight files.
pub fn check(program: &Program, ints: &BlobInts) -> Vec<Finding> {
    program.functions.iter().flat_map(|(name, f)| examine(name, f, ints).1).collect()
}

/// Looks up the arguments of every operation and infers every type again.
///
/// # Errors
///
/// Every finding, if one of them is an error.
pub fn resolve<'a>(
    name: &'a str,
    function: &'a Function,
    ints: &'a BlobInts,
) -> Result<Vec<Resolved<'a>>, Vec<Finding>> {
    let (resolved, findings) = examine(name, function, ints);
    if findings.iter().any(Finding::is_error) { Err(findings) } else { Ok(resolved) }
}

fn examine<'a>(
    name: &'a str,
    function: &'a Function,
    ints: &'a BlobInts,
) -> (Vec<Resolved<'a>>, Vec<Finding>) {
    let opset = function.opset;
    let mut scope = Scope { function: name, opset, ints, values: HashMap::new(), findings: Vec::new() };
    for input in &function.inputs {
        scope.check_input(input);
        scope.insert(input, false, None);
    }
    let resolved = scope.block(&function.block);
    if function.block.outputs.is_empty() {
        scope.report(Rule::Returned, "it returns nothing".into());
    }
    (resolved, scope.findings)
}

/// What has been seen of a function so far.
struct Scope<'a> {
    function: &'a str,
    opset: Opset,
    ints: &'a BlobInts,
    /// The values that an operation may refer to.
    values: HashMap<&'a str, Known<'a>>,
    findings: Vec<Finding>,
}

#[derive(Clone, Copy)]
struct Known<'a> {
    ty: &'a ValueType,
    constant: bool,
    value: Option<&'a Value>,
}

impl<'a> Scope<'a> {
    fn report(&mut self, rule: Rule, reason: String) {
        self.findings.push(Finding::function(rule, self.function, reason));
    }

    fn check_input(&mut self, input: &NamedType) {
        match &input.ty {
            ValueType::Tensor(_) => {}
            ValueType::State(ty) => {
                if self.opset < Opset::CoreML8 {
                    let reason = format!("state %{} needs opset CoreML8, it has {}", input.name, self.opset);
                    self.report(Rule::StateType, reason);
                }
                if ty.dtype != DType::Fp16 || ty.shape.known().is_none() {
                    let reason = format!("state %{} is {ty}, expected fp16 of fixed shape", input.name);
                    self.report(Rule::StateType, reason);
                }
            }
            other => self.report(Rule::Type, format!("input %{} is {other}, expected a tensor", input.name)),
        }
    }

    /// Makes a name known; whether it was unknown before.
    fn insert(&mut self, named: &'a NamedType, constant: bool, value: Option<&'a Value>) -> bool {
        let name = named.name.as_str();
        if !is_identifier(name) {
            let reason =
                format!("%{name} is no identifier: letters, digits, _ and @, not starting with a digit");
            self.report(Rule::Identifier, reason);
        }
        let new = self.values.insert(name, Known { ty: &named.ty, constant, value }).is_none();
        if !new {
            self.report(Rule::DefinedTwice, format!("%{name} is defined twice"));
        }
        new
    }

    /// Resolves a block; what it defines is known until the caller forgets it.
    fn block(&mut self, block: &'a Block) -> Vec<Resolved<'a>> {
        let mut resolved = Vec::with_capacity(block.operations.len());
        for operation in &block.operations {
            match self.resolve(operation) {
                Ok(found) => resolved.push(found),
                Err(fault) => {
                    self.findings.push(Finding::operation(self.function, operation.label(), fault));
                }
            }
            if !operation.attributes.contains_key("name") {
                let fault = Fault::new(Rule::OperationName, "it has no attribute name");
                self.findings.push(Finding::operation(self.function, operation.label(), fault));
            }
            let value = operation.attributes.get("val").filter(|_| operation.op == "const");
            let value = value.map(|value| self.ints.stated(value));
            let constant = value.is_some() || operation.is_constexpr();
            for output in &operation.outputs {
                self.insert(output, constant, value);
            }
        }
        for (i, output) in block.outputs.iter().enumerate() {
            match self.values.get(output.as_str()).map(|known| known.ty) {
                Some(ValueType::State(_)) => {
                    self.report(Rule::StateUse, format!("it returns %{output}, which is a state"));
                }
                Some(_) => {}
                None => {
                    let reason = format!("it returns %{output}, which nothing defines");
                    self.report(Rule::Returned, reason);
                }
            }
            if block.inputs.is_empty() && block.outputs[..i].contains(output) {
                self.report(Rule::ReturnedTwice, format!("it returns %{output} twice"));
            }
        }
        resolved
    }

    /// The blocks that an operation has, and the types of what they take and give.
    fn blocks(&mut self, operation: &'a Operation) -> (Vec<Vec<Resolved<'a>>>, Vec<BlockTypes>) {
        let mut types = Vec::with_capacity(operation.blocks.len());
        let mut resolved = Vec::with_capacity(operation.blocks.len());
        for block in &operation.blocks {
            let mut defined: Vec<&'a str> = Vec::new();
            for input in &block.inputs {
                if self.insert(input, false, None) {
                    defined.push(&input.name);
                }
            }
            let outer: Vec<&'a str> = self.values.keys().copied().collect();
            resolved.push(self.block(block));
            let tensors = |types: &mut dyn Iterator<Item = &ValueType>| -> Vec<TensorType> {
                types.filter_map(|ty| ty.tensor().cloned()).collect()
            };
            let returned = block.outputs.iter().filter_map(|name| self.values.get(name.as_str()));
            types.push(BlockTypes {
                inputs: tensors(&mut block.inputs.iter().map(|input| &input.ty)),
                outputs: tensors(&mut returned.map(|known| known.ty)),
            });
            // What a block defines ends with it.
            let outer: std::collections::HashSet<&str> = outer.into_iter().collect();
            self.values.retain(|name, _| outer.contains(name) && !defined.contains(name));
        }
        (resolved, types)
    }

    fn resolve(&mut self, operation: &'a Operation) -> Result<Resolved<'a>, Fault> {
        let (blocks, block_types) = self.blocks(operation);
        let without_row = |blocks| Resolved {
            operation,
            spec: None,
            args: Args::new(self.opset, BTreeMap::new(), Vec::new()),
            blocks,
        };
        if operation.op == "const" {
            return check_const(operation).map(|()| without_row(blocks));
        }
        if ops::is_unchecked(&operation.op) || self.carries_lists(operation) {
            self.known_names(operation)?;
            let fault = Fault::new(Rule::OperationUnchecked, "its arguments and types are not checked");
            let resolved = without_row(blocks);
            self.findings.push(Finding::operation(self.function, operation.label(), fault));
            return Ok(resolved);
        }
        let spec = ops::lookup(&operation.op).ok_or_else(|| ops::unknown(&operation.op))?;
        if spec.since > self.opset {
            let reason = format!("it exists since opset {}, the function has {}", spec.since, self.opset);
            return Err(Fault::new(Rule::OperationTooNew, reason));
        }
        let args = Args::new(self.opset, self.bound(operation)?, block_types);
        args.check_against(spec)?;
        check_results(operation, &(spec.infer)(&args)?)?;
        for param in spec.params_of(self.opset) {
            if param.default.is_some() && args.get(param.name).is_none() {
                let fault = Fault::at(Rule::ArgumentDefault, param.name, "is not bound, and has a default");
                self.findings.push(Finding::operation(self.function, operation.label(), fault));
            }
        }
        Ok(Resolved { operation, spec: Some(spec), args, blocks })
    }

    /// Whether a loop or a branch hands on values that are no tensors, whose types are not inferred.
    fn carries_lists(&self, operation: &Operation) -> bool {
        let is_list = |name: &str| {
            self.values.get(name).is_some_and(|known| matches!(known.ty, ValueType::List { .. }))
        };
        ["while_loop", "cond"].contains(&operation.op.as_str())
            && operation.arguments(self.opset).any(|(_, bindings)| {
                bindings.iter().any(|b| matches!(b, BindingRef::Name(name) if is_list(name)))
            })
    }

    /// Refuses names that nothing has defined, and states.
    fn known_names(&self, operation: &Operation) -> Result<(), Fault> {
        for (param, bindings) in operation.arguments(self.opset) {
            for binding in bindings {
                let BindingRef::Name(name) = binding else { continue };
                if let ValueType::State(_) = self.known(param, name)?.ty {
                    return Err(Fault::at(Rule::StateUse, param, "is a state, expected a value"));
                }
            }
        }
        Ok(())
    }

    fn known(&self, param: &str, name: &str) -> Result<Known<'a>, Fault> {
        self.values.get(name).copied().ok_or_else(|| {
            let reason = format!("is %{name}, which is not defined before it is used");
            Fault::at(Rule::Undefined, param, reason)
        })
    }

    fn bound(&self, operation: &'a Operation) -> Result<BTreeMap<&'a str, Vec<Arg<'a>>>, Fault> {
        let mut bound = BTreeMap::new();
        for (param, bindings) in operation.arguments(self.opset) {
            let args = bindings.into_iter().map(|b| self.arg(operation, param, b));
            bound.insert(param, args.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(bound)
    }

    fn arg(&self, operation: &Operation, param: &str, binding: BindingRef<'a>) -> Result<Arg<'a>, Fault> {
        match binding {
            BindingRef::Value(value) => {
                let blob = matches!(value.data, ValueData::Blob(_));
                if blob && !operation.is_constexpr() {
                    let reason = "is a blob that is bound directly, which only constexpr operations take";
                    return Err(Fault::at(Rule::BlobBinding, param, reason));
                }
                constant_arg(param, self.ints.stated(value))
            }
            BindingRef::Name(name) => {
                let Known { ty, constant, value } = self.known(param, name)?;
                let is_state = matches!(ty, ValueType::State(_));
                let tensor = ty.tensor().ok_or_else(|| {
                    Fault::at(Rule::ArgumentType, param, format!("is {ty}, expected a tensor"))
                })?;
                Ok(Arg { name: Some(name), ty: tensor, is_state, constant, value })
            }
        }
    }
}

fn constant_arg<'a>(param: &str, value: &'a Value) -> Result<Arg<'a>, Fault> {
    let ty = value
        .tensor_type()
        .ok_or_else(|| Fault::at(Rule::ArgumentType, param, format!("is {}, expected a tensor", value.ty)))?;
    Ok(Arg { name: None, ty, is_state: false, constant: true, value: Some(value) })
}

/// Whether what is declared may be what was inferred.
fn check_results(operation: &Operation, inferred: &[TensorType]) -> Result<(), Fault> {
    let declared = &operation.outputs;
    if inferred.len() != declared.len() {
        let reason = format!("{} outputs are declared, it has {}", declared.len(), inferred.len());
        return Err(Fault::new(Rule::ResultCount, reason));
    }
    for (output, ty) in declared.iter().zip(inferred) {
        let fits = match &output.ty {
            ValueType::Tensor(found) => found.dtype == ty.dtype && found.shape.may_be(&ty.shape),
            _ => false,
        };
        if !fits {
            let reason = format!("%{} is declared {}, it is {ty}", output.name, output.ty);
            return Err(Fault::new(Rule::DeclaredType, reason));
        }
    }
    Ok(())
}

fn check_const(operation: &Operation) -> Result<(), Fault> {
    let value = operation
        .attributes
        .get("val")
        .ok_or_else(|| Fault::new(Rule::Constant, "it has no attribute val"))?;
    if let Some(param) = operation.inputs.keys().next() {
        return Err(Fault::at(Rule::ArgumentUnknown, param, "is bound, and a const takes no arguments"));
    }
    match operation.outputs.as_slice() {
        [output] if output.ty == value.ty => Ok(()),
        [output] => {
            let reason = format!("%{} is declared {}, its value is {}", output.name, output.ty, value.ty);
            Err(Fault::new(Rule::DeclaredType, reason))
        }
        outputs => Err(Fault::new(Rule::ResultCount, format!("{} outputs, expected one", outputs.len()))),
    }
}

/// Whether an operation of that type keeps its arguments among its attributes, as the `constexpr` forms of iOS 16 do: up to
/// iOS 17 all of them, later those that got no other form in iOS 18.
pub(crate) fn attributes_are_arguments(op: &str, opset: Opset) -> bool {
    let unchanged = ["constexpr_affine_dequantize", "constexpr_cast"].contains(&op);
    op.starts_with("constexpr_") && (opset < Opset::CoreML8 || unchanged)
}

/// Whether `name` is `[A-Za-z_][A-Za-z0-9_@]*`.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '@'))
}
