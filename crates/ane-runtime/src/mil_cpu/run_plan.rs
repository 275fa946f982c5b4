//! Runs the steps of a plan.
//!
//! After the first call, running a plan for one sequence does not allocate, unless a step has very many
//! operands.

use std::collections::TryReserveError;

use smallvec::SmallVec;

use super::constants::Constant;
use super::hazards::{Observed, Watch, Watched};
use super::kernels::{self, Call};
use super::numerics::round_to_half;
use super::plan::{Compute, Operand, Output, Plan, Precision, Source, Step};
use crate::error::{Error, Result};
use crate::tensor::{Data, Tensors};

/// The memory that a call uses.
#[derive(Default)]
pub(super) struct Workspace {
    buffers: Vec<Vec<u32>>,
    scratch: Vec<f32>,
    /// Copies of the states from before the call.
    before: Vec<Vec<u32>>,
}

/// One of the sequences of a batch.
pub(super) struct SequenceBuffers<'s> {
    pub(super) workspace: &'s mut Workspace,
    pub(super) states: &'s mut [Vec<u32>],
    pub(super) outputs: &'s mut Tensors,
    pub(super) watch: Option<&'s mut Watch>,
}

impl Plan {
    /// Grows `workspace` to fit this plan and returns the buffers of the inputs.
    ///
    /// Allocates only if the workspace is too small.
    ///
    /// # Errors
    ///
    /// Returns an error if the memory cannot be allocated.
    pub(super) fn prepare<'w>(
        &'w self,
        workspace: &'w mut Workspace,
    ) -> Result<impl Iterator<Item = &'w mut [u32]>, TryReserveError> {
        if workspace.buffers.len() < self.buffers.len() {
            workspace.buffers.resize_with(self.buffers.len(), Vec::new);
        }
        for (buffer, &len) in workspace.buffers.iter_mut().zip(&self.buffers) {
            grow(buffer, len)?;
        }
        grow(&mut workspace.scratch, self.scratch)?;
        Ok(workspace.buffers.iter_mut().zip(&self.inputs).map(|(buffer, &len)| &mut buffer[..len]))
    }

    /// Runs the function for all sequences. An error leaves every state unchanged.
    ///
    /// The caller has called [`prepare`](Self::prepare) for each sequence and written its inputs.
    pub(super) fn run(&self, sequences: &mut [SequenceBuffers<'_>]) -> Result<()> {
        if self.may_fail_late {
            for SequenceBuffers { workspace, states, .. } in &mut *sequences {
                workspace.before.resize_with(states.len(), Vec::new);
                workspace
                    .before
                    .iter_mut()
                    .zip(states.iter())
                    .for_each(|(copy, state)| copy.clone_from(state));
            }
        }
        for step in &self.steps {
            if let Err(error) = self.step(step, sequences) {
                if self.may_fail_late {
                    for SequenceBuffers { workspace, states, .. } in sequences {
                        workspace
                            .before
                            .iter()
                            .zip(states.iter_mut())
                            .for_each(|(copy, s)| s.clone_from(copy));
                    }
                }
                return Err(error);
            }
        }
        for SequenceBuffers { workspace, states, outputs, .. } in sequences {
            for (i, Output { source, dtype, shape }) in self.outputs.iter().enumerate() {
                let tensor = outputs.at_mut(i);
                tensor.reset(*dtype, shape);
                match self.operand(workspace, states, *source, shape.elements()) {
                    kernels::Operand::Words(words) => copy_out(words, tensor.data_mut()),
                    kernels::Operand::Packed(packed) => {
                        if let Data::F32(values) = tensor.data_mut() {
                            packed.read(0, values);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn operand<'a>(
        &'a self,
        workspace: &'a Workspace,
        states: &'a [Vec<u32>],
        source: Source,
        len: usize,
    ) -> kernels::Operand<'a> {
        match source {
            Source::Buffer(i) => kernels::Operand::Words(&workspace.buffers[i][..len]),
            Source::State(i) => kernels::Operand::Words(&states[i]),
            Source::Words(i) | Source::Packed(i) => match &self.constants[i] {
                Constant::Words(words) => kernels::Operand::Words(words),
                Constant::Packed(packed) => kernels::Operand::Packed(packed),
            },
        }
    }

    fn step(&self, step: &Step, sequences: &mut [SequenceBuffers<'_>]) -> Result<()> {
        match step {
            Step::Load { state, slot } => {
                for SequenceBuffers { workspace, states, .. } in sequences {
                    workspace.buffers[slot.buffer][..slot.len].copy_from_slice(&states[*state]);
                }
                Ok(())
            }
            Step::Store { state, source, len } => {
                for SequenceBuffers { workspace, states, .. } in sequences {
                    if *source == Source::State(*state) {
                        continue;
                    }
                    let mut target = std::mem::take(&mut states[*state]);
                    match self.operand(workspace, states, *source, *len) {
                        kernels::Operand::Words(words) => target.copy_from_slice(words),
                        kernels::Operand::Packed(packed) => {
                            packed.read(0, bytemuck::cast_slice_mut(&mut target));
                        }
                    }
                    states[*state] = target;
                }
                Ok(())
            }
            Step::Compute(compute) => self.compute(compute, sequences),
        }
    }

    /// Runs the kernel of a step for all sequences.
    fn compute(&self, compute: &Compute, sequences: &mut [SequenceBuffers<'_>]) -> Result<()> {
        let outcome = match sequences {
            // The same as below, without allocating lists of one element.
            [sequence] => {
                let mut taken = Taken::take(compute, sequence);
                let outcome = {
                    let mut bound = self.bind(compute, sequence, &mut taken);
                    compute.kernel.run(&mut bound.call())
                };
                self.put_back(compute, sequence, taken, outcome.is_ok());
                outcome
            }
            _ => {
                let mut taken: Vec<Taken> = sequences.iter_mut().map(|s| Taken::take(compute, s)).collect();
                let outcome = {
                    let each = sequences.iter().zip(&mut taken);
                    let mut bound: Vec<Bound<'_, '_>> =
                        each.map(|(sequence, taken)| self.bind(compute, sequence, taken)).collect();
                    let mut calls: Vec<Call<'_, '_>> = bound.iter_mut().map(Bound::call).collect();
                    compute.kernel.run_batch(&mut calls)
                };
                for (sequence, taken) in sequences.iter_mut().zip(taken) {
                    self.put_back(compute, sequence, taken, outcome.is_ok());
                }
                outcome
            }
        };
        outcome.map_err(|reason| Error::Execution {
            operation: format!("{} -> %{}", compute.op, compute.result),
            reason,
        })
    }

    #[inline]
    fn bind<'a, 'r>(
        &'a self,
        compute: &Compute,
        sequence: &'a SequenceBuffers<'_>,
        taken: &'r mut Taken,
    ) -> Bound<'a, 'r> {
        let mut operands = SmallVec::new();
        for Operand { source, len, .. } in &compute.operands {
            operands.push(self.operand(sequence.workspace, sequence.states, *source, *len));
        }
        let mut results = SmallVec::new();
        for (buffer, slot) in taken.results.iter_mut().zip(&compute.results) {
            results.push(&mut buffer[..slot.len]);
        }
        let mut states = SmallVec::new();
        for state in &mut taken.states {
            states.push(state.as_mut_slice());
        }
        Bound { operands, results, states, scratch: &mut taken.scratch }
    }

    /// Ends a step: rounds its results, and moves its buffers and states back to the sequence.
    #[inline]
    fn put_back(
        &self,
        compute: &Compute,
        sequence: &mut SequenceBuffers<'_>,
        mut taken: Taken,
        is_done: bool,
    ) {
        if is_done {
            self.round(compute, sequence, &mut taken);
        }
        for (slot, buffer) in compute.results.iter().zip(taken.results) {
            sequence.workspace.buffers[slot.buffer] = buffer;
        }
        for (state, memory) in compute.states.iter().zip(taken.states) {
            sequence.states[*state] = memory;
        }
        sequence.workspace.scratch = taken.scratch;
    }

    /// Rounds results of precision [`Half`](Precision::Half), and notes hazards if the sequence is watched.
    fn round(&self, compute: &Compute, sequence: &mut SequenceBuffers<'_>, taken: &mut Taken) {
        for (buffer, slot) in taken.results.iter_mut().zip(&compute.results) {
            let values: &mut [f32] = bytemuck::cast_slice_mut(&mut buffer[..slot.len]);
            let Some(watch) = sequence.watch.as_deref_mut() else {
                if slot.precision == Precision::Half {
                    round_to_half(values);
                }
                continue;
            };
            let Some((exact, rounded)) = observe(slot.precision, values) else { continue };
            let operands = compute.operands.iter().map(|operand| {
                let bound = self.operand(sequence.workspace, sequence.states, operand.source, operand.len);
                let constant = matches!(operand.source, Source::Words(_) | Source::Packed(_));
                (Watched { param: operand.param, constant, is_float: operand.is_float }, bound)
            });
            watch.note(&compute.op, &compute.result, exact, rounded, operands);
        }
    }
}

/// Rounds `values` to `precision`. Returns observations of the values before and after; `None` for integers.
pub(super) fn observe(precision: Precision, values: &mut [f32]) -> Option<(Observed, Observed)> {
    if precision == Precision::Whole {
        return None;
    }
    let exact = Observed::of(values);
    if precision == Precision::Single {
        return Some((exact, exact));
    }
    round_to_half(values);
    Some((exact, Observed::of(values)))
}

/// Grows `buffer` to at least `len` elements.
fn grow<T: Clone + Default>(buffer: &mut Vec<T>, len: usize) -> Result<(), TryReserveError> {
    if buffer.len() < len {
        buffer.try_reserve_exact(len - buffer.len())?;
        buffer.resize(len, T::default());
    }
    Ok(())
}

/// Results, states and scratch memory of a step, moved out of the sequence while the kernel writes them and
/// reads the other buffers.
struct Taken {
    results: SmallVec<[Vec<u32>; 4]>,
    states: SmallVec<[Vec<u32>; 2]>,
    scratch: Vec<f32>,
}

impl Taken {
    #[inline]
    fn take(compute: &Compute, SequenceBuffers { workspace, states, .. }: &mut SequenceBuffers<'_>) -> Self {
        let mut taken = Self {
            results: SmallVec::new(),
            states: SmallVec::new(),
            scratch: std::mem::take(&mut workspace.scratch),
        };
        for slot in &compute.results {
            taken.results.push(std::mem::take(&mut workspace.buffers[slot.buffer]));
        }
        for state in &compute.states {
            taken.states.push(std::mem::take(&mut states[*state]));
        }
        taken
    }
}

/// The arguments of a kernel call for one sequence.
struct Bound<'a, 'r> {
    operands: SmallVec<[kernels::Operand<'a>; 8]>,
    results: SmallVec<[&'r mut [u32]; 4]>,
    states: SmallVec<[&'r mut [u32]; 2]>,
    scratch: &'r mut [f32],
}

impl<'r> Bound<'_, 'r> {
    fn call(&mut self) -> Call<'_, 'r> {
        let Self { operands, results, states, scratch } = self;
        Call { operands, results, states, scratch }
    }
}

/// Copies words to the elements of an output tensor.
pub(super) fn copy_out(words: &[u32], data: &mut Data) {
    match data {
        Data::F32(values) => values.copy_from_slice(bytemuck::cast_slice(words)),
        Data::I32(values) => values.copy_from_slice(bytemuck::cast_slice(words)),
        Data::Bool(values) => values.iter_mut().zip(words).for_each(|(value, word)| *value = *word != 0),
    }
}
