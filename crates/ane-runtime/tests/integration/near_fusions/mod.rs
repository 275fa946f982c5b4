//! Programs that match a fused pattern except for one attribute, shape or binding. Each is fused only if the
//! fusion is allowed, and computes what its operations define. Every family begins with the pattern itself,
//! which must be fused.

mod attention;
mod norm;
mod projection;

use ane_runtime::{Engine as _, LoadOptions, MilCpu, Numerics, Tensor};
use mlpackage::Result;
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::Value;

use crate::common::{package, tensor};

fn wave(len: usize, step: f32) -> Vec<f32> {
    (0..len).map(|i| ((i + 1) as f32 * step).sin()).collect()
}

fn ints(values: &[i32]) -> Value {
    Value::ints([values.len()], values)
}

fn fp16s(dims: &[usize], values: &[f32]) -> Value {
    let halves: Vec<half::f16> = values.iter().map(|v| half::f16::from_f32(*v)).collect();
    Value::fp16s(dims, &halves)
}

/// Adds an operation of one operand.
fn of_one(f: &mut FunctionBuilder<'_>, op: &str, name: &str, x: &Var) -> Result<Var> {
    f.op(op, name).arg("x", x).one()
}

fn of_two(f: &mut FunctionBuilder<'_>, op: &str, name: &str, x: &Var, y: &Var) -> Result<Var> {
    f.op(op, name).arg("x", x).arg("y", y).one()
}

fn reshape(f: &mut FunctionBuilder<'_>, name: &str, x: &Var, dims: &[usize]) -> Result<Var> {
    let dims: Vec<i32> = dims.iter().map(|d| *d as i32).collect();
    f.op("reshape", name).arg("x", x).value("shape", ints(&dims)).one()
}

fn reduce(
    f: &mut FunctionBuilder<'_>,
    op: &str,
    name: &str,
    x: &Var,
    axes: &[i32],
    keep: bool,
) -> Result<Var> {
    let op = f.op(op, name).arg("x", x).value("axes", ints(axes));
    op.value("keep_dims", Value::bool(keep)).one()
}

/// Runs the function in f32, which fuses nothing, and in the fast arithmetic, several times on one state, and
/// compares the results. For each type of step, asserts whether the fast plan has it.
fn assert_case(
    what: &str,
    steps: &[(&str, bool)],
    inputs: &[(&str, &[usize], f32)],
    build: impl FnOnce(&mut FunctionBuilder<'_>) -> Result<()>,
) {
    let dir = tempfile::tempdir().unwrap();
    let package = package(&dir.path().join("p.mlpackage"), build);
    let tensors: Vec<(&str, Tensor)> = inputs
        .iter()
        .map(|(name, dims, step)| (*name, tensor(dims, &wave(dims.iter().product(), *step))))
        .collect();
    let named: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor.view())).collect();
    let [exact, fast] = [Numerics::F32, Numerics::Fast].map(|numerics| {
        MilCpu::new(numerics).with_threads(2).load(&package, &LoadOptions::default()).unwrap()
    });
    let plan = fast.default_function().plan();
    for (step, is_there) in steps {
        assert_eq!(plan.contains(&format!(" = {step}(")), *is_there, "{what}, {step}:\n{plan}");
    }
    let mut states = [exact.new_state(), fast.new_state()];
    for call in 0..3 {
        let [a, b] = &mut states;
        let expected = exact.predict(&named, a).unwrap();
        let found = fast.predict(&named, b).unwrap();
        assert!(expected.len() == found.len() && !expected.is_empty(), "{what}");
        for ((name, expected), (same_name, found)) in expected.iter().zip(found.iter()) {
            assert_eq!((name, expected.shape()), (same_name, found.shape()), "{what}");
            let (expected, found) = (expected.as_f32().unwrap(), found.as_f32().unwrap());
            let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            assert!(largest.is_finite() && largest > 0.0, "{what}: nothing to compare");
            // Some dozens of f32 roundings in another order.
            let near = |(e, f): (&f32, &f32)| (e - f).abs() <= 1e-5 * largest;
            assert!(
                expected.iter().zip(found).all(near),
                "{what}, call {call}, {name}: {found:?}, expected {expected:?}\n{plan}"
            );
        }
    }
}
