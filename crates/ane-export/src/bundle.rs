//! Export of a checkpoint as a bundle.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use ane_bundle::{
    Architecture, BUNDLE, BUNDLE_FORMAT_VERSION, Bundle, BundleManifest, DecodeInterface, EmbeddingTables,
    FileDigest, Shard, TokenizerFile,
};
use atomic_output::AtomicDir;
use half::f16;
use microgpt_model::Checkpoint;
use mlpackage::mil::Program;
use mlpackage::{BoxError, Metadata, PackageWriter, counted};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::error::{Error, Result};
use crate::microgpt;
use crate::model_card;
use crate::options::ExportOptions;
use crate::quantize::to_half;

const PACKAGE: &str = "decoder-00.mlpackage";
const EMBEDDINGS: &str = "embeddings.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const MODEL_CARD: &str = "README.md";

/// A complete bundle at a temporary path: it can be opened, run and verified before it is published.
#[derive(Debug)]
#[must_use = "the bundle is removed unless it is published"]
pub struct StagedBundle {
    dir: AtomicDir,
    manifest: BundleManifest,
    card: String,
}

/// Exports a checkpoint. Nothing appears at `destination` until [`StagedBundle::publish`].
///
/// # Errors
///
/// [`Error::Checkpoint`] with the tensor that is wrong; [`Error::Overflow`]; [`Error::Write`] if the
/// host-side files cannot be written; [`Error::Package`] if `destination` cannot be written or is something
/// other than a bundle.
pub fn export(
    checkpoint: &Checkpoint,
    destination: impl AsRef<Path>,
    options: &ExportOptions,
) -> Result<StagedBundle> {
    export_with_progress(checkpoint, destination, options, |_, _| {})
}

/// Exports a checkpoint as [`export`] does, and reports progress: before each matrix, `progress` receives its
/// number, counted from 1, and the number of all matrices.
///
/// # Errors
///
/// As for [`export`].
pub fn export_with_progress(
    checkpoint: &Checkpoint,
    destination: impl AsRef<Path>,
    options: &ExportOptions,
    progress: impl FnMut(usize, usize),
) -> Result<StagedBundle> {
    let dir = BUNDLE.create(destination)?;
    let folder = dir.path();
    let states = write_package(checkpoint, options, &folder.join(PACKAGE), progress)?;
    write_embeddings(checkpoint, &folder.join(EMBEDDINGS))?;
    let tokenizer = folder.join(TOKENIZER);
    fs::write(&tokenizer, checkpoint.tokenizer().to_json()).map_err(|e| write_error(&tokenizer, e))?;

    let mut manifest = manifest(checkpoint, options, states);
    manifest.files = BundleManifest::digest_folder(folder)?;
    let card = model_card::render(checkpoint, options, &manifest);
    let mut staged = StagedBundle { dir, manifest, card: String::new() };
    staged.add_to_card(&card)?;
    Ok(staged)
}

/// Writes the package of the decode function, and returns the number of the function's states.
fn write_package(
    checkpoint: &Checkpoint,
    options: &ExportOptions,
    path: &Path,
    progress: impl FnMut(usize, usize),
) -> Result<usize> {
    let mut writer = PackageWriter::create(path)?;
    let function = microgpt::decode_function(checkpoint, options, 1, writer.weights(), progress)?;
    let states = function.states().count();
    let program = Program::new([(microgpt::FUNCTION, function)]);
    writer.finish(&program, &metadata(checkpoint, options))?;
    Ok(states)
}

/// Returns the manifest of a bundle, which lists no files yet. `states` is the number of the decode function's
/// states.
fn manifest(checkpoint: &Checkpoint, options: &ExportOptions, states: usize) -> BundleManifest {
    let config = checkpoint.config();
    BundleManifest {
        format_version: BUNDLE_FORMAT_VERSION,
        architecture: Architecture {
            model_type: config.model_type.clone(),
            vocab_size: config.vocab_size,
            n_embd: config.n_embd,
            n_head: config.n_head,
            n_layer: config.n_layer,
            context_length: config.block_size,
            parameters: config.parameters(),
        },
        shards: vec![Shard {
            package: PACKAGE.into(),
            function: microgpt::FUNCTION.into(),
            first_layer: 0,
            layers: config.n_layer,
            states,
            lm_head_slices: 1,
        }],
        interface: DecodeInterface {
            embedding: microgpt::EMBEDDING.into(),
            attn_mask: microgpt::ATTN_MASK.into(),
            kv_write: microgpt::kv_write(options.cache_update).into(),
            logits: microgpt::LOGITS.into(),
            host_caches: microgpt::host_caches(config, options.cache_update),
        },
        embeddings: EmbeddingTables {
            file: EMBEDDINGS.into(),
            token: microgpt::TOKEN_EMBEDDING.into(),
            position: microgpt::POSITION_EMBEDDING.into(),
        },
        tokenizer: TokenizerFile { file: TOKENIZER.into(), bos_token_id: checkpoint.tokenizer().bos() },
        exporter: options.exporter(),
        files: BTreeMap::new(),
    }
}

impl StagedBundle {
    /// Opens the bundle at its temporary path.
    ///
    /// # Errors
    ///
    /// As for [`Bundle::open`].
    pub fn open(&self) -> Result<Bundle> {
        Ok(Bundle::open(self.dir.path())?)
    }

    /// Appends Markdown to the model card.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] or [`Error::Bundle`] if it cannot be written.
    pub fn add_to_card(&mut self, markdown: &str) -> Result<()> {
        self.card.push_str(markdown);
        let path = self.dir.path().join(MODEL_CARD);
        fs::write(&path, &self.card).map_err(|e| write_error(&path, e))?;
        self.manifest.files.insert(MODEL_CARD.into(), FileDigest::of(&path)?);
        self.manifest.write(self.dir.path())?;
        Ok(())
    }

    /// Flushes the bundle to disk and moves it to its destination, in one atomic step.
    ///
    /// # Errors
    ///
    /// [`Error::Output`]; the destination is then unchanged.
    pub fn publish(self) -> Result<()> {
        Ok(self.dir.commit()?)
    }
}

fn metadata(checkpoint: &Checkpoint, options: &ExportOptions) -> Metadata {
    let config = checkpoint.config();
    Metadata {
        short_description: format!(
            "{} decode step: {}, {}, context {}, {}",
            config.model_type,
            counted(config.n_embd, "dimension"),
            counted(config.n_layer, "layer"),
            config.block_size,
            options.quantization
        ),
        version: env!("CARGO_PKG_VERSION").into(),
        ..Metadata::default()
    }
}

/// Writes both tables in fp16. The decode graph's input is the sum of a row of each.
fn write_embeddings(checkpoint: &Checkpoint, path: &Path) -> Result<()> {
    let mut data: Vec<(&str, Vec<usize>, Vec<f16>)> = Vec::new();
    let config = checkpoint.config();
    for (name, rows) in
        [(microgpt::TOKEN_EMBEDDING, config.vocab_size), (microgpt::POSITION_EMBEDDING, config.block_size)]
    {
        data.push((name, vec![rows, config.n_embd], to_half(name, &checkpoint.tensor(name)?)?));
    }
    let views: std::result::Result<Vec<_>, _> = data
        .iter()
        .map(|(name, shape, halves)| {
            TensorView::new(Dtype::F16, shape.clone(), bytemuck::cast_slice(halves)).map(|v| (*name, v))
        })
        .collect();
    let metadata = Some(HashMap::from([("format".to_owned(), "pt".to_owned())]));
    let bytes =
        views.and_then(|views| safetensors::serialize(views, metadata)).map_err(|e| write_error(path, e))?;
    fs::write(path, bytes).map_err(|e| write_error(path, e))
}

fn write_error(path: &Path, error: impl Into<BoxError>) -> Error {
    Error::Write { path: path.to_owned(), source: error.into() }
}
