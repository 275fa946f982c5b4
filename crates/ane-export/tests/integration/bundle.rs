//! The files that an export writes: sizes, counts and bytes; and the inputs that it refuses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ane_bundle::Bundle;
use ane_export::{CacheUpdate, ExportOptions, NormForm, Projections, Quantization, export, stored_weights};
use microgpt_model::{Checkpoint, GptConfig, INIT_STD, Preset, Tokenizer, Weights};
use mlpackage::Package;

fn checkpoint(folder: &Path, preset: Preset, weights: impl FnOnce(&GptConfig) -> Weights) -> Checkpoint {
    let tokenizer = Tokenizer::characters(&["abcdefghijklmnopqrstuvwxyz"]);
    let config = GptConfig::preset(preset, tokenizer.vocab_size());
    let path = folder.join("checkpoint");
    Checkpoint::write(&path, &config, &tokenizer, &weights(&config), None).unwrap();
    Checkpoint::open(&path).unwrap()
}

fn random(config: &GptConfig) -> Weights {
    Weights::random(config, INIT_STD, 1)
}

fn exported(checkpoint: &Checkpoint, out: &Path, options: ExportOptions) -> Package {
    export(checkpoint, out, &options).unwrap().publish().unwrap();
    let bundle = Bundle::open(out).unwrap();
    bundle.package(&bundle.manifest().shards[0]).unwrap()
}

fn count(package: &Package, op: &str) -> usize {
    package.program().functions["main"].block.operations.iter().filter(|o| o.op == op).count()
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// The sizes are those that coremltools 9.0 writes for the same shard.
#[test]
fn weight_files_have_coremltools_sizes() {
    let cases = [
        (Preset::Original, Quantization::None, 7_520),
        (Preset::Original, Quantization::Int8PerTensor, 4_016),
        (Preset::Original, Quantization::Int8PerChannel, 4_982),
        (Preset::Scaled, Quantization::None, 37_778_816),
        (Preset::Scaled, Quantization::Int8PerTensor, 18_890_624),
        (Preset::Scaled, Quantization::Int8PerChannel, 18_948_342),
    ];
    for (preset, quantization, bytes) in cases {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = checkpoint(dir.path(), preset, random);
        let options = ExportOptions::default().with_quantization(quantization);
        let package = exported(&checkpoint, &dir.path().join("bundle"), options);
        assert_eq!(package.weight_bytes(), bytes, "{preset:?} {quantization}");
    }
}

/// 37 = 6 separate projections x 6 layers + LM head, as Experiment 27 counts.
#[test]
fn scaled_has_the_experiments_operations() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint(dir.path(), Preset::Scaled, random);
    for (projections, convs, splits) in [(Projections::Separate, 37, 0), (Projections::FusedQkv, 25, 6)] {
        let options = ExportOptions::default().with_projections(projections);
        let package = exported(&checkpoint, &dir.path().join("bundle"), options);
        assert_eq!(count(&package, "conv"), convs);
        assert_eq!(count(&package, "split"), splits);
        assert_eq!(count(&package, "constexpr_blockwise_shift_scale"), convs);
        for op in ["read_state", "write_state"] {
            assert_eq!(count(&package, op), 12, "one per state");
        }
        assert_eq!(package.specification_version(), 9);
    }
}

/// The effect of each cache update on the graph and on the bundle's manifest, for six layers with twelve
/// caches.
#[test]
fn cache_updates_are_as_many_operations_inputs_and_states_as_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint(dir.path(), Preset::Scaled, random);
    let out = dir.path().join("bundle");
    for &cache_update in CacheUpdate::ALL {
        let package = exported(&checkpoint, &out, ExportOptions::default().with_cache_update(cache_update));
        let function = package.interface("main").unwrap();
        let names = |features: &[mlpackage::Feature]| -> Vec<String> {
            features.iter().map(|f| f.name.clone()).collect()
        };
        let (inputs, outputs) = (names(&function.inputs), names(&function.outputs));
        let counts =
            ["read_state", "write_state", "slice_update", "concat", "mul"].map(|op| count(&package, op));
        let bundle = Bundle::open(&out).unwrap();
        let (interface, shard) = (&bundle.manifest().interface, &bundle.manifest().shards[0]);
        assert_eq!(shard.states, function.states.len());
        // The card has a row for each kind of feature, with its shape, and names the features of the first
        // and last layer.
        let card = fs::read_to_string(out.join("README.md")).unwrap();
        for feature in [&function.inputs, &function.outputs, &function.states].into_iter().flatten() {
            if ["_1", "_2", "_3", "_4"].iter().any(|layer| feature.name.ends_with(layer)) {
                continue;
            }
            let ty = feature.tensor().unwrap();
            let (name, ty) = (format!("`{}`", feature.name), format!("| {} `{}` |", ty.dtype, ty.shape));
            let told = card.lines().any(|line| line.contains(&name) && line.contains(&ty));
            assert!(told, "{cache_update}: {name} {ty} in {card}");
        }
        assert_eq!(inputs[..3], ["x", "attn_mask", interface.kv_write.as_str()]);
        assert_eq!(outputs[0], "logits");
        let cache = |kind: &str, i: usize| (format!("k_{kind}_{i}"), format!("v_{kind}_{i}"));
        let all = |kind: &str| (0..6).flat_map(|i| <[_; 2]>::from(cache(kind, i))).collect::<Vec<_>>();
        // 24 of the products belong to the one-hot update.
        let others = counts[4] - if cache_update == CacheUpdate::SliceUpdate { 0 } else { 24 };
        assert_eq!(
            others,
            3 * 13 + 6,
            "{cache_update}: three per norm, and one for the queries of each layer"
        );
        match cache_update {
            CacheUpdate::OneHot => {
                assert_eq!((interface.kv_write.as_str(), &counts[..4]), ("kv_write", &[12, 12, 0, 0][..]));
                assert_eq!(names(&function.states), all("cache"));
            }
            CacheUpdate::SliceUpdate => {
                assert_eq!((interface.kv_write.as_str(), &counts[..4]), ("position", &[12, 12, 12, 2][..]));
                assert_eq!(names(&function.states), all("cache"));
            }
            CacheUpdate::Host => {
                assert_eq!((interface.kv_write.as_str(), &counts[..4]), ("kv_write", &[0, 0, 0, 0][..]));
                assert_eq!(inputs[3..], all("cache"));
                assert_eq!(outputs[1..], all("new"));
                let named: Vec<_> = interface.host_caches.iter().map(|h| h.cache.clone()).collect();
                assert_eq!(named, all("cache"));
                let named: Vec<_> = interface.host_caches.iter().map(|h| h.new.clone()).collect();
                assert_eq!(named, all("new"));
                continue;
            }
            _ => panic!("no expectation for {cache_update}"),
        }
        assert!(interface.host_caches.is_empty());
        assert_eq!((inputs.len(), outputs.len()), (3, 1));
        let json = fs::read_to_string(out.join("bundle.json")).unwrap();
        assert!(!json.contains("host_caches"), "omitted if there are none");
    }
}

#[test]
fn every_combination_keeps_mils_rules() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint(dir.path(), Preset::Original, random);
    let mut combinations = 0;
    for &quantization in Quantization::ALL {
        for &projections in Projections::ALL {
            for &cache_update in CacheUpdate::ALL {
                for &norm in NormForm::ALL {
                    let options = ExportOptions::default()
                        .with_quantization(quantization)
                        .with_projections(projections)
                        .with_cache_update(cache_update)
                        .with_norm(norm);
                    let package = exported(&checkpoint, &dir.path().join("bundle"), options);
                    assert!(package.check().is_empty(), "{options:?}: {:?}", package.check());
                    combinations += 1;
                }
            }
        }
    }
    assert_eq!(combinations, 54);
}

#[test]
fn the_same_checkpoint_and_options_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint(dir.path(), Preset::Original, random);
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    exported(&checkpoint, &one, ExportOptions::default());
    exported(&checkpoint, &two, ExportOptions::default());
    let (one, two) = (files(&one), files(&two));
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    for (path, bytes) in &one {
        assert!(bytes == &two[path], "{}", path.display());
    }
}

#[test]
fn a_weight_beyond_fp16_is_named_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint(dir.path(), Preset::Original, |config| {
        Weights::from_fn(config, |name, n| vec![if name == "layers.0.mlp_fc1.weight" { 1e6 } else { 0.1 }; n])
    });
    let out = dir.path().join("bundle");
    let error = export(&checkpoint, &out, &ExportOptions::default()).unwrap_err().to_string();
    assert!(error.starts_with("tensor layers.0.mlp_fc1.weight: element 0 is 1000000"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the checkpoint");
}

#[test]
fn an_export_that_is_dropped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint(dir.path(), Preset::Original, random);
    let staged = export(&checkpoint, dir.path().join("bundle"), &ExportOptions::default()).unwrap();
    assert!(staged.open().is_ok());
    drop(staged);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the checkpoint");
}

/// The package and the card state what was exported, and each option sets what its name says.
#[test]
fn an_export_describes_itself() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint(dir.path(), Preset::Original, random);
    let options = ExportOptions::default()
        .with_quantization(Quantization::Int8PerChannel)
        .with_projections(Projections::FusedQkv)
        .with_cache_update(CacheUpdate::Host)
        .with_norm(NormForm::Plain);
    assert_eq!(
        (options.quantization, options.projections, options.cache_update, options.norm),
        (Quantization::Int8PerChannel, Projections::FusedQkv, CacheUpdate::Host, NormForm::Plain)
    );
    let out = dir.path().join("bundle");
    let package = exported(&checkpoint, &out, options);
    let metadata = package.metadata();
    assert_eq!(
        metadata.short_description,
        "microgpt decode step: 16 dimensions, 1 layer, context 16, int8-per-channel"
    );
    assert_eq!(metadata.version, env!("CARGO_PKG_VERSION"));
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    for row in [
        // 27 x 16 token and 16 x 16 position embeddings, 12 x 16 x 16 in the layer, 27 x 16 in the head.
        "| parameters | 4192 |",
        "| n_embd / n_head / n_layer | 16 / 4 / 1 |",
        "| context | 16 |",
        "| weights | int8-per-channel |",
        "| projections | fused-qkv |",
        "| cache update | host |",
        "| norm | plain |",
    ] {
        assert!(card.lines().any(|line| line == row), "{row} is not in {card}");
    }
    assert!(card.contains(&format!("weight.bin` | {} bytes |", package.weight_bytes())), "{card}");
    assert!(card.contains("Unknown: the checkpoint has no training report."), "{card}");
}

/// Without quantization the stored weights are those of the checkpoint, rounded to fp16; those of the queries
/// also contain the rounding of 1/sqrt(D), which is exact for D = 4 and not for D = 8.
#[test]
fn stored_weights_are_those_of_the_program() {
    for (heads, rounding) in [(4, 1.0), (2, half::f16::from_f32(1.0 / 8f32.sqrt()).to_f32() * 8f32.sqrt())] {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::characters(&["abcdefghijklmnopqrstuvwxyz"]);
        let config =
            GptConfig { n_head: heads, ..GptConfig::preset(Preset::Original, tokenizer.vocab_size()) };
        let path = dir.path().join("checkpoint");
        let weights = random(&config);
        Checkpoint::write(&path, &config, &tokenizer, &weights, None).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        for projections in [Projections::Separate, Projections::FusedQkv] {
            let options =
                ExportOptions::default().with_quantization(Quantization::None).with_projections(projections);
            let stored = stored_weights(&checkpoint, &options).unwrap();
            for spec in config.tensors() {
                let scale = if spec.name.ends_with("attn_q.weight") { rounding } else { 1.0 };
                let found = stored.get(&spec.name);
                for (stored, weight) in found.iter().zip(weights.get(&spec.name)) {
                    let expected = half::f16::from_f32(*weight).to_f32() * scale;
                    // The rounding is computed in another order: two roundings of f32.
                    assert!(
                        (stored - expected).abs() <= 2.0 * f32::EPSILON * expected.abs(),
                        "{}, {heads} heads, {projections}: {stored}, expected {expected}",
                        spec.name
                    );
                }
            }
        }
    }
}
