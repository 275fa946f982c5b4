//! The steps that several threads compute together.
//!
//! Elsewhere in the tests, models are so small that a step is not worth a second thread. `scripts/check-races` runs
//! this file under ThreadSanitizer.

use ane_runtime::{Engine as _, LoadOptions, MilCpu, Model, Numerics, State, Tensor};
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::{TensorType, Value};
use mlpackage::{DType, Package, Result};

use crate::common::{package, tensor};

/// Two threads share a projection of 256 by 256, and attention over 64 or more positions.
const CHANNELS: usize = 256;
const HEADS: usize = 4;
const WIDTH: usize = CHANNELS / HEADS;
const CONTEXT: usize = 96;

/// A batch of 16 sequences of 256 elements is rounded to fixed point by two threads.
const SEQUENCES: usize = 16;

/// Adds a 1x1 convolution with INT8 weights and a scale per channel.
fn projection(f: &mut FunctionBuilder<'_>, name: &str, x: &Var) -> Result<Var> {
    let numbers: Vec<u8> =
        (0..CHANNELS * CHANNELS).map(|i| ((i * 7919 + name.len() * 31) % 251) as u8).collect();
    let scales: Vec<u8> = (0..CHANNELS)
        .flat_map(|i| half::f16::from_f32((1.0 + (i % 5) as f32) / 11_200.0).to_le_bytes())
        .collect();
    let data = f.blob(TensorType::new(DType::Int8, [CHANNELS, CHANNELS, 1, 1]), &numbers)?;
    let scale = f.blob(TensorType::new(DType::Fp16, [CHANNELS, 1, 1, 1]), &scales)?;
    let weight = f.op("constexpr_blockwise_shift_scale", &format!("{name}_weight"));
    let weight = weight.inline("data", data).inline("scale", scale).one()?;
    f.op("conv", name).arg("x", x).arg("weight", &weight).one()
}

/// Attention with its four projections.
fn attention(f: &mut FunctionBuilder<'_>) -> Result<()> {
    let x = f.input("x", DType::Fp16, [1, CHANNELS, 1, 1])?;
    let mask = f.input("mask", DType::Fp16, [1, 1, 1, CONTEXT])?;
    let write = f.input("write", DType::Fp16, [1, 1, CONTEXT, 1])?;
    let one = f.value("one", Value::fp16(1.0))?;
    let keep = f.op("sub", "keep").arg("x", &one).arg("y", &write).one()?;
    let heads = |f: &mut FunctionBuilder<'_>, name: &str| {
        let flat = projection(f, name, &x)?;
        let shape = Value::ints([4], [1, HEADS as i32, 1, WIDTH as i32]);
        f.op("reshape", &format!("{name}_heads")).arg("x", &flat).value("shape", shape).one()
    };
    let query = heads(f, "query")?;
    let query = f.op("mul", "query_scaled").arg("x", &query).value("y", Value::fp16(0.125)).one()?;
    let mut caches = Vec::new();
    for name in ["keys", "values"] {
        let new = heads(f, name)?;
        let state = f.state(&format!("{name}_cache"), DType::Fp16, [1, HEADS, CONTEXT, WIDTH])?;
        let read = f.read_state(&format!("{name}_read"), &state)?;
        let kept = f.op("mul", &format!("{name}_kept")).arg("x", &read).arg("y", &keep).one()?;
        let placed = f.op("mul", &format!("{name}_placed")).arg("x", &new).arg("y", &write).one()?;
        let updated = f.op("add", &format!("{name}_updated")).arg("x", &kept).arg("y", &placed).one()?;
        f.write_state(&state, &updated)?;
        caches.push(updated);
    }
    let matmul = |f: &mut FunctionBuilder<'_>, name: &str, x: &Var, y: &Var, transposed: bool| {
        f.op("matmul", name).arg("x", x).arg("y", y).value("transpose_y", Value::bool(transposed)).one()
    };
    let scores = matmul(f, "scores", &query, &caches[0], true)?;
    let masked = f.op("add", "masked").arg("x", &scores).arg("y", &mask).one()?;
    let weights = f.op("softmax", "weights").arg("x", &masked).value("axis", Value::int(-1)).one()?;
    let mixed = matmul(f, "mixed", &weights, &caches[1], false)?;
    let merged = Value::ints([4], [1, CHANNELS as i32, 1, 1]);
    let merged = f.op("reshape", "merged").arg("x", &mixed).value("shape", merged).one()?;
    let result = projection(f, "result", &merged)?;
    f.output(&result);
    Ok(())
}

fn model(package: &Package, threads: usize) -> Box<dyn Model> {
    let model =
        MilCpu::new(Numerics::Fast).with_threads(threads).load(package, &LoadOptions::default()).unwrap();
    let plan = model.default_function().plan();
    let fused = ["projection", "attention"].map(|step| plan.matches(&format!(" = {step}(")).count());
    assert_eq!(fused, [2, 1], "{plan}");
    model
}

/// Inputs of a step: a row, the attention mask, and the write mask.
fn inputs(position: usize, sequence: usize) -> [Tensor; 3] {
    let element = |i: usize| ((i * 37 + position * 101 + sequence * 53) % 89) as f32 / 22.0 - 2.0;
    let row: Vec<f32> = (0..CHANNELS).map(element).collect();
    let visible: Vec<f32> = (0..CONTEXT).map(|i| if i <= position { 0.0 } else { -1e4 }).collect();
    let place: Vec<f32> = (0..CONTEXT).map(|i| if i == position { 1.0 } else { 0.0 }).collect();
    [
        tensor(&[1, CHANNELS, 1, 1], &row),
        tensor(&[1, 1, 1, CONTEXT], &visible),
        tensor(&[1, 1, CONTEXT, 1], &place),
    ]
}

/// Decodes `steps` positions with `sequences` sequences at once, and returns the results of every step.
fn decode(model: &dyn Model, sequences: usize, steps: usize) -> Vec<Tensor> {
    let mut states: Vec<State> = (0..sequences).map(|_| model.new_state()).collect();
    let mut results = Vec::new();
    for position in 0..steps {
        let given: Vec<[Tensor; 3]> = (0..sequences).map(|s| inputs(position, s)).collect();
        let views: Vec<_> = given
            .iter()
            .map(|[x, m, w]| [("x", x.view()), ("mask", m.view()), ("write", w.view())])
            .collect();
        let views: Vec<&[_]> = views.iter().map(|v| v.as_slice()).collect();
        let mut states: Vec<&mut State> = states.iter_mut().collect();
        model.default_function().predict_batch(&views, &mut states).unwrap();
        results.extend(states.iter().map(|state| state.outputs()["result"].clone()));
    }
    results
}

/// Threads share the rows of a projection, the heads of attention and the sequences of a batch, and compute the same
/// bits as one thread.
#[test]
fn threads_compute_what_one_computes() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(&dir.path().join("attention.mlpackage"), attention);
    let alone = model(&package, 1);
    for threads in [2, 3] {
        let together = model(&package, threads);
        for (sequences, steps) in [(1, CONTEXT), (SEQUENCES, 8)] {
            let [expected, found] = [&alone, &together].map(|model| decode(&**model, sequences, steps));
            assert_ne!(expected[0], expected[expected.len() - 1], "identical results prove nothing");
            assert!(expected == found, "{threads} threads, {sequences} sequences");
        }
    }
}
