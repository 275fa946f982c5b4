//! Engine `coreml`: Core ML itself runs the package.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use coreml_rs::configuration::{self, ModelConfiguration};
use coreml_rs::ml_state::MLState;
use coreml_rs::model::Model as CoreMlModel;
use coreml_rs::model_compiler::ModelCompiler;
use coreml_rs::multi_array::{DataType, MultiArray};
use mlpackage::mil::TensorType;
use mlpackage::{DType, Interface, Package};
use objc2::rc::autoreleasepool;

use super::compile_cache::CompileCache;
use super::compiled::Compiled;
use super::compute_units::ComputeUnits;
use super::model::{FunctionId, LoadedFunction, LoadedModel, refused};
use super::progress::{LoadObserver, LoadStep};
use crate::engine::{Engine, LoadOptions, Model, ModelFunction as _};
use crate::error::{Error, Result};
use crate::tensor::TensorView;

/// Warm-up calls of a loaded function. Published measurements found three to be enough.
const WARM_UP_CALLS: usize = 3;

/// The engine `coreml`.
///
/// Core ML chooses which of the [`ComputeUnits`] run a package, and does not report its choice; `microgpt
/// floor --measure` asks for it.
#[derive(Clone)]
pub struct CoreMl {
    units: ComputeUnits,
    name: String,
    cache: Option<CompileCache>,
    warm_up_calls: usize,
    observer: Option<LoadObserver>,
}

impl CoreMl {
    /// Creates an engine for these compute units, with the user's cache of compiled packages.
    pub fn new(units: ComputeUnits) -> Self {
        Self {
            units,
            name: format!("coreml ({units})"),
            cache: CompileCache::of_user(),
            warm_up_calls: WARM_UP_CALLS,
            observer: None,
        }
    }

    /// Sets the cache; with `None`, every load compiles.
    #[must_use]
    pub fn with_cache(self, cache: Option<CompileCache>) -> Self {
        Self { cache, ..self }
    }

    /// Sets the number of warm-up calls; 0 disables them.
    #[must_use]
    pub fn with_warm_up_calls(self, warm_up_calls: usize) -> Self {
        Self { warm_up_calls, ..self }
    }

    /// Sets an observer for the steps of a load.
    #[must_use]
    pub fn with_observer(self, observer: LoadObserver) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// Returns whether this system's Core ML has states, which a decoder needs: macOS 15 and later.
    pub fn has_states() -> bool {
        MLState::runtime_supported()
    }

    fn tell(&self, step: &LoadStep) {
        if let Some(observer) = &self.observer {
            observer(step);
        }
    }

    fn compile(&self, package: &Package) -> Result<Compiled> {
        let compile =
            |path: &Path| ModelCompiler::compile(path).map_err(|e| refused("compile", package.path(), &e));
        let tell = |step: &LoadStep| self.tell(step);
        Compiled::get(package, self.cache.as_ref(), system_build().as_deref(), tell, compile)
    }
}

/// Returns the build of the system, such as `24G84`.
fn system_build() -> Option<String> {
    let output = Command::new("/usr/bin/sw_vers").arg("-buildVersion").output().ok()?;
    let build = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !build.is_empty()).then_some(build)
}

impl Engine for CoreMl {
    fn name(&self) -> &str {
        &self.name
    }

    fn load(&self, package: &Package, options: &LoadOptions) -> Result<Box<dyn Model>> {
        // Core ML leaves objects, whole models among them, to the thread's autorelease pool, and a Rust
        // thread has none.
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
            // Core ML expects a function name only for a package of several functions.
            if package.description().is_multifunction() {
                configuration = configuration.with_function_name(name);
            }
            let model = CoreMlModel::load_from_url(compiled.path(), &configuration)
                .map_err(|e| refused("load", package.path(), &e))?;
            functions.push(LoadedFunction::new(FunctionId { id, index }, name, package, model)?);
        }
        let load = begun.elapsed();
        let compile = compiled.time();
        let model = LoadedModel::new(functions, compiled);
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
                    // From macOS 26; creating one shows whether this system has them.
                    Some(DType::Int8) if MultiArray::new(&[1], DataType::Int8).is_ok() => {}
                    Some(dtype) => missing.push(format!("arrays of {dtype} ({})", feature.name)),
                    None => missing.push(format!(
                        "way to pass on {}, which is of type {}: expected an array",
                        feature.name, feature.ty
                    )),
                }
            }
            let mut own: Vec<_> = function.states().collect();
            own.sort_by_key(|(name, _)| *name);
            match &states {
                _ if own.is_empty() => {}
                None => states = Some(own),
                Some(known) if *known == own => {}
                // In Core ML, one function creates the state, and it works only for functions with the same
                // states.
                Some(_) => missing.push(format!(
                    "way to load {name} beside functions with other states: load the functions one by one"
                )),
            }
        }
        if states.is_some() && !Self::has_states() {
            missing.push("states before macOS 15".into());
        }
        if options.hazards {
            missing.push("insight into operations: mil-cpu finds hazards".into());
        }
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort();
        missing.dedup();
        let package = package.path().to_owned();
        Err(Error::Unsupported { engine: self.name.clone(), package, operations: missing })
    }

    /// Calls every function a few times with zeros. A failure is only reported: zeros may be invalid inputs.
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
