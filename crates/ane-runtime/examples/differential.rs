//! Runs packages in every arithmetic of `mil-cpu` and writes their outputs, for a fuzzer to compare with its
//! own values.
//!
//! ```text
//! cargo run --release -p ane-runtime --example differential < folders.txt
//! ```
//!
//! Each line of standard input names a folder that holds `model.mlpackage`, `calls.json` (the names of the
//! functions to call, in order, on one state) and `x-CALL.safetensors` for each call. The outputs are written
//! to `VARIANT.safetensors` in the same folder, as tensors named `CALL.OUTPUT`. For each folder, one line of
//! JSON on standard output reports the error of each variant, if any, and the number of steps of each kind in
//! the plan of the fast arithmetic, which shows the fusions that were exercised. The process serves until its
//! input ends, so its startup cost is paid once.

use std::io::{BufRead as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use ane_runtime::tensor_file::TensorFile;
use ane_runtime::{Data, Engine as _, Fusion, LoadOptions, MilCpu, Numerics, Tensor, TensorView};
use mlpackage::Package;
use safetensors::Dtype;
use safetensors::tensor::TensorView as FileView;
use serde_json::{Map, Value, json};

type AnyResult<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    // A panic is a finding and is reported as one; its backtrace would only be noise.
    std::panic::set_hook(Box::new(|_| {}));
    let variants = variants();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return ExitCode::FAILURE };
        let report = serve(Path::new(line.trim()), &variants);
        if writeln!(out, "{report}").and_then(|()| out.flush()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Returns the variants that every package runs in: each arithmetic, and the fast one without any fusion.
fn variants() -> [(&'static str, MilCpu); 4] {
    let fast = MilCpu::new(Numerics::Fast);
    let unfused = Fusion::ALL.into_iter().fold(fast, MilCpu::without);
    [
        ("f32", MilCpu::new(Numerics::F32)),
        ("f16", MilCpu::new(Numerics::F16)),
        ("fast", fast),
        ("unfused", unfused),
    ]
}

/// Runs the package of a folder in every variant.
fn serve(folder: &Path, variants: &[(&str, MilCpu)]) -> Value {
    let package = match guarded(|| Ok(Package::open(folder.join("model.mlpackage"))?)) {
        Ok(package) => package,
        Err(error) => return json!({ "package": error }),
    };
    let mut report = Map::new();
    let mut steps = Map::new();
    for (name, engine) in variants {
        let outcome = guarded(|| run(folder, &package, name, engine));
        if let (Ok(plan), &"fast") = (&outcome, name) {
            steps = count_steps(plan);
        }
        report.insert((*name).to_owned(), outcome.err().map_or(Value::Null, Value::String));
    }
    json!({ "variants": report, "steps": steps })
}

/// Counts the steps of each kind in a plan.
fn count_steps(plan: &str) -> Map<String, Value> {
    let mut steps = Map::new();
    for line in plan.lines() {
        let kind = line.split_once(" = ").and_then(|(_, step)| step.split_once('('));
        if let Some((kind, _)) = kind {
            let count = steps.get(kind).and_then(Value::as_u64).unwrap_or(0) + 1;
            steps.insert(kind.to_owned(), count.into());
        }
    }
    steps
}

/// Runs `work` and converts errors and panics to text.
fn guarded<T>(work: impl FnOnce() -> AnyResult<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", text.unwrap_or("of unknown cause")))
        }
    }
}

/// Calls the functions of `calls.json` in order on one state, writes all outputs, and returns the plan of the
/// default function.
fn run(folder: &Path, package: &Package, variant: &str, engine: &MilCpu) -> AnyResult<String> {
    let calls: Vec<String> = serde_json::from_slice(&std::fs::read(folder.join("calls.json"))?)?;
    let model = engine.load(package, &LoadOptions::default()).map_err(|error| format!("load: {error}"))?;
    let mut state = model.new_state();
    let mut results: Vec<(String, Tensor)> = Vec::new();
    for (number, name) in calls.iter().enumerate() {
        let function = model.function(name)?;
        let file = TensorFile::open(folder.join(format!("x-{number}.safetensors")))?;
        let inputs = file.inputs(function.describe(), None)?;
        let views: Vec<(&str, TensorView<'_>)> = inputs.iter().map(|(n, t)| (n.as_str(), t.view())).collect();
        let outputs =
            function.predict(&views, &mut state).map_err(|error| format!("call {number}: {error}"))?;
        results.extend(outputs.iter().map(|(n, t)| (format!("{number}.{n}"), t.clone())));
    }
    write(&folder.join(format!("{variant}.safetensors")), &results)?;
    Ok(model.default_function().plan())
}

/// Writes tensors as safetensors of fp32, int32 and bool, the types that hold results.
fn write(path: &Path, tensors: &[(String, Tensor)]) -> AnyResult<()> {
    let bytes: Vec<(Dtype, Vec<u8>)> = tensors.iter().map(|(_, tensor)| bytes(tensor.data())).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, tensor), (dtype, bytes))| {
        Ok((name.as_str(), FileView::new(*dtype, tensor.shape().dims().to_vec(), bytes)?))
    });
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    Ok(safetensors::serialize_to_file(views, None, path)?)
}

fn bytes(data: &Data) -> (Dtype, Vec<u8>) {
    match data {
        Data::F32(v) => (Dtype::F32, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Data::I32(v) => (Dtype::I32, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Data::Bool(v) => (Dtype::BOOL, v.iter().map(|v| u8::from(*v)).collect()),
    }
}
