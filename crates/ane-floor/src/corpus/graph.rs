//! The graph of a row: its features, as far as the source states them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Features of a graph. `None` means that the source does not state it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// A short description.
    pub summary: String,
    /// The kind of graph.
    pub family: Family,
    /// Operations that compute, as counted by the source.
    pub operations: Option<u64>,
    /// Number of convolutions.
    pub convs: Option<u64>,
    /// Number of matrix products and linear layers.
    pub matmuls: Option<u64>,
    /// Multiply-adds of its largest convolution or matrix product, the anchor.
    pub anchor_multiply_adds: Option<u64>,
    /// Multiply-adds per call.
    pub multiply_adds: Option<u64>,
    /// Number of layers.
    pub depth: Option<u64>,
    /// Positions per call (T).
    pub tokens: Option<u64>,
    /// Whether it has states.
    pub stateful: Option<bool>,
    /// Element type of the computation.
    pub dtype: Option<GraphDtype>,
    /// How its weights are stored.
    pub quantization: Option<WeightFormat>,
    /// Size in bytes of its weights or of the compiled package, whichever the source states.
    pub weight_bytes: Option<u64>,
}

impl Graph {
    /// Creates a graph of which only the summary is known.
    pub fn unknown(summary: String) -> Self {
        Self {
            summary,
            family: Family::Any,
            operations: None,
            convs: None,
            matmuls: None,
            anchor_multiply_adds: None,
            multiply_adds: None,
            depth: None,
            tokens: None,
            stateful: None,
            dtype: None,
            quantization: None,
            weight_bytes: None,
        }
    }
}

/// The kind of graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Layers of a transformer that generates text.
    Decoder,
    /// Only attention.
    Attention,
    /// Layers of a transformer that encodes text.
    Encoder,
    /// Linear layers and the operations between them.
    Mlp,
    /// One matrix product.
    Matmul,
    /// A convolutional net over images.
    ConvNet,
    /// No convolution and no matrix product to speak of.
    Elementwise,
    /// Any kind of graph: the statement is general.
    Any,
}

/// Element type in which a graph computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GraphDtype {
    /// Half precision.
    Fp16,
    /// Single precision.
    Fp32,
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WeightFormat {
    /// In the element type of the computation.
    None,
    /// 8 bits with per-tensor or per-channel scales.
    Int8,
    /// 4 bits with per-tensor or per-channel scales.
    Int4,
    /// 4 bits with per-block scales.
    Int4PerBlock,
    /// 4-bit indices into palettes.
    Lut4,
    /// Indices of other widths into palettes.
    Lut,
    /// Only nonzero weights.
    Sparse,
}

impl WeightFormat {
    /// Returns the number of bits per weight, if the form determines it. For [`None`](Self::None) it is that of
    /// fp16, in which graphs on the Neural Engine compute.
    pub fn bits(self) -> Option<u64> {
        match self {
            Self::None => Some(16),
            Self::Int8 => Some(8),
            Self::Int4 | Self::Int4PerBlock | Self::Lut4 => Some(4),
            Self::Lut | Self::Sparse => None,
        }
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "fp16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Int4PerBlock => "int4/block",
            Self::Lut4 => "lut4",
            Self::Lut => "lut",
            Self::Sparse => "sparse",
        })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Decoder => "decoder",
            Self::Attention => "attention",
            Self::Encoder => "encoder",
            Self::Mlp => "mlp",
            Self::Matmul => "matmul",
            Self::ConvNet => "conv net",
            Self::Elementwise => "elementwise",
            Self::Any => "any",
        })
    }
}
