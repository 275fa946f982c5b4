//! Checks that training from a checkpoint that PyTorch wrote follows PyTorch's.
//!
//! The expected losses come from `pytorch/reference.py make`: microGPT in PyTorch, f64, from the same
//! weights, with the same documents in the same order.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::path::Path;

use microgpt_model::{Backend, Checkpoint, Corpus, Preset, Schedule, Trainer, TrainingConfig};
use serde_json::Value;

#[test]
fn losses_of_fifty_steps_follow_pytorch() {
    for case in ["original", "regularised"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch").join(case);
        let reference: Value =
            serde_json::from_slice(&std::fs::read(folder.join("losses.json")).unwrap()).unwrap();
        let number = |name: &str| reference.get(name).and_then(Value::as_f64);
        let expected: Vec<f64> =
            reference["losses"].as_array().unwrap().iter().map(|l| l.as_f64().unwrap()).collect();
        let checkpoint = Checkpoint::open(&folder).unwrap();
        for &backend in Backend::ALL {
            let training = TrainingConfig {
                steps: expected.len(),
                batch_size: number("batch_size").unwrap() as usize,
                learning_rate: number("learning_rate").unwrap(),
                schedule: reference["schedule"].as_str().map_or(Schedule::Linear, |s| s.parse().unwrap()),
                warmup: number("warmup").unwrap_or(0.0) as usize,
                weight_decay: number("weight_decay").unwrap_or(0.0),
                clip_norm: number("clip_norm"),
                held_out: 0.0,
                shuffle: false,
                backend,
                ..TrainingConfig::preset(Preset::Original)
            };
            let (config, tokenizer) = (checkpoint.config().clone(), checkpoint.tokenizer().clone());
            let weights = Some(checkpoint.weights().unwrap());
            let mut trainer =
                Trainer::new(&Corpus::built_in(), config, tokenizer, weights, training).unwrap();
            for (i, expected) in expected.iter().enumerate() {
                let loss = f64::from(trainer.step().unwrap().loss);
                // The difference between f32 and f64, amplified over fifty steps.
                assert!((loss - expected).abs() < 1e-4, "{case}, {backend}, step {i}: {loss}, {expected}");
            }
        }
    }
}
