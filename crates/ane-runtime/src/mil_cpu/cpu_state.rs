//! The memory of one sequence: its states, and the workspaces of its calls.

use mlpackage::mil::TensorType;

use super::run_plan::Workspace;
use crate::engine::Limits;
use crate::inputs::{self, MAX_ELEMENTS};

/// The memory of a [`State`](crate::engine::State) of this engine.
pub(super) struct CpuState {
    pub(super) model: u64,
    /// The states of the model.
    pub(super) states: Vec<Vec<u32>>,
    /// One workspace for each function.
    pub(super) workspaces: Vec<Workspace>,
    /// The states of the function that is running, in its order.
    pub(super) lent: Vec<Vec<u32>>,
    /// Number of calls that have returned.
    pub(super) calls: usize,
    /// Whether a call has begun and not returned. If no call is running, the last one has panicked, and what it
    /// moved out of the states is lost.
    pub(super) is_running: bool,
}

impl CpuState {
    pub(super) fn new(model: u64, states: Vec<Vec<u32>>, functions: usize) -> Self {
        let workspaces = (0..functions).map(|_| Workspace::default()).collect();
        let lent = Vec::with_capacity(states.len());
        Self { model, states, workspaces, lent, calls: 0, is_running: false }
    }

    /// Fills the states with zeros. Returns `false` and changes nothing if they belong to another model, or if a
    /// call that panicked has left them incomplete.
    pub(super) fn reset(&mut self, model: u64) -> bool {
        let is_own = self.model == model && !self.is_running;
        if is_own {
            self.states.iter_mut().for_each(|state| state.fill(0));
            self.calls = 0;
        }
        is_own
    }

    /// Moves the states of a function to `lent`, in the order of the function.
    pub(super) fn lend(&mut self, states: &[usize]) {
        self.lent.clear();
        self.lent.extend(states.iter().map(|&i| std::mem::take(&mut self.states[i])));
    }

    /// Moves the states of a function back.
    pub(super) fn take_back(&mut self, states: &[usize]) {
        for (&i, state) in states.iter().zip(self.lent.drain(..)) {
            self.states[i] = state;
        }
    }
}

/// Returns the size of states, in bytes. Every element is a word.
pub(super) fn state_bytes<'t>(types: impl Iterator<Item = &'t TensorType>) -> u64 {
    let elements = types.map(|ty| ty.shape.elements().unwrap_or(0) as u64);
    elements.fold(0, |sum, n| sum.saturating_add(n.saturating_mul(4)))
}

/// Adds to `missing` what the engine lacks to hold the states of a sequence.
pub(super) fn oversized_states(states: &[(String, TensorType)], limits: Limits, missing: &mut Vec<String>) {
    for (name, ty) in states {
        let elements = ty.shape.known().and_then(|shape| shape.checked_elements());
        if elements.is_none_or(|n| n > MAX_ELEMENTS) {
            missing.push(format!("room for state {name}, {ty}: {}", inputs::too_many(elements)));
        }
    }
    let (bytes, most) = (state_bytes(states.iter().map(|(_, ty)| ty)), limits.workspace);
    if bytes > most {
        missing.push(format!("room for {bytes} B of states, {most} B at most: raise the workspace limit"));
    }
}
