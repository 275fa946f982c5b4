//! A function compiled for inputs of fixed shapes: the steps in order, and where each value is stored.

use std::fmt;

use mlpackage::{DType, Shape, counted};

use super::constants::Constant;
use super::kernels::Kernel;
use super::numerics::Numerics;
use crate::engine::Memory;
use crate::hazard::Hazard;

/// A function that is ready to run.
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) constants: Vec<Constant>,
    /// Size of each buffer in words. The first buffers hold the inputs.
    pub(super) buffers: Vec<usize>,
    /// Number of elements of each input.
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<Output>,
    /// Scratch memory of the step that needs most, in f32 elements.
    pub(super) scratch: usize,
    /// Whether a step may fail after a state was written. A call then copies all states first, to restore
    /// them.
    pub(super) may_fail_late: bool,
    /// Hazards that were found when constants were folded and operations lowered.
    pub(super) hazards: Vec<Hazard>,
}

/// Where an operand is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Buffer(usize),
    State(usize),
    /// A constant with one word for each element.
    Words(usize),
    /// A constant that stays as the package stores it.
    Packed(usize),
}

pub(super) enum Step {
    Compute(Compute),
    /// Writes a state.
    Store {
        state: usize,
        source: Source,
        len: usize,
    },
    /// Copies a state that is overwritten before the old value is used for the last time.
    Load {
        state: usize,
        slot: Slot,
    },
}

pub(super) struct Compute {
    pub(super) op: String,
    /// Name of the first result.
    pub(super) result: String,
    pub(super) operands: Vec<Operand>,
    /// States that the step reads and writes in place.
    pub(super) states: Vec<usize>,
    pub(super) results: Vec<Slot>,
    pub(super) kernel: Box<dyn Kernel>,
    pub(super) scratch: usize,
    pub(super) fallible: bool,
}

/// An operand of a step.
pub(super) struct Operand {
    pub(super) source: Source,
    pub(super) len: usize,
    /// Name of the parameter.
    pub(super) param: &'static str,
    pub(super) is_float: bool,
}

/// A result of a step.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) buffer: usize,
    pub(super) len: usize,
    pub(super) precision: Precision,
}

/// How the elements of a result are represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// Integers and bools.
    Whole,
    /// Floats that are not rounded.
    Single,
    /// Floats that are rounded to fp16.
    Half,
}

impl Precision {
    /// Returns the precision of results of type `dtype`.
    pub(super) fn of(dtype: DType, numerics: Numerics) -> Self {
        match dtype {
            DType::Fp16 if numerics == Numerics::F16 => Self::Half,
            dtype if dtype.is_float() => Self::Single,
            _ => Self::Whole,
        }
    }
}

/// An output of the function.
pub(super) struct Output {
    pub(super) source: Source,
    pub(super) dtype: DType,
    pub(super) shape: Shape,
}

impl Plan {
    pub(super) fn new(
        steps: Vec<Step>,
        constants: Vec<Constant>,
        buffers: Vec<usize>,
        inputs: Vec<usize>,
        outputs: Vec<Output>,
    ) -> Self {
        let computes = || steps.iter().filter_map(Step::compute);
        let scratch = computes().map(|c| c.scratch).max().unwrap_or(0);
        let writes = |step: &Step| match step {
            Step::Store { .. } => true,
            Step::Compute(compute) => !compute.states.is_empty(),
            Step::Load { .. } => false,
        };
        let first_store = steps.iter().position(writes);
        let may_fail_late = first_store.is_some_and(|first| {
            steps[first..].iter().filter_map(Step::compute).any(|compute| compute.fallible)
        });
        Self { steps, constants, buffers, inputs, outputs, scratch, may_fail_late, hazards: Vec::new() }
    }

    pub(super) fn with_hazards(self, hazards: Vec<Hazard>) -> Self {
        Self { hazards, ..self }
    }

    /// Returns the hazards that were found before anything ran.
    pub(super) fn hazards(&self) -> &[Hazard] {
        &self.hazards
    }

    /// Returns the memory that the plan needs, without the states.
    pub(super) fn memory(&self) -> Memory {
        let (weights, constants) =
            self.constants.iter().map(Constant::bytes).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        let words = self.buffers.iter().sum::<usize>() + self.scratch;
        let outputs: usize = self.outputs.iter().map(|output| output.shape.elements()).sum();
        Memory { weights, constants, state: 0, workspace: 4 * (words + outputs) as u64 }
    }
}

impl Step {
    pub(super) fn compute(&self) -> Option<&Compute> {
        match self {
            Self::Compute(compute) => Some(compute),
            _ => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffer(i) => write!(f, "b{i}"),
            Self::State(i) => write!(f, "s{i}"),
            Self::Words(i) => write!(f, "c{i}"),
            Self::Packed(i) => write!(f, "w{i}"),
        }
    }
}

/// Prints one line for each step. `b` is a buffer, `s` a state, `c` a constant of words, and `w` a constant
/// that stays as it is stored.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory();
        writeln!(f, "{}, {}", counted(self.steps.len(), "step"), counted(self.buffers.len(), "buffer"))?;
        writeln!(
            f,
            "{} B of weights as stored, {} B of constants, {} B of workspace",
            memory.weights, memory.constants, memory.workspace
        )?;
        for (i, words) in self.buffers.iter().enumerate() {
            writeln!(f, "b{i}: {words} words")?;
        }
        for step in &self.steps {
            match step {
                Step::Load { state, slot } => writeln!(f, "b{} = s{state}", slot.buffer)?,
                Step::Store { state, source, .. } => writeln!(f, "s{state} = {source}")?,
                Step::Compute(compute) => {
                    for (i, slot) in compute.results.iter().enumerate() {
                        let comma = if i == 0 { "" } else { ", " };
                        write!(f, "{comma}b{}[{}]", slot.buffer, slot.len)?;
                    }
                    write!(f, " = {}(", compute.op)?;
                    for (i, operand) in compute.operands.iter().enumerate() {
                        let comma = if i == 0 { "" } else { ", " };
                        write!(f, "{comma}{}: {}[{}]", operand.param, operand.source, operand.len)?;
                    }
                    for state in &compute.states {
                        write!(f, ", in place: s{state}")?;
                    }
                    writeln!(f, ")  -> %{}", compute.result)?;
                }
            }
        }
        for output in &self.outputs {
            writeln!(f, "return {}: tensor<{}, {}>", output.source, output.dtype, output.shape)?;
        }
        Ok(())
    }
}
