//! An open checkpoint: what it reads, and how it checks it.

#![allow(unsafe_code, reason = "maps a file")]

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::files::{REPORT_LIMIT, read_file, read_small};
use super::layout::{file, has_states};
use crate::config::GptConfig;
use crate::error::{Error, Result};
use crate::report::TrainingReport;
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

/// What is wrong with a tensor that the config does not list.
pub(super) const NO_SUCH_TENSOR: &str = "a microGPT of this config has no such tensor";

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
        let config = read_config(&path.join(file::CONFIG))?;
        let tokenizer = read_tokenizer(&path.join(file::TOKENIZER), &config)?;
        let report = read_report(&path.join(file::REPORT))?;
        let weights = map_weights(path)?;
        let checkpoint = Self { path: path.to_owned(), config, tokenizer, weights, report };
        checkpoint.check_tensors()?;
        Ok(checkpoint)
    }

    /// Returns whether a folder holds the weights of a finished model, intact or damaged.
    pub fn is_finished(folder: impl AsRef<Path>) -> bool {
        let folder = folder.as_ref();
        folder.join(file::WEIGHTS).exists()
    }

    /// Returns the checkpoint's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the model's dimensions.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// Returns the tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Returns the path of `tokenizer.json`.
    pub fn tokenizer_path(&self) -> PathBuf {
        self.path.join(file::TOKENIZER)
    }

    /// Returns the training report, if the model was trained by this crate.
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
        let view = file.tensor(name).map_err(|_| {
            let reason = match self.config.tensor_specs().find(|spec| spec.name == name) {
                Some(spec) => {
                    format!("missing, expected {:?}: the file was changed since it was opened", spec.shape)
                }
                None => NO_SUCH_TENSOR.to_owned(),
            };
            self.bad_tensor(name, reason)
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
        // A short config may state a million layers. The specs are therefore made one at a time, and the first that is
        // missing ends the search: its work is bounded by the tensors in the file.
        for spec in self.config.tensor_specs() {
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
        if file.len() == self.config.tensor_count() {
            return Ok(());
        }
        // Ignoring an unknown tensor would change the model: it would lack its biases, or the gains of its
        // norms.
        let known: HashSet<String> = self.config.tensor_specs().map(|spec| spec.name).collect();
        match file.names().into_iter().filter(|name| !known.contains(*name)).min() {
            Some(stranger) => Err(self.bad_tensor(stranger, NO_SUCH_TENSOR)),
            None => Ok(()),
        }
    }
}

/// Reads and validates the config of a checkpoint.
fn read_config(path: &Path) -> Result<GptConfig> {
    let bytes = read_small(path)?;
    expect_own_type(path, &bytes)?;
    let config: GptConfig =
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&bytes))
            .map_err(|e| Error::file_because(path, "it is not the config of a checkpoint", e))?;
    config.validate().map_err(|e| Error::file_because(path, "", e))?;
    Ok(config)
}

/// Reads the tokenizer of a checkpoint, whose vocabulary must have the size that the config states.
fn read_tokenizer(path: &Path, config: &GptConfig) -> Result<Tokenizer> {
    let tokenizer = Tokenizer::from_file(path)?;
    check_tokenizer(path, config, &tokenizer)?;
    Ok(tokenizer)
}

/// Checks that the tokenizer of the file `path` has the vocabulary of the config.
pub(super) fn check_tokenizer(path: &Path, config: &GptConfig, tokenizer: &Tokenizer) -> Result<()> {
    let (found, expected) = (tokenizer.vocab_size(), config.vocab_size);
    match found == expected {
        true => Ok(()),
        false => {
            Err(Error::file(path, format!("{found} tokens, {} says vocab_size {expected}", file::CONFIG)))
        }
    }
}

/// Reads the report of a run; `None` if the model was not trained here.
fn read_report(path: &Path) -> Result<Option<TrainingReport>> {
    if !path.is_file() {
        return Ok(None);
    }
    let report = serde_json::from_slice(&read_file(path, REPORT_LIMIT)?);
    report.map(Some).map_err(|e| Error::file_because(path, "", e))
}

/// Maps the weights of the checkpoint in a folder into memory.
fn map_weights(path: &Path) -> Result<Mmap> {
    let weights_path = path.join(file::WEIGHTS);
    if !weights_path.exists() && has_states(path) {
        let reason = "missing because its training is not finished: resume it, or use one of training/step-*";
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
    Ok(weights)
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

/// Reads the header of a safetensors file.
pub(crate) fn read_tensors<'b>(path: &Path, bytes: &'b [u8]) -> Result<SafeTensors<'b>> {
    SafeTensors::deserialize(bytes).map_err(|e| match bytes.len() {
        0 => Error::file(path, "it is empty"),
        _ => Error::file_because(path, "it is damaged or cut short, not a whole safetensors file", e),
    })
}

/// Converts the elements of a tensor, which must be finite.
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
