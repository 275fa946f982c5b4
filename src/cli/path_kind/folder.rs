//! Recognizes a folder by the names in it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use ane_bundle::BUNDLE_MANIFEST;

use super::PathKind::{self, *};

/// Size limit of a configuration, in bytes.
const CONFIG_LIMIT: u64 = 1 << 20;

/// Recognizes what a folder holds.
pub(super) fn kind_of(path: &Path) -> io::Result<PathKind> {
    let has = |name: &str| path.join(name).exists();
    if has("Manifest.json") {
        return Ok(Package);
    }
    if has("coremldata.bin") {
        return Ok(CompiledModel);
    }
    if has(BUNDLE_MANIFEST) {
        return Ok(Bundle);
    }
    if has("config.json") {
        return of_config(path);
    }
    if has("saved_model.pb") {
        return Ok(SavedModel);
    }
    let is_empty = path.read_dir()?.next().is_none();
    Ok(if is_empty { EmptyFolder } else { UnknownFolder })
}

/// Recognizes a folder with a `config.json`, which Hugging Face and this program write for models.
fn of_config(path: &Path) -> io::Result<PathKind> {
    let config = path.join("config.json");
    if !config.is_file() {
        return Ok(UnknownFolder);
    }
    let mut text = String::new();
    // A larger file, or one that is not UTF-8, is not a configuration.
    let read = File::open(config)?.take(CONFIG_LIMIT + 1).read_to_string(&mut text);
    if text.len() as u64 > CONFIG_LIMIT {
        return Ok(UnknownFolder);
    }
    if let Err(error) = read {
        return if error.kind() == io::ErrorKind::InvalidData { Ok(UnknownFolder) } else { Err(error) };
    }
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let own = microgpt_model::MODEL_TYPE;
    match value.get("model_type").and_then(serde_json::Value::as_str) {
        Some(model_type) if model_type != own => {
            let architectures = value.get("architectures").and_then(serde_json::Value::as_array);
            let architectures = architectures.into_iter().flatten().filter_map(serde_json::Value::as_str);
            Ok(HuggingFace {
                model_type: model_type.to_owned(),
                architectures: architectures.map(str::to_owned).collect(),
            })
        }
        // A checkpoint with a damaged configuration is still a checkpoint; opening it reports the damage.
        _ if !path.join("model.safetensors").exists() && microgpt_model::Trainer::is_unfinished(path) => {
            Ok(UnfinishedRun)
        }
        _ => Ok(Checkpoint),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn folders_are_recognized_by_their_content() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |files: &[(&str, &str)]| {
            let path = dir.path().join("folder");
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            for (name, text) in files {
                fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
                fs::write(path.join(name), text).unwrap();
            }
            PathKind::of(&path).unwrap()
        };
        assert_eq!(folder(&[]), EmptyFolder);
        assert_eq!(folder(&[("Manifest.json", "{}")]), Package);
        assert_eq!(folder(&[("coremldata.bin", ""), ("model.mil", "")]), CompiledModel);
        assert_eq!(folder(&[(BUNDLE_MANIFEST, "{}")]), Bundle);
        assert_eq!(folder(&[("saved_model.pb", "")]), SavedModel);
        assert_eq!(folder(&[("notes.txt", "")]), UnknownFolder);
        let llama = r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}"#;
        assert_eq!(
            folder(&[("config.json", llama)]),
            HuggingFace { model_type: "llama".into(), architectures: vec!["LlamaForCausalLM".into()] }
        );
        let own = format!("{{\"model_type\": {:?}}}", microgpt_model::MODEL_TYPE);
        assert_eq!(folder(&[("config.json", &own), ("model.safetensors", "")]), Checkpoint);
        assert_eq!(folder(&[("config.json", &own), ("training/step-1/state.json", "")]), UnfinishedRun);
        let large = format!("{own}{}", " ".repeat(1 << 20));
        assert_eq!(folder(&[("config.json", &large)]), UnknownFolder);
        assert_eq!(PathKind::of(&dir.path().join("nowhere")).unwrap(), Missing);
    }
}
