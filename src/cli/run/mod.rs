//! `microgpt run`

mod args;
mod calls;
mod results;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ane_runtime::{
    EngineKind, EngineOptions, Function, Limits, LoadOptions, Memory, Model, Numerics, State, TensorView,
    Tensors,
};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use microgpt_ane::image_file::Fit;
use mlpackage::counted;

use self::args::{FunctionArg, NamedFile};
use self::calls::{Call, Calls, Given};
use self::results::{Looked, OutImages, Results};
use super::engine::EngineArgs;
use super::{Outcome, open, out_file, output};

/// Run functions of any .mlpackage on tensors and images from files: no Mac, no Python. By default on mil-cpu
/// in f32.
///
/// Several functions run one after the other on one state: `--function prefill,decode=16` calls prefill once
/// and decode 16 times. Their inputs are then named FUNCTION/INPUT, or INPUT if only one of them has such an
/// input, and their outputs FUNCTION/OUTPUT.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The .mlpackage
    package: PathBuf,
    /// Inputs by name, as safetensors; the input's type must hold each value exactly
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// An input of image type, from a PNG or JPEG file; may be given several times
    #[arg(long = "image", value_name = "NAME=FILE")]
    images: Vec<NamedFile>,
    /// Scale an image whose size the model does not accept to the model's default size, even if it accepts larger
    /// ones; without this option, such an image is an error
    #[arg(long, requires = "images")]
    resize: bool,
    /// Where to write the outputs, as safetensors: floats as F32, integers as I32, bools as BOOL
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// An output of image type, as a PNG file; may be given several times
    #[arg(long = "out-image", value_name = "NAME=FILE")]
    out_images: Vec<NamedFile>,
    /// The functions to call, in order [default: the package's own]. With =STEPS, a function is called that
    /// many times, and each of its tensors has a leading axis of STEPS
    #[arg(long, value_name = "FUNCTION[=STEPS]", value_delimiter = ',')]
    function: Vec<FunctionArg>,
    /// Call the function N times on one state: every tensor has a leading axis of N, and so has every output
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Name the first operation that overflows, produces a NaN, or produces only zeros, and exit with 1 if
    /// there is one: in fp32, or with --numerics f16 in fp16. Needs no --out
    #[arg(long)]
    hazards: bool,
    /// Print how the function was lowered for the shapes of its inputs: steps, buffers and memory. Without
    /// --out, --out-image or --hazards, nothing is run
    #[arg(long)]
    plan: bool,
    /// The workspace limit of a call on mil-cpu: the most memory, in MiB, that it may use besides weights and
    /// states. The outputs of all calls for --out are limited to the same size
    #[arg(long, value_name = "MIB", default_value_t = Limits::default().workspace >> 20, value_parser = clap::value_parser!(u64).range(1..1 << 40))]
    workspace: u64,
}

impl Run {
    pub(crate) fn run(self) -> Result<Outcome> {
        // f32 is the default because users of `run` ask what a program means more often than how fast it is.
        let engine = self.engine.options(EngineKind::MilCpu, Numerics::F32)?;
        if self.hazards {
            EngineArgs::ensure_watchable(&engine)?;
        }
        let runs = self.out.is_some() || !self.out_images.is_empty() || self.hazards;
        ensure!(
            runs || self.plan,
            "nothing says where the outputs go: give --out FILE, or --out-image NAME=FILE; --hazards alone discards them"
        );
        self.check_destinations()?;
        let package = open::package(&self.package)?;
        let mut calls = Calls::of(&package, &self.function, self.steps)?;
        let has_inputs = self.inputs.is_some() || !self.images.is_empty();
        if runs || has_inputs {
            let fit = if self.resize { Fit::Resize } else { Fit::Exact };
            calls.give(self.inputs.as_deref(), &self.images, fit)?;
        }
        let images = OutImages::of(&calls, &self.out_images)?;
        let functions = calls.calls.iter().map(|call| call.function.clone()).collect();
        let limits = Limits { workspace: self.workspace << 20, ..Limits::default() };
        let options = LoadOptions { functions, hazards: self.hazards, limits };
        let model = engine.engine()?.load(&package, &options)?;
        if self.plan {
            output::print(&plans(&*model, &calls, runs || has_inputs)?)?;
        }
        if !runs {
            return Ok(Outcome::Done);
        }
        let mut ran = Ran {
            state: model.new_state(),
            keep: self.out.is_some(),
            limit: limits.workspace,
            kept: 0,
            results: Vec::new(),
            last: Vec::new(),
            faulty: Vec::new(),
            text: String::new(),
        };
        for call in &calls.calls {
            ran.call(model.function(&call.function)?, &calls, call)?;
        }
        if let Some(out) = &self.out {
            results::write(&calls, &ran.results, &images, out)?;
        }
        images.write(&ran.last)?;
        let hazards = ran.state.hazards();
        for hazard in hazards {
            let _ = writeln!(ran.text, "  hazard: {hazard}");
        }
        if self.hazards && hazards.is_empty() {
            let _ = writeln!(ran.text, "  no hazards in {}", arithmetic(&engine));
        }
        let looked = match (self.hazards, hazards) {
            (true, []) => Looked::InVain,
            (true, _) => Looked::Found,
            (false, _) if engine.kind.here() == EngineKind::MilCpu => Looked::No,
            (false, _) => Looked::Cannot,
        };
        results::tell_faults(&calls, &ran.results, &ran.faulty, looked);
        output::print(&ran.text)?;
        Ok(Outcome::of(hazards.is_empty()))
    }

    /// Refuses destinations that cannot be written, or that hold something else, before anything is run.
    fn check_destinations(&self) -> Result<()> {
        let images =
            self.images.iter().map(|image| (format!("--image {}", image.name), image.path.as_path()));
        let inputs = self.inputs.iter().map(|inputs| ("--inputs".to_owned(), inputs.as_path()));
        let mut named: Vec<(String, &Path)> = images.chain(inputs).collect();
        let outs = self.out.iter().map(|out| ("--out".to_owned(), out.as_path()));
        let out_images =
            self.out_images.iter().map(|image| (format!("--out-image {}", image.name), image.path.as_path()));
        for (option, path) in outs.chain(out_images) {
            let others: Vec<(&str, &Path)> =
                named.iter().map(|(other, path)| (other.as_str(), *path)).collect();
            out_file::check(&option, path, &others)?;
            named.push((option, path));
        }
        Ok(())
    }
}

/// The arithmetic in which hazards were searched for.
fn arithmetic(engine: &EngineOptions) -> &'static str {
    match engine.numerics {
        Numerics::F16 => "fp16",
        Numerics::F32 | Numerics::Fast => "fp32; --numerics f16 looks for those of fp16",
    }
}

/// How each function was lowered, for the inputs of its first call or for the default shapes.
fn plans(model: &dyn Model, calls: &Calls, given: bool) -> Result<String> {
    let mut text = String::new();
    for call in &calls.calls {
        let function = model.function(&call.function)?;
        if calls.calls.len() > 1 {
            let _ = writeln!(text, "function {}", call.function);
        }
        if given {
            let inputs = calls.inputs(call, 0).with_context(|| format!("function {}", call.function))?;
            let plan =
                function.plan_for(&views(&inputs)).with_context(|| format!("function {}", call.function))?;
            text.push_str(&plan);
        } else {
            text.push_str(&function.plan());
        }
    }
    Ok(text)
}

fn views<'v>(inputs: &'v [(&'v str, Given<'_>)]) -> Vec<(&'v str, TensorView<'v>)> {
    inputs.iter().map(|(name, tensor)| (*name, tensor.view())).collect()
}

/// A run in progress.
struct Ran {
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

impl Ran {
    /// Calls a function for all of its steps.
    fn call(&mut self, function: &dyn Function, calls: &Calls, call: &Call) -> Result<()> {
        let mut results = Results::default();
        let mut faulty: Vec<String> = Vec::new();
        let mut memory = None;
        let steps = call.steps.unwrap_or(1);
        let mut seconds = 0.0;
        for step in 0..steps {
            let mut one = || -> Result<()> {
                let inputs = calls.inputs(call, step)?;
                for (name, tensor) in &inputs {
                    if results::has_faults(tensor.data()) && !faulty.iter().any(|known| known == name) {
                        faulty.push((*name).to_owned());
                    }
                }
                let inputs = views(&inputs);
                if step == 0 {
                    memory = function.memory_for(&inputs)?;
                }
                let begun = Instant::now();
                let outputs = function.predict(&inputs, &mut self.state)?;
                seconds += begun.elapsed().as_secs_f64();
                results.push(outputs, self.keep)?;
                if step == 0 {
                    // Every further call returns as much.
                    self.kept = self.kept.saturating_add(results.bytes().saturating_mul(steps as u64));
                    ensure!(
                        self.kept <= self.limit,
                        "the outputs of {steps} calls take {} bytes, more than the limit of {} bytes: give fewer steps, \
                         or raise the limit with --workspace",
                        self.kept,
                        self.limit
                    );
                }
                Ok(())
            };
            one().map_err(|error| match (call.steps, calls.calls.len()) {
                (Some(_), _) => error.context(format!("call {step} of {}", call.function)),
                (None, 1) => error,
                (None, _) => error.context(format!("function {}", call.function)),
            })?;
        }
        self.text.push_str(&describe(function, steps, seconds, memory));
        let classes = function.classes();
        for (name, tensor) in self.state.outputs().iter() {
            let words = classes.and_then(|classes| classes.describe(name));
            let words = words.map_or(String::new(), |words| format!("{words}, "));
            let _ = writeln!(self.text, "  {}: {words}{tensor}", calls.full_name(call, name));
        }
        if let Some(label) = classes.and_then(|classes| classes.chosen(self.state.outputs())) {
            let _ = writeln!(self.text, "  label: {label}");
        }
        self.last.push(self.state.outputs().clone());
        self.results.push(results);
        self.faulty.push(faulty);
        Ok(())
    }
}

/// Describes the calls, their time, and the memory that a call needs for such inputs.
fn describe(function: &dyn Function, steps: usize, seconds: f64, memory: Option<Memory>) -> String {
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
