//! A package that Core ML has loaded: its functions, and the states of sequences.

#![allow(unsafe_code, reason = "moves handles of Core ML between threads")]

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use coreml_rs::error::CoreMLError;
use coreml_rs::ml_state::MLState;
use coreml_rs::model::Model as CoreMlModel;
use mlpackage::mil::{self, TensorType};
use mlpackage::{DType, Interface, Package};
use objc2::rc::autoreleasepool;

use super::arrays::{self, InputArrays};
use super::compiled::Compiled;
use crate::engine::{Model, ModelFunction, State, StateParts};
use crate::error::{Error, Result};
use crate::inputs::{self, Inputs, MAX_ELEMENTS};
use crate::tensor::{Tensor, TensorView, Tensors};

/// Wraps a Core ML error: its message without the binding's code. That code tells which of the binding's own
/// calls failed, and would look like one of Core ML's.
pub(super) fn refused(doing: &'static str, package: &Path, error: &CoreMLError) -> Error {
    Error::CoreMl { doing, package: package.to_owned(), message: error.message().to_owned() }
}

/// A Core ML object. The binding leaves it to its users to decide whether one may move between threads.
struct Handle<T>(T);

// SAFETY: a model is an Objective-C object with an atomic reference count that belongs to no thread; a mutex
// guards it.
unsafe impl Send for Handle<CoreMlModel> {}
// SAFETY: the same holds for a state; it is in a `State`, to which a call has the only reference. The
// binding's gate around it remembers a thread only during a call.
unsafe impl Send for Handle<MLState> {}
// SAFETY: the same holds for arrays and for the provider that owns them.
unsafe impl Send for Handle<InputArrays> {}

/// Returns the type of each output by name, each name once.
fn output_types(interface: &Interface, function: &mil::Function) -> Vec<(String, DType)> {
    let mut outputs: Vec<(String, DType)> = Vec::new();
    for name in &function.block.outputs {
        let declared = interface.outputs.iter().find(|f| f.name == *name).and_then(|f| f.tensor());
        if let (Some(ty), false) = (declared, outputs.iter().any(|(known, _)| known == name)) {
            outputs.push((name.clone(), ty.dtype));
        }
    }
    outputs
}

pub(super) struct LoadedModel {
    /// Released in an autorelease pool.
    pub(super) functions: Vec<LoadedFunction>,
    /// Core ML may read from it as long as a function is loaded.
    _compiled: Compiled,
}

impl LoadedModel {
    /// Creates a model from the functions of a compiled package, in order of their indices.
    pub(super) fn new(functions: Vec<LoadedFunction>, compiled: Compiled) -> Self {
        Self { functions, _compiled: compiled }
    }
}

pub(super) struct LoadedFunction {
    /// The model that the function belongs to.
    id: u64,
    /// Index among the model's functions.
    index: usize,
    name: String,
    package: PathBuf,
    interface: Interface,
    function: mil::Function,
    outputs: Vec<(String, DType)>,
    has_states: bool,
    /// Runs one prediction at a time.
    model: Mutex<Handle<CoreMlModel>>,
}

/// The memory of this engine's [`State`].
struct CoreMlState {
    model: u64,
    /// Created by the first call, because Core ML may refuse and only a call can report that.
    state: Option<Handle<MLState>>,
    /// One for each function.
    arrays: Vec<Option<Handle<InputArrays>>>,
    /// Whether a call failed: the contents of the state are then unknown.
    lost: bool,
}

impl Drop for LoadedModel {
    fn drop(&mut self) {
        autoreleasepool(|_| self.functions.clear());
    }
}

impl Drop for CoreMlState {
    fn drop(&mut self) {
        autoreleasepool(|_| {
            self.state = None;
            self.arrays.clear();
        });
    }
}

impl Model for LoadedModel {
    fn functions(&self) -> Vec<&dyn ModelFunction> {
        self.functions.iter().map(|f| f as &dyn ModelFunction).collect()
    }

    fn new_state(&self) -> State {
        let memory = CoreMlState {
            model: self.functions[0].id,
            state: None,
            arrays: self.functions.iter().map(|_| None).collect(),
            lost: false,
        };
        State::new(memory, self.functions.len())
    }

    fn reset(&self, state: &mut State) {
        let own = state.memory_mut::<CoreMlState>().filter(|memory| memory.model == self.functions[0].id);
        let Some(memory) = own else {
            *state = self.new_state();
            return;
        };
        // Input arrays are kept. The state is recreated, because Core ML promises zeros only for a new one.
        (memory.state, memory.lost) = (None, false);
        state.clear();
    }

    fn default_function(&self) -> &dyn ModelFunction {
        &self.functions[0]
    }
}

impl ModelFunction for LoadedFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> &Interface {
        &self.interface
    }

    /// Runs the function as the trait specifies, except after a call that Core ML failed: the contents of the
    /// state are then unknown, and every call is refused until the state is [reset](Model::reset).
    fn predict<'s>(&self, given: &[(&str, TensorView<'_>)], state: &'s mut State) -> Result<&'s Tensors> {
        let inputs = inputs::order(&self.function, &self.interface, given)?;
        let StateParts { memory, outputs, .. } =
            state.begin(self.index, |memory: &CoreMlState| memory.model == self.id)?;
        if memory.lost {
            return Err(
                self.failed("an earlier call failed, so the contents of the state are unknown: reset it")
            );
        }
        // A pool is needed for the same reason as at load.
        autoreleasepool(|_| self.call(&inputs, memory, outputs))?;
        Ok(outputs)
    }
}

/// Identifies a function within a loaded model.
#[derive(Clone, Copy)]
pub(super) struct FunctionId {
    /// The model that the function belongs to.
    pub(super) id: u64,
    /// Index among the model's functions.
    pub(super) index: usize,
}

impl LoadedFunction {
    /// Creates a function of `package`, which Core ML has loaded as `model`.
    pub(super) fn new(
        identity: FunctionId,
        name: &str,
        package: &Package,
        model: CoreMlModel,
    ) -> Result<Self> {
        let function = package.function(name)?.clone();
        let interface = package.interface(name).cloned().unwrap_or_else(|| Interface::of(&function));
        let has_states = function.states().next().is_some();
        Ok(Self {
            id: identity.id,
            index: identity.index,
            name: name.to_owned(),
            package: package.path().to_owned(),
            outputs: output_types(&interface, &function),
            has_states,
            interface,
            function,
            model: Mutex::new(Handle(model)),
        })
    }

    fn failed(&self, message: &str) -> Error {
        Error::CoreMl { doing: "run", package: self.package.clone(), message: message.to_owned() }
    }

    fn call(&self, inputs: &Inputs<'_>, memory: &mut CoreMlState, outputs: &mut Tensors) -> Result<()> {
        let refused = |e: CoreMLError| refused("run", &self.package, &e);
        let arrays = match &mut memory.arrays[self.index] {
            Some(arrays) if arrays.0.fit(inputs) => &mut arrays.0,
            other => &mut other.insert(Handle(InputArrays::new(&self.function, inputs).map_err(refused)?)).0,
        };
        arrays.write(&self.function, inputs)?;
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let given = arrays.provider();
        let results = if self.has_states {
            let state = match &mut memory.state {
                Some(state) => state,
                none => none.insert(Handle(model.0.new_state().map_err(refused)?)),
            };
            memory.lost = true;
            model.0.predict_with_state(given, &mut state.0)
        } else {
            model.0.predict(given)
        };
        drop(model);
        let results = results.map_err(refused)?;
        if outputs.len() != self.outputs.len() {
            let names = self.outputs.iter().map(|(name, _)| (name.clone(), Tensor::zeros([0])));
            *outputs = names.collect();
        }
        for (i, (name, dtype)) in self.outputs.iter().enumerate() {
            let array = results.get_multi_array(name);
            let array =
                array.ok_or_else(|| self.failed(&format!("it returned no array for output {name}")))?;
            arrays::read(&array, *dtype, outputs.at_mut(i))
                .map_err(|reason| self.failed(&format!("output {name}: {reason}")))?;
        }
        // Only now, with the results copied: the state has already advanced, and repeating a failed call
        // would advance it twice.
        memory.lost = false;
        Ok(())
    }

    /// Returns zeros for every input, in its default shape; `None` if an input has no default shape.
    pub(super) fn zeros(&self) -> Option<Vec<(String, Tensor)>> {
        let zeros = |(name, ty): (&str, &TensorType)| {
            let feature = || self.interface.inputs.iter().find(|f| f.name == name);
            let shape = ty.shape.known().or_else(|| feature()?.default_shape())?;
            shape.checked_elements().filter(|n| *n <= MAX_ELEMENTS)?;
            let mut zeros = Tensor::zeros([0]);
            zeros.reset(ty.dtype, &shape);
            Some((name.to_owned(), zeros))
        };
        self.function.tensor_inputs().map(zeros).collect()
    }
}
