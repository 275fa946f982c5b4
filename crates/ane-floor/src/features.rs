//! The features of a whole graph that laws use, from a row of the corpus or from a program.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compiled_size::CompiledSize;
use crate::corpus::{Family, Graph, GraphDtype, WeightFormat};
use crate::op_context::OpContext;

/// Features of a graph. `None` means unknown, and not bounded by what is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// The kind of graph.
    pub family: Family,
    /// Operations that compute.
    pub operations: Option<u64>,
    /// Layers: the number of attentions or, without any, the longest chain of convolutions and matrix
    /// products.
    pub depth: Option<u64>,
    /// Positions per call (T).
    pub tokens: Option<u64>,
    /// Whether it has states.
    pub stateful: Option<bool>,
    /// Element type of the computation.
    pub dtype: Option<GraphDtype>,
    /// How most of its weights are stored.
    pub weights: Option<WeightFormat>,
    /// Compiled size in bytes, or the size of the weights if a source states only that.
    pub stored_bytes: Option<u64>,
    /// The same with every weight of a convolution or matrix product in INT8.
    pub int8_bytes: Option<u64>,
    /// Multiply-adds of the largest convolution or matrix product. If a row does not state them: the mean
    /// over the products that its family has, a lower bound.
    pub anchor: Option<u64>,
    /// Multiply-adds per call. If a row does not state them: one per weight and position, a lower bound.
    pub work: Option<u64>,
    /// Share of the multiply-adds that are in 1x1 convolutions with weights, 0 to 1; unknown for a row.
    pub pointwise: Option<f64>,
}

impl Features {
    /// Returns whether the law of Experiment 27 applies: layers of a transformer or parts of them, as 1x1
    /// convolutions if that is known.
    pub fn is_shard(&self) -> bool {
        matches!(self.family, Family::Decoder | Family::Attention | Family::Mlp)
            && self.pointwise.is_none_or(|share| share > 0.5)
    }

    /// Returns whether it has an operation that can anchor it to the Neural Engine; unknown counts as yes.
    pub fn is_anchored(&self) -> bool {
        self.family != Family::Elementwise
    }

    /// Computes the features of a function; `contexts` are those of its operations.
    pub(crate) fn of(contexts: &[OpContext<'_>], stateful: bool, size: &CompiledSize) -> Self {
        let anchors = || contexts.iter().filter(|s| s.work > 0);
        let largest = anchors().max_by_key(|s| s.work);
        let work = anchors().fold(0u64, |sum, s| sum.saturating_add(s.work));
        let pointwise: u64 = anchors().filter(|s| s.is_pointwise()).map(|s| s.work).sum();
        let weighted = || anchors().filter(|s| s.weight.is_some());
        let heaviest = weighted().max_by_key(|s| s.work).or(largest);
        let attentions = attentions(contexts);
        let tokens = heaviest.map(|s| s.rows);
        let halves = anchors().any(|s| s.dtype == mlpackage::DType::Fp16);
        let floats = contexts.iter().any(|s| s.dtype == mlpackage::DType::Fp32);
        Self {
            family: family(contexts, attentions, stateful, tokens),
            operations: Some(contexts.len() as u64),
            depth: Some(if attentions > 0 { attentions } else { longest_chain(contexts) }),
            tokens,
            stateful: Some(stateful),
            dtype: Some(if floats && !halves { GraphDtype::Fp32 } else { GraphDtype::Fp16 }),
            weights: storage(contexts),
            stored_bytes: Some(size.total()),
            int8_bytes: Some(size.int8_equivalent()),
            anchor: Some(largest.map_or(0, |s| s.work)),
            work: Some(work),
            pointwise: (work > 0).then(|| pointwise as f64 / work as f64),
        }
    }
}

/// Returns the number of attentions: matrix products of a softmax's result, and fused attention operations.
fn attentions(contexts: &[OpContext<'_>]) -> u64 {
    let found = |s: &&OpContext<'_>| {
        s.operation.op == "scaled_dot_product_attention" || is_after_softmax(s, contexts)
    };
    contexts.iter().filter(found).count() as u64
}

fn is_after_softmax(context: &OpContext<'_>, contexts: &[OpContext<'_>]) -> bool {
    context.operation.op == "matmul" && context.sources.iter().any(|&i| contexts[i].operation.op == "softmax")
}

/// Returns whether an attention covers more positions than the call has: the others come from a cache, in a
/// state or an input.
fn over_a_cache(contexts: &[OpContext<'_>]) -> bool {
    let mut weights =
        contexts.iter().filter(|s| is_after_softmax(s, contexts)).filter_map(|s| Some(s.args.get("x")?.ty));
    weights.any(|ty| match ty.shape.as_slice() {
        [.., queries, keys] => {
            queries.known().zip(keys.known()).is_some_and(|(queries, keys)| queries < keys)
        }
        _ => false,
    })
}

fn family(contexts: &[OpContext<'_>], attentions: u64, stateful: bool, tokens: Option<u64>) -> Family {
    let anchors = contexts.iter().filter(|s| s.work > 0).count();
    let weighted = contexts.iter().filter(|s| s.work > 0 && s.weight.is_some()).count() as u64;
    let spatial = contexts.iter().any(|s| s.kernel.iter().any(|&k| k > 1));
    match () {
        () if anchors == 0 => Family::Elementwise,
        // The projections of query, key, value and output are at most four.
        () if attentions > 0 && weighted <= 4 * attentions => Family::Attention,
        () if attentions > 0 && (stateful || tokens == Some(1) || over_a_cache(contexts)) => Family::Decoder,
        () if attentions > 0 => Family::Encoder,
        () if spatial => Family::ConvNet,
        () if anchors == 1 && (weighted == 0 || contexts.len() == 1) => Family::Matmul,
        () => Family::Mlp,
    }
}

/// Returns the length of the longest chain of dependent convolutions and matrix products.
fn longest_chain(contexts: &[OpContext<'_>]) -> u64 {
    let mut chain: Vec<u64> = Vec::with_capacity(contexts.len());
    for context in contexts {
        let before = context.sources.iter().map(|&i| chain[i]).max().unwrap_or(0);
        chain.push(before + u64::from(context.work > 0));
    }
    chain.into_iter().max().unwrap_or(0)
}

/// Returns how most weights are stored, by number of elements.
fn storage(contexts: &[OpContext<'_>]) -> Option<WeightFormat> {
    let weights = || contexts.iter().filter_map(|s| s.weight);
    let elements =
        |stored: WeightFormat| weights().filter(|w| w.stored == stored).map(|w| w.elements).sum::<u64>();
    weights().map(|w| w.stored).max_by_key(|&stored| elements(stored))
}

/// Products with weights per layer of a family, assumed if a source states neither their number nor their
/// size: q, k, v, o, gate, up and down for a decoder; gate, up and down for an MLP.
fn products_a_layer(family: Family) -> Option<u64> {
    match family {
        Family::Decoder => Some(7),
        Family::Encoder => Some(6),
        Family::Attention => Some(4),
        Family::Mlp => Some(3),
        Family::Matmul => Some(1),
        Family::ConvNet | Family::Elementwise | Family::Any => None,
    }
}

impl From<&Graph> for Features {
    fn from(graph: &Graph) -> Self {
        let anchored = graph.family != Family::Elementwise;
        // Weights that no product uses are no work for the engine.
        let int8_bytes = match (graph.weight_bytes, graph.quantization.and_then(WeightFormat::bits)) {
            (Some(_), _) if !anchored => Some(0),
            (Some(bytes), Some(bits)) => Some(bytes.saturating_mul(8) / bits),
            _ => None,
        };
        let work = graph.multiply_adds.or(match (graph.family, int8_bytes) {
            (Family::Elementwise, _) => Some(0),
            (_, Some(weights)) => Some(weights.saturating_mul(graph.tokens.unwrap_or(1))),
            _ => None,
        });
        let products = match graph.convs.unwrap_or(0).saturating_add(graph.matmuls.unwrap_or(0)) {
            0 => {
                let layers =
                    graph
                        .depth
                        .or(matches!(graph.family, Family::Attention | Family::Mlp | Family::Matmul)
                            .then_some(1));
                products_a_layer(graph.family)
                    .zip(layers)
                    .map(|(products, layers)| products.saturating_mul(layers.max(1)))
            }
            stated => Some(stated),
        };
        let anchor =
            graph.anchor_multiply_adds.or(work.zip(products).map(|(work, products)| work / products));
        Self {
            family: graph.family,
            operations: graph.operations,
            depth: graph.depth,
            tokens: graph.tokens,
            stateful: graph.stateful,
            dtype: graph.dtype,
            weights: graph.quantization,
            stored_bytes: graph.weight_bytes,
            int8_bytes,
            anchor,
            work,
            pointwise: None,
        }
    }
}

impl Features {
    /// Converts to the graph of a corpus row. Sizes are those of the compiled package.
    pub fn to_graph(&self, summary: String, convs: u64, matmuls: u64) -> Graph {
        Graph {
            summary,
            family: self.family,
            operations: self.operations,
            convs: Some(convs),
            matmuls: Some(matmuls),
            anchor_multiply_adds: self.anchor,
            multiply_adds: self.work,
            depth: self.depth,
            tokens: self.tokens,
            stateful: self.stateful,
            dtype: self.dtype,
            quantization: self.weights,
            weight_bytes: self.stored_bytes,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns features of which only the family and the element type, fp16, are known.
    pub(crate) fn unknown(family: Family) -> Features {
        let graph = Graph { family, dtype: Some(GraphDtype::Fp16), ..Graph::unknown("a graph".into()) };
        Features::from(&graph)
    }

    /// Unstated work of a row is bounded from below by what the row states.
    #[test]
    fn what_a_row_does_not_tell_is_bounded_from_below() {
        let graph = |family, stored, bytes: u64| Graph {
            family,
            quantization: Some(stored),
            weight_bytes: Some(bytes),
            depth: Some(2),
            tokens: Some(4),
            ..Graph::unknown("a graph".into())
        };
        // 14 MB of fp16 are 7 M weights, each used once per position; seven products per layer, two layers.
        let decoder = Features::from(&graph(Family::Decoder, WeightFormat::None, 14_000_000));
        assert_eq!((decoder.int8_bytes, decoder.work), (Some(7_000_000), Some(28_000_000)));
        assert_eq!(decoder.anchor, Some(2_000_000));
        let palettes = Features::from(&graph(Family::Mlp, WeightFormat::Lut4, 1_000_000));
        assert_eq!(palettes.int8_bytes, Some(2_000_000));
        // Weights that no product uses count as no work.
        let combiner = Features::from(&graph(Family::Elementwise, WeightFormat::None, 19_000_000));
        assert_eq!((combiner.int8_bytes, combiner.work, combiner.is_anchored()), (Some(0), Some(0), false));
        // Values that no graph has but a file may contain: 4 * 2^62 is 0 in 64 bits.
        let absurd = |family, depth, convs| Graph {
            depth: Some(depth),
            convs: Some(convs),
            matmuls: Some(convs),
            ..graph(family, WeightFormat::Int8, u64::MAX)
        };
        for (depth, convs) in [(1 << 62, 0), (u64::MAX, 0), (2, 1 << 63), (0, u64::MAX)] {
            let features = Features::from(&absurd(Family::Attention, depth, convs));
            assert!(features.anchor.is_some_and(|anchor| anchor <= features.work.unwrap()), "{features:?}");
        }
        // Both are unknown for a sparse graph, whose size says nothing about the number of weights.
        let sparse = Features::from(&graph(Family::Decoder, WeightFormat::Sparse, 14_000_000));
        assert_eq!((sparse.int8_bytes, sparse.work), (None, None));
    }
}
