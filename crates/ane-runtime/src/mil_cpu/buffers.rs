//! Assigns buffers to values by lifetime: the buffer of a value that is no longer read is reused.

use std::collections::HashMap;

use mlpackage::mil::Value;
use mlpackage::{DType, Shape};

use super::constants::Constant;
use super::kernels::Kernel;
use super::lowering::Place;
use super::plan::{Compute, Operand, Output, Plan, Precision, Slot, Source, Step};

/// A step whose values do not have buffers yet. Values are identified by numbers.
pub(super) enum Draft {
    Compute(DraftCompute),
    /// Writes a state.
    Store {
        state: usize,
        source: Place,
    },
    /// Copies a state.
    Load {
        state: usize,
        value: usize,
    },
}

pub(super) struct DraftCompute {
    pub(super) op: String,
    /// Name of the first result.
    pub(super) result: String,
    /// Where each operand is stored, and the name of its parameter.
    pub(super) operands: Vec<(Place, &'static str)>,
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

impl Draft {
    fn sources(&self) -> Vec<Place> {
        match self {
            Self::Compute(compute) => compute.operands.iter().map(|(place, _)| *place).collect(),
            Self::Store { source, .. } => vec![*source],
            Self::Load { .. } => Vec::new(),
        }
    }

    fn results(&self) -> Vec<usize> {
        match self {
            Self::Compute(compute) => compute.results.iter().map(|(value, _)| *value).collect(),
            Self::Store { .. } => Vec::new(),
            Self::Load { value, .. } => vec![*value],
        }
    }

    pub(super) fn replace(&mut self, f: impl Fn(Place) -> Place) {
        match self {
            Self::Compute(compute) => compute.operands.iter_mut().for_each(|(place, _)| *place = f(*place)),
            Self::Store { source, .. } => *source = f(*source),
            Self::Load { .. } => {}
        }
    }
}

/// A lowered function whose values do not have buffers yet.
pub(super) struct Drafts {
    pub(super) steps: Vec<Draft>,
    /// Number of elements of each value. The first values are the function's inputs.
    pub(super) lens: Vec<usize>,
    pub(super) inputs: usize,
    /// Number of elements of each state.
    pub(super) states: Vec<usize>,
    pub(super) outputs: Vec<(Place, DType, Shape)>,
    pub(super) constants: Vec<Constant>,
}

/// Assigns a buffer to every value.
pub(super) fn assign(mut drafts: Drafts) -> Plan {
    copy_what_is_overwritten(&mut drafts);
    let Drafts { steps, lens, inputs, states, outputs, constants } = drafts;
    // The last step that reads each value. Outputs are read after the last step.
    let mut last_use = vec![0usize; lens.len()];
    let reads =
        steps.iter().enumerate().flat_map(|(at, step)| step.sources().into_iter().map(move |p| (at, p)));
    for (at, place) in reads.chain(outputs.iter().map(|(place, _, _)| (steps.len(), *place))) {
        if let Place::Value(value) = place {
            last_use[value] = at;
        }
    }
    let mut assignment = Assignment {
        pool: Pool { sizes: Vec::new(), free: Vec::new() },
        buffers: vec![None; lens.len()],
        lens,
        states,
        used: HashMap::new(),
        constants: Vec::new(),
    };
    // Inputs are written before the first step, so they have the first buffers.
    (0..inputs).for_each(|value| assignment.give(value));
    let mut assigned = Vec::with_capacity(steps.len());
    for (at, step) in steps.into_iter().enumerate() {
        let mut touched = step.results();
        // Results first: a result must not overwrite an operand of its step.
        touched.iter().for_each(|value| assignment.give(*value));
        touched.extend(step.sources().into_iter().filter_map(|place| match place {
            Place::Value(value) => Some(value),
            _ => None,
        }));
        assigned.push(assignment.step(step, &constants));
        for value in touched {
            if last_use[value] <= at
                && let Some(buffer) = assignment.buffers[value].take()
            {
                assignment.pool.free.push(buffer);
            }
        }
    }
    let outputs = outputs.into_iter().map(|(place, dtype, shape)| {
        let source = assignment.source(place, &constants).0;
        Output { source, dtype, shape }
    });
    let outputs = outputs.collect();
    let inputs = assignment.lens[..inputs].to_vec();
    Plan::new(assigned, assignment.constants, assignment.pool.sizes, inputs, outputs)
}

struct Assignment {
    pool: Pool,
    /// The buffer of each value that is live.
    buffers: Vec<Option<usize>>,
    lens: Vec<usize>,
    states: Vec<usize>,
    /// The index in `constants` of each constant that a step uses.
    used: HashMap<usize, usize>,
    constants: Vec<Constant>,
}

impl Assignment {
    fn give(&mut self, value: usize) {
        self.buffers[value] = Some(self.pool.take(self.lens[value]));
    }

    fn slot(&self, value: usize, precision: Precision) -> Slot {
        let buffer =
            self.buffers[value].expect("a value has a buffer from where it is defined to where it is used");
        Slot { buffer, len: self.lens[value], precision }
    }

    /// Returns the source that a place becomes, and its number of elements.
    fn source(&mut self, place: Place, constants: &[Constant]) -> (Source, usize) {
        match place {
            Place::Value(value) => {
                let Slot { buffer, len, .. } = self.slot(value, Precision::Whole);
                (Source::Buffer(buffer), len)
            }
            Place::State { state, .. } => (Source::State(state), self.states[state]),
            Place::Constant(index) => {
                let kept = *self.used.entry(index).or_insert_with(|| {
                    self.constants.push(constants[index].clone());
                    self.constants.len() - 1
                });
                match &constants[index] {
                    Constant::Words(words) => (Source::Words(kept), words.len()),
                    Constant::Packed(packed) => (Source::Packed(kept), packed.elements()),
                }
            }
            Place::Nowhere => unreachable!("only numeric values are operands"),
        }
    }

    fn step(&mut self, step: Draft, constants: &[Constant]) -> Step {
        match step {
            Draft::Load { state, value } => Step::Load { state, slot: self.slot(value, Precision::Whole) },
            Draft::Store { state, source } => {
                let (source, len) = self.source(source, constants);
                Step::Store { state, source, len }
            }
            Draft::Compute(compute) => {
                let operands = compute.operands.iter().enumerate().map(|(i, (place, param))| {
                    let (source, len) = self.source(*place, constants);
                    let is_float = compute.floats.get(i).copied().unwrap_or(true);
                    Operand { source, len, param, is_float }
                });
                let operands = operands.collect();
                Step::Compute(Compute {
                    op: compute.op,
                    result: compute.result,
                    operands,
                    states: compute.states,
                    results: compute
                        .results
                        .iter()
                        .map(|(value, precision)| self.slot(*value, *precision))
                        .collect(),
                    kernel: compute.kernel,
                    scratch: compute.scratch,
                    fallible: compute.fallible,
                })
            }
        }
    }
}

/// Copies what was read from a state, if the state is written before the value is used for the last time.
///
/// Otherwise the value is the state's own memory. The copy is inserted where the state is read.
fn copy_what_is_overwritten(drafts: &mut Drafts) {
    // Each read, identified by its state and step, with the last step that uses it.
    let mut reads: Vec<(usize, usize, usize)> = Vec::new();
    let mut note = |place: Place, used: usize| {
        if let Place::State { state, at } = place {
            match reads.iter_mut().find(|(s, a, _)| (*s, *a) == (state, at)) {
                Some((_, _, last)) => *last = used,
                None => reads.push((state, at, used)),
            }
        }
    };
    for (at, step) in drafts.steps.iter().enumerate() {
        step.sources().into_iter().for_each(|place| note(place, at));
    }
    drafts.outputs.iter().for_each(|(place, _, _)| note(*place, drafts.steps.len()));
    let is_written = |state: usize, steps: &[Draft]| {
        steps.iter().any(|step| matches!(step, Draft::Store { state: written, .. } if *written == state))
    };
    reads.retain(|&(state, at, last)| is_written(state, &drafts.steps[at..last]));
    let copies: Vec<(usize, usize, usize)> = reads
        .into_iter()
        .map(|(state, at, _)| {
            drafts.lens.push(drafts.states[state]);
            (state, at, drafts.lens.len() - 1)
        })
        .collect();
    let replace = |place: Place| match place {
        Place::State { state, at } => {
            let copy = copies.iter().find(|(s, a, _)| (*s, *a) == (state, at));
            copy.map_or(place, |(_, _, value)| Place::Value(*value))
        }
        other => other,
    };
    drafts.steps.iter_mut().for_each(|step| step.replace(replace));
    drafts.outputs.iter_mut().for_each(|(place, _, _)| *place = replace(*place));
    // The last copy first, so that the positions of the others stay valid.
    let mut copies = copies;
    copies.sort_by_key(|(_, at, _)| std::cmp::Reverse(*at));
    for (state, at, value) in copies {
        drafts.steps.insert(at, Draft::Load { state, value });
    }
}

/// All buffers, and which of them are free.
struct Pool {
    sizes: Vec<usize>,
    free: Vec<usize>,
}

impl Pool {
    /// Returns a free buffer: the smallest that is large enough, or else the largest, which is grown. Creates
    /// one if none is free.
    fn take(&mut self, len: usize) -> usize {
        let size = |i: &usize| self.sizes[self.free[*i]];
        let free = 0..self.free.len();
        let best = free.clone().filter(|i| size(i) >= len).min_by_key(size).or_else(|| free.max_by_key(size));
        match best {
            Some(i) => {
                let buffer = self.free.swap_remove(i);
                self.sizes[buffer] = self.sizes[buffer].max(len);
                buffer
            }
            None => {
                self.sizes.push(len);
                self.sizes.len() - 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_buffer_that_fits_is_taken_and_the_largest_grown() {
        let mut pool = Pool { sizes: vec![4, 16, 8], free: vec![0, 1, 2] };
        assert_eq!(pool.take(5), 2);
        assert_eq!(pool.take(32), 1);
        assert_eq!(pool.take(1), 0);
        assert_eq!(pool.take(2), 3);
        assert_eq!(pool.sizes, [4, 32, 8, 2]);
    }
}
