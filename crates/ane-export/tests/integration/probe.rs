//! Several tokens per call produce the same logits as one token per call.

use ane_export::{CacheUpdate, ExportOptions, Projections, write_probe};
use ane_runtime::{Data, Engine as _, LoadOptions, MilCpu, Model, Numerics, Tensor, TensorView};
use microgpt_model::{GptConfig, Preset};
use mlpackage::{DType, Package};

const T: usize = 3;

fn load(config: &GptConfig, options: &ExportOptions, tokens: usize) -> Box<dyn Model> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("probe.mlpackage");
    write_probe(config, options, tokens, &path).unwrap();
    MilCpu::new(Numerics::F32).load(&Package::open(&path).unwrap(), &LoadOptions::default()).unwrap()
}

/// Runs `total` positions in calls of `tokens`, with the inputs that the model asks for, and returns a row of
/// logits for each position.
fn run(model: &dyn Model, config: &GptConfig, tokens: usize, total: usize) -> Vec<Vec<f32>> {
    let (c, s, v) = (config.n_embd, config.block_size, config.vocab_size);
    let mut state = model.new_state();
    let is_cache = |name: &str| name.contains("_cache_");
    let mut caches: Vec<(String, Tensor)> = Vec::new();
    for cache in model.describe().inputs.iter().filter(|f| is_cache(&f.name)) {
        let zeros = Data::F32(vec![0.0; config.n_embd * s]);
        let shape = [1, config.n_head, s, config.head_dim()];
        caches.push((cache.name.clone(), Tensor::with_dtype(DType::Fp16, shape, zeros).unwrap()));
    }
    let takes_position = model.describe().inputs.iter().any(|f| f.name == "position");
    let mut logits = Vec::new();
    for begin in (0..total).step_by(tokens) {
        // The activations are arbitrary, but both runs get the same ones.
        let value =
            |channel: usize, position: usize| ((channel * 7 + position * 13) % 11) as f32 / 11.0 - 0.4;
        let x: Vec<f32> = (0..c).flat_map(|ch| (0..tokens).map(move |t| value(ch, begin + t))).collect();
        let mask: Vec<f32> =
            (0..tokens).flat_map(|t| (0..s).map(move |p| if p <= begin + t { 0.0 } else { -1e4 })).collect();
        let x = Tensor::new([1, c, 1, tokens], x).unwrap();
        let mask = Tensor::new([1, 1, tokens, s], mask).unwrap();
        let (name, write) = if takes_position {
            let position = Data::I32(vec![begin as i32]);
            ("position", Tensor::with_dtype(DType::Int32, [1], position).unwrap())
        } else {
            let write: Vec<f32> =
                (0..s).flat_map(|p| (0..tokens).map(move |t| f32::from(u8::from(p == begin + t)))).collect();
            ("kv_write", Tensor::new([1, 1, s, tokens], write).unwrap())
        };
        let mut inputs = vec![("x", x.view()), ("attn_mask", mask.view()), (name, write.view())];
        inputs.extend(caches.iter().map(|(name, cache)| (name.as_str(), cache.view())));
        let results = model.predict(&inputs, &mut state).unwrap();
        let out = results["logits"].as_f32().unwrap();
        logits.extend((0..tokens).map(|t| (0..v).map(|row| out[row * tokens + t]).collect()));
        // Acts as a host: copies each head's new rows to their positions.
        for (name, cache) in &mut caches {
            let new = results[name.replace("_cache_", "_new_").as_str()].as_f32().unwrap();
            let mut values = cache.as_f32().unwrap().to_vec();
            let d = config.head_dim();
            for (head, new) in values.chunks_mut(s * d).zip(new.chunks(tokens * d)) {
                head[begin * d..][..tokens * d].copy_from_slice(new);
            }
            *cache = Tensor::with_dtype(DType::Fp16, cache.shape().clone(), Data::F32(values)).unwrap();
        }
    }
    logits
}

/// The tolerance is 1e-5 of the largest logit, because f32 sums over 16 channels and 64 of the MLP are added
/// in another order. The cache updates agree bit for bit.
#[test]
fn several_tokens_a_call_are_those_one_by_one() {
    let config = GptConfig { n_layer: 2, ..GptConfig::preset(Preset::Original, 27) };
    for &projections in Projections::ALL {
        let mut one_hot = None;
        for &cache_update in CacheUpdate::ALL {
            let options =
                ExportOptions::default().with_projections(projections).with_cache_update(cache_update);
            let together = run(load(&config, &options, T).as_ref(), &config, T, 3 * T);
            let one_by_one = run(load(&config, &options, 1).as_ref(), &config, 1, 3 * T);
            let largest = one_by_one.iter().flatten().fold(0f32, |m, v| m.max(v.abs()));
            assert!(largest > 1e-3, "the logits are not all tiny: {largest}");
            for (a, b) in together.iter().flatten().zip(one_by_one.iter().flatten()) {
                assert!((a - b).abs() <= 1e-5 * largest, "{cache_update}: {a} {b}");
            }
            // The positions differ, so the comparison means something.
            assert_ne!(one_by_one[0], one_by_one[4]);
            let first = one_hot.get_or_insert_with(|| (together.clone(), one_by_one.clone()));
            assert_eq!(*first, (together, one_by_one), "{cache_update}");
        }
    }
}

/// A box of three positions that exceeds the context is refused by name, and the state is unchanged.
#[test]
fn a_slice_that_leaves_the_context_is_refused() {
    let config = GptConfig::preset(Preset::Original, 27);
    let options = ExportOptions::default().with_cache_update(CacheUpdate::SliceUpdate);
    let model = load(&config, &options, T);
    let x = Tensor::new([1, 16, 1, T], vec![0.5; 16 * T]).unwrap();
    let mask = Tensor::zeros([1, 1, T, 16]);
    let mut state = model.new_state();
    let mut step = |position: i32| -> Result<Vec<f32>, String> {
        let position = [position];
        let position = TensorView::new(&[1], &position[..]).unwrap();
        let inputs = [("x", x.view()), ("attn_mask", mask.view()), ("position", position)];
        let results = model.predict(&inputs, &mut state).map_err(|e| e.to_string())?;
        Ok(results["logits"].as_f32().unwrap().to_vec())
    };
    let before = step(0).unwrap();
    for outside in [14, 16, -1, i32::MAX] {
        let error = step(outside).unwrap_err();
        assert!(error.starts_with("slice_update -> %k_cache_0_updated: "), "{outside}: {error}");
    }
    assert_eq!(step(0).unwrap(), before);
}

#[test]
fn a_call_has_at_least_one_token_and_at_most_the_context() {
    let config = GptConfig::preset(Preset::Original, 27);
    let dir = tempfile::tempdir().unwrap();
    for tokens in [0, 17] {
        let path = dir.path().join("p.mlpackage");
        let error = write_probe(&config, &ExportOptions::default(), tokens, &path).unwrap_err().to_string();
        assert_eq!(error, format!("{tokens} tokens per call, expected 1 to 16, the length of the context"));
        assert!(!path.exists());
    }
}
