//! Bundles: what a runtime needs to decode with a model, in one folder.
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

/// Name of the manifest in a bundle's folder, and the mark by which a folder is known as a bundle.
pub const BUNDLE_MANIFEST: &str = "bundle.json";

/// A bundle's folder, as writers know an earlier one.
pub const BUNDLE: FolderKind = FolderKind {
    marker: BUNDLE_MANIFEST,
    fields: &["format_version", "shards", "files"],
    entries: &["README.md", "tokenizer.json", "embeddings.safetensors", "*.mlpackage"],
};

/// Version of the bundle's layout that this crate writes and reads.
pub const BUNDLE_FORMAT_VERSION: u32 = 1;

const MANIFEST_LIMIT: u64 = 16 << 20;

/// `bundle.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleManifest {
    /// [`BUNDLE_FORMAT_VERSION`].
    pub format_version: u32,
    /// The model's shape.
    pub architecture: Architecture,
    /// The packages, in the order in which they run.
    pub shards: Vec<Shard>,
    /// Names of the decode function's inputs and output, by what they mean.
    pub interface: DecodeInterface,
    /// Host-side embedding tables.
    pub embeddings: EmbeddingTables,
    /// The tokenizer.
    pub tokenizer: TokenizerFile,
    /// How it was exported.
    pub exporter: Exporter,
    /// Every file of the bundle but this one, by path relative to the bundle.
    pub files: BTreeMap<String, FileDigest>,
}

/// Dimensions of a decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Architecture {
    /// Family, such as `microgpt`.
    pub model_type: String,
    /// Rows of the embedding table and of the LM head.
    pub vocab_size: usize,
    /// Width of the residual stream (C).
    pub n_embd: usize,
    /// Attention heads (H).
    pub n_head: usize,
    /// Layers.
    pub n_layer: usize,
    /// Positions that the KV cache holds (S).
    pub context_length: usize,
    /// Parameters of the model, embedding tables included.
    pub parameters: u64,
}

/// One package of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shard {
    /// Its folder, relative to the bundle.
    pub package: String,
    /// Its function.
    pub function: String,
    /// First layer that it holds.
    pub first_layer: usize,
    /// Number of layers that it holds.
    pub layers: usize,
    /// Number of state tensors: 0 where the host holds the caches.
    pub states: usize,
    /// Slices of the LM head that it holds: 0 or, in the last shard, at least 1.
    pub lm_head_slices: usize,
}

/// Names of inputs and output, by meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecodeInterface {
    /// Sum of token and position embedding, fp16 `[1, C, 1, 1]`.
    pub embedding: String,
    /// 0 where a position may be attended to, -1e4 where not, fp16 `[1, 1, 1, S]`.
    pub attn_mask: String,
    /// Says where the new key and value go: one-hot over positions, fp16 `[1, 1, S, 1]`, or the position itself, int32 `[1]`.
    /// The package's function tells which.
    pub kv_write: String,
    /// Unnormalised log probabilities, fp16 `[1, V, 1, 1]`.
    pub logits: String,
    /// Caches that the host holds, two a layer; none where they are states.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_caches: Vec<HostCache>,
}

/// A cache of keys or values that the host holds: the function reads it, gives what is new, and the host writes that to its
/// position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostCache {
    /// Input: what the cache holds before the call, fp16 `[1, H, S, D]`.
    pub cache: String,
    /// Output: the new key or value, fp16 `[1, H, 1, D]`.
    pub new: String,
}

/// Where the embedding tables are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingTables {
    /// A safetensors file.
    pub file: String,
    /// Tensor `[V, C]`: a row a token.
    pub token: String,
    /// Tensor `[S, C]`: a row a position.
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

/// How a bundle was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exporter {
    /// Crate.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Form in which weights are stored, such as `int8-per-tensor`.
    pub quantization: String,
    /// All other options, by name.
    pub options: BTreeMap<String, String>,
}

/// What a file must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Size.
    pub bytes: u64,
    /// SHA-256, in lower-case hexadecimal.
    pub sha256: String,
}

impl FileDigest {
    /// Measures a file.
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
    /// Measures every file below `folder` but the manifest itself, for [`files`](Self::files).
    ///
    /// # Errors
    ///
    /// [`Error::Io`], also for anything below it that is neither a file nor a folder.
    pub fn digest_folder(folder: &Path) -> Result<BTreeMap<String, FileDigest>> {
        let names = paths::files_below(folder)?.into_iter().filter(|name| name != BUNDLE_MANIFEST);
        names.map(|name| Ok((name.clone(), FileDigest::of(&folder.join(&name))?))).collect()
    }

    /// Writes `bundle.json` into `folder`, whole or not at all.
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

/// A bundle that was opened: its manifest is understood and every file is the one that the manifest means.
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
    /// [`Error::Bundle`] with the field or file that is wrong; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let manifest_path = path.join(BUNDLE_MANIFEST);
        let bytes = paths::read_small(&manifest_path, MANIFEST_LIMIT)?;
        let bad = |field: &str, reason: String| Error::Bundle {
            path: path.to_owned(),
            field: field.into(),
            reason,
        };
        // The version first: a later one may have other fields.
        let version: Version =
            serde_json::from_slice(&bytes).map_err(|e| bad(BUNDLE_MANIFEST, e.to_string()))?;
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
            serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&bytes))
                .map_err(|e| bad(BUNDLE_MANIFEST, e.to_string()))?;
        let bundle = Self { path: path.to_owned(), manifest };
        bundle.check_manifest()?;
        bundle.verify_files()?;
        Ok(bundle)
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its manifest.
    pub fn manifest(&self) -> &BundleManifest {
        &self.manifest
    }

    /// Opens the package of a shard.
    ///
    /// # Errors
    ///
    /// As [`Package::open`], and if it lacks the shard's function.
    pub fn package(&self, shard: &Shard) -> Result<Package> {
        let package = Package::open(&self.file(&shard.package)?)?;
        package.function(&shard.function)?;
        Ok(package)
    }

    /// The path of a file of the bundle.
    ///
    /// # Errors
    ///
    /// [`Error::Bundle`] if it leads outside or does not exist.
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
            // 2^20 of anything is far beyond a decoder, and keeps every product of two of them well inside usize.
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

    /// Either every layer's caches are the host's, or none; each has names of its own.
    fn check_host_caches(&self) -> Result<()> {
        let m = &self.manifest;
        let caches = &m.interface.host_caches;
        if caches.is_empty() {
            return Ok(());
        }
        let (found, layers) = (caches.len(), m.architecture.n_layer);
        if found != 2 * layers {
            let reason = format!("{found} of them, expected {} for {}", 2 * layers, counted(layers, "layer"));
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
                    let reason = format!("{name:?} is empty, or the name of something else as well");
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
                // A pointer, and not a damaged file, is what most often has another size.
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
                    return Err(self.bad("files", format!("{name:?} is in the bundle and not listed")));
                }
            }
        }
        Ok(())
    }
}

/// The one field that every version has.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}
