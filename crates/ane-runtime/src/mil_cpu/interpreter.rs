//! Runs a function operation by operation, for those whose shapes depend on values or that have control flow: every type
//! is inferred again from what is there, with the table of operations that the checker uses.

use std::collections::HashMap;
use std::sync::Arc;

use mlpackage::mil::{Block, Function, Operation, TensorType, Value};
use mlpackage::ops::Args;
use mlpackage::{DType, Shape, ops};

use super::constants::{self, Constant, Constants};
use super::kernels::{self, Node, Operand, is_non_zero};
use super::lowering::{MAX_ELEMENTS, VIEWED, execute, is_view, unfit};
use super::numerics::Numerics;
use super::packed::Packed;
use super::scope::{self, Bound};
use crate::error::{Error, Result};

/// A `while_loop` that goes on for longer than this is taken to be endless.
const MAX_ITERATIONS: usize = 1 << 20;

/// A value while the function runs.
#[derive(Clone)]
struct Known {
    ty: TensorType,
    elements: Elements,
    /// The value itself, where it is short: shapes depend on such.
    value: Option<Value>,
}

#[derive(Clone)]
enum Elements {
    Words(Arc<[u32]>),
    Packed(Arc<Packed>),
    /// No tensor of numbers: a string.
    None,
}

/// A tensor that goes in or comes out.
pub(super) struct Given {
    pub(super) dtype: DType,
    pub(super) shape: Shape,
    pub(super) words: Arc<[u32]>,
}

/// Runs `function` once. States are written when all of it has succeeded.
pub(super) fn run(
    function: &Function,
    constants: &Constants,
    numerics: Numerics,
    inputs: Vec<Given>,
    states: &mut [Vec<u32>],
) -> Result<Vec<Given>> {
    let mut interpreter = Interpreter {
        function,
        constants,
        numerics,
        states: states.iter().map(|state| Arc::from(state.as_slice())).collect(),
        known: HashMap::new(),
    };
    for ((name, _), given) in function.tensor_inputs().zip(inputs) {
        let known = Known::new(given.dtype, given.shape, given.words);
        interpreter.known.insert(name.to_owned(), known);
    }
    let results = interpreter.block(&function.block)?;
    let given = |known: Known| {
        let shape = known.ty.shape.known().unwrap_or_default();
        Given { dtype: known.ty.dtype, shape, words: known.words() }
    };
    let outputs = results.into_iter().map(given).collect();
    for (state, written) in states.iter_mut().zip(interpreter.states) {
        state.copy_from_slice(&written);
    }
    Ok(outputs)
}

impl Known {
    fn new(dtype: DType, shape: Shape, words: Arc<[u32]>) -> Self {
        let value = constants::value_of(dtype, &shape, &words);
        Self { ty: TensorType { dtype, shape: shape.into() }, elements: Elements::Words(words), value }
    }

    fn words(&self) -> Arc<[u32]> {
        match &self.elements {
            Elements::Words(words) => Arc::clone(words),
            Elements::Packed(packed) => packed.unpack().into_iter().map(f32::to_bits).collect(),
            Elements::None => Arc::from([]),
        }
    }
}

struct Interpreter<'a> {
    function: &'a Function,
    constants: &'a Constants,
    numerics: Numerics,
    states: Vec<Arc<[u32]>>,
    known: HashMap<String, Known>,
}

impl Interpreter<'_> {
    /// Runs a block; what it defines is forgotten, what it returns is given back.
    fn block(&mut self, block: &Block) -> Result<Vec<Known>> {
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
            self.known.remove(&output.name);
        }
        Ok(results)
    }

    fn define(&mut self, operation: &Operation, index: usize, known: Known) {
        if let Some(output) = operation.outputs.get(index) {
            self.known.insert(output.name.clone(), known);
        }
    }

    fn operation(&mut self, operation: &Operation) -> Result<(), Failure> {
        match operation.op.as_str() {
            "const" => {
                let value = operation.attributes.get("val");
                if let Some((value, ty)) = value.and_then(|v| Some((v, v.tensor_type()?))) {
                    let elements = self.constant(&operation.outputs[0].name);
                    let short = ty.shape.elements().is_some_and(|n| n <= 1024);
                    let value = short.then(|| value.clone());
                    self.define(operation, 0, Known { ty: ty.clone(), elements, value });
                }
                Ok(())
            }
            _ if operation.is_constexpr() => {
                for (i, output) in operation.outputs.iter().enumerate() {
                    if let Some(ty) = output.ty.tensor() {
                        let elements = self.constant(&output.name);
                        self.define(operation, i, Known { ty: ty.clone(), elements, value: None });
                    }
                }
                Ok(())
            }
            "cond" => self.cond(operation),
            "while_loop" => self.while_loop(operation),
            _ => {
                match self.compute(operation)? {
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

    /// The index of the state that an operation names, and its type.
    fn state(&self, args: &Args<'_>) -> Option<(usize, TensorType)> {
        let name = args.get("input")?.name?;
        let mut states = self.function.states().enumerate();
        states.find(|(_, (state, _))| *state == name).map(|(i, (_, ty))| (i, ty.clone()))
    }

    fn args<'e>(&'e self, operation: &'e Operation) -> Result<Args<'e>, String> {
        let find = |name: &str| match self.known.get(name) {
            Some(Known { ty, value, .. }) => {
                Some(Bound { ty, is_state: false, constant: true, value: value.as_ref() })
            }
            None => {
                let state = self.function.states().find(|(state, _)| *state == name);
                state.map(|(_, ty)| Bound { ty, is_state: true, constant: false, value: None })
            }
        };
        scope::args(operation, self.function.opset, find, Vec::new())
    }

    fn compute(&self, operation: &Operation) -> Result<Effect, Failure> {
        let args = self.args(operation)?;
        let op = operation.op.as_str();
        if op == "read_state" {
            let (state, ty) = self.state(&args).ok_or_else(|| "no such state".to_owned())?;
            let elements = Elements::Words(Arc::clone(&self.states[state]));
            return Ok(Effect::Define(vec![Known { ty, elements, value: None }]));
        }
        // What the caller's values make of a constant: a state, a binding, an operand.
        let taken = |param: &str, index: usize| -> Result<Elements, String> {
            let arg = args.many(param).get(index).ok_or_else(|| format!("no {param}"))?;
            if let Some(known) = arg.name.and_then(|name| self.known.get(name)) {
                return Ok(known.elements.clone());
            }
            let words = arg.value.and_then(|value| constants::immediate(value, arg.ty));
            words.map(|w| Elements::Words(w.into())).ok_or_else(|| format!("{param} is no number"))
        };
        let spec = ops::lookup(op).ok_or_else(|| format!("no operation {op}"))?;
        if let Some(reason) = unfit(op, &args) {
            return Err(Failure::Here(format!("there is no {reason}")));
        }
        let inferred = match op {
            "non_zero" => vec![count_non_zero(&args, &taken)?],
            _ => (spec.infer)(&args).map_err(String::from)?,
        };
        if op == "write_state" {
            let (state, _) = self.state(&args).ok_or_else(|| "no such state".to_owned())?;
            let words = match taken("data", 0)? {
                Elements::Words(words) => words,
                Elements::Packed(packed) => packed.unpack().into_iter().map(f32::to_bits).collect(),
                Elements::None => return Err(Failure::Here("data is no tensor".into())),
            };
            if words.len() != self.states[state].len() {
                let (found, expected) = (words.len(), self.states[state].len());
                return Err(Failure::Here(format!("data has {found} elements, the state {expected}")));
            }
            return Ok(Effect::Write { state, words });
        }
        let mut results = Vec::with_capacity(inferred.len());
        for (ty, declared) in inferred.into_iter().zip(&operation.outputs) {
            let shape = ty.shape.known().ok_or_else(|| format!("the shape of {ty} is not known"))?;
            let fits = declared.ty.tensor().is_none_or(|d| d.shape.may_be(&ty.shape));
            if !fits {
                return Err(Failure::Here(format!("it gives {ty}, declared is {}", declared.ty)));
            }
            if shape.checked_elements().is_none_or(|n| n > MAX_ELEMENTS) || shape.rank() > kernels::MAX_RANK {
                return Err(Failure::Here(format!("{ty} is too large")));
            }
            results.push((ty.dtype, shape));
        }
        if is_view(op) {
            let elements = taken(VIEWED, 0)?;
            let (dtype, shape) = results.swap_remove(0);
            let known = match elements {
                Elements::Words(words) => Known::new(dtype, shape, words),
                elements => {
                    let ty = TensorType { dtype, shape: shape.into() };
                    Known { ty, elements, value: None }
                }
            };
            return Ok(Effect::Define(vec![known]));
        }
        let node = Node { op, args: args.clone(), results };
        let lowered = kernels::lower(&node)?;
        let mut operands = Vec::new();
        for param in lowered.operands {
            for index in 0..args.many(param).len() {
                operands.push(match (taken(param, index)?, lowered.packed.contains(param)) {
                    (Elements::Packed(packed), false) => {
                        Elements::Words(packed.unpack().into_iter().map(f32::to_bits).collect())
                    }
                    (elements, _) => elements,
                });
            }
        }
        let bound: Vec<Operand<'_>> = operands
            .iter()
            .map(|elements| match elements {
                Elements::Words(words) => Operand::Words(words),
                Elements::Packed(packed) => Operand::Packed(packed),
                Elements::None => Operand::Words(&[]),
            })
            .collect();
        let computed = execute(&lowered, &bound, &node.results, self.numerics)?;
        let define =
            |((dtype, shape), words): ((DType, Shape), Vec<u32>)| Known::new(dtype, shape, words.into());
        Ok(Effect::Define(node.results.into_iter().zip(computed).map(define).collect()))
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
            return Err(Failure::Here("it has not two blocks".into()));
        };
        for _ in 0..MAX_ITERATIONS {
            let goes_on = self.with(condition, &variables)?;
            if goes_on.first().is_none_or(|known| known.words().first().is_none_or(|word| *word == 0)) {
                for (i, known) in variables.into_iter().enumerate() {
                    self.define(operation, i, known);
                }
                return Ok(());
            }
            variables = self.with(body, &variables)?;
        }
        Err(Failure::Here(format!("it goes on after {MAX_ITERATIONS} iterations")))
    }

    /// Runs a block on variables.
    fn with(&mut self, block: &Block, variables: &[Known]) -> Result<Vec<Known>> {
        for (input, known) in block.inputs.iter().zip(variables) {
            self.known.insert(input.name.clone(), known.clone());
        }
        let results = self.block(block);
        for input in &block.inputs {
            self.known.remove(&input.name);
        }
        results
    }

    /// What a parameter is bound to.
    fn bindings(&self, operation: &Operation, param: &str) -> Result<Vec<Known>, String> {
        let args = self.args(operation)?;
        let bind = |arg: &ops::Arg<'_>| {
            if let Some(known) = arg.name.and_then(|name| self.known.get(name)) {
                return Ok(known.clone());
            }
            let words = arg.value.and_then(|value| constants::immediate(value, arg.ty));
            let shape = arg.ty.shape.known();
            match words.zip(shape) {
                Some((words, shape)) => Ok(Known::new(arg.ty.dtype, shape, words.into())),
                None => Err(format!("{param} is no tensor")),
            }
        };
        args.many(param).iter().map(bind).collect()
    }
}

/// The type of `non_zero`'s result.
fn count_non_zero(
    args: &Args<'_>,
    taken: &impl Fn(&str, usize) -> Result<Elements, String>,
) -> Result<TensorType, String> {
    let x = args.ty("x").map_err(String::from)?;
    let words = match taken("x", 0)? {
        Elements::Words(words) => words,
        Elements::Packed(packed) => packed.unpack().into_iter().map(f32::to_bits).collect(),
        Elements::None => Arc::from([]),
    };
    let count = words.iter().filter(|word| is_non_zero(**word, x.dtype.is_float())).count();
    Ok(TensorType::new(DType::Int32, [count, x.shape.rank()]))
}

/// What an operation does.
enum Effect {
    Define(Vec<Known>),
    Write { state: usize, words: Arc<[u32]> },
}

/// Why an operation failed.
enum Failure {
    /// For a reason of its own.
    Here(String),
    /// In a block of its own.
    Within(Error),
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Here(reason)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Within(error)
    }
}
