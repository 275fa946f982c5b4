//! Engine `coreml`: the package run by Core ML itself.

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
use super::model::{LoadedFunction, LoadedModel, Place, refused};
use super::progress::{LoadObserver, LoadStep};
use crate::engine::{Engine, Function as _, LoadOptions, Model};
use crate::error::{Error, Result};
use crate::tensor::TensorView;

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

    fn compile(&self, package: &Package) -> Result<Compiled> {
        let compile =
            |path: &Path| ModelCompiler::compile(path).map_err(|e| refused("compile", package.path(), &e));
        let tell = |step: &LoadStep| self.tell(step);
        Compiled::get(package, self.cache.as_ref(), system_build().as_deref(), tell, compile)
    }
}

/// The build of the system, such as `24G84`.
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
            functions.push(LoadedFunction::new(Place { id, index }, name, package, model)?);
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
                    // From macOS 26; whether this system has them is told by making one.
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
            missing.push("look into its operations: hazards are found by mil-cpu".into());
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
