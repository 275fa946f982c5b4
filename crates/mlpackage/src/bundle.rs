//! Bundles: folders with everything that a runtime needs to decode with a model.
//!
//! ```text
//! bundle.json              this module's [`BundleManifest`], with the SHA-256 of every other file
//! decoder-00.mlpackage/    the shards, in order
//! embeddings.safetensors   tables that the host looks up, fp16
//! tokenizer.json           as the `tokenizers` library reads it
//! README.md                model card
//! ```

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::counted::counted;
use crate::error::{Error, Result};
use crate::folder_kind::FolderKind;
use crate::git_lfs;
use crate::package::Package;
use crate::paths;

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

const MANIFEST_LIMIT: u64 = 16 << 20;

/// What `bundle.json` is, for errors.
const EXPECTED: &str = "the manifest of a bundle";

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
    /// Unnormalised log probabilities, fp16 `[1, V, 1, 1]`.
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

/// The expected size and hash of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256, in lower-case hexadecimal.
    pub sha256: String,
}

impl FileDigest {
    /// Computes the size and hash of a file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn of(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        let mut bytes = 0u64;
        loop {
            let n = file.read(&mut buffer).map_err(|e| Error::io("read", path, e))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            bytes += n as u64;
        }
        let sha256 = hasher.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self { bytes, sha256 })
    }
}

impl BundleManifest {
    /// Computes size and hash of every file below `folder` except the manifest, for [`files`](Self::files).
    ///
    /// # Errors
    ///
    /// [`Error::Io`], also for an entry that is neither a file nor a folder.
    pub fn digest_folder(folder: &Path) -> Result<BTreeMap<String, FileDigest>> {
        let names = paths::files_below(folder)?.into_iter().filter(|name| name != BUNDLE_MANIFEST);
        names.map(|name| Ok((name.clone(), FileDigest::of(&folder.join(&name))?))).collect()
    }

    /// Writes `bundle.json` into `folder` atomically.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(BUNDLE_MANIFEST);
        let mut json = serde_json::to_vec_pretty(self).expect("a manifest of strings and numbers serializes");
        json.push(b'\n');
        Ok(atomic_output::write_file(&path, &json)?)
    }
}

/// An opened bundle. Its manifest is valid, and every file has the size and hash that the manifest lists.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    manifest: BundleManifest,
}

impl Bundle {
    /// Opens a bundle and verifies the size and SHA-256 of every file.
    ///
    /// # Errors
    ///
    /// [`Error::Bundle`] with the invalid field or file; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let manifest_path = path.join(BUNDLE_MANIFEST);
        let bytes = paths::read_small(&manifest_path, MANIFEST_LIMIT)?;
        let bad = |field: &str, reason: String| Error::Bundle {
            path: path.to_owned(),
            field: field.into(),
            reason,
        };
        // The version is read first, because other versions may have other fields.
        let version: Version =
            paths::read_object(&bytes, EXPECTED).map_err(|reason| bad(BUNDLE_MANIFEST, reason))?;
        if version.format_version != BUNDLE_FORMAT_VERSION {
            return Err(bad(
                "format_version",
                format!(
                    "{}, this version reads {BUNDLE_FORMAT_VERSION}: export the checkpoint again",
                    version.format_version
                ),
            ));
        }
        let manifest: BundleManifest =
            paths::read_object(&bytes, EXPECTED).map_err(|reason| bad(BUNDLE_MANIFEST, reason))?;
        let bundle = Self { path: path.to_owned(), manifest };
        bundle.check_manifest()?;
        bundle.verify_files()?;
        Ok(bundle)
    }

    /// Returns the bundle's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &BundleManifest {
        &self.manifest
    }

    /// Opens the package of a shard.
    ///
    /// # Errors
    ///
    /// As [`Package::open`], and if the package lacks the shard's function.
    pub fn package(&self, shard: &Shard) -> Result<Package> {
        let package = Package::open(&self.file(&shard.package)?)?;
        package.function(&shard.function)?;
        Ok(package)
    }

    /// Returns the path of a file in the bundle.
    ///
    /// # Errors
    ///
    /// [`Error::Bundle`] if the path leads outside the bundle or does not exist.
    pub fn file(&self, relative: &str) -> Result<PathBuf> {
        paths::inside(&self.path, relative).map_err(|reason| self.bad(relative, reason))
    }

    fn bad(&self, field: &str, reason: impl Into<String>) -> Error {
        Error::Bundle { path: self.path.clone(), field: field.to_owned(), reason: reason.into() }
    }

    fn check_manifest(&self) -> Result<()> {
        let m = &self.manifest;
        let a = &m.architecture;
        let sizes = [
            ("architecture.vocab_size", a.vocab_size),
            ("architecture.n_embd", a.n_embd),
            ("architecture.n_head", a.n_head),
            ("architecture.n_layer", a.n_layer),
            ("architecture.context_length", a.context_length),
        ];
        for (field, size) in sizes {
            // 2^20 is far beyond any decoder, and the product of two such sizes fits easily in a usize.
            if size == 0 || size > 1 << 20 {
                return Err(self.bad(field, format!("{size} is not between 1 and 2^20")));
            }
        }
        if !a.n_embd.is_multiple_of(a.n_head) {
            let reason = format!("{} does not divide architecture.n_embd {}", a.n_head, a.n_embd);
            return Err(self.bad("architecture.n_head", reason));
        }
        if m.tokenizer.bos_token_id as usize >= a.vocab_size {
            let reason =
                format!("{} is outside the vocabulary of {}", m.tokenizer.bos_token_id, a.vocab_size);
            return Err(self.bad("tokenizer.bos_token_id", reason));
        }
        let mut next_layer = 0usize;
        for (i, shard) in m.shards.iter().enumerate() {
            if shard.first_layer != next_layer {
                let reason = format!("{}, expected {next_layer}", shard.first_layer);
                return Err(self.bad(&format!("shards[{i}].first_layer"), reason));
            }
            next_layer = next_layer.saturating_add(shard.layers);
            let last = i + 1 == m.shards.len();
            if last != (shard.lm_head_slices > 0) {
                let reason = format!("{}: the LM head is in the last shard", shard.lm_head_slices);
                return Err(self.bad(&format!("shards[{i}].lm_head_slices"), reason));
            }
        }
        if next_layer != a.n_layer {
            return Err(self.bad(
                "shards",
                format!("they hold {}, the architecture has {}", counted(next_layer, "layer"), a.n_layer),
            ));
        }
        self.check_host_caches()
    }

    /// Checks that the host holds the caches of every layer or of none, and that their names are distinct.
    fn check_host_caches(&self) -> Result<()> {
        let m = &self.manifest;
        let caches = &m.interface.host_caches;
        if caches.is_empty() {
            return Ok(());
        }
        let (found, layers) = (caches.len(), m.architecture.n_layer);
        if found != 2 * layers {
            let reason = format!("found {found}, expected {} for {}", 2 * layers, counted(layers, "layer"));
            return Err(self.bad("interface.host_caches", reason));
        }
        if let Some((i, shard)) = m.shards.iter().enumerate().find(|(_, shard)| shard.states > 0) {
            let reason = format!("{}, expected 0: the host holds the caches", shard.states);
            return Err(self.bad(&format!("shards[{i}].states"), reason));
        }
        let DecodeInterface { embedding, attn_mask, kv_write, logits, .. } = &m.interface;
        let mut inputs = HashSet::from([embedding, attn_mask, kv_write]);
        let mut outputs = HashSet::from([logits]);
        for (i, HostCache { cache, new }) in caches.iter().enumerate() {
            for (field, name, names) in [("cache", cache, &mut inputs), ("new", new, &mut outputs)] {
                if name.is_empty() || !names.insert(name) {
                    let reason = format!("{name:?} is empty or not unique");
                    return Err(self.bad(&format!("interface.host_caches[{i}].{field}"), reason));
                }
            }
        }
        Ok(())
    }

    fn verify_files(&self) -> Result<()> {
        let listed = |name: &str| self.manifest.files.contains_key(name);
        let tables = [&self.manifest.embeddings.file, &self.manifest.tokenizer.file];
        if let Some(missing) = tables.into_iter().find(|f| !listed(f)) {
            return Err(self.bad("files", format!("{missing:?} is not listed")));
        }
        for (name, expected) in &self.manifest.files {
            let path = self.file(name)?;
            let bytes = paths::regular_file_size(&path)?;
            if bytes != expected.bytes {
                // A file of the wrong size is most often a Git LFS pointer rather than damaged.
                if bytes < git_lfs::LONGEST {
                    paths::read_small(&path, git_lfs::LONGEST)?;
                }
                return Err(self.bad(name, format!("{bytes} bytes, expected {}", expected.bytes)));
            }
            let found = FileDigest::of(&path)?;
            if found.sha256 != expected.sha256 {
                return Err(self.bad(
                    name,
                    format!(
                        "SHA-256 is {}, expected {}: the file was changed",
                        found.sha256, expected.sha256
                    ),
                ));
            }
        }
        for shard in &self.manifest.shards {
            let root = self.file(&shard.package)?;
            for name in paths::files_below(&root)? {
                let name = format!("{}/{name}", shard.package);
                if !listed(&name) {
                    return Err(self.bad("files", format!("{name:?} is in the bundle but not listed")));
                }
            }
        }
        Ok(())
    }
}

/// The only field that every version has.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}
