//! Assigns buffers to values by lifetime: the buffer of a value that is no longer read is reused.

use std::collections::HashMap;

use super::constants::Constant;
use super::ir::{Ir, IrStep, ValueRef};
use super::plan::{Compute, Operand, Output, Plan, Precision, Slot, Source, Step};

/// Assigns a buffer to every value.
pub(super) fn allocate(mut ir: Ir) -> Plan {
    copy_what_is_overwritten(&mut ir);
    let Ir { steps, lengths, inputs, states, outputs, constants } = ir;
    // The last step that reads each value. Outputs are read after the last step.
    let mut last_use = vec![0usize; lengths.len()];
    let reads =
        steps.iter().enumerate().flat_map(|(at, step)| step.sources().into_iter().map(move |p| (at, p)));
    for (at, place) in reads.chain(outputs.iter().map(|(place, _, _)| (steps.len(), *place))) {
        if let ValueRef::Value(value) = place {
            last_use[value] = at;
        }
    }
    let mut assignment = Assignment {
        pool: Pool { sizes: Vec::new(), free: Vec::new() },
        buffers: vec![None; lengths.len()],
        lengths,
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
            ValueRef::Value(value) => Some(value),
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
    let inputs = assignment.lengths[..inputs].to_vec();
    Plan::new(assigned, assignment.constants, assignment.pool.sizes, inputs, outputs)
}

struct Assignment {
    pool: Pool,
    /// The buffer of each value that is live.
    buffers: Vec<Option<usize>>,
    lengths: Vec<usize>,
    states: Vec<usize>,
    /// The index in `constants` of each constant that a step uses.
    used: HashMap<usize, usize>,
    constants: Vec<Constant>,
}

impl Assignment {
    fn give(&mut self, value: usize) {
        self.buffers[value] = Some(self.pool.take(self.lengths[value]));
    }

    fn slot(&self, value: usize, precision: Precision) -> Slot {
        let buffer =
            self.buffers[value].expect("a value has a buffer from where it is defined to where it is used");
        Slot { buffer, len: self.lengths[value], precision }
    }

    /// Returns the source that a place becomes, and its number of elements.
    fn source(&mut self, place: ValueRef, constants: &[Constant]) -> (Source, usize) {
        match place {
            ValueRef::Value(value) => {
                let Slot { buffer, len, .. } = self.slot(value, Precision::Whole);
                (Source::Buffer(buffer), len)
            }
            ValueRef::State { state, .. } => (Source::State(state), self.states[state]),
            ValueRef::Constant(index) => {
                let kept = *self.used.entry(index).or_insert_with(|| {
                    self.constants.push(constants[index].clone());
                    self.constants.len() - 1
                });
                match &constants[index] {
                    Constant::Words(words) => (Source::Words(kept), words.len()),
                    Constant::Packed(packed) => (Source::Packed(kept), packed.elements()),
                }
            }
            ValueRef::Nowhere => unreachable!("only numeric values are operands"),
        }
    }

    fn step(&mut self, step: IrStep, constants: &[Constant]) -> Step {
        match step {
            IrStep::Load { state, value } => Step::Load { state, slot: self.slot(value, Precision::Whole) },
            IrStep::Store { state, source } => {
                let (source, len) = self.source(source, constants);
                Step::Store { state, source, len }
            }
            IrStep::Compute(compute) => {
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
fn copy_what_is_overwritten(ir: &mut Ir) {
    // Each read, identified by its state and step, with the last step that uses it.
    let mut reads: Vec<(usize, usize, usize)> = Vec::new();
    let mut note = |place: ValueRef, used: usize| {
        if let ValueRef::State { state, at } = place {
            match reads.iter_mut().find(|(s, a, _)| (*s, *a) == (state, at)) {
                Some((_, _, last)) => *last = used,
                None => reads.push((state, at, used)),
            }
        }
    };
    for (at, step) in ir.steps.iter().enumerate() {
        step.sources().into_iter().for_each(|place| note(place, at));
    }
    ir.outputs.iter().for_each(|(place, _, _)| note(*place, ir.steps.len()));
    let is_written = |state: usize, steps: &[IrStep]| {
        steps.iter().any(|step| matches!(step, IrStep::Store { state: written, .. } if *written == state))
    };
    reads.retain(|&(state, at, last)| is_written(state, &ir.steps[at..last]));
    let copies: Vec<(usize, usize, usize)> = reads
        .into_iter()
        .map(|(state, at, _)| {
            ir.lengths.push(ir.states[state]);
            (state, at, ir.lengths.len() - 1)
        })
        .collect();
    let replace = |place: ValueRef| match place {
        ValueRef::State { state, at } => {
            let copy = copies.iter().find(|(s, a, _)| (*s, *a) == (state, at));
            copy.map_or(place, |(_, _, value)| ValueRef::Value(*value))
        }
        other => other,
    };
    ir.steps.iter_mut().for_each(|step| step.replace(replace));
    ir.outputs.iter_mut().for_each(|(place, _, _)| *place = replace(*place));
    // The last copy first, so that the positions of the others stay valid.
    let mut copies = copies;
    copies.sort_by_key(|(_, at, _)| std::cmp::Reverse(*at));
    for (state, at, value) in copies {
        ir.steps.insert(at, IrStep::Load { state, value });
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
