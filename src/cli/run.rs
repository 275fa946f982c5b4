//! `microgpt run`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use ane_runtime::tensor_file::{Slice, Stacked, TensorFile};
use ane_runtime::{EngineKind, Function, LoadOptions, Numerics, TensorView};
use anyhow::{Context as _, Result, ensure};
use clap::Args;

use super::engine::EngineArgs;
use super::{Outcome, folder, output};

/// Run a function of any .mlpackage on tensors from a file: no Mac, no Python. On mil-cpu in f32 unless told.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The .mlpackage
    package: PathBuf,
    /// Inputs by name, as safetensors; each value must be one that the input's type can hold
    #[arg(long, value_name = "FILE", required_unless_present = "plan")]
    inputs: Option<PathBuf>,
    /// Where the outputs go, as safetensors: floats as F32, integers as I32, bools as BOOL
    #[arg(long, value_name = "FILE", required_unless_present = "plan")]
    out: Option<PathBuf>,
    /// The function [default: the package's own]
    #[arg(long)]
    function: Option<String>,
    /// Call the function N times on one state: every input has a leading axis of N, and so has every output
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Look for what goes wrong in fp16 without an error (with --numerics f16), and exit with 1 if there is any
    #[arg(long)]
    hazards: bool,
    /// Print how the function was lowered: steps, buffers and memory. Without --inputs nothing is run
    #[arg(long)]
    plan: bool,
}

impl Run {
    pub(crate) fn run(self) -> Result<Outcome> {
        // What a program means is asked more often than how fast it is.
        let engine = self.engine.options(EngineKind::MilCpu, Numerics::F32)?;
        if self.hazards {
            EngineArgs::ensure_watchable(&engine)?;
        }
        ensure!(self.steps != Some(0), "--steps 0: there is nothing to run");
        if let Some(out) = &self.out {
            ensure!(!folder::holds(&self.package, out), "--out {}: it lies in the package", out.display());
            mlpackage::AtomicFile::check(out)?;
        }
        let package = folder::package(&self.package)?;
        let functions = self.function.clone().into_iter().collect();
        let options = LoadOptions { functions, hazards: self.hazards, ..LoadOptions::default() };
        let model = engine.engine()?.load(&package, &options)?;
        let function = model.default_function();
        if self.plan {
            output::print(&function.plan())?;
        }
        let (Some(inputs), Some(out)) = (&self.inputs, &self.out) else { return Ok(Outcome::Done) };
        let file = TensorFile::open(inputs)?;
        let mut state = model.new_state();
        let mut outputs = Stacked::default();
        let steps = self.steps.unwrap_or(1);
        let started = Instant::now();
        for step in 0..steps {
            let slice = self.steps.map(|steps| Slice { step, steps });
            let mut call = || -> Result<()> {
                let inputs = file.inputs(function.describe(), slice)?;
                let inputs: Vec<(&str, TensorView<'_>)> =
                    inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.view())).collect();
                outputs.push(function.predict(&inputs, &mut state)?)?;
                Ok(())
            };
            call().with_context(|| format!("call {step} of {}", function.name()))?;
        }
        let seconds = started.elapsed().as_secs_f64();
        outputs.write(out, self.steps.is_some())?;
        let mut text = describe(function, steps, seconds);
        for (name, tensor) in state.outputs().iter() {
            let _ = writeln!(text, "  {name}: {tensor}");
        }
        if let Some(label) = function.classes().and_then(|classes| classes.chosen(state.outputs())) {
            let _ = writeln!(text, "  label: {label}");
        }
        for hazard in state.hazards() {
            let _ = writeln!(text, "  hazard: {hazard}");
        }
        output::print(&text)?;
        Ok(Outcome::of(state.hazards().is_empty()))
    }
}

/// What was run, and how long it took.
fn describe(function: &dyn Function, steps: usize, seconds: f64) -> String {
    let calls = if steps == 1 { "1 call".to_owned() } else { format!("{steps} calls") };
    let each = seconds * 1e3 / steps as f64;
    let mut text = format!("{}: {calls}, {each:.3} ms each\n", function.name());
    match function.memory() {
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
