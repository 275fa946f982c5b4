//! What a search probes: lines of decoders that differ only in width.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A decoder to probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Its width.
    pub n_embd: usize,
    /// Its layers.
    pub n_layer: usize,
    /// Tokens per call (T).
    pub tokens: usize,
    /// The form of the weights, by the exporter's name.
    pub quantization: String,
}

impl Configuration {
    /// Returns a name that is unique in a sweep; names sort by size.
    pub fn id(&self) -> String {
        let Self { n_embd, n_layer, tokens, quantization } = self;
        format!("l{n_layer:02}-t{tokens:02}-{quantization}-e{n_embd:04}")
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n_embd, n_layer, tokens, quantization } = self;
        write!(f, "n_embd {n_embd}, n_layer {n_layer}, T {tokens}, {quantization}")
    }
}

/// The parameters of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// Widths, in any order.
    pub n_embd: Vec<usize>,
    /// Numbers of layers.
    pub n_layer: Vec<usize>,
    /// Tokens per call.
    pub tokens: Vec<usize>,
    /// Forms of the weights.
    pub quantization: Vec<String>,
}

impl Sweep {
    /// Returns every line, each from the narrowest to the widest.
    pub fn lines(&self) -> impl Iterator<Item = Vec<Configuration>> {
        self.n_layer.iter().flat_map(move |&n_layer| {
            self.tokens.iter().flat_map(move |&tokens| {
                self.quantization.iter().map(move |quantization| {
                    let at = |&n_embd: &usize| Configuration {
                        n_embd,
                        n_layer,
                        tokens,
                        quantization: quantization.clone(),
                    };
                    let mut widths = self.n_embd.clone();
                    widths.sort_unstable();
                    widths.dedup();
                    widths.iter().map(at).collect()
                })
            })
        })
    }

    /// Returns every configuration.
    pub fn configurations(&self) -> impl Iterator<Item = Configuration> {
        self.lines().flatten()
    }
}
