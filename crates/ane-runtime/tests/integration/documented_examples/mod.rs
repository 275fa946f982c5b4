//! The examples of coremltools 9.0's documentation of MIL's operations (`mil/ops/defs`), and small examples
//! of its formulas, computed in each opset. The values are those of the documentation, or follow from its
//! formulas by hand. `docs/operations.md` lists them by operation; `mlpackage/tests/integration/documented_rules`
//! tests which arguments are accepted.

mod elements;
mod folded;
mod moved;
mod sampled;
mod weights;

use ane_runtime::{Data, Elements, Engine as _, LoadOptions, MilCpu, Model, Numerics, TensorView};
use half::f16;
use mlpackage::DType::{self, Fp32, Int8, Int32, Uint1, Uint2, Uint8, Uint32};
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::{Dim, Dims, Literal, Opset, Program, Value};
use mlpackage::{AllowedShapes, Description, DimRange, Metadata, Package, PackageWriter};

/// The opsets in which forms of operations differ.
const ALL: &[Opset] = &[Opset::CoreML5, Opset::CoreML6, Opset::CoreML7, Opset::CoreML8];
const UP_TO_IOS16: &[Opset] = &[Opset::CoreML5, Opset::CoreML6];
const SINCE_IOS16: &[Opset] = &[Opset::CoreML6, Opset::CoreML7, Opset::CoreML8];
const SINCE_IOS17: &[Opset] = &[Opset::CoreML7, Opset::CoreML8, Opset::CoreML9];
const IOS16_AND_17: &[Opset] = &[Opset::CoreML6, Opset::CoreML7];
const SINCE_IOS18: &[Opset] = &[Opset::CoreML8, Opset::CoreML9];

/// Elements of an input.
#[derive(Clone, Copy)]
enum Numbers<'a> {
    F(&'a [f32]),
    I(&'a [i32]),
}

use Numbers::{F, I};

/// A tensor with the parameter that it is bound to.
type Input<'a> = (&'a str, &'a [usize], Numbers<'a>);

/// The shape and elements of a result; integers and booleans are converted to floats.
type Output = (Vec<usize>, Vec<f32>);

/// Loads a package of one function in `opset`.
fn model(
    opset: Opset,
    numerics: Numerics,
    build: impl FnOnce(&mut FunctionBuilder<'_>) -> mlpackage::Result<()>,
) -> Box<dyn Model> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.mlpackage");
    let mut writer = PackageWriter::create(&path).unwrap();
    let mut f = FunctionBuilder::new("main", opset, writer.weights());
    build(&mut f).unwrap();
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();
    let package = Package::open(&path).unwrap();
    MilCpu::new(numerics).load(&package, &LoadOptions::default()).unwrap()
}

fn predict(model: &dyn Model, inputs: &[(String, &[usize], Numbers<'_>)]) -> Result<Vec<Output>, String> {
    let views: Vec<(&str, TensorView<'_>)> = inputs
        .iter()
        .map(|(name, dims, numbers)| {
            let elements = match numbers {
                F(v) => Elements::F32(v),
                I(v) => Elements::I32(v),
            };
            (name.as_str(), TensorView::new(dims, elements).unwrap())
        })
        .collect();
    let mut state = model.new_state();
    let outputs = model.predict(&views, &mut state).map_err(|error| error.to_string())?;
    let mut results: Vec<(String, Output)> = outputs
        .iter()
        .map(|(name, tensor)| {
            let numbers = match tensor.data() {
                Data::F32(v) => v.clone(),
                Data::I32(v) => v.iter().map(|v| *v as f32).collect(),
                Data::Bool(v) => v.iter().map(|v| f32::from(u8::from(*v))).collect(),
            };
            (name.to_owned(), (tensor.shape().dims().to_vec(), numbers))
        })
        .collect();
    results.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(results.into_iter().map(|(_, output)| output).collect())
}

/// Casts results to types that a function can return, and makes them outputs.
fn give(f: &mut FunctionBuilder<'_>, results: Vec<Var>) -> mlpackage::Result<()> {
    for (i, var) in results.into_iter().enumerate() {
        let to = if var.ty().dtype.is_float() { "fp32" } else { "int32" };
        let output =
            f.op("cast", &format!("out_{i}")).arg("x", &var).value("dtype", Value::string(to)).one()?;
        f.output(&output);
    }
    Ok(())
}

/// Computes an operation with `count` results in `opset`.
fn compute(
    opset: Opset,
    numerics: Numerics,
    op: &str,
    inputs: &[Input<'_>],
    constants: &[(&str, Value)],
    count: usize,
) -> Result<Vec<Output>, String> {
    let model = model(opset, numerics, |f| {
        let mut bound: Vec<(&str, Vec<Var>)> = Vec::new();
        for (i, (param, dims, numbers)) in inputs.iter().enumerate() {
            let dtype = if matches!(numbers, F(_)) { Fp32 } else { Int32 };
            let var = f.input(&format!("in_{i}"), dtype, *dims)?;
            // A condition, or an attention mask.
            let var = if ["cond", "attn_mask"].contains(param) && dtype == Int32 {
                let cast = f.op("cast", &format!("bool_{i}")).arg("x", &var);
                cast.value("dtype", Value::string("bool")).one()?
            } else {
                var
            };
            match bound.iter_mut().find(|(name, _)| name == param) {
                Some((_, vars)) => vars.push(var),
                None => bound.push((param, vec![var])),
            }
        }
        if inputs.is_empty() {
            f.input("unused", Fp32, [1])?;
        }
        let mut op = f.op(op, "r0");
        for (param, vars) in &bound {
            op = op.args(param, &vars.iter().collect::<Vec<_>>());
        }
        for (param, value) in constants {
            op = op.value(param, value.clone());
        }
        let names: Vec<String> = (0..count).map(|i| format!("r{i}")).collect();
        let results = op.many(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        give(f, results)
    });
    let mut given: Vec<(String, &[usize], Numbers<'_>)> = inputs
        .iter()
        .enumerate()
        .map(|(i, (_, dims, numbers))| (format!("in_{i}"), *dims, *numbers))
        .collect();
    if inputs.is_empty() {
        given.push(("unused".into(), &[1], F(&[0.0])));
    }
    predict(&*model, &given)
}

fn assert_close(what: &str, found: &[Output], expected: &[(&[usize], &[f32])]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for ((dims, numbers), (expected_dims, expected)) in found.iter().zip(expected) {
        assert_eq!(dims, expected_dims, "{what}: {numbers:?}");
        assert_eq!(numbers.len(), expected.len(), "{what}: {numbers:?}");
        // A few roundings of fp32.
        let close = |(a, e): (&f32, &f32)| {
            a == e || (a.is_nan() && e.is_nan()) || (a - e).abs() <= 2e-6 * (1.0 + e.abs())
        };
        assert!(numbers.iter().zip(*expected).all(close), "{what}: {numbers:?}, expected {expected:?}");
    }
}

/// Asserts the results of an operation in each opset, and in the last opset in the fast arithmetic as well.
#[track_caller]
fn gives(
    opsets: &[Opset],
    op: &str,
    inputs: &[Input<'_>],
    constants: &[(&str, Value)],
    expected: &[(&[usize], &[f32])],
) {
    for &opset in opsets {
        let found = compute(opset, Numerics::F32, op, inputs, constants, expected.len());
        assert_close(&format!("{op} in {opset}"), &found.unwrap(), expected);
    }
    let opset = opsets[opsets.len() - 1];
    let found = compute(opset, Numerics::Fast, op, inputs, constants, expected.len());
    assert_close(&format!("{op} in {opset}, fast"), &found.unwrap(), expected);
}

/// Asserts that the operation fails with an error that contains `words`.
#[track_caller]
fn fails(opsets: &[Opset], op: &str, inputs: &[Input<'_>], constants: &[(&str, Value)], words: &str) {
    for &opset in opsets {
        let error = compute(opset, Numerics::F32, op, inputs, constants, 1).unwrap_err();
        assert!(error.contains(words), "{op} in {opset}: {error}");
    }
}

fn ints(values: &[i32]) -> Value {
    Value::ints([values.len()], values)
}

fn floats(values: &[f32]) -> Value {
    Value::fp32s([values.len()], values)
}

fn text(value: &str) -> Value {
    Value::string(value)
}

fn yes(value: bool) -> Value {
    Value::bool(value)
}

/// Integers of one byte each, of that type and shape.
fn bytes(dtype: DType, dims: &[usize], values: &[u8]) -> Value {
    Value::immediate(dtype, dims, Literal::Bytes(values.to_vec()))
}
