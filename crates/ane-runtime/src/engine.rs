//! Core ML's own meaning of running a model, as traits: load a package, make a state, run a function on named tensors.

use std::any::Any;

use mlpackage::{Interface, Package};

use crate::classes::Classes;
use crate::error::Result;
use crate::hazard::Hazard;
use crate::tensor::{TensorView, Tensors};

/// Something that runs ML Programs.
pub trait Engine: Send + Sync {
    /// Its name, such as `mil-cpu (f16)`.
    fn name(&self) -> &str;

    /// Loads functions of a package. Whatever the engine cannot run is refused here, all of it at once. What depends on the
    /// shapes of flexible inputs or on computed values, such as a tensor without elements, is known no sooner than the
    /// call: it is refused there, before anything has changed.
    ///
    /// # Errors
    ///
    /// [`Error::Package`](crate::Error::Package) if the package breaks a rule of MIL,
    /// [`Error::Unsupported`](crate::Error::Unsupported) with everything that the engine lacks.
    fn load(&self, package: &Package, options: &LoadOptions) -> Result<Box<dyn Model>>;
}

/// How to load a package.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The functions to load, the first of which is the model's default; all of the package's, and its own default, if
    /// there are none.
    pub functions: Vec<String>,
    /// Whether calls look for [hazards](Hazard). Costs a pass over every result, or two where it is rounded.
    pub hazards: bool,
    /// What a call may take at most.
    pub limits: Limits,
}

impl LoadOptions {
    /// Names of the functions that are to be loaded, the default one first.
    pub(crate) fn functions_of(&self, package: &Package) -> Vec<String> {
        if !self.functions.is_empty() {
            return self.functions.clone();
        }
        let default = package.default_function().to_owned();
        let others = package.program().functions.keys().filter(|name| **name != default);
        std::iter::once(default.clone()).chain(others.cloned()).collect()
    }
}

/// What a call may take at most: a program that asks for more is damaged, or means harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of buffers and results, 4 GiB unless told.
    pub workspace: u64,
    /// Iterations of all `while_loop`s of a call together, 65,536 unless told.
    pub iterations: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { workspace: 1 << 32, iterations: 1 << 16 }
    }
}

/// Functions of a package that were loaded. It can be shared between threads; what changes is in the [`State`].
pub trait Model: Send + Sync {
    /// Its functions, the default one first.
    fn functions(&self) -> Vec<&dyn Function>;

    /// A fresh state, all zeros: one for each sequence. Functions share what they both call by the same name.
    fn new_state(&self) -> State;

    /// Makes a state a [fresh one](Self::new_state) again, for the next sequence. An engine that can keeps its memory, which is
    /// faster than asking the system for as much.
    fn reset(&self, state: &mut State) {
        *state = self.new_state();
    }

    /// The function that runs when none is named.
    fn default_function(&self) -> &dyn Function;

    /// The default function's interface.
    fn describe(&self) -> &Interface {
        self.default_function().describe()
    }

    /// Runs the [default function](Function::predict).
    ///
    /// # Errors
    ///
    /// As [`Function::predict`].
    fn predict<'s>(&self, inputs: &[(&str, TensorView<'_>)], state: &'s mut State) -> Result<&'s Tensors> {
        self.default_function().predict(inputs, state)
    }

    /// The function called `name`.
    ///
    /// # Errors
    ///
    /// [`Error::NoFunction`](crate::Error::NoFunction) that lists those there are.
    fn function(&self, name: &str) -> Result<&dyn Function> {
        let functions = self.functions();
        let found = functions.iter().find(|f| f.name() == name).copied();
        found.ok_or_else(|| crate::Error::NoFunction {
            name: name.to_owned(),
            known: functions.iter().map(|f| f.name().to_owned()).collect(),
        })
    }
}

/// One function of a [`Model`].
pub trait Function: Send + Sync {
    /// Its name.
    fn name(&self) -> &str;

    /// Its inputs, outputs and states.
    fn describe(&self) -> &Interface;

    /// The labels that it chooses from, if it is a classifier and the engine knows them. Its outputs are then tensors, too: see
    /// [`Classes`].
    fn classes(&self) -> Option<&Classes> {
        None
    }

    /// Runs the function once on tensors by name and updates `state`, which keeps the results until the next call.
    ///
    /// Floats are rounded to the declared type of an input, as a host that hands them over in that type would; NaN and
    /// infinities are passed on. What an fp16 [`Tensor`](crate::Tensor) holds counts as fp16 already: a result that is given
    /// back is what the engine made of it. Integers must be within the declared type.
    ///
    /// # Errors
    ///
    /// [`Error::Input`](crate::Error::Input) for inputs that are missing, unknown, of the wrong kind or shape;
    /// [`Error::ForeignState`](crate::Error::ForeignState) for the state of another model;
    /// [`Error::Execution`](crate::Error::Execution) where what an operation is to do depends on values that do not allow
    /// it, such as an index out of range, or a call takes more than its [`Limits`]. The model's memory in `state` is then as
    /// it was; what [`State::outputs`] gives is not defined until the next call that succeeds.
    fn predict<'s>(&self, inputs: &[(&str, TensorView<'_>)], state: &'s mut State) -> Result<&'s Tensors>;

    /// Runs the function once for each of several sequences, each with inputs and a state of its own; what they give is
    /// what [`predict`](Self::predict) gives one by one. An engine that can share work between them does. Results are in
    /// [`State::outputs`].
    ///
    /// # Errors
    ///
    /// As [`predict`](Self::predict), for the first sequence that cannot be run. Others may have run: those before it, if
    /// they ran one by one; none, if they shared the work.
    ///
    /// # Panics
    ///
    /// If there are not as many inputs as states.
    fn predict_batch(&self, inputs: &[&[(&str, TensorView<'_>)]], states: &mut [&mut State]) -> Result<()> {
        assert_eq!(inputs.len(), states.len(), "a state for each sequence");
        for (inputs, state) in inputs.iter().zip(states) {
            self.predict(inputs, state)?;
        }
        Ok(())
    }

    /// What a call takes, as text: how the function was lowered, for inputs of their default shapes. Empty if the engine has
    /// nothing to say.
    fn plan(&self) -> String {
        String::new()
    }

    /// What a call on these inputs takes, as text: how the function was lowered for their shapes. Empty if the engine has
    /// nothing to say.
    ///
    /// # Errors
    ///
    /// [`Error::Input`](crate::Error::Input) for inputs that [`predict`](Self::predict) refuses, whose shapes alone matter;
    /// [`Error::Execution`](crate::Error::Execution) for shapes that do not go together.
    fn plan_for(&self, _inputs: &[(&str, TensorView<'_>)]) -> Result<String> {
        Ok(self.plan())
    }

    /// How much memory it takes, for inputs of their default shapes; `None` if the engine does not know.
    fn memory(&self) -> Option<Memory> {
        None
    }

    /// How much memory a call on these inputs takes; `None` if the engine does not know.
    ///
    /// # Errors
    ///
    /// As [`plan_for`](Self::plan_for).
    fn memory_for(&self, _inputs: &[(&str, TensorView<'_>)]) -> Result<Option<Memory>> {
        Ok(self.memory())
    }
}

/// How much memory a function takes, in bytes. Known before it runs, and kept to for inputs of the shapes that it was asked
/// for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Weights as they are stored, mapped from the package.
    pub weights: u64,
    /// Constants that were unfolded or computed at load.
    pub constants: u64,
    /// What a state remembers.
    pub state: u64,
    /// What a call computes with, kept by each state: buffers and results.
    pub workspace: u64,
}

/// What a model remembers of a sequence between calls, and where its last results are.
pub struct State {
    pub(crate) memory: Box<dyn Any + Send>,
    /// Of each function of the model.
    pub(crate) outputs: Vec<Tensors>,
    /// The function that was called last.
    pub(crate) last: usize,
    pub(crate) hazards: Vec<Hazard>,
}

impl State {
    /// A state of a model that has so many functions, with what its engine remembers.
    pub(crate) fn new(memory: impl Any + Send, functions: usize) -> Self {
        let outputs = vec![Tensors::default(); functions];
        Self { memory: Box::new(memory), outputs, last: 0, hazards: Vec::new() }
    }

    /// What it gives, as if no call had been made.
    pub(crate) fn forget(&mut self) {
        self.outputs.fill(Tensors::default());
        self.last = 0;
        self.hazards.clear();
    }

    /// What the last call gave, until the next one; empty before the first.
    pub fn outputs(&self) -> &Tensors {
        &self.outputs[self.last]
    }

    /// The first hazard of each kind since the state was made. Empty unless [`LoadOptions::hazards`] asked for them.
    pub fn hazards(&self) -> &[Hazard] {
        &self.hazards
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("outputs", self.outputs()).finish_non_exhaustive()
    }
}
