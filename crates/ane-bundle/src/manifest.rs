//! `bundle.json`: what a bundle consists of.

use std::collections::BTreeMap;
use std::path::Path;

use mlpackage::{FolderKind, files};
use serde::{Deserialize, Serialize};

use crate::digest::FileDigest;
use crate::error::Result;

/// The manifest's file name, which also identifies a folder as a bundle.
pub const BUNDLE_MANIFEST: &str = "bundle.json";

/// Describes bundle folders, so that a writer recognizes an earlier bundle.
pub const BUNDLE: FolderKind = FolderKind {
    marker: BUNDLE_MANIFEST,
    fields: &["format_version", "shards", "files"],
    belongs: |manifest, path| manifest["files"].get(path).is_some(),
};

/// The version of the bundle layout that this crate reads and writes.
pub const BUNDLE_FORMAT_VERSION: u32 = 1;

/// `bundle.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleManifest {
    /// [`BUNDLE_FORMAT_VERSION`].
    pub format_version: u32,
    /// The model's dimensions.
    pub architecture: Architecture,
    /// The packages, in execution order.
    pub shards: Vec<Shard>,
    /// Names of the decode function's inputs and output, by role.
    pub interface: DecodeInterface,
    /// Host-side embedding tables.
    pub embeddings: EmbeddingTables,
    /// The tokenizer.
    pub tokenizer: TokenizerFile,
    /// How the bundle was exported.
    pub exporter: Exporter,
    /// Every other file of the bundle, by path relative to the bundle.
    pub files: BTreeMap<String, FileDigest>,
}

/// Dimensions of a decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Architecture {
    /// Model family, such as `microgpt`.
    pub model_type: String,
    /// Rows of the embedding table and of the LM head.
    pub vocab_size: usize,
    /// Width of the residual stream (C).
    pub n_embd: usize,
    /// Attention heads (H).
    pub n_head: usize,
    /// Number of layers.
    pub n_layer: usize,
    /// Positions in the KV cache (S).
    pub context_length: usize,
    /// Number of parameters, including the embedding tables.
    pub parameters: u64,
}

/// One package of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shard {
    /// The package's folder, relative to the bundle.
    pub package: String,
    /// The name of the package's function.
    pub function: String,
    /// The first layer in the shard.
    pub first_layer: usize,
    /// The number of layers in the shard.
    pub layers: usize,
    /// The number of state tensors; 0 if the host holds the caches.
    pub states: usize,
    /// The number of slices of the LM head in the shard: at least 1 in the last shard, 0 otherwise.
    pub lm_head_slices: usize,
}

/// Names of inputs and output, by role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecodeInterface {
    /// Sum of token and position embedding, fp16 `[1, C, 1, 1]`.
    pub embedding: String,
    /// 0 for positions that may be attended to, -1e4 for the others, fp16 `[1, 1, 1, S]`.
    pub attn_mask: String,
    /// The write position of the new key and value: one-hot over positions, fp16 `[1, 1, S, 1]`, or the
    /// position as an index, int32 `[1]`. The type of the function's input distinguishes the two.
    pub kv_write: String,
    /// Unnormalized log probabilities, fp16 `[1, V, 1, 1]`.
    pub logits: String,
    /// Caches that the host holds, two per layer; empty if the caches are states.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_caches: Vec<HostCache>,
}

/// A cache of keys or values that the host holds. The function reads the cache and returns the new entry,
/// which the host writes at its position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostCache {
    /// Input: the cache before the call, fp16 `[1, H, S, D]`.
    pub cache: String,
    /// Output: the new key or value, fp16 `[1, H, 1, D]`.
    pub new: String,
}

/// The embedding tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingTables {
    /// A safetensors file.
    pub file: String,
    /// Tensor `[V, C]`: one row per token.
    pub token: String,
    /// Tensor `[S, C]`: one row per position.
    pub position: String,
}

/// The tokenizer and its special token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenizerFile {
    /// A `tokenizer.json`.
    pub file: String,
    /// Id of the token that begins and ends a document.
    pub bos_token_id: u32,
}

/// How a bundle was exported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exporter {
    /// The exporting crate.
    pub name: String,
    /// The crate's version.
    pub version: String,
    /// The storage format of the weights, such as `int8-per-tensor`.
    pub quantization: String,
    /// All other options, by name.
    pub options: BTreeMap<String, String>,
}

impl BundleManifest {
    /// Computes size and hash of every file below `folder` except the manifest, for [`files`](Self::files).
    ///
    /// # Errors
    ///
    /// [`Error::Package`](crate::Error::Package) if a file cannot be read, also for an entry that is neither a file
    /// nor a folder.
    pub fn digest_folder(folder: impl AsRef<Path>) -> Result<BTreeMap<String, FileDigest>> {
        let folder = folder.as_ref();
        let names = files::files_below(folder)?.into_iter().filter(|name| name != BUNDLE_MANIFEST);
        names.map(|name| Ok((name.clone(), FileDigest::of(folder.join(&name))?))).collect()
    }

    /// Writes `bundle.json` into `folder` atomically.
    ///
    /// # Errors
    ///
    /// [`Error::Output`](crate::Error::Output).
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        let path = folder.join(BUNDLE_MANIFEST);
        let mut json = serde_json::to_vec_pretty(self).expect("a manifest of strings and numbers serializes");
        json.push(b'\n');
        Ok(atomic_output::write_file(&path, &json)?)
    }
}
