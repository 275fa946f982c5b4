//! Engine `coreml`: the package run by Core ML itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use coreml_rs::configuration::{self, ModelConfiguration};
use coreml_rs::error::CoreMLError;
use coreml_rs::ml_state::MLState;
use coreml_rs::model::Model as CoreMlModel;
use coreml_rs::model_compiler::ModelCompiler;
use coreml_rs::multi_array::{DataType, MultiArray};
use mlpackage::mil::{self, TensorType};
use mlpackage::{DType, Interface, Package};
use objc2::rc::autoreleasepool;

use super::arrays::{self, InputArrays};
use super::compile_cache::{CompileCache, Compiled};
use super::compute_units::ComputeUnits;
use super::progress::{LoadObserver, LoadStep};
use crate::engine::{Engine, Function, LoadOptions, Model, State};
use crate::error::{Error, Result};
use crate::inputs::{self, Inputs, MAX_ELEMENTS};
use crate::tensor::{Tensor, TensorView, Tensors};

/// Calls that a loaded function is warmed up with: three, as those who measured found enough.
const WARM_UP_CALLS: usize = 3;

/// The engine. Which device runs a package is Core ML's to choose among the [`ComputeUnits`], and it does not say;
/// `microgpt floor --measure` asks.
#[derive(Clone)]
pub struct CoreMl {
    units: ComputeUnits,
    name: String,
    cache: Option<CompileCache>,
    warm_up_calls: usize,
    observer: Option<LoadObserver>,
}

impl CoreMl {
    /// An engine for these compute units, with the user's own cache of compiled packages.
    pub fn new(units: ComputeUnits) -> Self {
        Self {
            units,
            name: format!("coreml ({units})"),
            cache: CompileCache::of_user(),
            warm_up_calls: WARM_UP_CALLS,
            observer: None,
        }
    }

    /// The same with another cache; with `None`, every load compiles.
    #[must_use]
    pub fn with_cache(self, cache: Option<CompileCache>) -> Self {
        Self { cache, ..self }
    }

    /// The same with another number of calls to warm up with, 0 for none.
    #[must_use]
    pub fn with_warm_up_calls(self, warm_up_calls: usize) -> Self {
        Self { warm_up_calls, ..self }
    }

    /// The same, telling of each step of a load.
    #[must_use]
    pub fn with_observer(self, observer: LoadObserver) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// Whether this system's Core ML has states, which a decoder needs: from macOS 15.
    pub fn has_states() -> bool {
        MLState::runtime_supported()
    }

    fn tell(&self, step: &LoadStep) {
        if let Some(observer) = &self.observer {
            observer(step);
        }
    }

    fn compile(&self, package: &Package) -> Result<CompiledModel> {
        let compile =
            |path: &Path| ModelCompiler::compile(path).map_err(|e| refused("compile", package.path(), &e));
        // What was compiled on a build that nobody knows is not kept.
        if let (Some(cache), Some(system)) = (&self.cache, system_build()) {
            match cache.get_or_compile(package, &system, |step| self.tell(step), compile) {
                Ok(compiled) => return Ok(CompiledModel::Kept(compiled)),
                // A cache of root's, or one on a disk that is full, keeps nobody from running a model.
                Err(error @ Error::Cache { .. }) => {
                    self.tell(&LoadStep::NotKept { reason: error.to_string() })
                }
                Err(error) => return Err(error),
            }
        }
        self.tell(&LoadStep::Compiling);
        let begun = Instant::now();
        let compiled = compile(package.path())?;
        Ok(CompiledModel::Temporary(compiled, begun.elapsed()))
    }
}

/// A compiled package, as long as it is needed.
enum CompiledModel {
    Kept(Compiled),
    Temporary(PathBuf, Duration),
}

impl CompiledModel {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(compiled) => compiled.path(),
            Self::Temporary(path, _) => path,
        }
    }

    fn time(&self) -> Option<Duration> {
        match self {
            Self::Kept(compiled) => compiled.time(),
            Self::Temporary(_, time) => Some(*time),
        }
    }
}

impl Drop for CompiledModel {
    fn drop(&mut self) {
        if let Self::Temporary(path, _) = self {
            // What cannot be removed is left to the system, which empties that place.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// The build of the system, such as `24G84`.
fn system_build() -> Option<String> {
    let output = Command::new("/usr/bin/sw_vers").arg("-buildVersion").output().ok()?;
    let build = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !build.is_empty()).then_some(build)
}

/// Core ML's words, without the code of the binding: that says which of its own calls failed, and looks like a code of Core ML's.
fn refused(doing: &'static str, package: &Path, error: &CoreMLError) -> Error {
    Error::CoreMl { doing, package: package.to_owned(), message: error.message().to_owned() }
}

/// An object of Core ML's. The binding leaves it to its users to say where one may go.
struct Handle<T>(T);

// SAFETY: a model is an Objective-C object with an atomic count that belongs to no thread; it is behind a mutex.
unsafe impl Send for Handle<CoreMlModel> {}
// SAFETY: the same of a state; it is in a `State`, of which a call has the only reference. The binding's gate around it
// remembers a thread during a call alone.
unsafe impl Send for Handle<MLState> {}
// SAFETY: the same of arrays and of the provider that owns them.
unsafe impl Send for Handle<InputArrays> {}

impl Engine for CoreMl {
    fn name(&self) -> &str {
        &self.name
    }

    fn load(&self, package: &Package, options: &LoadOptions) -> Result<Box<dyn Model>> {
        // Core ML leaves objects to the pool of the thread, whole models among them, and a thread of Rust's has none.
        autoreleasepool(|_| self.load_pooled(package, options))
    }
}

impl CoreMl {
    fn load_pooled(&self, package: &Package, options: &LoadOptions) -> Result<Box<dyn Model>> {
        package.require_sound()?;
        let names = options.functions_of(package);
        self.check(package, &names, options)?;
        let compiled = self.compile(package)?;
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let mut functions = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            self.tell(&LoadStep::Loading { function: name.clone() });
            let mut configuration = ModelConfiguration::new().with_compute_units(match self.units {
                ComputeUnits::Cpu => configuration::ComputeUnits::CpuOnly,
                ComputeUnits::CpuAndGpu => configuration::ComputeUnits::CpuAndGpu,
                ComputeUnits::CpuAndAne => configuration::ComputeUnits::CpuAndNeuralEngine,
                ComputeUnits::All => configuration::ComputeUnits::All,
            });
            // Core ML wants no name where there is nothing to choose.
            if package.description().is_multifunction() {
                configuration = configuration.with_function_name(name);
            }
            let model = CoreMlModel::load_from_url(compiled.path(), &configuration)
                .map_err(|e| refused("load", package.path(), &e))?;
            let function = package.function(name)?.clone();
            let interface = package.interface(name).cloned().unwrap_or_else(|| Interface::of(&function));
            let has_states = function.states().next().is_some();
            functions.push(LoadedFunction {
                id,
                index,
                name: name.clone(),
                package: package.path().to_owned(),
                outputs: output_types(&interface, &function),
                has_states,
                interface,
                function,
                model: Mutex::new(Handle(model)),
            });
        }
        let load = begun.elapsed();
        let compile = compiled.time();
        let model = LoadedModel { functions, _compiled: compiled };
        let begun = Instant::now();
        self.tell(&LoadStep::WarmingUp);
        self.warm_up(&model);
        self.tell(&LoadStep::Loaded { compile, load, warm_up: begun.elapsed() });
        Ok(Box::new(model))
    }

    /// Refuses everything that cannot be run, at once.
    fn check(&self, package: &Package, names: &[String], options: &LoadOptions) -> Result<()> {
        let mut missing = Vec::new();
        let mut states: Option<Vec<(&str, &TensorType)>> = None;
        for name in names {
            let function = package.function(name)?;
            let interface = package.interface(name).cloned().unwrap_or_else(|| Interface::of(function));
            for feature in interface.inputs.iter().chain(&interface.outputs) {
                match feature.tensor().map(|ty| ty.dtype) {
                    Some(DType::Fp16 | DType::Fp32 | DType::Int32) => {}
                    // From macOS 26; whether this system has them is told by making one.
                    Some(DType::Int8) if MultiArray::new(&[1], DataType::Int8).is_ok() => {}
                    Some(dtype) => missing.push(format!("arrays of {dtype} ({})", feature.name)),
                    None => missing.push(format!("{} that is no array", feature.name)),
                }
            }
            let mut own: Vec<_> = function.states().collect();
            own.sort_by_key(|(name, _)| *name);
            match &states {
                _ if own.is_empty() => {}
                None => states = Some(own),
                Some(known) if *known == own => {}
                // Core ML's states come from one function, and are taken by those that have the same ones.
                Some(_) => missing.push(format!(
                    "states of {name} beside the others' different ones: load the functions one by one"
                )),
            }
        }
        if states.is_some() && !Self::has_states() {
            missing.push("states before macOS 15".into());
        }
        if options.hazards {
            missing.push("a look into its operations: hazards are found by mil-cpu (f16)".into());
        }
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort();
        missing.dedup();
        let package = package.path().to_owned();
        Err(Error::Unsupported { engine: self.name.clone(), package, operations: missing })
    }

    /// Calls every function a few times with zeros. A failure is told and no more: zeros may be what a function cannot take.
    fn warm_up(&self, model: &LoadedModel) {
        for function in &model.functions {
            let Some(zeros) = function.zeros() else { continue };
            let given: Vec<(&str, TensorView<'_>)> =
                zeros.iter().map(|(name, zeros)| (name.as_str(), zeros.view())).collect();
            let mut state = model.new_state();
            for _ in 0..self.warm_up_calls {
                if let Err(error) = function.predict(&given, &mut state) {
                    self.tell(&LoadStep::WarmUpFailed { message: error.to_string() });
                    break;
                }
            }
        }
    }
}

/// The type of each output, by name: once each.
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

struct LoadedModel {
    /// Let go of in a pool.
    functions: Vec<LoadedFunction>,
    /// Core ML may read from it as long as a function is loaded.
    _compiled: CompiledModel,
}

struct LoadedFunction {
    /// The model that it belongs to.
    id: u64,
    /// Its number among the model's functions.
    index: usize,
    name: String,
    package: PathBuf,
    interface: Interface,
    function: mil::Function,
    outputs: Vec<(String, DType)>,
    has_states: bool,
    /// One prediction at a time.
    model: Mutex<Handle<CoreMlModel>>,
}

/// A [`State`] of this engine.
struct CoreMlState {
    model: u64,
    /// Made by the first call: Core ML may refuse, which only a call can say.
    state: Option<Handle<MLState>>,
    /// Of each function.
    arrays: Vec<Option<Handle<InputArrays>>>,
    /// Whether a call failed: nobody knows what it left in the state.
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
    fn functions(&self) -> Vec<&dyn Function> {
        self.functions.iter().map(|f| f as &dyn Function).collect()
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
        let own =
            state.memory.downcast_mut::<CoreMlState>().filter(|memory| memory.model == self.functions[0].id);
        let Some(memory) = own else {
            *state = self.new_state();
            return;
        };
        // Input arrays are kept; the state is a fresh one, as Core ML promises zeros of those alone.
        (memory.state, memory.lost) = (None, false);
        state.forget();
    }

    fn default_function(&self) -> &dyn Function {
        &self.functions[0]
    }
}

impl Function for LoadedFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> &Interface {
        &self.interface
    }

    /// As the trait says, but for a state after a call that Core ML failed: what it holds is then known to nobody, and every
    /// call is refused until the state is [reset](Model::reset).
    fn predict<'s>(&self, given: &[(&str, TensorView<'_>)], state: &'s mut State) -> Result<&'s Tensors> {
        let inputs = inputs::order(&self.function, &self.interface, given)?;
        let State { memory, outputs, last, .. } = state;
        let memory = memory
            .downcast_mut::<CoreMlState>()
            .filter(|memory| memory.model == self.id)
            .ok_or(Error::ForeignState)?;
        if memory.lost {
            return Err(
                self.failed("an earlier call failed, and what it left in the state is not known: reset it")
            );
        }
        *last = self.index;
        let outputs = &mut outputs[self.index];
        // As when it is loaded.
        autoreleasepool(|_| self.call(&inputs, memory, outputs))?;
        Ok(outputs)
    }
}

impl LoadedFunction {
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
            *outputs = Tensors::new(names.collect());
        }
        for (i, (name, dtype)) in self.outputs.iter().enumerate() {
            let array = results.get_multi_array(name);
            let array = array.ok_or_else(|| self.failed(&format!("it gave no array for output {name}")))?;
            arrays::read(&array, *dtype, outputs.at_mut(i))
                .map_err(|reason| self.failed(&format!("output {name}: {reason}")))?;
        }
        // Not before its results are here as well: the state has moved on, and whoever called again would move it twice.
        memory.lost = false;
        Ok(())
    }

    /// Zeros for every input, in its default shape; `None` if one has no such shape.
    fn zeros(&self) -> Option<Vec<(String, Tensor)>> {
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
