//! Core ML's model of execution as traits: load a package, create a state, run a function on named tensors.
//!
//! Other crates can implement these traits. [`State::new`] takes the engine's memory of a sequence, and
//! [`State::begin`] returns it to a call, together with the results that the call fills.

use std::any::Any;

use mlpackage::{Interface, Package};

use crate::classes::Classes;
use crate::error::{Error, Result};
use crate::hazard::Hazard;
use crate::tensor::{TensorView, Tensors};

/// An engine that runs ML Programs.
pub trait Engine: Send + Sync {
    /// Returns the engine's name, such as `mil-cpu (f16)`.
    fn name(&self) -> &str;

    /// Loads functions of a package.
    ///
    /// Everything that the engine cannot run is refused here, all of it at once. A problem that depends on
    /// the shapes of flexible inputs or on computed values, such as a tensor without elements, is refused by
    /// the call, before anything has changed.
    ///
    /// # Errors
    ///
    /// [`Error::Package`](crate::Error::Package) if the package breaks a rule of MIL,
    /// [`Error::Unsupported`](crate::Error::Unsupported) with everything that the engine lacks.
    fn load(&self, package: &Package, options: &LoadOptions) -> Result<Box<dyn Model>>;
}

/// Options for loading a package.
///
/// ```
/// # use ane_runtime::LoadOptions;
/// let options = LoadOptions::default().with_functions(["prefill", "decode"]).with_hazards(true);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The functions to load; the first is the model's default. If empty, all functions of the package are
    /// loaded, and the default is the package's.
    pub functions: Vec<String>,
    /// Whether calls look for [hazards](Hazard). This costs a pass over every result, or two passes if the
    /// result is rounded.
    pub hazards: bool,
    /// Resource limits of a call and of a state.
    pub limits: Limits,
}

impl LoadOptions {
    /// Sets the functions to load, the default one first.
    #[must_use]
    pub fn with_functions(mut self, functions: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.functions = functions.into_iter().map(Into::into).collect();
        self
    }

    /// Sets whether calls look for hazards.
    #[must_use]
    pub fn with_hazards(mut self, hazards: bool) -> Self {
        self.hazards = hazards;
        self
    }

    /// Sets the resource limits of a call and of a state.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Returns the names of the functions to load, the default function first.
    pub fn functions_of(&self, package: &Package) -> Vec<String> {
        if !self.functions.is_empty() {
            return self.functions.clone();
        }
        let default = package.default_function().to_owned();
        let others = package.program().functions.keys().filter(|name| **name != default);
        std::iter::once(default.clone()).chain(others.cloned()).collect()
    }
}

/// Resource limits of a call and of a state. A program that exceeds them is damaged or malicious.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The workspace limit: bytes of the buffers and results of a call, and likewise bytes of the states of a
    /// sequence, 4 GiB by default.
    pub workspace: u64,
    /// Iterations of all `while_loop`s of a call together, 65,536 by default.
    pub iterations: usize,
}

impl Limits {
    /// Sets the workspace limit, in bytes.
    #[must_use]
    pub fn with_workspace(self, workspace: u64) -> Self {
        Self { workspace, ..self }
    }

    /// Sets the limit of loop iterations.
    #[must_use]
    pub fn with_iterations(self, iterations: usize) -> Self {
        Self { iterations, ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { workspace: 1 << 32, iterations: 1 << 16 }
    }
}

/// Loaded functions of a package. A model can be shared between threads; everything that changes is in the
/// [`State`].
pub trait Model: Send + Sync {
    /// Returns the functions, the default one first.
    fn functions(&self) -> Vec<&dyn ModelFunction>;

    /// Creates a state of zeros, for one sequence. Functions that use the same state name share that state.
    fn new_state(&self) -> State;

    /// Resets a state to a [new one](Self::new_state), for the next sequence. An engine may keep the memory,
    /// which is faster than allocating it again. The state of another model is replaced.
    fn reset(&self, state: &mut State) {
        *state = self.new_state();
    }

    /// Returns the function that runs when no function is named.
    fn default_function(&self) -> &dyn ModelFunction;

    /// Returns the default function's interface.
    fn describe(&self) -> &Interface {
        self.default_function().describe()
    }

    /// Runs the [default function](ModelFunction::predict).
    ///
    /// # Errors
    ///
    /// As for [`ModelFunction::predict`].
    fn predict<'s>(&self, inputs: &[(&str, TensorView<'_>)], state: &'s mut State) -> Result<&'s Tensors> {
        self.default_function().predict(inputs, state)
    }

    /// Returns the function called `name`.
    ///
    /// # Errors
    ///
    /// [`Error::NoFunction`](crate::Error::NoFunction), which lists the functions that exist.
    fn function(&self, name: &str) -> Result<&dyn ModelFunction> {
        let functions = self.functions();
        let found = functions.iter().find(|f| f.name() == name).copied();
        found.ok_or_else(|| Error::NoFunction {
            name: name.to_owned(),
            known: functions.iter().map(|f| f.name().to_owned()).collect(),
        })
    }
}

/// A function of a [`Model`].
pub trait ModelFunction: Send + Sync {
    /// Returns the function's name.
    fn name(&self) -> &str;

    /// Returns the function's inputs, outputs and states.
    fn describe(&self) -> &Interface;

    /// Returns the labels, if the function is a classifier and the engine knows them. [`Classes`] describes
    /// the outputs, which are then tensors as well.
    fn classes(&self) -> Option<&Classes> {
        None
    }

    /// Runs the function once on named tensors and updates `state`, which keeps the results until the next
    /// call.
    ///
    /// The tensors that are returned are those of [`State::outputs`]. Callers may read either, so an
    /// engine puts its results into the [`StateParts::outputs`] of the call.
    ///
    /// Floats are rounded to the declared type of an input; NaN and infinities are passed on. The elements of
    /// an fp16 [`Tensor`](crate::Tensor) already count as fp16, so a result that is passed back as an input
    /// stays exactly what the engine computed. Integers must be in the range of the declared type.
    ///
    /// # Errors
    ///
    /// [`Error::Input`](crate::Error::Input) for inputs that are missing, unknown, or of the wrong type or
    /// shape; [`Error::ForeignState`](crate::Error::ForeignState) for the state of another model;
    /// [`Error::Execution`](crate::Error::Execution) if the values of the operands do not allow an operation,
    /// such as an index out of range, or if a call exceeds its [`Limits`]. The model's memory in `state` is
    /// then unchanged; [`State::outputs`] is unspecified until the next call that succeeds.
    fn predict<'s>(&self, inputs: &[(&str, TensorView<'_>)], state: &'s mut State) -> Result<&'s Tensors>;

    /// Runs the function once for each of several sequences, each with its own inputs and state.
    ///
    /// The results are the same as those of separate calls of [`predict`](Self::predict), and are in each
    /// [`State::outputs`]. An engine that can share work between the sequences does so.
    ///
    /// # Errors
    ///
    /// As for [`predict`](Self::predict), for the first sequence that cannot be run. If the sequences ran one
    /// by one, those before it have run; if they shared the work, none has.
    ///
    /// # Panics
    ///
    /// Panics if the numbers of inputs and states differ.
    fn predict_batch(&self, inputs: &[&[(&str, TensorView<'_>)]], states: &mut [&mut State]) -> Result<()> {
        assert_eq!(inputs.len(), states.len(), "a state for each sequence");
        for (inputs, state) in inputs.iter().zip(states) {
            self.predict(inputs, state)?;
        }
        Ok(())
    }

    /// Returns the plan of the function for the default shapes of its inputs, as text. Empty if the engine
    /// has no plan.
    fn plan(&self) -> String {
        String::new()
    }

    /// Returns the plan of the function for the shapes of these inputs, as text. Empty if the engine has no
    /// plan.
    ///
    /// # Errors
    ///
    /// [`Error::Input`](crate::Error::Input) for inputs that [`predict`](Self::predict) refuses; only their
    /// types and shapes matter. [`Error::Execution`](crate::Error::Execution) for shapes that do not match
    /// each other.
    fn plan_for(&self, _inputs: &[(&str, TensorView<'_>)]) -> Result<String> {
        Ok(self.plan())
    }

    /// Returns the memory use for the default shapes of the inputs; `None` if the engine does not know it.
    fn memory(&self) -> Option<Memory> {
        None
    }

    /// Returns the memory use for the shapes of these inputs; `None` if the engine does not know it.
    ///
    /// # Errors
    ///
    /// As for [`plan_for`](Self::plan_for).
    fn memory_for(&self, _inputs: &[(&str, TensorView<'_>)]) -> Result<Option<Memory>> {
        Ok(self.memory())
    }
}

/// The memory use of a function, in bytes. It is known before the function runs, and exact for inputs of the
/// shapes that were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Weights as they are stored, mapped from the package.
    pub weights: u64,
    /// Constants that were dequantized or computed at load.
    pub constants: u64,
    /// Contents of the states.
    pub state: u64,
    /// Buffers and results of a call, kept by each [`State`].
    pub workspace: u64,
}

/// What a model remembers of a sequence between calls, and its last results.
pub struct State {
    memory: Box<dyn Any + Send>,
    /// Results of each function of the model.
    outputs: Vec<Tensors>,
    /// Index of the function that was called last.
    last: usize,
    hazards: Vec<Hazard>,
}

/// The parts of a [`State`] that a call changes.
#[derive(Debug)]
pub struct StateParts<'s, M> {
    /// The engine's memory of the sequence.
    pub memory: &'s mut M,
    /// Results of the function's last call; empty before the first.
    pub outputs: &'s mut Tensors,
    /// The first hazard of each kind so far.
    pub hazards: &'s mut Vec<Hazard>,
}

impl State {
    /// Creates a state for a model with `functions` functions.
    ///
    /// `memory` is the engine's own: whatever it keeps of a sequence between calls. It should identify the
    /// model, so that the engine can refuse the state of another one.
    ///
    /// # Panics
    ///
    /// Panics if there are more functions than a vector can hold.
    pub fn new(memory: impl Any + Send, functions: usize) -> Self {
        let outputs = vec![Tensors::default(); functions];
        Self { memory: Box::new(memory), outputs, last: 0, hazards: Vec::new() }
    }

    /// Begins a call of the function with index `function` among the model's functions: from now on,
    /// [`outputs`](Self::outputs) returns that function's results.
    ///
    /// `is_own` decides whether the memory belongs to the model.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignState`] if the memory is of another type, if `is_own` refuses it, or if there is no
    /// such function. The state is then unchanged.
    pub fn begin<M: Any>(
        &mut self,
        function: usize,
        is_own: impl FnOnce(&M) -> bool,
    ) -> Result<StateParts<'_, M>> {
        let memory = self.memory.downcast_mut::<M>().filter(|memory| is_own(memory));
        let memory = memory.ok_or(Error::ForeignState)?;
        let outputs = self.outputs.get_mut(function).ok_or(Error::ForeignState)?;
        self.last = function;
        Ok(StateParts { memory, outputs, hazards: &mut self.hazards })
    }

    /// Returns the engine's memory, if it is of type `M`.
    pub fn memory_mut<M: Any>(&mut self) -> Option<&mut M> {
        self.memory.downcast_mut()
    }

    /// Clears results and hazards, as if no call had been made. The engine's memory stays as it is.
    pub fn clear(&mut self) {
        self.outputs.fill(Tensors::default());
        self.last = 0;
        self.hazards.clear();
    }

    /// Returns the results of the last call; empty before the first.
    pub fn outputs(&self) -> &Tensors {
        self.outputs.get(self.last).unwrap_or(&NO_TENSORS)
    }

    /// Returns the first hazard of each kind since the state was created. Empty unless
    /// [`LoadOptions::hazards`] is set.
    pub fn hazards(&self) -> &[Hazard] {
        &self.hazards
    }
}

/// The results of a model without functions.
static NO_TENSORS: Tensors = Tensors::EMPTY;

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("outputs", self.outputs()).finish_non_exhaustive()
    }
}
