//! Writing of checkpoints.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use atomic_output::AtomicDir;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::files::write;
use super::layout::{differs, file};
use super::read::{Checkpoint, NO_SUCH_TENSOR, check_tokenizer};
use crate::config::{GptConfig, TensorSpec};
use crate::error::{Error, Result};
use crate::report::{TrainingReport, metrics_jsonl};
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

impl Checkpoint {
    /// Writes a checkpoint folder, whole or not at all. An existing checkpoint is replaced in one step;
    /// [`Checkpoint::is_finished`] returns whether there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the config is invalid; [`Error::File`] if the tokenizer has another number of tokens than
    /// the config; [`Error::Tensor`] if the weights are not those of the config, or not finite; [`Error::Output`] if the
    /// path holds something other than a checkpoint; [`Error::Io`]. What the path holds is then unchanged.
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

    /// Does the same as [`write`](Self::write); `more` adds files to the folder.
    pub(crate) fn write_with(
        path: &Path,
        config: &GptConfig,
        tokenizer: &Tokenizer,
        weights: &Weights,
        report: Option<&TrainingReport>,
        more: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        config.validate()?;
        check_tokenizer(&path.join(file::TOKENIZER), config, tokenizer)?;
        check_weights(&path.join(file::WEIGHTS), config, weights)?;
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
}

/// Checks that the weights are finite and those of the config, because no other checkpoint can be opened.
fn check_weights(path: &Path, config: &GptConfig, weights: &Weights) -> Result<()> {
    let bad = |tensor: &str, reason: String| {
        Err(Error::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), reason, source: None })
    };
    for TensorSpec { name, shape } in config.tensor_specs() {
        let [rows, columns] = shape;
        match weights.find(&name) {
            None => return bad(&name, format!("missing, expected {shape:?}")),
            Some(values) if values.len() != rows * columns => {
                let reason = format!("{} elements, expected {} for {shape:?}", values.len(), rows * columns);
                return bad(&name, reason);
            }
            Some(values) => {
                if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                    return bad(&name, format!("element {at} is {}, expected a finite number", values[at]));
                }
            }
        }
    }
    if weights.iter().count() == config.tensor_count() {
        return Ok(());
    }
    let known: HashSet<String> = config.tensor_specs().map(|spec| spec.name).collect();
    match weights.iter().find(|(name, _)| !known.contains(*name)) {
        Some((stranger, _)) => bad(stranger, NO_SUCH_TENSOR.to_owned()),
        None => Ok(()),
    }
}

/// Creates a folder that `fill` writes, and which appears at `destination` whole or not at all.
pub(crate) fn write_folder(
    destination: &Path,
    refusal: fn(&Path) -> Option<String>,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let dir = AtomicDir::create(destination, refusal)?;
    fill(dir.path()).map_err(|e| e.at_final_path(&dir))?;
    Ok(dir.commit()?)
}

/// Writes the files of a model into a folder, except those that training writes.
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

/// Gives the tensors the permissions of the config beside them, because the safetensors library creates
/// private files.
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

pub(super) fn write_safetensors(path: &Path, config: &GptConfig, weights: &Weights) -> Result<()> {
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
