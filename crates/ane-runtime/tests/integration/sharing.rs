//! One model with many sequences: on several threads, in a batch, and through several functions.

use std::path::Path;

use ane_runtime::{Elements, Engine as _, LoadOptions, MilCpu, Model, Numerics, State, TensorView};
use mlpackage::Package;

const CONTEXT: usize = 8;
const VOCAB: usize = 24;

fn model(name: &str) -> Box<dyn Model> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/conformance/{name}.mlpackage"));
    let package = Package::open(&path).unwrap();
    MilCpu::new(Numerics::F16).load(&package, &LoadOptions::default()).unwrap()
}

/// Returns the token that a step of the GPT-2 model finds most likely.
fn step(model: &dyn Model, token: i32, position: i32, state: &mut State) -> i32 {
    let (token, position) = ([token], [position]);
    let mask = mask(position[0]);
    let outputs = model.predict(&inputs(&token, &position, &mask), state).unwrap();
    best(outputs["result"].as_f32().unwrap())
}

fn mask(position: i32) -> [f32; CONTEXT] {
    std::array::from_fn(|i| if i as i32 <= position { 0.0 } else { -1e4 })
}

fn inputs<'a>(
    token: &'a [i32; 1],
    position: &'a [i32; 1],
    mask: &'a [f32; CONTEXT],
) -> [(&'static str, TensorView<'a>); 3] {
    [
        ("token", TensorView::new(&[1, 1], Elements::I32(token)).unwrap()),
        ("position", TensorView::new(&[1], Elements::I32(position)).unwrap()),
        ("mask", TensorView::new(&[1, 1, 1, CONTEXT], Elements::F32(mask)).unwrap()),
    ]
}

fn best(logits: &[f32]) -> i32 {
    ane_runtime::argmax(logits) as i32
}

/// Decodes greedily; the context restarts whenever it is full.
fn tokens(model: &dyn Model, first: i32, steps: usize) -> Vec<i32> {
    let mut state = model.new_state();
    let mut token = first;
    (0..steps)
        .map(|i| {
            token = step(model, token, (i % CONTEXT) as i32, &mut state);
            // Mixes in the position, so the model does not end up repeating one token.
            token = (token + i as i32) % VOCAB as i32;
            token
        })
        .collect()
}

#[test]
fn eight_threads_write_what_one_writes() {
    const STEPS: usize = 10_000;
    let model = model("model_gpt2_fp16_int8_per_tensor");
    let alone: Vec<Vec<i32>> = (0..8).map(|first| tokens(&*model, first, STEPS)).collect();
    assert_ne!(alone[0], alone[1], "identical sequences prove nothing");
    let together: Vec<Vec<i32>> = std::thread::scope(|scope| {
        let model = &*model;
        let threads: Vec<_> = (0..8).map(|first| scope.spawn(move || tokens(model, first, STEPS))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
}

/// Three sequences at different positions in a batch produce the same bits as each sequence alone, step by
/// step.
#[test]
fn a_batch_gives_what_one_by_one_gives() {
    for name in ["model_gpt2_fp16_plain", "model_gpt2_fp16_lut4", "model_gpt2_fp16_sparse_int8"] {
        let model = model(name);
        let (mut alone, mut batched): (Vec<State>, Vec<State>) =
            (0..3).map(|_| (model.new_state(), model.new_state())).unzip();
        for i in 0..4 {
            let places: Vec<([i32; 1], [i32; 1])> =
                (0..3).map(|s| ([(7 * s + 5 * i) % VOCAB as i32], [i + s])).collect();
            let masks: Vec<[f32; CONTEXT]> = places.iter().map(|(_, position)| mask(position[0])).collect();
            let given: Vec<_> = places.iter().zip(&masks).map(|((t, p), m)| inputs(t, p, m)).collect();
            for (given, state) in given.iter().zip(&mut alone) {
                model.predict(given, state).unwrap();
            }
            let given: Vec<&[(&str, TensorView<'_>)]> = given.iter().map(|g| g.as_slice()).collect();
            let mut states: Vec<&mut State> = batched.iter_mut().collect();
            model.default_function().predict_batch(&given, &mut states).unwrap();
            for (one, many) in alone.iter().zip(&batched) {
                assert_eq!(one.outputs(), many.outputs(), "{name}");
            }
        }
    }
}

/// A prompt through one function and the rest through another, on one state; a state of another model is
/// refused.
#[test]
fn functions_share_a_state_and_models_do_not() {
    let (model, other) = (model("model_llama_fp16_plain"), model("model_llama_fp16_plain"));
    let names: Vec<&str> = model.functions().iter().map(|f| f.name()).collect();
    assert_eq!(names, ["decode", "prefill"]);
    let mask = |rows: usize, first: usize| -> Vec<f32> {
        let seen = |row: usize| move |i: usize| if i <= first + row { 0.0 } else { -1e4 };
        (0..rows).flat_map(|row| (0..12).map(seen(row))).collect()
    };
    let run = |function: &str, tokens: &[i32], first: usize, state: &mut State| {
        let n = tokens.len();
        let positions: Vec<i32> = (first..first + n).map(|i| i as i32).collect();
        let mask = mask(n, first);
        let shapes = [vec![1, n], vec![n], vec![1, 1, n, 12]];
        let inputs = [
            ("token", TensorView::new(&shapes[0], Elements::I32(tokens)).unwrap()),
            ("position", TensorView::new(&shapes[1], Elements::I32(&positions)).unwrap()),
            ("mask", TensorView::new(&shapes[2], Elements::F32(&mask)).unwrap()),
        ];
        model
            .function(function)
            .unwrap()
            .predict(&inputs, state)
            .map(|o| o["result"].as_f32().unwrap().to_vec())
    };
    let prompt = [1, 5, 9, 2, 7, 3];
    let mut state = model.new_state();
    run("prefill", &prompt, 0, &mut state).unwrap();
    let after_prefill = run("decode", &[4], 6, &mut state).unwrap();
    let mut state = model.new_state();
    for (i, token) in prompt.iter().enumerate() {
        run("decode", &[*token], i, &mut state).unwrap();
    }
    let after_decode = run("decode", &[4], 6, &mut state).unwrap();
    let largest = after_decode.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    for (a, b) in after_prefill.iter().zip(&after_decode) {
        // Matrix-matrix products add in another order than matrix-vector products, so results differ by a few
        // units of fp16.
        assert!((a - b).abs() <= 2e-3 * largest, "{a} {b}");
    }
    let error = run("decode", &[4], 6, &mut other.new_state()).unwrap_err();
    assert!(matches!(error, ane_runtime::Error::ForeignState), "{error}");
    let error = model.function("encode").err().unwrap();
    assert_eq!(error.to_string(), "no function \"encode\": the model has decode, prefill");
}
