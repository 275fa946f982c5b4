//! Probe packages, which serve only to be placed: the decode graph of given dimensions with random weights.

use std::path::Path;

use microgpt_model::GptConfig;
use mlpackage::mil::Program;
use mlpackage::{Metadata, PackageWriter, counted};

use crate::error::{Error, Result};
use crate::microgpt::{self, Tensors};
use crate::options::ExportOptions;

/// Range of the weights: uniform, with the standard deviation of GPT-2's initial weights, 0.02.
const RANGE: f32 = 0.02 * 1.732_050_8;

/// Writes the decode function of a model with random weights as a package.
///
/// A call has `tokens` positions (T); everything else is as [`export`](crate::export) writes it. The same
/// arguments produce the same bytes.
///
/// The inputs are `x [1, C, 1, T]`, `attn_mask [1, 1, T, S]` and `kv_write [1, 1, S, T]`, which
/// `slice-update` replaces with the `position [1]` of the first token. The output is `logits [1, V, 1, T]`.
/// If the host holds the caches, the function also has the inputs `{k,v}_cache_{i} [1, H, S, D]` and the
/// outputs `{k,v}_new_{i} [1, H, T, D]`.
///
/// # Errors
///
/// [`Error::Checkpoint`] if the dimensions are invalid; [`Error::Tokens`] if `tokens` is 0 or exceeds the
/// context; [`Error::Package`] if `destination` cannot be written or is something other than a package.
pub fn write_probe(
    config: &GptConfig,
    options: &ExportOptions,
    tokens: usize,
    destination: impl AsRef<Path>,
) -> Result<()> {
    let destination = destination.as_ref();
    config.validate()?;
    if tokens == 0 || tokens > config.block_size {
        return Err(Error::Tokens { tokens, block_size: config.block_size });
    }
    let mut writer = PackageWriter::create(destination)?;
    let function = microgpt::decode_function(&Noise(config), options, tokens, writer.weights(), |_, _| {})?;
    let metadata = Metadata {
        short_description: format!(
            "placement probe: {}, {}, context {}, {} a call, {}",
            counted(config.n_embd, "dimension"),
            counted(config.n_layer, "layer"),
            config.block_size,
            counted(tokens, "token"),
            options.quantization
        ),
        version: env!("CARGO_PKG_VERSION").into(),
        ..Metadata::default()
    };
    Ok(writer.finish(&Program::new([(microgpt::FUNCTION, function)]), &metadata)?)
}

/// Random weights. A compiler could remove zeros, but not random values.
struct Noise<'a>(&'a GptConfig);

impl Tensors for Noise<'_> {
    fn config(&self) -> &GptConfig {
        self.0
    }

    fn tensor(&self, name: &str) -> Result<Vec<f32>> {
        let specs = self.0.tensors();
        let spec = specs.iter().find(|s| s.name == name).expect("the graph asks for tensors of the config");
        // FNV-1a of the name makes every tensor different; SplitMix64 generates its elements.
        let mut state = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let next = std::iter::repeat_with(|| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            // The upper 24 bits, which an f32 holds exactly.
            let unit = ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
            unit * RANGE
        });
        Ok(next.take(spec.shape[0] * spec.shape[1]).collect())
    }
}
