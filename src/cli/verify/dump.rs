//! Writes every step's inputs and logits, for other executors to compare with.

use std::path::Path;

use ane_bundle::Bundle;
use ane_runtime::{Data, Decoder, Elements, LogitsSource as _, MilCpu, Numerics, tensor_file};
use anyhow::{Result, bail};
use microgpt_ane::{Transcript, Verification};
use safetensors::Dtype;

/// One function input over all steps.
struct StackedInput {
    name: String,
    /// Dimensions of one step.
    dims: Vec<usize>,
    /// Elements of all steps, one after another.
    values: Data,
}

/// Writes inputs and logits as safetensors, atomically: every input by name with a leading axis of steps, as
/// f32 or i32; and `logits_f32`, `logits_f16` and, for another engine, `logits_engine`, all as f32.
///
/// # Errors
///
/// If the bundle does not load, or the file cannot be written.
pub(super) fn write(path: &Path, bundle: &Bundle, verification: &Verification) -> Result<()> {
    let transcript = &verification.transcript;
    let inputs = inputs(bundle, &verification.tokens)?;
    let steps = verification.tokens.len();
    let mut tensors: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for StackedInput { name, dims, values } in &inputs {
        let (dtype, bytes) = encoded(values);
        tensors.push((name, dtype, [&[steps], dims.as_slice()].concat(), bytes));
    }
    for (name, values) in logits(transcript) {
        tensors.push((name, Dtype::F32, vec![steps, transcript.vocab_size], little_endian(values)));
    }
    let tensors =
        tensors.iter().map(|(name, dtype, shape, bytes)| (*name, *dtype, shape.clone(), bytes.as_slice()));
    Ok(tensor_file::write(path, tensors)?)
}

fn logits(transcript: &Transcript) -> impl Iterator<Item = (&'static str, &[f32])> {
    let Transcript { logits_f32, logits_f16, logits_engine, .. } = transcript;
    let mil_cpu = [("logits_f32", logits_f32.as_slice()), ("logits_f16", logits_f16)];
    mil_cpu.into_iter().chain(logits_engine.iter().map(|values| ("logits_engine", values.as_slice())))
}

fn encoded(values: &Data) -> (Dtype, Vec<u8>) {
    match values {
        Data::F32(values) => (Dtype::F32, little_endian(values)),
        Data::I32(values) => (Dtype::I32, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Data::Bool(values) => (Dtype::BOOL, values.iter().map(|v| u8::from(*v)).collect()),
    }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Returns the inputs of the function at every step while a bundle decodes `tokens`. Caches that the host
/// holds are those of the f16 run. Every step keeps a copy of all its inputs, whole caches included.
fn inputs(bundle: &Bundle, tokens: &[u32]) -> Result<Vec<StackedInput>> {
    let mut decoder = Decoder::load(bundle, &MilCpu::new(Numerics::F16))?;
    let mut stacked: Vec<StackedInput> = Vec::new();
    for &token in tokens {
        for (i, (name, tensor)) in decoder.inputs(token)?.into_iter().enumerate() {
            if stacked.len() == i {
                let values = match tensor.elements() {
                    Elements::I32(_) => Data::I32(Vec::new()),
                    _ => Data::F32(Vec::new()),
                };
                let dims = tensor.shape().to_vec();
                stacked.push(StackedInput { name: name.to_owned(), dims, values });
            }
            match (&mut stacked[i].values, tensor.elements()) {
                (Data::F32(all), Elements::F32(values)) => all.extend_from_slice(values),
                (Data::I32(all), Elements::I32(values)) => all.extend_from_slice(values),
                _ => bail!("input {name}: the host passes neither floats nor integers"),
            }
        }
        decoder.step(token)?;
    }
    Ok(stacked)
}

#[cfg(test)]
mod tests {
    use microgpt_ane::{VerifyOptions, verify};
    use safetensors::SafeTensors;

    use super::*;
    use crate::cli::test_bundle::bundle;

    #[test]
    fn logits_of_another_engine_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = bundle(dir.path());
        let engine = MilCpu::new(Numerics::F16);
        let verification = verify(&bundle, &VerifyOptions::default().with_engine(&engine)).unwrap();
        let path = dir.path().join("dump.safetensors");
        write(&path, &bundle, &verification).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        for name in ["logits_f32", "logits_f16", "logits_engine"] {
            assert_eq!(tensors.tensor(name).unwrap().shape(), [16, 27], "{name}");
        }
        let data = |name: &str| tensors.tensor(name).unwrap().data().to_vec();
        assert_eq!(data("logits_engine"), data("logits_f16"));
    }
}
