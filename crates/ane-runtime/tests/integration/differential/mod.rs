//! Compares convolutions and matrix products of every shape and attribute with sums written out here, in
//! every arithmetic, with and without fusions. A shortcut whose guard is narrower than its assumptions
//! produces a wrong value somewhere.
//!
//! Inputs, weights and biases are multiples of 1/4 between -1 and 1. Their products are multiples of 1/16,
//! and sums of up to a hundred of them, which is more than any case has, stay below 128. fp16 holds each sum
//! exactly, in any order of addition, so results are compared for equality.

mod convolution;
mod product;

use ane_runtime::{Engine as _, Fusion, LoadOptions, MilCpu, Numerics, State, Tensor, TensorView};
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::Value;
use mlpackage::{DType, Package};

use crate::common::tensor;
use crate::reference::Quarters;

/// Returns an engine for each arithmetic, and for the fast one without fusions.
fn engines() -> [(&'static str, MilCpu); 4] {
    let fast = MilCpu::new(Numerics::Fast).with_threads(2);
    let unfused = Fusion::ALL.into_iter().fold(fast, MilCpu::without);
    let [f32, f16] = [Numerics::F32, Numerics::F16].map(MilCpu::new);
    [("f32", f32), ("f16", f16), ("fast", fast), ("fast, not fused", unfused)]
}

/// A function's inputs, and its expected results by name.
#[derive(Default)]
struct Expected {
    inputs: Vec<(String, Vec<usize>, Vec<f64>)>,
    results: Vec<(String, Vec<f64>)>,
}

impl Expected {
    fn input(&mut self, f: &mut FunctionBuilder<'_>, dims: &[usize], values: &[f64]) -> Var {
        let name = format!("x{}", self.inputs.len());
        let var = f.input(&name, DType::Fp16, dims).unwrap();
        self.inputs.push((name, dims.to_vec(), values.to_vec()));
        var
    }

    fn result(&mut self, f: &mut FunctionBuilder<'_>, var: &Var, values: Vec<f64>) {
        f.output(var);
        self.results.push((var.name().to_owned(), values));
    }

    /// Runs the package in every arithmetic, alone and as one of three sequences.
    fn assert(&self, package: &Package, what: &dyn Fn(usize) -> String) {
        let tensors: Vec<Tensor> = self.inputs.iter().map(|(_, dims, x)| tensor(dims, &floats(x))).collect();
        let names = self.inputs.iter().map(|(name, ..)| name.as_str());
        let named: Vec<(&str, TensorView<'_>)> = names.zip(tensors.iter().map(Tensor::view)).collect();
        for (engine, mil_cpu) in engines() {
            let model = mil_cpu.load(package, &LoadOptions::default()).unwrap();
            let mut states: Vec<State> = (0..3).map(|_| model.new_state()).collect();
            let check = |state: &State, how: &str| {
                for (i, (name, expected)) in self.results.iter().enumerate() {
                    let found = state.outputs()[name].as_f32().unwrap();
                    let same = found.len() == expected.len()
                        && found.iter().zip(expected).all(|(f, e)| f64::from(*f) == *e);
                    assert!(same, "{engine}{how}: {}: {found:?}, expected {expected:?}", what(i));
                }
            };
            model.predict(&named, &mut states[0]).unwrap();
            check(&states[0], "");
            let mut all: Vec<&mut State> = states.iter_mut().collect();
            model.default_function().predict_batch(&[&named, &named, &named], &mut all).unwrap();
            states.iter().for_each(|state| check(state, ", three sequences"));
        }
    }
}

fn floats(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

/// Adds a constant of fp16 values to the program.
fn constant(f: &mut FunctionBuilder<'_>, name: &str, dims: &[usize], values: &[f64]) -> Var {
    let halves: Vec<half::f16> = values.iter().map(|v| half::f16::from_f64(*v)).collect();
    f.value(name, Value::fp16s(dims, &halves)).unwrap()
}

fn ints(values: &[usize]) -> Value {
    Value::ints([values.len()], values.iter().map(|v| *v as i32).collect::<Vec<_>>())
}

/// Operations after the product, which the fast arithmetic fuses with it where possible.
#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    Nothing,
    Relu,
    Residual,
    Both,
}

/// Adds `relu(y) + residual`, or a part of it.
fn after(
    f: &mut FunctionBuilder<'_>,
    expected: &mut Expected,
    (after, name): (After, &str),
    (y, dims, mut values): (Var, &[usize], Vec<f64>),
    quarters: &mut Quarters,
) {
    let mut y = y;
    if matches!(after, After::Relu | After::Both) {
        y = f.op("relu", &format!("{name}_relu")).arg("x", &y).one().unwrap();
        values.iter_mut().for_each(|v| *v = v.max(0.0));
    }
    if matches!(after, After::Residual | After::Both) {
        let residual = quarters.take(values.len());
        let other = expected.input(f, dims, &residual);
        y = f.op("add", &format!("{name}_sum")).arg("x", &y).arg("y", &other).one().unwrap();
        values.iter_mut().zip(&residual).for_each(|(v, r)| *v += r);
    }
    expected.result(f, &y, values);
}
