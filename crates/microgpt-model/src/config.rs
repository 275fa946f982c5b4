//! The dimensions of a microGPT.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// `model_type` of `config.json`.
pub const MODEL_TYPE: &str = "microgpt";

/// Dimensions of a microGPT, as stored in `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GptConfig {
    /// Always [`MODEL_TYPE`].
    pub model_type: String,
    /// Size of the vocabulary, including BOS (V).
    pub vocab_size: usize,
    /// Width of the residual stream (C).
    pub n_embd: usize,
    /// Number of attention heads (H); must divide `n_embd`.
    pub n_head: usize,
    /// Number of layers.
    pub n_layer: usize,
    /// Context length in tokens (S).
    pub block_size: usize,
    /// Epsilon of the norms; 1e-5 in microGPT.
    pub rms_norm_eps: f64,
}

/// Predefined sizes of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Karpathy's microGPT: 16 dimensions, 1 layer, context 16; 4,192 parameters with 27 tokens.
    Original,
    /// The size of Experiment 27: 512 dimensions, 6 layers, context 64; 18,934,784 parameters with 27 tokens.
    Scaled,
    /// The size that best predicts unseen names: 128 dimensions, 4 layers, context 32; 797,440 parameters
    /// with 27 tokens.
    Compact,
}

/// A tensor of a checkpoint: its name and shape, `[out, in]` as PyTorch stores a Linear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name, such as `layers.0.attn_q.weight`.
    pub name: String,
    /// Rows and columns.
    pub shape: [usize; 2],
}

/// Largest number of parameters, 16 GiB in f32: more than burn trains on a CPU, and a sign of a mistyped
/// dimension.
const MAX_PARAMETERS: u128 = 1 << 32;

/// Largest value of any dimension: far beyond what this architecture is good for, and small enough that no
/// product of two overflows.
const LIMIT: usize = 1 << 20;

impl GptConfig {
    /// Returns the dimensions of a preset, for a vocabulary of `vocab_size` tokens.
    pub fn preset(preset: Preset, vocab_size: usize) -> Self {
        let (n_embd, n_head, n_layer, block_size) = match preset {
            Preset::Original => (16, 4, 1, 16),
            Preset::Scaled => (512, 8, 6, 64),
            Preset::Compact => (128, 4, 4, 32),
        };
        Self {
            model_type: MODEL_TYPE.to_owned(),
            vocab_size,
            n_embd,
            n_head,
            n_layer,
            block_size,
            rms_norm_eps: 1e-5,
        }
    }

    /// Returns the width of a head (D); 0 if the config has no head.
    pub fn head_dim(&self) -> usize {
        self.n_embd.checked_div(self.n_head).unwrap_or(0)
    }

    /// Lists every tensor of the model: embeddings, the layers in order, the LM head. Dimensions that
    /// [`validate`](Self::validate) refuses give shapes that saturate at `usize::MAX`, and a list as long as they say.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        self.tensor_specs().collect()
    }

    /// Returns the number of tensors, without listing them.
    pub(crate) fn tensor_count(&self) -> usize {
        self.n_layer.saturating_mul(6).saturating_add(3)
    }

    /// Returns the tensors one at a time, in the order of [`tensors`](Self::tensors).
    pub(crate) fn tensor_specs(&self) -> impl Iterator<Item = TensorSpec> {
        let c = self.n_embd;
        let embeddings = [
            TensorSpec { name: "wte.weight".into(), shape: [self.vocab_size, c] },
            TensorSpec { name: "wpe.weight".into(), shape: [self.block_size, c] },
        ];
        let layer = move |i: usize| {
            let wide = c.saturating_mul(4);
            let parts = [
                ("attn_q", [c, c]),
                ("attn_k", [c, c]),
                ("attn_v", [c, c]),
                ("attn_o", [c, c]),
                ("mlp_fc1", [wide, c]),
                ("mlp_fc2", [c, wide]),
            ];
            parts.map(|(part, shape)| TensorSpec { name: format!("layers.{i}.{part}.weight"), shape })
        };
        let head = TensorSpec { name: "lm_head.weight".into(), shape: [self.vocab_size, c] };
        embeddings.into_iter().chain((0..self.n_layer).flat_map(layer)).chain([head])
    }

    /// Returns the number of parameters; `u64::MAX` if there are more.
    pub fn parameters(&self) -> u64 {
        let (v, c, s, l) =
            (self.vocab_size as u64, self.n_embd as u64, self.block_size as u64, self.n_layer as u64);
        let square = c.saturating_mul(c);
        let tables = v.saturating_mul(2).saturating_add(s).saturating_mul(c);
        tables.saturating_add(l.saturating_mul(12).saturating_mul(square))
    }

    /// Returns the bytes that training permanently needs: weights, gradients and Adam's two moments, in f32.
    pub fn training_bytes(&self) -> u64 {
        self.parameters().saturating_mul(16)
    }

    /// Checks that the dimensions are valid.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the first invalid field.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: String| Err(Error::Config { field, reason });
        if self.model_type != MODEL_TYPE {
            return bad("model_type", format!("{:?}, expected {MODEL_TYPE:?}", self.model_type));
        }
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("n_embd", self.n_embd),
            ("n_head", self.n_head),
            ("n_layer", self.n_layer),
            ("block_size", self.block_size),
        ];
        for (field, size) in sizes {
            if size == 0 || size > LIMIT {
                return bad(field, format!("{size} is not between 1 and {LIMIT}"));
            }
        }
        let (v, c, s, l) = (self.vocab_size, self.n_embd, self.block_size, self.n_layer);
        // Each is at most 2^20, so the products do not overflow.
        let parameters =
            [2 * v as u128 * c as u128, s as u128 * c as u128, 12 * l as u128 * c as u128 * c as u128];
        let parameters: u128 = parameters.iter().sum();
        if parameters > MAX_PARAMETERS {
            let reason = format!(
                "{c} with n_layer {l} gives {parameters} parameters, expected at most {MAX_PARAMETERS}"
            );
            return bad("n_embd", reason);
        }
        if !self.n_embd.is_multiple_of(self.n_head) {
            return bad("n_head", format!("{} does not divide n_embd {}", self.n_head, self.n_embd));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return bad("rms_norm_eps", format!("{} is not above 0 and below 1", self.rms_norm_eps));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published parameter counts; another test checks that burn agrees.
    #[test]
    fn presets_have_the_published_numbers_of_parameters() {
        for (preset, parameters) in [(Preset::Original, 4_192), (Preset::Scaled, 18_934_784)] {
            let config = GptConfig::preset(preset, 27);
            config.validate().unwrap();
            assert_eq!(config.parameters(), parameters);
            let counted: usize = config.tensors().iter().map(|t| t.shape[0] * t.shape[1]).sum();
            assert_eq!(counted as u64, parameters);
        }
    }

    #[test]
    fn heads_must_divide_the_width() {
        let config = GptConfig { n_head: 3, ..GptConfig::preset(Preset::Original, 27) };
        assert_eq!(config.validate().unwrap_err().to_string(), "config: n_head: 3 does not divide n_embd 16");
    }

    #[test]
    fn absurd_dimensions_are_refused() {
        // 12 * 10^12 parameters are 48 TB, which must be rejected without being allocated.
        for (n_embd, reason) in [
            (0, "0 is not between 1 and 1048576"),
            (1_000_000, "parameters, expected at most"),
            (usize::MAX, "is not between 1 and 1048576"),
        ] {
            let config = GptConfig { n_embd, ..GptConfig::preset(Preset::Original, 27) };
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains("n_embd") && error.contains(reason), "{error}");
        }
        let config = GptConfig { rms_norm_eps: f64::NAN, ..GptConfig::preset(Preset::Original, 27) };
        assert!(config.validate().unwrap_err().to_string().contains("rms_norm_eps: NaN"));
    }

    #[test]
    fn dimensions_that_were_not_validated_saturate() {
        let original = GptConfig::preset(Preset::Original, 27);
        assert_eq!(GptConfig { n_head: 0, ..original.clone() }.head_dim(), 0);
        let wide = GptConfig { n_embd: usize::MAX, ..original.clone() };
        assert_eq!((wide.parameters(), wide.training_bytes()), (u64::MAX, u64::MAX));
        assert_eq!(wide.tensors()[6].shape, [usize::MAX, usize::MAX]);
        let deep = GptConfig { n_layer: usize::MAX, ..original.clone() };
        assert_eq!((deep.parameters(), deep.tensor_count()), (u64::MAX, usize::MAX));
        assert_eq!(original.tensor_count(), original.tensors().len());
    }
}
