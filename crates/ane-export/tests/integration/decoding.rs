//! Every cache update decodes to the same logits, whether the model or the host holds the cache.

use std::fs;
use std::path::{Path, PathBuf};

use ane_bundle::Bundle;
use ane_export::{CacheUpdate, ExportOptions, export};
use ane_runtime::{
    DecodeModel, Decoder, Elements, Error, FinishReason, Generation, LogitsSource as _, MilCpu, Numerics,
    Parity, Sampler, Sampling, Sequence, TextTokenizer, Tolerance,
};
use microgpt_model::{Checkpoint, GptConfig, Preset, Tokenizer, Weights};

const CONTEXT: usize = 16;

/// Exports two layers of random weights, large enough for the logits to differ.
fn bundle(folder: &Path, cache_update: CacheUpdate) -> PathBuf {
    let tokenizer = Tokenizer::characters(&["abcdefghijklmnopqrstuvwxyz"]);
    let config = GptConfig { n_layer: 2, ..GptConfig::preset(Preset::Original, tokenizer.vocab_size()) };
    let path = folder.join("checkpoint");
    Checkpoint::write(&path, &config, &tokenizer, &Weights::random(&config, 0.3, 7), None).unwrap();
    let out = folder.join(cache_update.name());
    let options = ExportOptions::default().with_cache_update(cache_update);
    export(&Checkpoint::open(&path).unwrap(), &out, &options).unwrap().publish().unwrap();
    out
}

fn load(folder: &Path, cache_update: CacheUpdate, numerics: Numerics) -> DecodeModel {
    let bundle = Bundle::open(bundle(folder, cache_update)).unwrap();
    DecodeModel::load(&bundle, &MilCpu::new(numerics)).unwrap()
}

fn tokens() -> impl Iterator<Item = u32> {
    (0..CONTEXT as u32).map(|i| (26 + 7 * i) % 27)
}

fn context(model: &DecodeModel, sequence: &mut Sequence) -> Vec<f32> {
    tokens().flat_map(|token| model.decode(token, sequence).unwrap().to_vec()).collect()
}

/// Compares logits over a full context, after a reset, and in a batch. In f32 and f16 every cache update does
/// the same arithmetic, so they are equal bit for bit; in `fast`, which fuses one of them, they agree within
/// fp16's tolerance.
#[test]
fn every_cache_update_gives_the_same_logits() {
    let dir = tempfile::tempdir().unwrap();
    for numerics in [Numerics::F32, Numerics::F16, Numerics::Fast] {
        let mut expected: Option<Vec<f32>> = None;
        for &cache_update in CacheUpdate::ALL {
            let what = format!("{cache_update} in {numerics:?}");
            let model = load(dir.path(), cache_update, numerics);
            let mut sequence = model.new_sequence();
            let logits = context(&model, &mut sequence);
            assert!(logits.iter().any(|v| v.abs() > 0.1), "{what}: the logits are not all small");
            let first = expected.get_or_insert_with(|| logits.clone());
            if numerics == Numerics::Fast {
                let parity = Parity::of(first, &logits, model.vocab_size()).unwrap();
                assert!(parity.passes(&Tolerance::F16), "{what}: {parity:?}");
            } else {
                assert!(*first == logits, "{what}");
            }
            // A reset removes what another text left in the caches.
            model.reset(&mut sequence);
            for token in [3, 1, 4, 1, 5] {
                model.decode(token, &mut sequence).unwrap();
            }
            model.reset(&mut sequence);
            assert_eq!(context(&model, &mut sequence), logits, "{what}, after a reset");
            // Two sequences at the same position, and a third that is one ahead.
            let mut batch: Vec<Sequence> = (0..3).map(|_| model.new_sequence()).collect();
            let all: Vec<u32> = tokens().collect();
            model.decode(all[0], &mut batch[0]).unwrap();
            for step in 0..CONTEXT - 1 {
                let next = [all[step + 1], all[step], all[step]];
                model.decode_batch(&next, &mut batch.iter_mut().collect::<Vec<_>>()).unwrap();
                for (sequence, at) in batch.iter().zip([step + 1, step, step]) {
                    let row = &logits[at * 27..(at + 1) * 27];
                    assert_eq!(model.logits(sequence), row, "{what}, position {at} in a batch");
                }
            }
        }
    }
}

#[test]
fn a_full_context_and_an_unknown_token_leave_the_sequence_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    for &cache_update in CacheUpdate::ALL {
        let model = load(dir.path(), cache_update, Numerics::F16);
        let mut sequence = model.new_sequence();
        let logits = context(&model, &mut sequence);
        let error = model.decode(0, &mut sequence).unwrap_err();
        assert!(matches!(error, Error::ContextFull { tokens: 17, context_length: 16 }), "{error}");
        let error = model.decode_batch(&[0], &mut [&mut sequence]).unwrap_err();
        assert!(matches!(error, Error::ContextFull { .. }), "{error}");
        assert_eq!(
            (sequence.position(), model.logits(&sequence)),
            (16, &logits[15 * 27..]),
            "{cache_update}"
        );
        model.reset(&mut sequence);
        assert!(matches!(model.decode(27, &mut sequence), Err(Error::UnknownToken { token: 27, .. })));
        assert_eq!(context(&model, &mut sequence), logits, "{cache_update}");
    }
}

/// The inputs by name: the position is an integer; caches hold the results of earlier steps, then zeros.
#[test]
fn inputs_are_what_the_function_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    for &cache_update in CacheUpdate::ALL {
        let model = load(dir.path(), cache_update, Numerics::F16);
        let mut sequence = model.new_sequence();
        // Decodes a full context first; the reset must remove all of it.
        context(&model, &mut sequence);
        model.reset(&mut sequence);
        for token in [26, 1, 2] {
            model.decode(token, &mut sequence).unwrap();
        }
        let inputs = model.inputs(3, &mut sequence).unwrap();
        let names: Vec<&str> = inputs.iter().map(|(name, _)| *name).collect();
        let declared: Vec<&str> = model.model().describe().inputs.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, declared, "{cache_update}");
        // The step attends to positions 0 to 3. The blocked positions add a large negative score.
        let Elements::F32(mask) = inputs[1].1.elements() else { panic!("the mask holds floats") };
        assert_eq!(mask[..4], [0.0; 4], "{cache_update}");
        assert!(mask.len() == CONTEXT && mask[4..].iter().all(|v| *v <= -1e4), "{cache_update}: {mask:?}");
        let write = inputs[2].1;
        match write.elements() {
            Elements::I32(position) => assert_eq!((write.shape(), position), (&[1][..], &[3][..])),
            Elements::F32(one_hot) => {
                assert_eq!(write.shape(), [1, 1, CONTEXT, 1]);
                assert!(one_hot.iter().enumerate().all(|(i, v)| *v == f32::from(u8::from(i == 3))));
            }
            other => panic!("{other:?}"),
        }
        for (name, cache) in &inputs[3..] {
            let Elements::F32(values) = cache.elements() else { panic!("{name} holds floats") };
            assert_eq!(cache.shape(), [1, 4, CONTEXT, 4]);
            for head in values.chunks_exact(CONTEXT * 4) {
                assert!(
                    head[..12].chunks_exact(4).all(|row| row.iter().any(|v| *v != 0.0)),
                    "{name}: {head:?}"
                );
                assert!(head[12..].iter().all(|v| *v == 0.0), "{name}: {head:?}");
            }
        }
    }
}

/// A decoder counts its tokens, and a generation those of the prompt and its own.
#[test]
fn positions_count_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = Bundle::open(bundle(dir.path(), CacheUpdate::SliceUpdate)).unwrap();
    let mut decoder = Decoder::load(&bundle, &MilCpu::new(Numerics::F32)).unwrap();
    assert_eq!((decoder.vocab_size(), decoder.context_length(), decoder.position()), (27, 16, 0));
    let first = decoder.step(26).unwrap().to_vec();
    decoder.step(3).unwrap();
    assert_eq!(decoder.position(), 2);
    let inputs = decoder.inputs(5).unwrap();
    assert_eq!(inputs.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["x", "attn_mask", "position"]);
    decoder.reset();
    assert_eq!(decoder.position(), 0);
    assert_eq!(decoder.step(26).unwrap(), first);

    let tokenizer = TextTokenizer::from_bundle(&bundle).unwrap();
    let mut sampler = Sampler::new(Sampling::TopK { k: 26, temperature: 1.0 }, 3).unwrap();
    let mut generation = Generation::new(&mut decoder, &tokenizer, &mut sampler, "abc", 4).unwrap();
    // BOS and three letters.
    assert_eq!(generation.tokens(), 4);
    let text: String = generation.by_ref().map(Result::unwrap).collect();
    let reason = generation.finished().unwrap();
    assert_eq!(generation.tokens(), 4 + text.len());
    assert!(reason == FinishReason::Limit && text.len() == 4 || reason == FinishReason::EndOfDocument);
    let names =
        [FinishReason::EndOfDocument, FinishReason::Limit, FinishReason::ContextFull, FinishReason::Failed]
            .map(FinishReason::name);
    assert_eq!(names, ["end", "limit", "context-full", "failed"]);
}

/// A manifest that does not match its package: the error names what the package has and what was expected.
#[test]
fn a_package_that_the_manifest_does_not_describe_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = CacheUpdate::ALL.iter().map(|&update| bundle(dir.path(), update)).collect();
    let refusal = |path: &Path, changes: &[(&str, &str)]| {
        let manifest = path.join("bundle.json");
        let sound = fs::read_to_string(&manifest).unwrap();
        let mut changed = sound.clone();
        for (from, to) in changes {
            assert!(changed.contains(from), "{from}");
            changed = changed.replace(from, to);
        }
        fs::write(&manifest, changed).unwrap();
        let opened = Bundle::open(path).unwrap();
        let error = DecodeModel::load(&opened, &MilCpu::new(Numerics::F32)).err().unwrap().to_string();
        fs::write(&manifest, sound).unwrap();
        error
    };
    let [one_hot, slice, host] = &paths[..] else { panic!("three ways") };
    let error = refusal(one_hot, &[("\"kv_write\": \"kv_write\"", "\"kv_write\": \"attn_mask\"")]);
    let expected = "input attn_mask: the package has tensor<fp16, [1, 1, 1, 16]>, the bundle's dimensions require \
                    fp16 [1, 1, 16, 1] or int32 [1]";
    assert!(error.contains(expected), "{error}");
    let error = refusal(slice, &[("\"attn_mask\": \"attn_mask\"", "\"attn_mask\": \"position\"")]);
    let expected = "input position: the package has tensor<int32, [1]>, the bundle's dimensions require fp16 \
                    [1, 1, 1, 16]";
    assert!(error.contains(expected), "{error}");
    let error = refusal(host, &[("\"cache\": \"v_cache_1\"", "\"cache\": \"v_cache_2\"")]);
    assert!(error.contains("input v_cache_2: the package's function does not have it"), "{error}");
    let error = refusal(host, &[("\"new\": \"v_new_1\"", "\"new\": \"v_new_2\"")]);
    assert!(error.contains("output v_new_2: the package's function does not have it"), "{error}");
    // A model with states whose manifest claims that the host holds the caches.
    let text = fs::read_to_string(host.join("bundle.json")).unwrap();
    let (begin, end) = (text.find("    \"host_caches\"").unwrap(), text.find("  \"embeddings\"").unwrap());
    let caches = format!("\"logits\": \"logits\",\n{}", text[begin..end].trim_end().trim_end_matches("},"));
    let error =
        refusal(one_hot, &[("\"logits\": \"logits\"\n", &caches), ("\"states\": 4", "\"states\": 0")]);
    assert!(error.contains("input k_cache_0: the package's function does not have it"), "{error}");
}
