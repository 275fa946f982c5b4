//! A function between lowering and allocation: the steps in order, whose values do not have buffers yet.
//!
//! Lowering produces it, fusion rewrites it, allocation turns it into a [`Plan`](super::plan::Plan).

use mlpackage::mil::Value;
use mlpackage::{DType, Shape};

use super::constants::Constant;
use super::kernels::Kernel;
use super::plan::Precision;

/// Where a value is stored, before buffers are assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueRef {
    /// An input, or the result of a step.
    Value(usize),
    /// One of the plan's constants.
    Constant(usize),
    /// The contents of a state just before step `at`.
    State { state: usize, at: usize },
    /// A constant that the plan does not use yet, or that no kernel accepts, such as a string.
    Nowhere,
}

/// A step whose values do not have buffers yet. Values are identified by numbers.
pub(super) enum IrStep {
    Compute(IrCompute),
    /// Writes a state.
    Store {
        state: usize,
        source: ValueRef,
    },
    /// Copies a state.
    Load {
        state: usize,
        value: usize,
    },
}

pub(super) struct IrCompute {
    pub(super) op: String,
    /// Name of the first result.
    pub(super) result: String,
    /// Where each operand is stored, and the name of its parameter.
    pub(super) operands: Vec<(ValueRef, &'static str)>,
    /// Shape of each operand.
    pub(super) shapes: Vec<Shape>,
    /// Whether each operand holds floats. Empty for a fused step, whose operands all do.
    pub(super) floats: Vec<bool>,
    /// States that the step reads and writes in place.
    pub(super) states: Vec<usize>,
    /// The arguments of parameters that are not operands, if the program states them.
    pub(super) params: Vec<(String, Value)>,
    /// The values of the results, and their precision.
    pub(super) results: Vec<(usize, Precision)>,
    pub(super) kernel: Box<dyn Kernel>,
    pub(super) scratch: usize,
    pub(super) fallible: bool,
}

impl IrStep {
    pub(super) fn sources(&self) -> Vec<ValueRef> {
        match self {
            Self::Compute(compute) => compute.operands.iter().map(|(place, _)| *place).collect(),
            Self::Store { source, .. } => vec![*source],
            Self::Load { .. } => Vec::new(),
        }
    }

    pub(super) fn results(&self) -> Vec<usize> {
        match self {
            Self::Compute(compute) => compute.results.iter().map(|(value, _)| *value).collect(),
            Self::Store { .. } => Vec::new(),
            Self::Load { value, .. } => vec![*value],
        }
    }

    pub(super) fn replace(&mut self, f: impl Fn(ValueRef) -> ValueRef) {
        match self {
            Self::Compute(compute) => compute.operands.iter_mut().for_each(|(place, _)| *place = f(*place)),
            Self::Store { source, .. } => *source = f(*source),
            Self::Load { .. } => {}
        }
    }
}

/// A lowered function whose values do not have buffers yet.
pub(super) struct Ir {
    pub(super) steps: Vec<IrStep>,
    /// Number of elements of each value. The first values are the function's inputs.
    pub(super) lengths: Vec<usize>,
    pub(super) inputs: usize,
    /// Number of elements of each state.
    pub(super) states: Vec<usize>,
    pub(super) outputs: Vec<(ValueRef, DType, Shape)>,
    pub(super) constants: Vec<Constant>,
}
