//! The conformance suite: the results that any engine must compute, written only against the engine trait.
#![allow(clippy::unwrap_used, dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ane_runtime::{Data, Elements, Engine, Error, LoadOptions, Tensor, TensorView};
use mlpackage::Package;
use safetensors::{Dtype, SafeTensors};

/// Largest difference from PyTorch in fp32, relative to the output's largest value: a dozen fp32 roundings.
pub(crate) const F32: f64 = 2e-6;
/// The same if every result is rounded to fp16, which has eleven bits: four roundings.
pub(crate) const F16: f64 = 2e-3;

/// A package with the inputs and expected outputs of its calls.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) package: PathBuf,
    tensors: Vec<u8>,
    /// The function of each call.
    functions: Vec<String>,
    /// Bounds that differ from the suite's, by output, for each arithmetic, with the reason.
    exceptions: BTreeMap<String, Exception>,
}

#[derive(serde::Deserialize)]
struct Exception {
    f32: f64,
    f16: f64,
    reason: String,
}

/// The outcome of the suite.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Report {
    pub(crate) packages: usize,
    pub(crate) calls: usize,
    pub(crate) outputs: usize,
    /// Types of all operations in the packages.
    pub(crate) operations: BTreeSet<String>,
    /// The largest difference of the outputs without their own bound.
    pub(crate) largest: f64,
    /// Packages that the engine refused at load.
    pub(crate) refused: Vec<String>,
    pub(crate) failures: Vec<String>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { packages, calls, outputs, operations, largest, refused, failures } = self;
        write!(
            f,
            "{packages} packages, {} refused, {calls} calls, {outputs} outputs, {} operations; largest difference \
             {largest:.2e}; {} failures",
            refused.len(),
            operations.len(),
            failures.len()
        )
    }
}

/// Returns every case, sorted by name.
pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let package = entry.unwrap().path();
        if package.extension().is_some_and(|e| e == "mlpackage") {
            cases.push(Case::read(package));
        }
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

impl Case {
    fn read(package: PathBuf) -> Self {
        let tensors = std::fs::read(package.with_extension("safetensors")).unwrap();
        let (_, header) = SafeTensors::read_metadata(&tensors).unwrap();
        let metadata = header.metadata().clone().unwrap();
        Self {
            name: package.file_stem().unwrap().to_str().unwrap().to_owned(),
            functions: serde_json::from_str(&metadata["functions"]).unwrap(),
            exceptions: metadata
                .get("tolerance")
                .map_or_else(BTreeMap::new, |t| serde_json::from_str(t).unwrap()),
            package,
            tensors,
        }
    }

    /// Runs the case and adds its outcome to the report.
    pub(crate) fn run(&self, engine: &dyn Engine, package: &Package, report: &mut Report) {
        report.packages += 1;
        for function in package.program().functions.values() {
            let operations = function.block.all_operations().map(|operation| operation.op.clone());
            report.operations.extend(operations);
        }
        let model = match engine.load(package, &LoadOptions::default()) {
            Ok(model) => model,
            Err(error @ Error::Unsupported { .. }) => {
                return report.refused.push(format!("{}: {error}", self.name));
            }
            Err(error) => return report.failures.push(format!("{}: {error}", self.name)),
        };
        let rounds = self.rounds(engine);
        let mut state = model.new_state();
        let file = SafeTensors::deserialize(&self.tensors).unwrap();
        for (number, function) in self.functions.iter().enumerate() {
            report.calls += 1;
            let inputs = Inputs::of(&file, &format!("{number}.in."));
            let outcome = model.function(function).and_then(|f| f.predict(&inputs.views(), &mut state));
            let outputs = match outcome {
                Ok(outputs) => outputs,
                Err(error) => {
                    report.failures.push(format!("{}: call {number}: {error}", self.name));
                    return;
                }
            };
            let prefix = format!("{number}.out.");
            for (name, expected) in
                file.tensors().iter().filter_map(|(n, t)| Some((n.strip_prefix(&prefix)?, t)))
            {
                report.outputs += 1;
                match outputs.get(name) {
                    Some(found) => self.compare(number, name, found, expected, rounds, report),
                    None => report.failures.push(format!("{}: call {number} gives no {name}", self.name)),
                }
            }
        }
    }

    /// Returns whether the engine may be as inexact as fp16 is on this package.
    fn rounds(&self, engine: &dyn Engine) -> bool {
        // A package computes in fp16 if its name contains fp16, whatever its inputs and outputs are; Core ML
        // computes in the package's types.
        let types_of_package = ["f16", "coreml"].iter().any(|name| engine.name().contains(name));
        // The fast arithmetic only promises errors as small as those of fp16.
        types_of_package && self.name.contains("fp16") || engine.name().contains("fast")
    }

    /// Compares one output of a call with what coremltools computed.
    fn compare(
        &self,
        number: usize,
        name: &str,
        found: &Tensor,
        expected: &safetensors::tensor::TensorView<'_>,
        rounds: bool,
        report: &mut Report,
    ) {
        let expected_values = floats(expected);
        let exception = self.exceptions.get(name);
        let bound = match (exception, rounds) {
            (Some(e), true) => e.f16,
            (Some(e), false) => e.f32,
            (None, true) => F16,
            (None, false) => F32,
        };
        let difference = if found.shape().dims() == expected.shape() {
            difference(found.data(), &expected_values)
        } else {
            f64::INFINITY
        };
        if exception.is_none() && !rounds {
            report.largest = report.largest.max(difference);
        }
        if difference.is_nan() || difference > bound {
            report.failures.push(format!(
                "{}: call {number}, {name}: off by {difference:.2e}, at most {bound:.0e}: {found} {:?}, expected {:?} {:?}",
                self.name,
                head(&values(found.data())),
                expected.shape(),
                head(&expected_values)
            ));
        }
    }
}

fn head(values: &[f32]) -> &[f32] {
    &values[..values.len().min(8)]
}

/// Tensors of a call, in the types that a host would pass.
pub(crate) struct Inputs {
    tensors: Vec<(String, Vec<usize>, Held)>,
}

enum Held {
    F16(Vec<half::f16>),
    F32(Vec<f32>),
    I32(Vec<i32>),
}

impl Inputs {
    pub(crate) fn of(file: &SafeTensors<'_>, prefix: &str) -> Self {
        let inputs = file.tensors().into_iter().filter_map(|(name, tensor)| {
            let name = name.strip_prefix(prefix)?.to_owned();
            let bytes = tensor.data();
            let held = match tensor.dtype() {
                Dtype::F16 => {
                    Held::F16(bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]])).collect())
                }
                Dtype::F32 => Held::F32(floats(&tensor)),
                Dtype::I32 => Held::I32(
                    bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
                ),
                other => panic!("{name} is {other:?}"),
            };
            Some((name, tensor.shape().to_vec(), held))
        });
        Self { tensors: inputs.collect() }
    }

    pub(crate) fn views(&self) -> Vec<(&str, TensorView<'_>)> {
        self.tensors
            .iter()
            .map(|(name, shape, held)| {
                let elements = match held {
                    Held::F16(v) => Elements::F16(v),
                    Held::F32(v) => Elements::F32(v),
                    Held::I32(v) => Elements::I32(v),
                };
                (name.as_str(), TensorView::new(shape, elements).unwrap())
            })
            .collect()
    }
}

fn floats(tensor: &safetensors::tensor::TensorView<'_>) -> Vec<f32> {
    let words = tensor.data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
    match tensor.dtype() {
        Dtype::F32 => words.map(f32::from_le_bytes).collect(),
        Dtype::I32 => words.map(|b| i32::from_le_bytes(b) as f32).collect(),
        other => panic!("{other:?}"),
    }
}

fn values(data: &Data) -> Vec<f32> {
    match data {
        Data::F32(v) => v.clone(),
        Data::I32(v) => v.iter().map(|v| *v as f32).collect(),
        Data::Bool(v) => v.iter().map(|v| f32::from(u8::from(*v))).collect(),
    }
}

/// Returns the largest difference, relative to the largest expected value; unequal integers differ
/// infinitely.
fn difference(found: &Data, expected: &[f32]) -> f64 {
    let whole = !matches!(found, Data::F32(_));
    let found = values(found);
    let largest = expected.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(f64::from(v.abs())));
    let pairs = found.iter().zip(expected);
    let differences = pairs.map(|(f, e)| {
        if f == e || (f.is_nan() && e.is_nan()) {
            0.0
        } else if whole || f.is_nan() || e.is_nan() {
            f64::INFINITY
        } else {
            f64::from(f - e).abs() / largest
        }
    });
    differences.fold(0.0, f64::max)
}

/// Runs every case.
pub(crate) fn run(engine: &dyn Engine, open: impl Fn(&Case) -> mlpackage::Result<Package>) -> Report {
    let mut report = Report::default();
    for case in cases() {
        match open(&case) {
            Ok(package) => case.run(engine, &package, &mut report),
            Err(error) => report.failures.push(format!("{}: {error}", case.name)),
        }
    }
    report
}

/// Runs the cases whose names satisfy `wanted`.
pub(crate) fn run_some(engine: &dyn Engine, wanted: impl Fn(&str) -> bool) -> Report {
    let mut report = Report::default();
    for case in cases().iter().filter(|case| wanted(&case.name)) {
        match Package::open(&case.package) {
            Ok(package) => case.run(engine, &package, &mut report),
            Err(error) => report.failures.push(format!("{}: {error}", case.name)),
        }
    }
    report
}

/// Returns everything that an engine lacks to run a package; empty if it lacks nothing.
pub(crate) fn lacks(engine: &dyn Engine, package: &Package) -> Vec<String> {
    match engine.load(package, &LoadOptions::default()) {
        Ok(_) => Vec::new(),
        Err(Error::Unsupported { operations, .. }) => operations,
        Err(error) => panic!("{error}"),
    }
}
