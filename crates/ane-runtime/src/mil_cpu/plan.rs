//! A function lowered for execution: constants unfolded, arguments parsed, names resolved to slots.

use std::collections::HashMap;

use mlpackage::mil::{Function, Resolved, ValueType, resolve};
use mlpackage::ops::Arg;
use mlpackage::{DType, Package};

use super::MilCpu;
use super::kernels::{self, Kernel};
use super::numerics::{Numerics, round_to_half};
use crate::engine::Engine as _;
use crate::error::{Error, Result};
use crate::tensor::{Data, Tensor};

/// A value of more elements than this is refused: a gigabyte as f32, and a sure sign of a damaged package.
const MAX_ELEMENTS: usize = 1 << 28;

/// A function, ready to run.
pub(super) struct Plan {
    steps: Vec<Step>,
    constants: Vec<Tensor>,
    /// Number of slots; the first are the inputs.
    slots: usize,
    outputs: Vec<Source>,
}

/// Where an operand comes from.
#[derive(Clone, Copy)]
enum Source {
    Slot(usize),
    Constant(usize),
}

enum Step {
    ReadState { state: usize, slot: usize },
    WriteState { state: usize, source: Source },
    Compute { kernel: Box<dyn Kernel>, inputs: Vec<Source>, outputs: Vec<Output>, dead: Vec<usize> },
}

struct Output {
    slot: usize,
    round: bool,
}

impl Plan {
    /// Lowers a function of a package that was checked.
    pub(super) fn lower(package: &Package, name: &str, function: &Function, engine: &MilCpu) -> Result<Self> {
        let resolved = resolve(name, function).map_err(|findings| {
            let error = findings.into_iter().find(mlpackage::Finding::is_error);
            mlpackage::Error::from(error.expect("a function is refused for an error"))
        })?;
        let mut missing: Vec<String> = Vec::new();
        let mut lowering = Lowering::new(package, function);
        let computed = resolved.iter().filter(|op| op.operation.op != "const");
        for value in computed.flat_map(|op| &op.operation.outputs).chain(&function.inputs) {
            let Some(dims) = value.ty.tensor().map(|ty| &ty.shape) else {
                missing.push(format!("values other than tensors: %{} is {}", value.name, value.ty));
                continue;
            };
            match dims.elements().unwrap_or(usize::MAX) {
                _ if dims.known().is_none() => {
                    missing.push(format!("flexible shapes: %{} is {}", value.name, value.ty));
                }
                0 => missing.push(format!("way to compute with nothing: %{} is {}", value.name, value.ty)),
                1..=MAX_ELEMENTS => {}
                _ => missing.push(format!("room for %{}, {}", value.name, value.ty)),
            }
        }
        let fits = missing.is_empty();
        for op in resolved.iter().filter(|_| fits) {
            if let Err(reason) = lowering.operation(op, engine.numerics)? {
                missing.push(reason);
            }
        }
        if !missing.is_empty() {
            missing.sort();
            missing.dedup();
            return Err(Error::Unsupported {
                engine: engine.name().to_owned(),
                package: package.path().to_owned(),
                operations: missing,
            });
        }
        lowering.finish(function)
    }

    /// Runs the function. `inputs` are in order and of the right types; so are `states`.
    pub(super) fn run(&self, inputs: Vec<Tensor>, states: &mut [Tensor]) -> Vec<Tensor> {
        let mut slots: Vec<Option<Tensor>> = inputs.into_iter().map(Some).collect();
        slots.resize_with(self.slots, || None);
        for step in &self.steps {
            match step {
                Step::ReadState { state, slot } => slots[*slot] = Some(states[*state].clone()),
                Step::WriteState { state, source } => states[*state] = self.operand(&slots, *source).clone(),
                Step::Compute { kernel, inputs, outputs, dead } => {
                    let operands: Vec<&Tensor> = inputs.iter().map(|s| self.operand(&slots, *s)).collect();
                    let results = kernel.run(&operands);
                    for (output, mut result) in outputs.iter().zip(results) {
                        if output.round {
                            round_to_half(&mut result);
                        }
                        slots[output.slot] = Some(result);
                    }
                    for &slot in dead {
                        slots[slot] = None;
                    }
                }
            }
        }
        self.outputs.iter().map(|s| self.operand(&slots, *s).clone()).collect()
    }

    fn operand<'a>(&'a self, slots: &'a [Option<Tensor>], source: Source) -> &'a Tensor {
        match source {
            Source::Constant(i) => &self.constants[i],
            Source::Slot(i) => {
                slots[i].as_ref().expect("operations are in order, and slots live to their last use")
            }
        }
    }
}

struct Lowering<'a> {
    package: &'a Package,
    steps: Vec<Step>,
    constants: Vec<Tensor>,
    slots: HashMap<String, usize>,
    states: HashMap<String, usize>,
    /// Constants that were unfolded, by the name of the value.
    unfolded: HashMap<String, usize>,
    /// `constexpr` results, by name, each a constant already.
    folded: HashMap<String, usize>,
}

impl<'a> Lowering<'a> {
    fn new(package: &'a Package, function: &Function) -> Self {
        let slots = function.tensor_inputs().enumerate().map(|(i, (name, _))| (name.to_owned(), i)).collect();
        let states = function.states().enumerate().map(|(i, (name, _))| (name.to_owned(), i)).collect();
        Self {
            package,
            steps: Vec::new(),
            constants: Vec::new(),
            slots,
            states,
            unfolded: HashMap::new(),
            folded: HashMap::new(),
        }
    }

    /// Adds one operation; the inner error is what the engine lacks.
    fn operation(&mut self, op: &Resolved<'_>, numerics: Numerics) -> Result<Result<(), String>> {
        let operation = op.operation;
        match operation.op.as_str() {
            "const" => {} // unfolded where it is used
            "read_state" => {
                let state = self.state(op, "input");
                let slot = self.new_slot(&operation.outputs[0].name);
                self.steps.push(Step::ReadState { state, slot });
            }
            "write_state" => {
                let state = self.state(op, "input");
                let source = self.source(op.args.get("data").expect("checked at load"))?;
                self.steps.push(Step::WriteState { state, source });
            }
            constexpr if constexpr.starts_with("constexpr_") => {
                let mut operands = Vec::new();
                for param in ["data", "scale", "offset"] {
                    operands.push(match op.args.get(param).and_then(|a| a.value) {
                        Some(value) => value
                            .tensor_type()
                            .map(|ty| {
                                Ok::<_, mlpackage::Error>((self.package.floats(value)?, super::fixed(ty)))
                            })
                            .transpose()?,
                        None => None,
                    });
                }
                let [Some((data, shape)), Some((scale, scale_shape)), offset] =
                    <[_; 3]>::try_from(operands).expect("three")
                else {
                    return Ok(Err(format!("{constexpr} of other than stated constants")));
                };
                let offset = offset.map(|(values, _)| values);
                let values = kernels::dequantize(&data, &shape, &scale, &scale_shape, offset.as_deref());
                let mut tensor = Tensor::from_parts(shape, Data::F32(values));
                if super::tensor_of(&operation.outputs[0]).dtype == DType::Fp16 {
                    round_to_half(&mut tensor);
                }
                self.folded.insert(operation.outputs[0].name.clone(), self.constants.len());
                self.constants.push(tensor);
            }
            _ => {
                let lowered = match kernels::lower(op) {
                    Ok(lowered) => lowered,
                    Err(reason) => return Ok(Err(reason)),
                };
                let mut inputs = Vec::new();
                for param in lowered.operands {
                    for arg in op.args.many(param) {
                        inputs.push(self.source(arg)?);
                    }
                }
                let outputs = operation.outputs.iter().map(|o| Output {
                    slot: self.new_slot(&o.name),
                    round: numerics == Numerics::F16 && super::tensor_of(o).dtype == DType::Fp16,
                });
                let outputs = outputs.collect();
                self.steps.push(Step::Compute { kernel: lowered.kernel, inputs, outputs, dead: Vec::new() });
            }
        }
        Ok(Ok(()))
    }

    fn state(&self, op: &Resolved<'_>, param: &str) -> usize {
        let name =
            op.args.get(param).and_then(|a| a.name).expect("states are bound by name, checked at load");
        self.states[name]
    }

    fn new_slot(&mut self, name: &str) -> usize {
        let slot = self.slots.len();
        self.slots.insert(name.to_owned(), slot);
        slot
    }

    /// Where an argument's tensor is; constants are unfolded on first use.
    fn source(&mut self, arg: &Arg<'_>) -> Result<Source> {
        if let Some(name) = arg.name {
            if let Some(&slot) = self.slots.get(name) {
                return Ok(Source::Slot(slot));
            }
            if let Some(&constant) = self.folded.get(name).or_else(|| self.unfolded.get(name)) {
                return Ok(Source::Constant(constant));
            }
        }
        let value = arg.value.expect("what is no result is a stated constant, checked at load");
        let data = match (arg.ty.dtype, value.as_ints(), value.as_bools()) {
            (DType::Bool, _, Some(bools)) => Data::Bool(bools.to_vec()),
            (dtype, Some(ints), _) if dtype.is_int() => Data::I32(ints.to_vec()),
            _ => Data::F32(self.package.floats(value)?),
        };
        let index = self.constants.len();
        self.constants.push(Tensor::from_parts(super::fixed(arg.ty), data));
        if let Some(name) = arg.name {
            self.unfolded.insert(name.to_owned(), index);
        }
        Ok(Source::Constant(index))
    }

    fn finish(mut self, function: &Function) -> Result<Plan> {
        let mut outputs = Vec::new();
        for name in &function.block.outputs {
            let source = match (self.slots.get(name), self.folded.get(name)) {
                (Some(&slot), _) => Source::Slot(slot),
                (None, Some(&constant)) => Source::Constant(constant),
                (None, None) => {
                    let operation =
                        function.block.operations.iter().find(|o| o.outputs.iter().any(|v| &v.name == name));
                    let value = operation
                        .and_then(|o| o.attributes.get("val"))
                        .expect("an output is defined, checked at load");
                    let ValueType::Tensor(ty) = &operation.expect("as above").outputs[0].ty else {
                        unreachable!()
                    };
                    let arg =
                        Arg { name: Some(name), ty, is_state: false, constant: true, value: Some(value) };
                    self.source(&arg)?
                }
            };
            outputs.push(source);
        }
        self.free_after_last_use(&outputs);
        Ok(Plan { steps: self.steps, constants: self.constants, slots: self.slots.len(), outputs })
    }

    /// Notes at each step which slots nothing reads any more.
    fn free_after_last_use(&mut self, outputs: &[Source]) {
        let mut live: Vec<bool> = vec![false; self.slots.len()];
        for source in outputs {
            if let Source::Slot(slot) = source {
                live[*slot] = true;
            }
        }
        for step in self.steps.iter_mut().rev() {
            match step {
                Step::ReadState { .. } => {}
                Step::WriteState { source, .. } => {
                    if let Source::Slot(slot) = source {
                        live[*slot] = true;
                    }
                }
                Step::Compute { inputs, outputs, dead, .. } => {
                    let read = inputs.iter().filter_map(|s| match s {
                        Source::Slot(slot) => Some(*slot),
                        Source::Constant(_) => None,
                    });
                    for slot in read.chain(outputs.iter().map(|o| o.slot)) {
                        if !std::mem::replace(&mut live[slot], true) {
                            dead.push(slot);
                        }
                    }
                }
            }
        }
    }
}
