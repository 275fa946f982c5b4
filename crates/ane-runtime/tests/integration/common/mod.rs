//! Builds small packages, which are written and read again so that every test takes the path of a real one.

pub(crate) mod attention;

use std::path::Path;

use ane_runtime::{Engine as _, LoadOptions, MilCpu, Model, Numerics, Tensor};
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::{Opset, Program};
use mlpackage::{DType, Metadata, Package, PackageWriter};

/// Builds a package with one function called `main`.
pub(crate) fn package(
    path: &Path,
    build: impl FnOnce(&mut FunctionBuilder<'_>) -> mlpackage::Result<()>,
) -> Package {
    let mut writer = PackageWriter::create(path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    build(&mut f).unwrap();
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();
    Package::open(path).unwrap()
}

/// Builds a package with that function and loads it.
pub(crate) fn load(
    numerics: Numerics,
    build: impl FnOnce(&mut FunctionBuilder<'_>) -> mlpackage::Result<()>,
) -> Box<dyn Model> {
    let dir = tempfile::tempdir().unwrap();
    let package = package(&dir.path().join("p.mlpackage"), build);
    MilCpu::new(numerics).load(&package, &LoadOptions::default()).unwrap()
}

/// Creates a float tensor.
pub(crate) fn tensor(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(dims, values.to_vec()).unwrap()
}

/// Builds and runs a function in f32 with fp32 inputs `x`, `y`, `z`; its results are cast to fp32.
pub(crate) fn run(
    inputs: &[(&[usize], &[f32])],
    build: impl FnOnce(&mut FunctionBuilder<'_>, &[Var]) -> mlpackage::Result<Vec<Var>>,
) -> Vec<Vec<f32>> {
    const NAMES: [&str; 3] = ["x", "y", "z"];
    let mut results = 0;
    let model = load(Numerics::F32, |f| {
        let vars = inputs.iter().zip(NAMES).map(|((dims, _), name)| f.input(name, DType::Fp32, *dims));
        let vars = vars.collect::<mlpackage::Result<Vec<_>>>()?;
        let outputs = build(f, &vars)?;
        results = outputs.len();
        for (i, var) in outputs.into_iter().enumerate() {
            let name = format!("result_{i}");
            let dtype = mlpackage::mil::Value::string("fp32");
            let var = f.op("cast", &name).arg("x", &var).value("dtype", dtype).one()?;
            f.output(&var);
        }
        Ok(())
    });
    let tensors: Vec<Tensor> = inputs.iter().map(|(dims, values)| tensor(dims, values)).collect();
    let named: Vec<_> = NAMES.into_iter().zip(tensors.iter().map(Tensor::view)).collect();
    let mut state = model.new_state();
    let outputs = model.predict(&named, &mut state).unwrap();
    (0..results).map(|i| outputs[&format!("result_{i}")].as_f32().unwrap().to_vec()).collect()
}
