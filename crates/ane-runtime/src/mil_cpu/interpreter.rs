//! Runs a function operation by operation, if its shapes depend on values or it has control flow.
//!
//! Every type is inferred again from the actual operands, with the table of operations that the checker uses.

use std::collections::HashMap;
use std::sync::Arc;

use mlpackage::mil::{Block, Container, Function, Operation, TensorType};
use mlpackage::ops::{Args, OpSpec};
use mlpackage::{DType, Shape, ops};

use super::args::{self, Bound};
use super::constants::{self, Constant, Constants};
use super::execute::Execution;
use super::hazards::{self, Watch};
use super::kernels::Operand;
use super::lists::{self, ListOperands, ListResult};
use super::numerics::Numerics;
use super::resolve::{self, Resolved, Unresolved};
use super::runtime_value::{Elements, Operands, RuntimeValue, count_non_zero};
use crate::engine::Limits;
use crate::error::{Error, Result};

/// An input or an output.
pub(super) struct Given {
    pub(super) dtype: DType,
    pub(super) shape: Shape,
    pub(super) words: Arc<[u32]>,
}

/// One call of a function.
pub(super) struct Interpreter<'a> {
    function: &'a Function,
    constants: &'a Constants,
    numerics: Numerics,
    limits: Limits,
    /// Collects hazards, if the call is watched.
    watch: Option<&'a mut Watch>,
    states: Vec<Arc<[u32]>>,
    known: HashMap<String, RuntimeValue>,
    /// Bytes of all computed values that are still known.
    held: u64,
    /// Iterations of all loops so far.
    iterations: usize,
}

impl<'a> Interpreter<'a> {
    pub(super) fn new(
        function: &'a Function,
        constants: &'a Constants,
        numerics: Numerics,
        limits: Limits,
        watch: Option<&'a mut Watch>,
    ) -> Self {
        let (states, known) = (Vec::new(), HashMap::new());
        Self { function, constants, numerics, limits, watch, states, known, held: 0, iterations: 0 }
    }

    /// Runs the function. Writes the states only after every operation has succeeded.
    pub(super) fn run(mut self, inputs: Vec<Given>, states: &mut [Vec<u32>]) -> Result<Vec<Given>> {
        self.states = states.iter().map(|state| Arc::from(state.as_slice())).collect();
        for ((name, _), given) in self.function.tensor_inputs().zip(inputs) {
            let known = RuntimeValue::new(given.dtype, given.shape, given.words);
            self.known.insert(name.to_owned(), known);
        }
        let results = self.block(&self.function.block)?;
        let given = |known: RuntimeValue| {
            let shape = known.ty.shape.known().unwrap_or_default();
            Given { dtype: known.ty.dtype, shape, words: known.words() }
        };
        let outputs = results.into_iter().map(given).collect();
        for (state, written) in states.iter_mut().zip(self.states) {
            state.copy_from_slice(&written);
        }
        Ok(outputs)
    }

    /// Runs a block and returns its outputs. Forgets every value that the block defines.
    fn block(&mut self, block: &Block) -> Result<Vec<RuntimeValue>> {
        for operation in &block.operations {
            self.operation(operation).map_err(|error| match error {
                Failure::Here(reason) => Error::Execution { operation: operation.label(), reason },
                Failure::Within(error) => error,
            })?;
        }
        let known = |name: &String| {
            self.known.get(name).cloned().ok_or_else(|| Error::Execution {
                operation: "return".into(),
                reason: format!("%{name} is not defined"),
            })
        };
        let results = block.outputs.iter().map(known).collect::<Result<Vec<_>>>()?;
        for output in block.operations.iter().flat_map(|operation| &operation.outputs) {
            self.forget(&output.name);
        }
        Ok(results)
    }

    fn define(&mut self, operation: &Operation, index: usize, known: RuntimeValue) {
        if let Some(output) = operation.outputs.get(index) {
            self.remember(&output.name, known);
        }
    }

    fn remember(&mut self, name: &str, known: RuntimeValue) {
        self.held += known.bytes;
        if let Some(before) = self.known.insert(name.to_owned(), known) {
            self.held -= before.bytes;
        }
    }

    fn forget(&mut self, name: &str) {
        self.held -= self.known.remove(name).map_or(0, |known| known.bytes);
    }

    fn operation(&mut self, operation: &Operation) -> Result<(), Failure> {
        match operation.op.as_str() {
            "const" => {
                let value = operation.attributes.get("val");
                if let Some((value, (ty, _))) = value.and_then(|v| Some((v, v.ty.content()?))) {
                    let name = &operation.outputs[0].name;
                    let value = Some(constants::stated(self.constants, name, value, ty));
                    let elements = self.constant(name);
                    self.define(
                        operation,
                        0,
                        RuntimeValue { ty: ty.clone(), elements, constant: true, bytes: 0, value },
                    );
                }
                Ok(())
            }
            _ if operation.is_constexpr() => {
                for (i, output) in operation.outputs.iter().enumerate() {
                    if let Some(ty) = output.ty.tensor() {
                        let elements = self.constant(&output.name);
                        let known =
                            RuntimeValue { ty: ty.clone(), elements, constant: true, bytes: 0, value: None };
                        self.define(operation, i, known);
                    }
                }
                Ok(())
            }
            "cond" => self.cond(operation),
            "while_loop" => self.while_loop(operation),
            op if lists::is_list_operation(op) => {
                let known = self.list_operation(operation)?;
                self.define(operation, 0, known);
                Ok(())
            }
            _ => {
                let mut watch = self.watch.take();
                let effect = self.compute(operation, watch.as_deref_mut());
                self.watch = watch;
                match effect? {
                    Effect::Write { state, words } => self.states[state] = words,
                    Effect::Define(results) => {
                        let results = results.into_iter().enumerate();
                        results.for_each(|(i, known)| self.define(operation, i, known));
                    }
                }
                Ok(())
            }
        }
    }

    fn constant(&self, name: &str) -> Elements {
        match self.constants.get(name) {
            Some(Constant::Words(words)) => Elements::Words(Arc::clone(words)),
            Some(Constant::Packed(packed)) => Elements::Packed(Arc::clone(packed)),
            None => Elements::None,
        }
    }

    /// Returns the index and the type of the state that an operation names.
    fn state(&self, args: &Args<'_>) -> Option<(usize, TensorType)> {
        let name = args.get("input")?.name?;
        let mut states = self.function.states().enumerate();
        states.find(|(_, (state, _))| *state == name).map(|(i, (_, ty))| (i, ty.clone()))
    }

    fn args<'e>(&'e self, operation: &'e Operation) -> Result<Args<'e>, String> {
        let find = |name: &str| match self.known.get(name) {
            Some(known) => Some(Bound {
                ty: &known.ty,
                container: known.container(),
                constant: true,
                value: known.value.as_ref(),
            }),
            None => {
                let state = self.function.states().find(|(state, _)| *state == name);
                state.map(|(_, ty)| Bound { ty, container: Container::State, constant: false, value: None })
            }
        };
        args::bind(operation, self.function.opset, find, Vec::new())
    }

    fn compute(&self, operation: &Operation, watch: Option<&mut Watch>) -> Result<Effect, Failure> {
        let args = self.args(operation)?;
        let operands = Operands { args: &args, known: &self.known };
        let op = operation.op.as_str();
        if op == "read_state" {
            return Ok(Effect::Define(vec![self.read_state(&args)?]));
        }
        let spec = ops::lookup(op).ok_or_else(|| format!("no operation {op}"))?;
        let inferred = match op {
            "non_zero" => vec![count_non_zero(&operands)?],
            _ => resolve::infer(spec, &args).map_err(String::from)?,
        };
        if op == "write_state" {
            return Ok(self.write_state(&operands)?);
        }
        resolve::check_declared(operation, &args, &inferred)?;
        let results = match resolve::resolve(operation, &args, &inferred)? {
            Resolved::Computed(results) => self.run_kernel(operation, spec, &operands, results, watch)?,
            Resolved::Empty(results) => {
                let empty = |(dtype, shape)| RuntimeValue::new(dtype, shape, Arc::from([]));
                results.into_iter().map(empty).collect()
            }
            Resolved::View(dtype, shape) => vec![operands.view(dtype, shape)?],
        };
        Ok(Effect::Define(results))
    }

    fn read_state(&self, args: &Args<'_>) -> Result<RuntimeValue, String> {
        let (state, ty) = self.state(args).ok_or_else(|| "no such state".to_owned())?;
        let elements = Elements::Words(Arc::clone(&self.states[state]));
        Ok(RuntimeValue { ty, elements, constant: false, bytes: 0, value: None })
    }

    fn write_state(&self, operands: &Operands<'_, '_>) -> Result<Effect, String> {
        let (state, _) = self.state(operands.args).ok_or_else(|| "no such state".to_owned())?;
        let words = match operands.elements("data", 0)? {
            Elements::Words(words) => words,
            Elements::Packed(packed) => packed.unpack().into_iter().map(f32::to_bits).collect(),
            Elements::List(_) | Elements::None => return Err("data is not a tensor".into()),
        };
        if words.len() != self.states[state].len() {
            let (found, expected) = (words.len(), self.states[state].len());
            return Err(format!("data has {found} elements, the state has {expected}"));
        }
        Ok(Effect::Write { state, words })
    }

    /// Computes results with the operation's kernel.
    fn run_kernel(
        &self,
        operation: &Operation,
        spec: &OpSpec,
        operands: &Operands<'_, '_>,
        results: Vec<(DType, Shape)>,
        mut watch: Option<&mut Watch>,
    ) -> Result<Vec<RuntimeValue>, Failure> {
        let args = operands.args;
        let needed: u64 = results.iter().map(|(_, shape)| 4 * shape.elements() as u64).sum();
        self.ensure_room(needed)?;
        if let Some(watch) = watch.as_deref_mut()
            && results.iter().any(|(dtype, _)| self.numerics == Numerics::F16 && *dtype == DType::Fp16)
            && let Some(hazard) = hazards::vanished_parameter(operation, spec, args)
        {
            watch.add(&hazard);
        }
        let lowered = resolve::kernel(&operation.op, args, &results)?;
        self.ensure_room(needed + 4 * lowered.scratch as u64)?;
        let (elements, watched) = operands.of_kernel(&lowered)?;
        let bound: Vec<Operand<'_>> = elements
            .iter()
            .map(|elements| match elements {
                Elements::Words(words) => Operand::Words(words),
                Elements::Packed(packed) => Operand::Packed(packed),
                Elements::List(_) | Elements::None => Operand::Words(&[]),
            })
            .collect();
        let computed = Execution { operation, lowered: &lowered, operands: &bound, results: &results }
            .run(self.numerics, watch.map(|watch| (watch, watched.as_slice())))?;
        let constant = !watched.is_empty() && watched.iter().all(|watched| watched.constant);
        let define = |((dtype, shape), words): ((DType, Shape), Vec<u32>)| RuntimeValue {
            constant,
            bytes: 4 * words.len() as u64,
            ..RuntimeValue::new(dtype, shape, words.into())
        };
        Ok(results.into_iter().zip(computed).map(define).collect())
    }

    /// Returns an error unless the call may hold `needed` more bytes.
    fn ensure_room(&self, needed: u64) -> Result<(), String> {
        let (held, most) = (self.held, self.limits.workspace);
        match held.checked_add(needed) {
            Some(all) if all <= most => Ok(()),
            _ => Err(format!(
                "it needs {needed} B of workspace besides the {held} B in use, {most} B at most: give inputs of \
                 smaller shapes, or raise the workspace limit"
            )),
        }
    }

    /// Runs an operation on a list.
    fn list_operation(&self, operation: &Operation) -> Result<RuntimeValue, Failure> {
        let args = self.args(operation)?;
        let spec = ops::lookup(&operation.op).ok_or_else(|| format!("no operation {}", operation.op))?;
        spec.infer(&args).map_err(String::from)?;
        let one = |param: &str| Ok::<_, String>(self.bindings(operation, param)?.into_iter().next());
        let list = match one("ls")? {
            Some(RuntimeValue { elements: Elements::List(list), .. }) => Some(list),
            _ => None,
        };
        let mut numbers = None;
        for param in ["index", "indices", "init_length"] {
            numbers = numbers.or(one(param)?);
        }
        let value = one("value")?;
        let value = value.and_then(|known| Some((known.ty.shape.known()?, known.words())));
        let numbers = numbers.map_or_else(|| Arc::from([]), |known| known.words());
        let operands = ListOperands { list: list.as_deref(), numbers, value };
        let room = self.limits.workspace.saturating_sub(self.held);
        Ok(match lists::run(&operation.op, &args, &operands, room)? {
            ListResult::List(list) => RuntimeValue::list(list),
            ListResult::Tensor { dtype, shape, words } => {
                let bytes = 4 * words.len() as u64;
                RuntimeValue { bytes, ..RuntimeValue::new(dtype, shape, words.into()) }
            }
        })
    }

    fn cond(&mut self, operation: &Operation) -> Result<(), Failure> {
        let pred = self.bindings(operation, "pred")?;
        let [pred] = pred.as_slice() else { return Err(Failure::Here("pred is not one value".into())) };
        let holds = pred.words().first().is_some_and(|word| *word != 0);
        let block = &operation.blocks[usize::from(!holds)];
        for (i, known) in self.block(block)?.into_iter().enumerate() {
            self.define(operation, i, known);
        }
        Ok(())
    }

    fn while_loop(&mut self, operation: &Operation) -> Result<(), Failure> {
        let mut variables = self.bindings(operation, "loop_vars")?;
        let [condition, body] = operation.blocks.as_slice() else {
            return Err(Failure::Here("it does not have two blocks".into()));
        };
        loop {
            let goes_on = self.with(condition, &variables)?;
            if goes_on.first().is_none_or(|known| known.words().first().is_none_or(|word| *word == 0)) {
                for (i, known) in variables.into_iter().enumerate() {
                    self.define(operation, i, known);
                }
                return Ok(());
            }
            self.iterations += 1;
            if self.iterations > self.limits.iterations {
                let most = self.limits.iterations;
                return Err(Failure::Here(format!("it exceeds the limit of {most} iterations of all loops")));
            }
            variables = self.with(body, &variables)?;
        }
    }

    /// Runs a block of a loop on its variables.
    fn with(&mut self, block: &Block, variables: &[RuntimeValue]) -> Result<Vec<RuntimeValue>> {
        for (input, known) in block.inputs.iter().zip(variables) {
            self.remember(&input.name, known.clone());
        }
        let results = self.block(block);
        block.inputs.iter().for_each(|input| self.forget(&input.name));
        results
    }

    /// Returns the values that a parameter is bound to.
    fn bindings(&self, operation: &Operation, param: &str) -> Result<Vec<RuntimeValue>, String> {
        let args = self.args(operation)?;
        let bind = |arg: &ops::Arg<'_>| {
            if let Some(known) = arg.name.and_then(|name| self.known.get(name)) {
                return Ok(known.clone());
            }
            let words = arg.value.and_then(|value| constants::immediate(value, arg.ty));
            let shape = arg.ty.shape.known();
            match words.zip(shape) {
                Some((words, shape)) => Ok(RuntimeValue::new(arg.ty.dtype, shape, words.into())),
                None => Err(format!("{param} is not a tensor")),
            }
        };
        args.many(param).iter().map(bind).collect()
    }
}

/// The effect of an operation.
enum Effect {
    Define(Vec<RuntimeValue>),
    Write { state: usize, words: Arc<[u32]> },
}

/// Why an operation failed.
enum Failure {
    /// The operation itself failed.
    Here(String),
    /// An operation in a nested block failed.
    Within(Error),
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Here(reason)
    }
}

impl From<Unresolved> for Failure {
    fn from(unresolved: Unresolved) -> Self {
        Self::Here(match unresolved {
            Unresolved::DependsOnValues(ty) => format!("the shape of {ty} is not known"),
            Unresolved::Shapes(reason) => reason,
            Unresolved::Missing(what) => format!("there is no {what}"),
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Within(error)
    }
}
