//! A bundle with its program in another form, or with other embeddings, which every engine can decode like
//! any bundle.

use std::fs;
use std::path::Path;

use ane_bundle::Bundle;
use ane_bundle::BundleManifest;
use anyhow::{Context as _, Result, ensure};
use half::f16;
use safetensors::SafeTensors;

use super::program_variant::ProgramVariant;

/// Writes a bundle whose program has this form, and whose embedding tables are multiplied by `scale` and
/// rounded to fp16.
///
/// # Errors
///
/// If it cannot be written, or the program breaks a rule of MIL in this form.
pub(super) fn write(bundle: &Bundle, form: ProgramVariant, scale: f32, folder: &Path) -> Result<Bundle> {
    let manifest = bundle.manifest();
    let [shard] = manifest.shards.as_slice() else {
        anyhow::bail!(
            "the bundle has {} shards, but this version probes only bundles of one shard",
            manifest.shards.len()
        );
    };
    fs::create_dir(folder).with_context(|| format!("create {}", folder.display()))?;
    form.write(&bundle.package(shard)?, &folder.join(&shard.package))?;
    let tokenizer = &manifest.tokenizer.file;
    fs::copy(bundle.file(tokenizer)?, folder.join(tokenizer)).with_context(|| format!("copy {tokenizer}"))?;
    let tables = &manifest.embeddings.file;
    write_scaled(&bundle.file(tables)?, scale, &folder.join(tables))?;
    let files = BundleManifest::digest_folder(folder)?;
    BundleManifest { files, ..manifest.clone() }.write(folder)?;
    Ok(Bundle::open(folder)?)
}

/// Multiplies every tensor of an fp16 file by `scale`.
fn write_scaled(from: &Path, scale: f32, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    let file = SafeTensors::deserialize(&bytes).with_context(|| from.display().to_string())?;
    let scaled =
        |pair: &[u8]| f16::from_f32(f16::from_le_bytes([pair[0], pair[1]]).to_f32() * scale).to_le_bytes();
    let mut tensors = Vec::new();
    for (name, tensor) in file.tensors() {
        ensure!(tensor.dtype() == safetensors::Dtype::F16, "{}: {name} is not fp16", from.display());
        let data: Vec<u8> = tensor.data().chunks_exact(2).flat_map(scaled).collect();
        tensors.push((name, tensor.shape().to_vec(), data));
    }
    let views = tensors
        .iter()
        .map(|(name, shape, data)| (name.as_str(), safetensors::Dtype::F16, shape.clone(), data.as_slice()));
    Ok(ane_runtime::tensor_file::write(to, views)?)
}
