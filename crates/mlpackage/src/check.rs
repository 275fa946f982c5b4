//! Checks a program against the operation table.

use std::collections::{BTreeMap, HashMap};

use crate::dtype::DType;
use crate::finding::{Fault, Finding, Rule};
use crate::mil::{
    BindingRef, BlobInts, Block, Container, Dim, Function, NamedType, Operation, Opset, Program, TensorType,
    Value, ValueData, ValueType, is_identifier,
};
use crate::ops::{self, Arg, Args, BlockTypes, OpSpec};

/// An operation with its table entry and its resolved arguments.
#[derive(Debug)]
pub struct Resolved<'a> {
    /// The operation.
    pub operation: &'a Operation,
    /// The table entry; `None` for `const`.
    pub spec: Option<&'static OpSpec>,
    /// The arguments; empty if there is no table entry.
    pub args: Args<'a>,
    /// The operations of each nested block.
    pub blocks: Vec<Vec<Resolved<'a>>>,
}

/// Returns every violation of MIL's rules in a program, in order. `ints` holds the integer constants that are
/// stored in weight files.
pub fn program(program: &Program, ints: &BlobInts) -> Vec<Finding> {
    program.functions.iter().flat_map(|(name, f)| examine(name, f, ints).1).collect()
}

/// Resolves the arguments of every operation and infers all types again.
///
/// # Errors
///
/// All findings, if any of them is an error.
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
    // coremltools before version 7 names only constants.
    let named = function
        .block
        .all_operations()
        .any(|o| o.op != "const" && !o.is_constexpr() && o.attributes.contains_key("name"));
    let mut scope =
        Scope { function: name, opset, ints, named, values: HashMap::new(), findings: Vec::new() };
    for input in &function.inputs {
        scope.check_input(input);
        scope.insert(input, false, None);
    }
    let resolved = scope.block(&function.block);
    if function.block.outputs.is_empty() {
        scope.report(Rule::Returned, "it returns no outputs".into());
    }
    (resolved, scope.findings)
}

/// The state of the check of one function.
struct Scope<'a> {
    function: &'a str,
    opset: Opset,
    ints: &'a BlobInts,
    /// Whether operations have names.
    named: bool,
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
                    let reason = format!(
                        "state %{} requires opset CoreML8, the function has {}",
                        input.name, self.opset
                    );
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

    /// Defines a name; returns whether it was undefined before.
    fn insert(&mut self, named: &'a NamedType, constant: bool, value: Option<&'a Value>) -> bool {
        let name = named.name.as_str();
        if !is_identifier(name) {
            let reason =
                format!("%{name} is not an identifier: letters, digits, _ and @, not starting with a digit");
            self.report(Rule::Identifier, reason);
        }
        let new = self.values.insert(name, Known { ty: &named.ty, constant, value }).is_none();
        if !new {
            self.report(Rule::DefinedTwice, format!("%{name} is defined twice"));
        }
        new
    }

    /// Resolves a block. Its definitions stay visible until the caller removes them.
    fn block(&mut self, block: &'a Block) -> Vec<Resolved<'a>> {
        let mut resolved = Vec::with_capacity(block.operations.len());
        for operation in &block.operations {
            match self.resolve(operation) {
                Ok(found) => resolved.push(found),
                Err(fault) => {
                    self.findings.push(Finding::operation(self.function, operation.label(), fault));
                }
            }
            if self.named && !operation.attributes.contains_key("name") {
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

    /// Resolves an operation's blocks; also returns the types of their inputs and outputs.
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
            // A returned state is already reported; the check continues with the type of its content.
            let content = |ty: &ValueType| match ty {
                ValueType::State(content) => ValueType::Tensor(content.clone()),
                other => other.clone(),
            };
            let returned = block.outputs.iter().filter_map(|name| self.values.get(name.as_str()));
            types.push(BlockTypes {
                inputs: block.inputs.iter().map(|input| content(&input.ty)).collect(),
                outputs: returned.map(|known| content(known.ty)).collect(),
            });
            // The definitions of a block are visible only inside it.
            let outer: std::collections::HashSet<&str> = outer.into_iter().collect();
            self.values.retain(|name, _| outer.contains(name) && !defined.contains(name));
        }
        (resolved, types)
    }

    fn resolve(&mut self, operation: &'a Operation) -> Result<Resolved<'a>, Fault> {
        let (blocks, block_types) = self.blocks(operation);
        if operation.op == "const" {
            check_const(operation)?;
            let args = Args::new(self.opset, BTreeMap::new(), Vec::new());
            return Ok(Resolved { operation, spec: None, args, blocks });
        }
        let spec = ops::lookup(&operation.op).ok_or_else(|| ops::unknown(&operation.op))?;
        if spec.since > self.opset {
            let reason = format!("it requires opset {}, the function has {}", spec.since, self.opset);
            return Err(Fault::new(Rule::OperationTooNew, reason));
        }
        let args = Args::new(self.opset, self.bound(operation)?, block_types);
        spec.check(&args)?;
        if args.iter().any(|(_, args)| args.iter().any(|arg| arg.ty.shape.is_of_any_rank())) {
            let reason = "the rank of an argument is unknown, so its result types are not checked";
            let fault = Fault::new(Rule::OperationUnchecked, reason);
            self.findings.push(Finding::operation(self.function, operation.label(), fault));
        } else {
            check_results(operation, &args, &spec.infer(&args)?, self.opset)?;
        }
        for param in spec.params_of(self.opset) {
            let of_nothing = param.is_of_indices() && !args.bool_or("return_indices", true)?;
            if param.default.is_some() && args.get(param.name).is_none() && !of_nothing {
                let fault = Fault::at(Rule::ArgumentDefault, param.name, "is not bound, but has a default");
                self.findings.push(Finding::operation(self.function, operation.label(), fault));
            }
        }
        Ok(Resolved { operation, spec: Some(spec), args, blocks })
    }

    fn known(&self, param: &str, name: &str) -> Result<Known<'a>, Fault> {
        self.values.get(name).copied().ok_or_else(|| {
            let reason = format!("is %{name}, which is not defined before its use");
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
                    let reason = "is a blob that is bound directly, which only constexpr operations allow";
                    return Err(Fault::at(Rule::BlobBinding, param, reason));
                }
                constant_arg(param, self.ints.stated(value))
            }
            BindingRef::Name(name) => {
                let Known { ty, constant, value } = self.known(param, name)?;
                let (ty, container) = content(param, ty)?;
                Ok(Arg { name: Some(name), ty, container, constant, value })
            }
        }
    }
}

fn constant_arg<'a>(param: &str, value: &'a Value) -> Result<Arg<'a>, Fault> {
    let (ty, container) = content(param, &value.ty)?;
    Ok(Arg { name: None, ty, container, constant: true, value: Some(value) })
}

/// Returns the type of an argument's content and its container.
fn content<'a>(param: &str, ty: &'a ValueType) -> Result<(&'a TensorType, Container), Fault> {
    ty.content()
        .ok_or_else(|| Fault::at(Rule::ArgumentType, param, format!("is {ty}, expected a tensor or a list")))
}

/// Checks that the declared results agree with the inferred types.
fn check_results(
    operation: &Operation,
    args: &Args<'_>,
    inferred: &[ValueType],
    opset: Opset,
) -> Result<(), Fault> {
    let declared = &operation.outputs;
    if inferred.len() != declared.len() {
        let reason = format!("{} outputs are declared, expected {}", declared.len(), inferred.len());
        return Err(Fault::new(Rule::ResultCount, reason));
    }
    for (output, ty) in declared.iter().zip(inferred) {
        let fits = output.ty.may_be(ty)
            || is_crop_of_each_image(operation, &output.ty, ty, opset)
            || is_declared_otherwise(operation, args, &output.ty, ty);
        if !fits {
            let reason = format!("%{} is declared {}, inferred {ty}", output.name, output.ty);
            return Err(Fault::new(Rule::DeclaredType, reason));
        }
    }
    Ok(())
}

/// Returns whether coremltools is known to declare this result with a shape that the operation does not
/// produce.
fn is_declared_otherwise(
    operation: &Operation,
    args: &Args<'_>,
    declared: &ValueType,
    inferred: &ValueType,
) -> bool {
    let (Some(declared), Some(inferred)) = (declared.tensor(), inferred.tensor()) else { return false };
    declared.dtype == inferred.dtype
        && ops::declared_otherwise(&operation.op, args).is_some_and(|dims| declared.shape == dims)
}

/// Returns whether this is a result whose declared type contradicts the operation's documentation:
/// `crop_resize` before iOS 17 returns `[N, 1, ..]` if a box names the image that it crops, but coremltools
/// declares `[N, B, ..]`.
fn is_crop_of_each_image(
    operation: &Operation,
    declared: &ValueType,
    inferred: &ValueType,
    opset: Opset,
) -> bool {
    let (Some(declared), Some(inferred)) = (declared.tensor(), inferred.tensor()) else { return false };
    let same = |axis: usize| declared.shape[axis].may_be(inferred.shape[axis]);
    operation.op == "crop_resize"
        && opset < Opset::CoreML7
        && declared.dtype == inferred.dtype
        && (declared.shape.rank(), inferred.shape.rank()) == (5, 5)
        && inferred.shape[1] == Dim::Known(1)
        && [0, 2, 3, 4].into_iter().all(same)
}

fn check_const(operation: &Operation) -> Result<(), Fault> {
    let value = operation
        .attributes
        .get("val")
        .ok_or_else(|| Fault::new(Rule::Constant, "it has no attribute val"))?;
    if let Some(param) = operation.inputs.keys().next() {
        return Err(Fault::at(Rule::ArgumentUnknown, param, "is bound, but a const has no parameters"));
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
