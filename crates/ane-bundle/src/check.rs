//! Consistency of a manifest, before any other file is read.

use std::collections::HashSet;

use mlpackage::counted;

use crate::manifest::{Architecture, BundleManifest, DecodeInterface, HostCache, Shard};

/// A field that contradicts the others, or is out of range.
pub(crate) struct Fault {
    pub(crate) field: String,
    pub(crate) reason: String,
}

type Checked = Result<(), Fault>;

fn fault(field: impl Into<String>, reason: impl Into<String>) -> Checked {
    Err(Fault { field: field.into(), reason: reason.into() })
}

/// Checks the fields of a manifest against each other.
pub(crate) fn manifest(manifest: &BundleManifest) -> Checked {
    architecture(&manifest.architecture)?;
    let (bos, vocab_size) = (manifest.tokenizer.bos_token_id, manifest.architecture.vocab_size);
    if bos as usize >= vocab_size {
        return fault("tokenizer.bos_token_id", format!("{bos} is outside the vocabulary of {vocab_size}"));
    }
    shards(&manifest.shards, manifest.architecture.n_layer)?;
    host_caches(manifest)
}

fn architecture(a: &Architecture) -> Checked {
    let sizes = [
        ("architecture.vocab_size", a.vocab_size),
        ("architecture.n_embd", a.n_embd),
        ("architecture.n_head", a.n_head),
        ("architecture.n_layer", a.n_layer),
        ("architecture.context_length", a.context_length),
    ];
    // 2^20 is far beyond any decoder, and the product of two such sizes fits easily in a usize.
    if let Some((field, size)) = sizes.into_iter().find(|(_, size)| *size == 0 || *size > 1 << 20) {
        return fault(field, format!("{size} is not between 1 and 2^20"));
    }
    if !a.n_embd.is_multiple_of(a.n_head) {
        let reason = format!("{} does not divide architecture.n_embd {}", a.n_head, a.n_embd);
        return fault("architecture.n_head", reason);
    }
    Ok(())
}

/// Checks that the shards hold all layers in order, and that the last one holds the LM head.
fn shards(shards: &[Shard], layers: usize) -> Checked {
    let mut next_layer = 0usize;
    for (i, shard) in shards.iter().enumerate() {
        if shard.first_layer != next_layer {
            let reason = format!("{}, expected {next_layer}", shard.first_layer);
            return fault(format!("shards[{i}].first_layer"), reason);
        }
        next_layer = next_layer.saturating_add(shard.layers);
        let last = i + 1 == shards.len();
        if last != (shard.lm_head_slices > 0) {
            let reason = format!("{}: the LM head is in the last shard", shard.lm_head_slices);
            return fault(format!("shards[{i}].lm_head_slices"), reason);
        }
    }
    if next_layer != layers {
        let reason = format!("they hold {}, the architecture has {layers}", counted(next_layer, "layer"));
        return fault("shards", reason);
    }
    Ok(())
}

/// Checks that the host holds the caches of every layer or of none, and that their names are distinct.
fn host_caches(m: &BundleManifest) -> Checked {
    let caches = &m.interface.host_caches;
    if caches.is_empty() {
        return Ok(());
    }
    let (found, layers) = (caches.len(), m.architecture.n_layer);
    if found != 2 * layers {
        let reason = format!("found {found}, expected {} for {}", 2 * layers, counted(layers, "layer"));
        return fault("interface.host_caches", reason);
    }
    if let Some((i, shard)) = m.shards.iter().enumerate().find(|(_, shard)| shard.states > 0) {
        let reason = format!("{}, expected 0: the host holds the caches", shard.states);
        return fault(format!("shards[{i}].states"), reason);
    }
    let DecodeInterface { embedding, attn_mask, kv_write, logits, .. } = &m.interface;
    let mut inputs = HashSet::from([embedding, attn_mask, kv_write]);
    let mut outputs = HashSet::from([logits]);
    for (i, HostCache { cache, new }) in caches.iter().enumerate() {
        for (field, name, names) in [("cache", cache, &mut inputs), ("new", new, &mut outputs)] {
            if name.is_empty() || !names.insert(name) {
                let reason = format!("{name:?} is empty or not unique");
                return fault(format!("interface.host_caches[{i}].{field}"), reason);
            }
        }
    }
    Ok(())
}
