//! Engine `mil-cpu`: runs an ML Program directly from its package, on any target.

mod allocate;
mod args;
mod compile;
mod compressed;
mod constants;
mod constexpr;
mod cpu_state;
mod execute;
mod function;
mod fusion;
mod hazards;
mod inputs;
mod interpreter;
mod ir;
mod kernels;
mod lists;
mod lowering;
mod numerics;
mod plan;
mod resolve;
mod run_plan;
mod runtime_value;

use std::sync::atomic::{AtomicU64, Ordering};

use mlpackage::Package;
use mlpackage::mil::TensorType;

use crate::engine::{Engine, LoadOptions, Model, ModelFunction, State};
use crate::error::{Error, Result};
use cpu_state::CpuState;
use function::{LoadedFunction, Loading};
pub use fusion::Fusion;
use fusion::Target;
pub use numerics::Numerics;

/// Default number of threads of a model: a token of a small transformer is too little work for more.
const DEFAULT_THREADS: usize = 4;

/// The engine `mil-cpu`.
#[derive(Clone, Copy, Debug)]
pub struct MilCpu {
    numerics: Numerics,
    threads: usize,
    /// Whether each fusion is disabled, in the order of [`Fusion::ALL`].
    left_out: [bool; Fusion::ALL.len()],
}

impl MilCpu {
    /// Creates an engine that computes with `numerics`.
    pub fn new(numerics: Numerics) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { numerics, threads: threads.min(DEFAULT_THREADS), left_out: [false; Fusion::ALL.len()] }
    }

    /// Sets the number of threads that each model computes with, including the caller's.
    ///
    /// Only [`Fast`](Numerics::Fast) numerics use more than one thread. The number is limited to what the
    /// machine runs at once.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: threads.clamp(1, most), ..self }
    }

    /// Disables a fusion, to measure its effect. Only [`Fast`](Numerics::Fast) fuses operations.
    #[must_use]
    pub fn without(mut self, fusion: Fusion) -> Self {
        self.left_out[fusion as usize] = true;
        self
    }

    /// Returns the number of threads that a model computes with.
    pub fn threads(&self) -> usize {
        if self.numerics == Numerics::Fast { self.threads } else { 1 }
    }
}

impl Engine for MilCpu {
    fn name(&self) -> &str {
        match self.numerics {
            Numerics::F32 => "mil-cpu (f32)",
            Numerics::F16 => "mil-cpu (f16)",
            Numerics::Fast => "mil-cpu (fast)",
        }
    }

    fn load(&self, package: &Package, options: &LoadOptions) -> Result<Box<dyn Model>> {
        package.require_sound()?;
        let names = options.functions_of(package);
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let mut states: Vec<(String, TensorType)> = Vec::new();
        let mut functions = Vec::with_capacity(names.len());
        let mut missing = Vec::new();
        let target = (self.numerics == Numerics::Fast).then(|| Target::new(self.threads, self.left_out));
        let (numerics, target) = (self.numerics, target.as_ref());
        let loading = Loading { package, numerics, options, target };
        for (index, name) in names.iter().enumerate() {
            let function = package.function(name)?;
            for (state, ty) in function.states() {
                match states.iter().find(|(known, _)| known == state) {
                    None => states.push((state.to_owned(), ty.clone())),
                    Some((_, known)) if known == ty => {}
                    Some((_, known)) => missing.push(format!(
                        "state %{state} that is {known} in one function and {ty} in another: load them one by one"
                    )),
                }
            }
            let known: Vec<&str> = states.iter().map(|(state, _)| state.as_str()).collect();
            let mut loaded = LoadedFunction::load(&loading, name, function, &known, &mut missing)?;
            (loaded.id, loaded.index) = (id, index);
            functions.push(loaded);
        }
        cpu_state::oversized_states(&states, options.limits, &mut missing);
        if !missing.is_empty() {
            missing.sort();
            missing.dedup();
            return Err(Error::Unsupported {
                engine: self.name().to_owned(),
                package: package.path().to_owned(),
                operations: missing,
            });
        }
        Ok(Box::new(LoadedModel { id, functions, states }))
    }
}

struct LoadedModel {
    id: u64,
    functions: Vec<LoadedFunction>,
    /// The states of all functions, without duplicates.
    states: Vec<(String, TensorType)>,
}

impl Model for LoadedModel {
    fn functions(&self) -> Vec<&dyn ModelFunction> {
        self.functions.iter().map(|f| f as &dyn ModelFunction).collect()
    }

    fn new_state(&self) -> State {
        let zeros = |(_, ty): &(String, TensorType)| vec![0; ty.shape.elements().unwrap_or(0)];
        let memory = CpuState::new(self.id, self.states.iter().map(zeros).collect(), self.functions.len());
        State::new(memory, self.functions.len())
    }

    fn reset(&self, state: &mut State) {
        let own = state.memory_mut::<CpuState>().is_some_and(|memory| memory.reset(self.id));
        if own { state.clear() } else { *state = self.new_state() }
    }

    fn default_function(&self) -> &dyn ModelFunction {
        &self.functions[0]
    }
}
