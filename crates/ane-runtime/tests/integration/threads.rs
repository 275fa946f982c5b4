//! The steps that several threads compute together.
//!
//! Elsewhere in the tests, models are so small that a step is not worth a second thread. `scripts/check-races` runs
//! this file under ThreadSanitizer.

use ane_runtime::{Engine as _, LoadOptions, MilCpu, Model, Numerics, State, Tensor};
use mlpackage::builder::FunctionBuilder;
use mlpackage::{DType, Package, Result};

use crate::common::attention::{Attention, projection};
use crate::common::package;

/// Two threads share a projection of 256 by 256, and attention over 64 or more positions.
const CHANNELS: usize = 256;
const CONTEXT: usize = 96;
const ATTENTION: Attention = Attention { channels: CHANNELS, heads: 4, context: CONTEXT, scale: 0.125 };

/// A batch of 16 sequences of 256 elements is rounded to fixed point by two threads.
const SEQUENCES: usize = 16;

/// Builds attention with its four projections.
fn attention(f: &mut FunctionBuilder<'_>) -> Result<()> {
    let x = f.input("x", DType::Fp16, [1, CHANNELS, 1, 1])?;
    let masks = ATTENTION.masks(f)?;
    let attended = ATTENTION.attend(f, &x, &masks)?;
    let result = projection(f, "result", &attended.merged, CHANNELS)?;
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

/// Decodes `steps` positions with `sequences` sequences at once, and returns the results of every step.
fn decode(model: &dyn Model, sequences: usize, steps: usize) -> Vec<Tensor> {
    let mut states: Vec<State> = (0..sequences).map(|_| model.new_state()).collect();
    let mut results = Vec::new();
    for position in 0..steps {
        let given: Vec<[Tensor; 3]> = (0..sequences).map(|s| ATTENTION.inputs(position, s, 1.0)).collect();
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
