//! A run's state in memory, and how it is written to disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::TrainingConfig;
use super::state::{CorpusIdentity, METRICS, OPTIMIZER, STATE, Sealed, State, VERSION};
use crate::checkpoint;
use crate::config::GptConfig;
use crate::corpus::sha256;
use crate::error::{Error, Result};
use crate::report::{Evaluation, StepMetrics, metrics_jsonl};
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

/// Everything needed to resume a run.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) config: GptConfig,
    pub(super) tokenizer: Tokenizer,
    /// Weights after the last step, even if the result uses those of an earlier step.
    pub(super) weights: Weights,
    /// Adam's first and second moments, by tensor name.
    pub(super) moments: BTreeMap<String, [Vec<f32>; 2]>,
    /// The best evaluation and its weights.
    pub(super) best: Option<(Evaluation, Weights)>,
    pub(super) history: Vec<StepMetrics>,
    pub(super) evaluations: Vec<Evaluation>,
    pub(super) seconds: f64,
    pub(super) training: TrainingConfig,
    pub(super) corpus: CorpusIdentity,
    pub(super) replaces: bool,
}

impl Snapshot {
    /// Writes the files of a state into a folder. `same` names a file that already holds the weights; it is
    /// hard-linked to save disk space.
    pub(super) fn write(&self, dir: &Path, same: Option<&Path>) -> Result<()> {
        let write = |name: &str, bytes: &[u8]| checkpoint::write(&dir.join(name), bytes);
        // Files are replaced, never modified in place, so a hard link is as safe as a copy.
        let linked = same.is_some_and(|same| fs::hard_link(same, dir.join(checkpoint::WEIGHTS)).is_ok());
        match linked {
            true => checkpoint::write_config(dir, &self.config, &self.tokenizer)?,
            false => checkpoint::write_files(dir, &self.config, &self.tokenizer, &self.weights)?,
        }
        write(METRICS, metrics_jsonl(&self.history).as_bytes())?;
        self.write_optimizer(&dir.join(OPTIMIZER))?;
        let mut files = BTreeMap::new();
        for name in checkpoint::FILES.into_iter().chain([METRICS, OPTIMIZER]) {
            let path = dir.join(name);
            let bytes = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
            files.insert(name.to_owned(), sha256(&bytes));
        }
        let state = State {
            version: VERSION,
            step: self.history.len(),
            seconds: self.seconds,
            training: self.training.clone(),
            corpus: self.corpus.clone(),
            evaluations: self.evaluations.clone(),
            best: self.best.as_ref().map(|(best, _)| *best),
            replaces: self.replaces,
            files,
        };
        write(STATE, &Sealed::new(state).to_json())
    }

    fn write_optimizer(&self, path: &Path) -> Result<()> {
        let mut tensors: Vec<(String, &[f32])> = Vec::new();
        for (name, [first, second]) in &self.moments {
            tensors.push((format!("first.{name}"), first));
            tensors.push((format!("second.{name}"), second));
        }
        if let Some((_, weights)) = &self.best {
            tensors.extend(weights.iter().map(|(name, values)| (format!("best.{name}"), values)));
        }
        let views = tensors.iter().map(|(name, values)| {
            let view = TensorView::new(Dtype::F32, vec![values.len()], bytemuck::cast_slice(values));
            (name.as_str(), view.expect("as many bytes as elements"))
        });
        safetensors::serialize_to_file(views, None, path).map_err(|e| match e {
            safetensors::SafeTensorError::IoError(e) => Error::io("write", path, e),
            e => Error::file_because(path, "", e),
        })?;
        checkpoint::open_to_all(path)
    }
}
