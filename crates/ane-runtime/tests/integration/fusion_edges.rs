//! Programs that nearly match a decoder's patterns, which the fast arithmetic must compute correctly.

use ane_runtime::{Engine as _, LoadOptions, MilCpu, Numerics, Tensor};
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::{TensorType, Value};
use mlpackage::{DType, Result};

use crate::common::{self, package, tensor};

const CHANNELS: usize = 96;

fn wave(len: usize, step: f32, size: f32) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * step).sin() * size).collect()
}

/// Adds a 1x1 convolution with weights that depend on its name.
fn conv(f: &mut FunctionBuilder<'_>, name: &str, x: &Var) -> Result<Var> {
    let values = wave(CHANNELS * CHANNELS, 0.1 * name.len() as f32, 0.1);
    let bytes: Vec<u8> = values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
    let data = f.blob(TensorType::new(DType::Fp16, [CHANNELS, CHANNELS, 1, 1]), &bytes)?;
    let weight = f.value(&format!("{name}_weight"), data)?;
    f.op("conv", name).arg("x", x).arg("weight", &weight).one()
}

fn add(f: &mut FunctionBuilder<'_>, name: &str, x: &Var, y: &Var) -> Result<Var> {
    f.op("add", name).arg("x", x).arg("y", y).one()
}

/// Asserts that the fast arithmetic agrees with f32 within `tolerance` of the largest result.
fn assert_the_same(
    what: &str,
    inputs: &[(&str, Tensor)],
    tolerance: f32,
    build: impl FnOnce(&mut FunctionBuilder<'_>) -> Result<()>,
) {
    let dir = tempfile::tempdir().unwrap();
    let package = package(&dir.path().join("p.mlpackage"), build);
    let named: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.view())).collect();
    let [expected, found] = [Numerics::F32, Numerics::Fast].map(|numerics| {
        let model = MilCpu::new(numerics).with_threads(2).load(&package, &LoadOptions::default()).unwrap();
        let mut state = model.new_state();
        model.predict(&named, &mut state).unwrap()["result"].as_f32().unwrap().to_vec()
    });
    assert_eq!(expected.len(), found.len(), "{what}");
    let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert!(largest.is_finite() && largest > 0.0, "{what}: nothing to compare");
    let near = |(e, f): (&f32, &f32)| (e - f).abs() <= tolerance * largest;
    assert!(expected.iter().zip(&found).all(near), "{what}: {:?}, {:?}", &expected[..4], &found[..4]);
}

fn row(step: f32) -> Tensor {
    tensor(&[1, CHANNELS, 1, 1], &wave(CHANNELS, step, 1.0))
}

/// Tolerance for sums of 96 products in another order.
const ORDER: f32 = 1e-5;

#[test]
fn sums_of_projections() {
    for relu in [false, true] {
        assert_the_same("two", &[("x", row(0.31))], ORDER, |f| {
            let x = f.input("x", DType::Fp16, [1, CHANNELS, 1, 1])?;
            let (mut a, mut b) = (conv(f, "a", &x)?, conv(f, "bb", &x)?);
            if relu {
                a = f.op("relu", "a_relu").arg("x", &a).one()?;
                b = f.op("relu", "b_relu").arg("x", &b).one()?;
            }
            let result = add(f, "result", &a, &b)?;
            f.output(&result);
            Ok(())
        });
    }
    assert_the_same("three", &[("x", row(0.31))], ORDER, |f| {
        let x = f.input("x", DType::Fp16, [1, CHANNELS, 1, 1])?;
        let (a, b, c) = (conv(f, "a", &x)?, conv(f, "bb", &x)?, conv(f, "ccc", &x)?);
        let two = add(f, "two", &a, &b)?;
        let result = add(f, "result", &two, &c)?;
        f.output(&result);
        Ok(())
    });
    assert_the_same("of two rows", &[("x", row(0.31)), ("y", row(0.9))], ORDER, |f| {
        let x = f.input("x", DType::Fp16, [1, CHANNELS, 1, 1])?;
        let y = f.input("y", DType::Fp16, [1, CHANNELS, 1, 1])?;
        let (a, b) = (conv(f, "a", &x)?, conv(f, "bb", &y)?);
        let result = add(f, "result", &a, &b)?;
        f.output(&result);
        Ok(())
    });
    assert_the_same("twice itself", &[("x", row(0.31))], ORDER, |f| {
        let x = f.input("x", DType::Fp16, [1, CHANNELS, 1, 1])?;
        let a = conv(f, "a", &x)?;
        let result = add(f, "result", &a, &a)?;
        f.output(&result);
        Ok(())
    });
}

/// The same number of elements along another axis: the sum is a square.
#[test]
fn a_residual_that_broadcasts_is_none() {
    let across = tensor(&[1, 1, 1, CHANNELS], &wave(CHANNELS, 0.9, 1.0));
    assert_the_same("across", &[("x", row(0.31)), ("y", across)], ORDER, |f| {
        let x = f.input("x", DType::Fp16, [1, CHANNELS, 1, 1])?;
        let y = f.input("y", DType::Fp16, [1, 1, 1, CHANNELS])?;
        let a = conv(f, "a", &x)?;
        let result = add(f, "result", &a, &y)?;
        f.output(&result);
        Ok(())
    });
}

/// Rows whose squares exceed the range of f32, which rescaling norms exist for.
#[test]
fn norms_that_rescale_keep_their_range() {
    // The size of the row, and the floor of the largest magnitude or the factor before the square.
    let largest =
        [(1e10, 0.03), (1e25, 0.03), (1e-25, 1e-28), (3e-5, 1e-3)].map(|(x, floor)| (true, x, floor));
    let scaled = [(1e25, 1e-22), (1e-25, 1e22), (3e-5, 1.0)].map(|(x, factor)| (false, x, factor));
    for (by_largest, size, number) in largest.into_iter().chain(scaled) {
        let x = tensor(&[1, CHANNELS, 1, 1], &wave(CHANNELS, 0.31, size));
        let what = format!("{by_largest}, {size:e}, {number:e}");
        // A few f32 roundings in another order.
        assert_the_same(&what, &[("x", x)], 1e-5, |f| {
            let x = f.input("x", DType::Fp32, [1, CHANNELS, 1, 1])?;
            let reduced = |f: &mut FunctionBuilder<'_>, op: &str, x: &Var| {
                let op = f.op(op, op).arg("x", x).value("axes", Value::ints([1], [1]));
                op.value("keep_dims", Value::bool(true)).one()
            };
            let (row, epsilon) = if by_largest {
                let floor = f.value("floor", Value::fp32(number))?;
                let magnitude = f.op("abs", "magnitude").arg("x", &x).one()?;
                let largest = reduced(f, "reduce_max", &magnitude)?;
                let unit = f.op("maximum", "unit").arg("x", &largest).arg("y", &floor).one()?;
                let row = f.op("real_div", "row").arg("x", &x).arg("y", &unit).one()?;
                let ratio = f.op("real_div", "ratio").arg("x", &floor).arg("y", &unit).one()?;
                (row, f.op("mul", "epsilon").arg("x", &ratio).arg("y", &ratio).one()?)
            } else {
                let row = f.op("mul", "row").arg("x", &x).value("y", Value::fp32(number)).one()?;
                (row, f.value("epsilon", Value::fp32(1e-6))?)
            };
            let square = f.op("mul", "square").arg("x", &row).arg("y", &row).one()?;
            let mean = reduced(f, "reduce_mean", &square)?;
            let sum = add(f, "sum", &mean, &epsilon)?;
            let factor = f.op("rsqrt", "factor").arg("x", &sum).one()?;
            let result = f.op("mul", "result").arg("x", &row).arg("y", &factor).one()?;
            f.output(&result);
            Ok(())
        });
    }
}

#[test]
fn no_sequences_are_no_work() {
    let model = common::load(Numerics::Fast, |f| {
        let x = f.input("x", DType::Fp16, [1, CHANNELS, 1, 1])?;
        let result = conv(f, "a", &x)?;
        f.output(&result);
        Ok(())
    });
    model.default_function().predict_batch(&[], &mut []).unwrap();
}
