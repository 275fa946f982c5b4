//! A trained model on disk: a folder in the layout of Hugging Face.
//!
//! ```text
//! config.json         the dimensions
//! model.safetensors   the weights, with PyTorch's names and layout
//! tokenizer.json      for the `tokenizers` library
//! metrics.jsonl       one line per training step (if it was trained here)
//! loss.svg            a plot of the losses (if it was trained by the command)
//! training/           if it was trained here:
//!   report.json       settings and losses of the run
//!   last/             the state after the last step, from which training can resume
//!   step-*/           states of an unfinished run, possibly beside a finished model that it will replace
//! ```

#![allow(unsafe_code, reason = "maps a file")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use atomic_output::AtomicDir;
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::config::GptConfig;
use crate::error::{Error, Result};
use crate::report::{TrainingReport, metrics_jsonl};
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

/// Names of a checkpoint's files.
mod file {
    pub(super) const CONFIG: &str = "config.json";
    pub(super) const WEIGHTS: &str = "model.safetensors";
    pub(super) const TOKENIZER: &str = "tokenizer.json";
    pub(super) const METRICS: &str = "metrics.jsonl";
    pub(super) const PICTURE: &str = "loss.svg";
    pub(super) const TRAINING: &str = "training";
    pub(super) const REPORT: &str = "training/report.json";
}

const CONFIG_LIMIT: u64 = 1 << 20;

/// Size limit of reports and states, which list every evaluation of a run.
pub(crate) const REPORT_LIMIT: u64 = 1 << 30;

/// An open checkpoint.
///
/// The config and the tokenizer have been read and agree, and every tensor is present with its expected
/// shape. The weights stay on disk, memory-mapped.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: GptConfig,
    tokenizer: Tokenizer,
    weights: Mmap,
    report: Option<TrainingReport>,
}

impl Checkpoint {
    /// Opens a checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::File`] or [`Error::Tensor`] with the file, and the field or tensor in it, that
    /// is missing or invalid.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.is_dir() {
            let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "no such folder");
            return Err(Error::io("open checkpoint", path, missing));
        }
        let config_path = path.join(file::CONFIG);
        let bytes = read_small(&config_path)?;
        expect_own_type(&config_path, &bytes)?;
        let config: GptConfig =
            serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&bytes))
                .map_err(|e| Error::file_because(&config_path, "it is not the config of a checkpoint", e))?;
        config.validate().map_err(|e| Error::file_because(&config_path, "", e))?;
        let tokenizer_path = path.join(file::TOKENIZER);
        let tokenizer = Tokenizer::from_file(&tokenizer_path)?;
        if tokenizer.vocab_size() != config.vocab_size {
            return Err(Error::file(
                &tokenizer_path,
                format!(
                    "{} tokens, {} says vocab_size {}",
                    tokenizer.vocab_size(),
                    file::CONFIG,
                    config.vocab_size
                ),
            ));
        }
        let report_path = path.join(file::REPORT);
        let report = match report_path.is_file() {
            true => Some(
                serde_json::from_slice(&read_file(&report_path, REPORT_LIMIT)?)
                    .map_err(|e| Error::file_because(&report_path, "", e))?,
            ),
            false => None,
        };
        let weights_path = path.join(file::WEIGHTS);
        if !weights_path.exists() && has_states(path) {
            let reason =
                "missing because its training is not finished: resume it, or use one of training/step-*";
            return Err(Error::file(&weights_path, reason));
        }
        let metadata = fs::metadata(&weights_path).map_err(|e| Error::io("open", &weights_path, e))?;
        if !metadata.is_file() {
            return Err(Error::file(&weights_path, "not a file"));
        }
        let weights = File::open(&weights_path).map_err(|e| Error::io("open", &weights_path, e))?;
        // SAFETY: the map is private to this value and only read. As with any mapped file, a process that
        // truncates the file can crash this one; checkpoints are replaced by rename, never truncated in
        // place.
        let weights = unsafe { Mmap::map(&weights) }.map_err(|e| Error::io("map", &weights_path, e))?;
        if weights.starts_with(b"version https://git-lfs.github.com/spec/") {
            let reason = "a Git LFS pointer stands in place of this file: fetch it with `git lfs pull`";
            return Err(Error::file(&weights_path, reason));
        }
        let checkpoint = Self { path: path.to_owned(), config, tokenizer, weights, report };
        checkpoint.check_tensors()?;
        Ok(checkpoint)
    }

    /// Writes a checkpoint folder, whole or not at all. An existing checkpoint is replaced in one step;
    /// [`Checkpoint::is_finished`] tells whether there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Output`] if the path holds something other than a checkpoint; [`Error::Io`].
    pub fn write(
        path: impl AsRef<Path>,
        config: &GptConfig,
        tokenizer: &Tokenizer,
        weights: &Weights,
        report: Option<&TrainingReport>,
    ) -> Result<()> {
        let path = path.as_ref();
        Self::write_with(path, config, tokenizer, weights, report, |_| Ok(()))
    }

    /// Like [`write`](Self::write); `more` adds files to the folder.
    pub(crate) fn write_with(
        path: &Path,
        config: &GptConfig,
        tokenizer: &Tokenizer,
        weights: &Weights,
        report: Option<&TrainingReport>,
        more: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        config.validate()?;
        write_folder(path, differs, |dir| {
            write_files(dir, config, tokenizer, weights)?;
            if let Some(report) = report {
                let folder = dir.join(file::TRAINING);
                fs::create_dir(&folder).map_err(|e| Error::io("create folder", &folder, e))?;
                write(&dir.join(file::METRICS), metrics_jsonl(&report.history).as_bytes())?;
                write(&dir.join(file::REPORT), report.to_json().as_bytes())?;
            }
            more(dir)
        })
    }

    /// Whether a folder holds the weights of a finished model, intact or damaged.
    pub fn is_finished(folder: impl AsRef<Path>) -> bool {
        let folder = folder.as_ref();
        folder.join(file::WEIGHTS).exists()
    }

    /// Checks that a checkpoint can be written to `path`, to be called before hours of training.
    ///
    /// # Errors
    ///
    /// [`Error::Output`] if the path holds something other than a checkpoint; [`Error::Io`] if nothing can
    /// be written beside it.
    pub fn check_destination(path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        Ok(AtomicDir::create(path, differs).map(drop)?)
    }

    /// The checkpoint's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The dimensions.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Path of `tokenizer.json`.
    pub fn tokenizer_path(&self) -> PathBuf {
        self.path.join(file::TOKENIZER)
    }

    /// The training report, if the model was trained by this crate.
    pub fn report(&self) -> Option<&TrainingReport> {
        self.report.as_ref()
    }

    /// Returns the elements of a tensor as f32, row-major. F32, F16 and BF16 are supported.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] if the model has no such tensor, an element is not finite, or the file was changed
    /// since it was opened.
    pub fn tensor(&self, name: &str) -> Result<Vec<f32>> {
        let file = self.safetensors()?;
        let view = file.tensor(name).map_err(|e| Error::Tensor {
            path: self.path.join(file::WEIGHTS),
            tensor: name.to_owned(),
            reason: e.to_string(),
            source: Some(e.into()),
        })?;
        to_f32(&view).map_err(|reason| self.bad_tensor(name, reason))
    }

    /// Reads all tensors into memory.
    ///
    /// # Errors
    ///
    /// As for [`tensor`](Self::tensor).
    pub fn weights(&self) -> Result<Weights> {
        let mut tensors = BTreeMap::new();
        for spec in self.config.tensors() {
            tensors.insert(spec.name.clone(), self.tensor(&spec.name)?);
        }
        Ok(Weights::from_fn(&self.config, |name, _| tensors.remove(name).unwrap_or_default()))
    }

    fn safetensors(&self) -> Result<SafeTensors<'_>> {
        let path = self.path.join(file::WEIGHTS);
        read_tensors(&path, &self.weights)
    }

    fn bad_tensor(&self, tensor: &str, reason: impl Into<String>) -> Error {
        Error::Tensor {
            path: self.path.join(file::WEIGHTS),
            tensor: tensor.to_owned(),
            reason: reason.into(),
            source: None,
        }
    }

    fn check_tensors(&self) -> Result<()> {
        let file = self.safetensors()?;
        let specs = self.config.tensors();
        let known: std::collections::HashSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        // Ignoring it would make another model: one without its biases, or without the gains of its norms.
        if let Some(stranger) = file.names().into_iter().filter(|name| !known.contains(name)).min() {
            return Err(self.bad_tensor(stranger, "a microGPT of this config has no such tensor"));
        }
        for spec in self.config.tensors() {
            let view = file
                .tensor(&spec.name)
                .map_err(|_| self.bad_tensor(&spec.name, format!("missing, expected {:?}", spec.shape)))?;
            if view.shape() != spec.shape {
                return Err(self
                    .bad_tensor(&spec.name, format!("shape {:?}, expected {:?}", view.shape(), spec.shape)));
            }
            if !matches!(view.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                return Err(
                    self.bad_tensor(&spec.name, format!("{:?}, expected F32, F16 or BF16", view.dtype()))
                );
            }
        }
        Ok(())
    }
}

/// Reads the header of a safetensors file.
pub(crate) fn read_tensors<'b>(path: &Path, bytes: &'b [u8]) -> Result<SafeTensors<'b>> {
    SafeTensors::deserialize(bytes).map_err(|e| match bytes.len() {
        0 => Error::file(path, "it is empty"),
        _ => Error::file_because(path, "it is damaged or cut short, not a whole safetensors file", e),
    })
}

/// Lets `fill` write a folder that appears at `destination` whole or not at all.
pub(crate) fn write_folder(
    destination: &Path,
    refusal: fn(&Path) -> Option<String>,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let dir = AtomicDir::create(destination, refusal)?;
    fill(dir.path())?;
    Ok(dir.commit()?)
}

/// Whether the folder has states of an unfinished run.
fn has_states(path: &Path) -> bool {
    let entries = fs::read_dir(path.join(file::TRAINING)).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
}

/// Rejects the configuration of another kind of model by its `model_type`, before a missing field is
/// reported.
fn expect_own_type(path: &Path, config: &[u8]) -> Result<()> {
    let config = match serde_json::from_slice(config) {
        Ok(serde_json::Value::Object(config)) => config,
        Ok(_) => {
            return Err(Error::file(path, "it is not a JSON object, expected the config of a checkpoint"));
        }
        // Invalid JSON is reported where the config is parsed.
        Err(_) => return Ok(()),
    };
    let names = config.get("architectures").and_then(serde_json::Value::as_array);
    let names: Vec<&str> = names.into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
    let architectures = match names.is_empty() {
        true => String::new(),
        false => format!(" (architectures {})", names.join(", ")),
    };
    let found = match config.get("model_type") {
        Some(found) if found == crate::config::MODEL_TYPE => return Ok(()),
        Some(found) => format!("model_type is {found}"),
        None => "model_type is missing".to_owned(),
    };
    let reason = format!(
        "{found}{architectures}: this version reads models of type {:?} only",
        crate::config::MODEL_TYPE
    );
    Err(Error::file(path, reason))
}

/// Name of the plot of a run's losses.
#[cfg(feature = "train")]
pub(crate) const PICTURE: &str = file::PICTURE;

/// Name of the weights file.
#[cfg(feature = "train")]
pub(crate) const WEIGHTS: &str = file::WEIGHTS;

/// The files of a model, without those of its training.
#[cfg(feature = "train")]
pub(crate) const FILES: [&str; 3] = [file::CONFIG, file::TOKENIZER, file::WEIGHTS];

/// Writes [`FILES`] into a folder.
pub(crate) fn write_files(
    dir: &Path,
    config: &GptConfig,
    tokenizer: &Tokenizer,
    weights: &Weights,
) -> Result<()> {
    write_config(dir, config, tokenizer)?;
    let tensors = dir.join(file::WEIGHTS);
    write_safetensors(&tensors, config, weights)?;
    open_to_all(&tensors)
}

/// The safetensors library creates private files; this gives the tensors the permissions of the config beside
/// them.
pub(crate) fn open_to_all(tensors: &Path) -> Result<()> {
    let beside = tensors.with_file_name(file::CONFIG);
    fs::metadata(beside)
        .and_then(|config| fs::set_permissions(tensors, config.permissions()))
        .map_err(|e| Error::io("change permissions of", tensors, e))
}

/// Writes the files of a model that do not depend on its weights.
pub(crate) fn write_config(dir: &Path, config: &GptConfig, tokenizer: &Tokenizer) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(config).expect("a config serializes into memory");
    json.push(b'\n');
    write(&dir.join(file::CONFIG), &json)?;
    write(&dir.join(file::TOKENIZER), tokenizer.to_json().as_bytes())
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|e| Error::io("write", path, e))
}

/// Returns why a folder is not a checkpoint written by this crate, or what else it holds; `None` if it is a
/// checkpoint and nothing else.
pub(crate) fn differs(folder: &Path) -> Option<String> {
    let Ok(bytes) = read_small(&folder.join(file::CONFIG)) else {
        return Some(format!("has no {}", file::CONFIG));
    };
    let config: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    if config.is_none_or(|c| c["model_type"] != crate::config::MODEL_TYPE) {
        return Some(format!("its {} is not that of a {}", file::CONFIG, crate::config::MODEL_TYPE));
    }
    atomic_output::stranger(folder, belongs)
}

/// Whether a path below a checkpoint's folder, with `/`, is one that this crate writes. Files of an unfinished run
/// are. The path of an empty folder ends in `/`.
fn belongs(path: &str) -> bool {
    let number = |state: &str| state.strip_prefix("step-").is_some_and(|n| n.parse::<usize>().is_ok());
    match path.split('/').collect::<Vec<_>>().as_slice() {
        [name] => [file::CONFIG, file::WEIGHTS, file::TOKENIZER, file::METRICS, file::PICTURE].contains(name),
        [file::TRAINING, "" | "report.json"] => true,
        // Remains of a state that was being written or removed.
        [file::TRAINING, hidden, ..] if hidden.starts_with(".step-") || *hidden == ".removed" => true,
        [file::TRAINING, state, name] if *state == "last" || number(state) => {
            name.is_empty() || is_of_state(name)
        }
        _ => false,
    }
}

/// Whether a state of a run has a file of this name.
pub(crate) fn is_of_state(name: &str) -> bool {
    [file::CONFIG, file::WEIGHTS, file::TOKENIZER, file::METRICS, "optimizer.safetensors", "state.json"]
        .contains(&name)
}

pub(crate) fn read_small(path: &Path) -> Result<Vec<u8>> {
    read_file(path, CONFIG_LIMIT)
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let metadata = fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
    if !metadata.is_file() {
        return Err(Error::file(path, "not a file"));
    }
    let size = metadata.len();
    if size > limit {
        return Err(Error::file(path, format!("{size} bytes, expected at most {limit}")));
    }
    fs::read(path).map_err(|e| Error::io("read", path, e))
}

fn to_f32(view: &TensorView<'_>) -> Result<Vec<f32>, String> {
    let data = view.data();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Dtype::F16 => data.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::BF16 => {
            data.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        other => return Err(format!("{other:?}, expected F32, F16 or BF16")),
    };
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(at) => {
            Err(format!("element {at} is {}: the training diverged or the file is damaged", values[at]))
        }
    }
}

fn write_safetensors(path: &Path, config: &GptConfig, weights: &Weights) -> Result<()> {
    let specs = config.tensors();
    let views: Result<Vec<_>> = specs
        .iter()
        .map(|spec| {
            let bytes: &[u8] = bytemuck::cast_slice(weights.get(&spec.name));
            let view = TensorView::new(Dtype::F32, spec.shape.to_vec(), bytes);
            view.map(|v| (spec.name.clone(), v))
                .map_err(|e| Error::file_because(path, &format!("tensor {}", spec.name), e))
        })
        .collect();
    // PyTorch's loaders look for "format": "pt".
    let metadata = Some(std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]));
    safetensors::serialize_to_file(views?, metadata, path).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(e) => Error::io("write", path, e),
        e => Error::file_because(path, "", e),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Preset;
    use crate::weights::INIT_STD;

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
        fs::write(path.join(file::CONFIG), config.replace("\"block_size\": 16", "\"block_size\": 17"))
            .unwrap();
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
}
