//! Several tokens a call: the same logits as one by one.
#![allow(clippy::unwrap_used)]

use ane_export::{ExportOptions, Projections, write_probe};
use ane_runtime::{Engine as _, LoadOptions, MilCpu, Model, Numerics, Tensor};
use microgpt_model::{GptConfig, Preset};
use mlpackage::Package;

const T: usize = 3;

fn load(config: &GptConfig, options: &ExportOptions, tokens: usize) -> Box<dyn Model> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("probe.mlpackage");
    write_probe(config, options, tokens, &path).unwrap();
    MilCpu::new(Numerics::F32).load(&Package::open(&path).unwrap(), &LoadOptions::default()).unwrap()
}

/// Runs `total` positions in calls of `tokens`; the result is a row of logits a position.
fn run(model: &dyn Model, config: &GptConfig, tokens: usize, total: usize) -> Vec<Vec<f32>> {
    let (c, s, v) = (config.n_embd, config.block_size, config.vocab_size);
    let mut state = model.new_state();
    let mut logits = Vec::new();
    for begin in (0..total).step_by(tokens) {
        // Any activations will do, as long as both ways see the same.
        let value =
            |channel: usize, position: usize| ((channel * 7 + position * 13) % 11) as f32 / 11.0 - 0.4;
        let x: Vec<f32> = (0..c).flat_map(|ch| (0..tokens).map(move |t| value(ch, begin + t))).collect();
        let mask: Vec<f32> =
            (0..tokens).flat_map(|t| (0..s).map(move |p| if p <= begin + t { 0.0 } else { -1e4 })).collect();
        let write: Vec<f32> =
            (0..s).flat_map(|p| (0..tokens).map(move |t| f32::from(u8::from(p == begin + t)))).collect();
        let x = Tensor::new([1, c, 1, tokens], x).unwrap();
        let mask = Tensor::new([1, 1, tokens, s], mask).unwrap();
        let write = Tensor::new([1, 1, s, tokens], write).unwrap();
        let inputs = [("x", x.view()), ("attn_mask", mask.view()), ("kv_write", write.view())];
        let out = model.predict(&inputs, &mut state).unwrap()["logits"].as_f32().unwrap().to_vec();
        logits.extend((0..tokens).map(|t| (0..v).map(|row| out[row * tokens + t]).collect()));
    }
    logits
}

/// 1e-5 of the largest logit: sums in another order, in f32, over 16 channels and 64 of the MLP.
#[test]
fn several_tokens_a_call_are_those_one_by_one() {
    let config = GptConfig { n_layer: 2, ..GptConfig::preset(Preset::Original, 27) };
    for projections in Projections::ALL {
        let options = ExportOptions { projections: *projections, ..ExportOptions::default() };
        let together = run(load(&config, &options, T).as_ref(), &config, T, 3 * T);
        let one_by_one = run(load(&config, &options, 1).as_ref(), &config, 1, 3 * T);
        let largest = one_by_one.iter().flatten().fold(0f32, |m, v| m.max(v.abs()));
        assert!(largest > 1e-3, "the logits say something: {largest}");
        for (a, b) in together.iter().flatten().zip(one_by_one.iter().flatten()) {
            assert!((a - b).abs() <= 1e-5 * largest, "{a} {b}");
        }
        // Not because all positions are alike.
        assert_ne!(one_by_one[0], one_by_one[4]);
    }
}

#[test]
fn a_call_has_at_least_one_token_and_at_most_the_context() {
    let config = GptConfig::preset(Preset::Original, 27);
    let dir = tempfile::tempdir().unwrap();
    for tokens in [0, 17] {
        let path = dir.path().join("p.mlpackage");
        let error = write_probe(&config, &ExportOptions::default(), tokens, &path).unwrap_err().to_string();
        assert_eq!(error, format!("{tokens} tokens a call, expected 1 to the 16 of the context"));
        assert!(!path.exists());
    }
}
