//! Checkpoints that are written, read and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use super::Checkpoint;
use super::layout::file;
use super::write::write_safetensors;
use crate::config::{GptConfig, Preset};
use crate::tokenizer::Tokenizer;
use crate::weights::{INIT_STD, Weights};

fn written() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint");
    let tokenizer = Tokenizer::characters(&["abc"]);
    let config = GptConfig::preset(Preset::Original, tokenizer.vocab_size());
    Checkpoint::write(&path, &config, &tokenizer, &Weights::random(&config, INIT_STD, 3), None).unwrap();
    (dir, path)
}

fn refused(path: &Path) -> String {
    Checkpoint::open(path).unwrap_err().to_string()
}

#[test]
fn reads_back_what_was_written() {
    let (_dir, path) = written();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.weights().unwrap(), Weights::random(checkpoint.config(), INIT_STD, 3));
    assert_eq!(checkpoint.tokenizer().vocabulary(), "abc");
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let (_a, one) = written();
    let (_b, two) = written();
    for name in [file::CONFIG, file::WEIGHTS, file::TOKENIZER] {
        assert_eq!(fs::read(one.join(name)).unwrap(), fs::read(two.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn missing_weights() {
    let (_dir, path) = written();
    fs::remove_file(path.join(file::WEIGHTS)).unwrap();
    assert!(refused(&path).contains("model.safetensors"));
}

#[test]
fn truncated_weights() {
    let (_dir, path) = written();
    let bytes = fs::read(path.join(file::WEIGHTS)).unwrap();
    for keep in [0, 4, 100, bytes.len() - 1] {
        fs::write(path.join(file::WEIGHTS), &bytes[..keep]).unwrap();
        assert!(refused(&path).contains("model.safetensors"), "{keep} bytes");
    }
}

#[test]
fn tensor_of_the_wrong_shape() {
    let (_dir, path) = written();
    let config = fs::read_to_string(path.join(file::CONFIG)).unwrap();
    fs::write(path.join(file::CONFIG), config.replace("\"block_size\": 16", "\"block_size\": 17")).unwrap();
    assert!(
        refused(&path).ends_with("tensor wpe.weight: shape [16, 16], expected [17, 16]"),
        "{}",
        refused(&path)
    );
}

#[test]
fn tensor_of_another_model() {
    let (_dir, path) = written();
    let config = fs::read_to_string(path.join(file::CONFIG)).unwrap();
    let two = GptConfig { n_layer: 2, ..GptConfig::preset(Preset::Original, 4) };
    write_safetensors(&path.join(file::WEIGHTS), &two, &Weights::random(&two, INIT_STD, 3)).unwrap();
    assert!(config.contains("\"n_layer\": 1"));
    let error = refused(&path);
    assert!(error.contains("layers.1.attn_k.weight: a microGPT of this config has no such"), "{error}");
}

#[test]
fn what_a_user_keeps_in_a_checkpoint_is_not_lost() {
    let (_dir, path) = written();
    fs::create_dir_all(path.join("training/step-000010")).unwrap();
    for ours in ["training/step-000010/state.json", "training/.DS_Store", "loss.svg"] {
        fs::write(path.join(ours), "").unwrap();
    }
    Checkpoint::check_destination(&path).unwrap();
    for theirs in ["thesis.tex", "training/thesis/1.tex", "training/step-000010/n.txt", "training/.n"] {
        let stranger = path.join(theirs);
        fs::create_dir_all(stranger.parent().unwrap()).unwrap();
        fs::write(&stranger, "").unwrap();
        let error = Checkpoint::check_destination(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("holds {theirs}")), "{error}");
        fs::remove_file(stranger).unwrap();
    }
    let error = Checkpoint::check_destination(&path).unwrap_err().to_string();
    assert!(error.contains("holds training/thesis"), "an empty folder: {error}");
}

#[test]
fn tensor_missing() {
    let (_dir, path) = written();
    let config = fs::read_to_string(path.join(file::CONFIG)).unwrap();
    fs::write(path.join(file::CONFIG), config.replace("\"n_layer\": 1", "\"n_layer\": 2")).unwrap();
    assert!(refused(&path).contains("tensor layers.1.attn_q.weight: missing"), "{}", refused(&path));
}

#[test]
fn weight_that_is_not_finite() {
    let (_dir, path) = written();
    let mut bytes = fs::read(path.join(file::WEIGHTS)).unwrap();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(path.join(file::WEIGHTS), bytes).unwrap();
    let error = Checkpoint::open(&path).unwrap().weights().unwrap_err().to_string();
    assert!(error.contains("is NaN"), "{error}");
}

#[test]
fn config_that_makes_no_model() {
    let (_dir, path) = written();
    let config = fs::read_to_string(path.join(file::CONFIG)).unwrap();
    fs::write(path.join(file::CONFIG), config.replace("\"n_head\": 4", "\"n_head\": 3")).unwrap();
    assert!(refused(&path).contains("config.json: config: n_head: 3 does not divide n_embd 16"));
}

#[test]
fn tokenizer_of_another_model() {
    let (_dir, path) = written();
    let other = Tokenizer::characters(&["abcd"]);
    fs::write(path.join(file::TOKENIZER), other.to_json()).unwrap();
    assert!(refused(&path).contains("5 tokens, config.json says vocab_size 4"));
}

/// A config of 120 bytes may state a million layers: the file with the weights bounds what is made of them.
#[test]
fn layers_that_the_file_does_not_have() {
    let (_dir, path) = written();
    let config =
        GptConfig { n_embd: 1, n_head: 1, n_layer: 1 << 20, ..GptConfig::preset(Preset::Original, 4) };
    config.validate().unwrap();
    assert_eq!(config.tensor_count(), 6_291_459);
    // A list of these would not fit into memory.
    let endless = GptConfig { n_layer: usize::MAX, ..config.clone() };
    assert_eq!(endless.tensor_specs().nth(2).unwrap().name, "layers.0.attn_q.weight");
    fs::write(path.join(file::CONFIG), serde_json::to_vec(&config).unwrap()).unwrap();
    assert!(
        refused(&path).ends_with("tensor wte.weight: shape [4, 16], expected [4, 1]"),
        "{}",
        refused(&path)
    );
}

#[test]
fn a_tensor_that_is_not_there_is_named_once() {
    let (_dir, path) = written();
    let error = Checkpoint::open(&path).unwrap().tensor("wqe.weight").unwrap_err().to_string();
    assert!(
        error.ends_with("model.safetensors: tensor wqe.weight: a microGPT of this config has no such tensor"),
        "{error}"
    );
}

/// Nothing that could not be opened again replaces a good checkpoint.
#[test]
fn parts_that_do_not_belong_together_are_not_written() {
    let (_dir, path) = written();
    let tokenizer = Tokenizer::characters(&["abc"]);
    let config = GptConfig::preset(Preset::Original, 4);
    let good = Weights::random(&config, INIT_STD, 7);
    let with = |changed: &str, values: Vec<f32>| {
        let make =
            |name: &str, _: usize| if name == changed { values.clone() } else { good.get(name).to_vec() };
        Weights::from_fn(&config, make)
    };
    let refused = |config: &GptConfig, weights: &Weights, expected: &str| {
        let error = Checkpoint::write(&path, config, &tokenizer, weights, None).unwrap_err().to_string();
        assert_eq!(error, format!("{}/{expected}", path.display()));
    };
    let other = GptConfig::preset(Preset::Original, 27);
    refused(&other, &good, "tokenizer.json: 4 tokens, config.json says vocab_size 27");
    let two = GptConfig { n_layer: 2, ..config.clone() };
    refused(&two, &good, "model.safetensors: tensor layers.1.attn_q.weight: missing, expected [16, 16]");
    refused(
        &config,
        &Weights::random(&two, INIT_STD, 7),
        "model.safetensors: tensor layers.1.attn_k.weight: a microGPT of this config has no such tensor",
    );
    refused(
        &config,
        &with("wpe.weight", vec![0.0; 255]),
        "model.safetensors: tensor wpe.weight: 255 elements, expected 256 for [16, 16]",
    );
    refused(
        &config,
        &with("wte.weight", [vec![0.0; 63], vec![f32::NAN]].concat()),
        "model.safetensors: tensor wte.weight: element 63 is NaN, expected a finite number",
    );
    let kept = Checkpoint::open(&path).unwrap();
    assert_eq!(kept.weights().unwrap(), Weights::random(&config, INIT_STD, 3));
}

#[test]
fn errors_of_writing_name_the_checkpoint() {
    let (_dir, path) = written();
    let error = super::write::write_folder(&path, super::layout::differs, |dir| {
        super::files::write(&dir.join("nowhere/state.json"), b"")
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains(&*path.join("nowhere/state.json").to_string_lossy()), "{error}");
}
