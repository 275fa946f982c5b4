//! `microgpt run`

mod args;
mod calls;
mod execution;
mod image_file;
mod results;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ane_runtime::{EngineKind, EngineOptions, Limits, LoadOptions, Model, Numerics};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use mlpackage::Package;

use self::args::{FunctionArg, NamedFile};
use self::calls::{Calls, views};
use self::execution::Execution;
use self::image_file::Fit;
use self::results::{HazardSearch, OutImages};
use super::engine::EngineArgs;
use super::{Exit, open, out_file, output};

/// Run functions of any .mlpackage on tensors and images from files, without a Mac or Python. By default on
/// mil-cpu in f32.
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
    pub(crate) fn run(self) -> Result<Exit> {
        // f32 is the default because users of `run` ask what a program means more often than how fast it is.
        let engine = self.engine.options(EngineKind::MilCpu, Numerics::F32)?;
        if self.hazards {
            EngineArgs::ensure_watchable(&engine)?;
        }
        let runs = self.runs();
        ensure!(
            runs || self.plan,
            "nothing says where the outputs go: give --out FILE, or --out-image NAME=FILE; --hazards alone discards them"
        );
        self.check_destinations()?;
        let package = open::package(&self.package)?;
        let calls = self.calls(&package)?;
        let images = OutImages::of(&calls, &self.out_images)?;
        let functions = calls.calls.iter().map(|call| &call.function);
        let limits = Limits::default().with_workspace(self.workspace << 20);
        let options =
            LoadOptions::default().with_functions(functions).with_hazards(self.hazards).with_limits(limits);
        let model = engine.engine()?.load(&package, &options)?;
        if self.plan {
            output::print(&plans(&*model, &calls, runs || self.has_inputs())?)?;
        }
        if !runs {
            return Ok(Exit::Done);
        }
        let mut execution = Execution::new(model.new_state(), self.out.is_some(), limits.workspace);
        for call in &calls.calls {
            execution.call(model.function(&call.function)?, &calls, call)?;
        }
        if let Some(out) = &self.out {
            results::write(&calls, execution.results(), &images, out)?;
        }
        images.write(execution.last_outputs())?;
        let search = match (self.hazards, execution.hazards()) {
            (true, []) => HazardSearch::FoundNone,
            (true, _) => HazardSearch::Found,
            (false, _) if engine.kind.here() == EngineKind::MilCpu => HazardSearch::NotRequested,
            (false, _) => HazardSearch::Impossible,
        };
        results::tell_faults(&calls, execution.results(), execution.faulty_inputs(), search);
        output::print(&format!("{}{}", execution.text(), describe_hazards(&execution, search, &engine)))?;
        Ok(Exit::of(execution.hazards().is_empty()))
    }

    /// Returns whether the functions are called: the outputs are written, or their computation is watched.
    fn runs(&self) -> bool {
        self.out.is_some() || !self.out_images.is_empty() || self.hazards
    }

    fn has_inputs(&self) -> bool {
        self.inputs.is_some() || !self.images.is_empty()
    }

    /// Returns the functions to call. They have their inputs if they are called, or if any input is given.
    fn calls(&self, package: &Package) -> Result<Calls> {
        let mut calls = Calls::of(package, &self.function, self.steps)?;
        if self.runs() || self.has_inputs() {
            let fit = if self.resize { Fit::Resize } else { Fit::Exact };
            calls.give(self.inputs.as_deref(), &self.images, fit)?;
        }
        Ok(calls)
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

/// Lists the hazards that were found, or states in which arithmetic there are none.
fn describe_hazards(execution: &Execution, search: HazardSearch, engine: &EngineOptions) -> String {
    let mut text = String::new();
    for hazard in execution.hazards() {
        let _ = writeln!(text, "  hazard: {hazard}");
    }
    if matches!(search, HazardSearch::FoundNone) {
        let _ = writeln!(text, "  no hazards in {}", arithmetic(engine));
    }
    text
}

/// Returns the arithmetic in which hazards were searched for.
fn arithmetic(engine: &EngineOptions) -> &'static str {
    match engine.numerics {
        Numerics::F16 => "fp16",
        Numerics::F32 | Numerics::Fast => "fp32; --numerics f16 looks for those of fp16",
    }
}

/// Returns how each function was lowered, for the inputs of its first call or for the default shapes.
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
