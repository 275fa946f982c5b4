//! Calls functions one after the other on one state, and collects their outputs.

use std::fmt::Write as _;
use std::time::Instant;

use ane_runtime::{Hazard, Memory, ModelFunction, State, Tensors};
use anyhow::{Result, ensure};
use mlpackage::counted;

use super::calls::{Call, Calls, views};
use super::results::{self, Results};

/// A run in progress.
pub(super) struct Execution {
    state: State,
    /// Whether the outputs of all calls are kept.
    keep: bool,
    /// Limit of the outputs that are kept, in bytes.
    limit: u64,
    /// Size of the outputs that the functions so far keep, in bytes.
    kept: u64,
    /// Results of each function.
    results: Vec<Results>,
    /// Outputs of each function's last call.
    last: Vec<Tensors>,
    /// For each function, the inputs with NaN or infinite elements.
    faulty: Vec<Vec<String>>,
    /// The text to print.
    text: String,
}

/// The calls of one function so far.
#[derive(Default)]
struct Called {
    results: Results,
    /// Inputs with NaN or infinite elements.
    faulty: Vec<String>,
    memory: Option<Memory>,
    seconds: f64,
}

impl Execution {
    /// Creates a run in which nothing has been called yet. If `keep`, it keeps the outputs of all calls, up
    /// to `limit` bytes.
    pub(super) fn new(state: State, keep: bool, limit: u64) -> Self {
        Self {
            state,
            keep,
            limit,
            kept: 0,
            results: Vec::new(),
            last: Vec::new(),
            faulty: Vec::new(),
            text: String::new(),
        }
    }

    /// Returns the results of each function.
    pub(super) fn results(&self) -> &[Results] {
        &self.results
    }

    /// Returns the outputs of each function's last call.
    pub(super) fn last_outputs(&self) -> &[Tensors] {
        &self.last
    }

    /// Returns, for each function, the inputs with NaN or infinite elements.
    pub(super) fn faulty_inputs(&self) -> &[Vec<String>] {
        &self.faulty
    }

    /// Returns the hazards of all functions.
    pub(super) fn hazards(&self) -> &[Hazard] {
        self.state.hazards()
    }

    /// Describes the calls and their outputs.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Calls a function for all of its steps.
    pub(super) fn call(&mut self, function: &dyn ModelFunction, calls: &Calls, call: &Call) -> Result<()> {
        let mut called = Called::default();
        let steps = call.steps.unwrap_or(1);
        for step in 0..steps {
            let stepped = self.step(function, calls, call, step, &mut called);
            stepped.map_err(|error| match (call.steps, calls.calls.len()) {
                (Some(_), _) => error.context(format!("call {step} of {}", call.function)),
                (None, 1) => error,
                (None, _) => error.context(format!("function {}", call.function)),
            })?;
        }
        let Called { results, faulty, memory, seconds } = called;
        self.text.push_str(&describe(function, steps, seconds, memory));
        self.describe_outputs(function, calls, call);
        self.last.push(self.state.outputs().clone());
        self.results.push(results);
        self.faulty.push(faulty);
        Ok(())
    }

    /// Calls a function once.
    fn step(
        &mut self,
        function: &dyn ModelFunction,
        calls: &Calls,
        call: &Call,
        step: usize,
        called: &mut Called,
    ) -> Result<()> {
        let inputs = calls.inputs(call, step)?;
        for (name, tensor) in &inputs {
            if results::has_faults(tensor.data()) && !called.faulty.iter().any(|known| known == name) {
                called.faulty.push((*name).to_owned());
            }
        }
        let inputs = views(&inputs);
        if step == 0 {
            called.memory = function.memory_for(&inputs)?;
        }
        let begun = Instant::now();
        let outputs = function.predict(&inputs, &mut self.state)?;
        called.seconds += begun.elapsed().as_secs_f64();
        called.results.push(outputs, self.keep)?;
        if step == 0 {
            self.reserve(called.results.bytes(), call.steps.unwrap_or(1))?;
        }
        Ok(())
    }

    /// Refuses a function whose outputs would exceed the limit: every further call returns as much as the first.
    fn reserve(&mut self, bytes_of_a_call: u64, steps: usize) -> Result<()> {
        self.kept = self.kept.saturating_add(bytes_of_a_call.saturating_mul(steps as u64));
        ensure!(
            self.kept <= self.limit,
            "the outputs of {steps} calls take {} bytes, more than the limit of {} bytes: give fewer steps, \
             or raise the limit with --workspace",
            self.kept,
            self.limit
        );
        Ok(())
    }

    /// Describes the outputs of a function's last call.
    fn describe_outputs(&mut self, function: &dyn ModelFunction, calls: &Calls, call: &Call) {
        let classes = function.classes();
        for (name, tensor) in self.state.outputs().iter() {
            let words = classes.and_then(|classes| classes.describe(name));
            let words = words.map_or(String::new(), |words| format!("{words}, "));
            let _ = writeln!(self.text, "  {}: {words}{tensor}", calls.full_name(call, name));
        }
        if let Some(label) = classes.and_then(|classes| classes.chosen(self.state.outputs())) {
            let _ = writeln!(self.text, "  label: {label}");
        }
    }
}

/// Describes the calls, their time, and the memory that a call needs for such inputs.
fn describe(function: &dyn ModelFunction, steps: usize, seconds: f64, memory: Option<Memory>) -> String {
    let each = seconds * 1e3 / steps as f64;
    let mut text = format!("{}: {}, {each:.3} ms each\n", function.name(), counted(steps, "call"));
    match memory {
        Some(memory) => {
            let _ = writeln!(
                text,
                "memory: {} B of weights as stored, {} B of constants, {} B of state, {} B of workspace",
                memory.weights, memory.constants, memory.state, memory.workspace
            );
        }
        None => text.push_str("memory: not known beforehand\n"),
    }
    text
}
