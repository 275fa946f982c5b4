//! The decode graph of microGPT: its blocks, their order and their tensors.

use ane_bundle::HostCache;
use microgpt_model::{Checkpoint, GptConfig, Weights};
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::{Function, Opset, Value};
use mlpackage::{BlobWriter, DType};

use crate::blocks::{
    Attended, Attention, Cache, CacheStorage, CacheWrite, Heads, project, relu_mlp, rms_norm,
};
use crate::error::Result;
use crate::options::{CacheUpdate, ExportOptions, Projections};
use crate::quantize::{Matrix, Stored, to_half};

/// Name of the decode function.
pub(crate) const FUNCTION: &str = "main";
/// The sum of token and position embedding, fp16 `[1, C, 1, T]`.
pub(crate) const EMBEDDING: &str = "x";
/// The attention mask: 0 where a position may be attended to, -1e4 elsewhere; fp16 `[1, 1, T, S]`.
pub(crate) const ATTN_MASK: &str = "attn_mask";
/// One-hot over positions, a column for each token, fp16 `[1, 1, S, T]`.
const KV_WRITE: &str = "kv_write";
/// Position of the call's first token, int32 `[1]`.
const POSITION: &str = "position";
/// Unnormalized log probabilities, fp16 `[1, V, 1, T]`.
pub(crate) const LOGITS: &str = "logits";
/// The tensor of the token embeddings.
pub(crate) const TOKEN_EMBEDDING: &str = "wte.weight";
/// The tensor of the position embeddings.
pub(crate) const POSITION_EMBEDDING: &str = "wpe.weight";

/// Returns the name of the input with the write position of the new key and value.
pub(crate) fn kv_write(update: CacheUpdate) -> &'static str {
    match update {
        CacheUpdate::OneHot | CacheUpdate::Host => KV_WRITE,
        CacheUpdate::SliceUpdate => POSITION,
    }
}

/// Returns the names of the key and value caches of each layer, and of the outputs that update them.
fn caches(config: &GptConfig) -> impl Iterator<Item = [HostCache; 2]> {
    (0..config.n_layer).map(|i| {
        ["k", "v"]
            .map(|kind| HostCache { cache: format!("{kind}_cache_{i}"), new: format!("{kind}_new_{i}") })
    })
}

/// Returns the caches that the host holds.
pub(crate) fn host_caches(config: &GptConfig, update: CacheUpdate) -> Vec<HostCache> {
    match update {
        CacheUpdate::OneHot | CacheUpdate::SliceUpdate => Vec::new(),
        CacheUpdate::Host => caches(config).flatten().collect(),
    }
}

/// Source of a model's tensors.
pub(crate) trait Tensors {
    fn config(&self) -> &GptConfig;

    /// Returns a tensor of the config, row-major.
    fn tensor(&self, name: &str) -> Result<Vec<f32>>;
}

impl Tensors for Checkpoint {
    fn config(&self) -> &GptConfig {
        self.config()
    }

    fn tensor(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.tensor(name)?)
    }
}

/// A matrix of the graph, and the checkpoint's tensors whose rows it stacks.
struct MatrixSpec {
    matrix: String,
    tensors: Vec<String>,
}

/// Returns every matrix of the graph, in the order in which the graph uses them.
fn matrices(config: &GptConfig, projections: Projections) -> Vec<MatrixSpec> {
    let mut specs = Vec::new();
    for i in 0..config.n_layer {
        let tensor = |part: &str| format!("layers.{i}.{part}.weight");
        let single =
            |part: &str| MatrixSpec { matrix: format!("layers_{i}_{part}"), tensors: vec![tensor(part)] };
        match projections {
            Projections::Separate => specs.extend(["attn_q", "attn_k", "attn_v"].map(single)),
            Projections::FusedQkv => specs.push(MatrixSpec {
                matrix: format!("layers_{i}_attn_qkv"),
                tensors: ["attn_q", "attn_k", "attn_v"].map(tensor).to_vec(),
            }),
        }
        specs.extend(["attn_o", "mlp_fc1", "mlp_fc2"].map(single));
    }
    specs.push(MatrixSpec { matrix: LOGITS.into(), tensors: vec!["lm_head.weight".into()] });
    specs
}

/// Reads the tensors of a matrix.
fn read(model: &impl Tensors, spec: &MatrixSpec) -> Result<Matrix> {
    let known = model.config().tensors();
    let mut matrix = Matrix { name: spec.tensors.join(" + "), rows: 0, columns: 0, values: Vec::new() };
    for tensor in &spec.tensors {
        let [rows, columns] =
            known.iter().find(|t| &t.name == tensor).expect("a matrix names the config's tensors").shape;
        matrix.rows += rows;
        matrix.columns = columns;
        matrix.values.append(&mut model.tensor(tensor)?);
    }
    Ok(matrix)
}

/// Builds the decode function for `tokens` positions per call. Weights are read and written one matrix at a
/// time.
pub(crate) fn decode_function(
    model: &impl Tensors,
    options: &ExportOptions,
    tokens: usize,
    weights: &mut BlobWriter,
    mut progress: impl FnMut(usize, usize),
) -> Result<Function> {
    let config = model.config();
    let specs = matrices(config, options.projections);
    let mut begun = 0;
    let mut load = |matrix: &str| -> Result<Matrix> {
        let spec =
            specs.iter().find(|s| s.matrix == matrix).expect("the list has every matrix that is used below");
        begun += 1;
        progress(begun, specs.len());
        read(model, spec)
    };
    let mut linear = |f: &mut FunctionBuilder<'_>, name: &str, x: &Var| {
        project(f, name, x, &load(name)?, options.quantization)
    };

    let mut builder = FunctionBuilder::new(FUNCTION, Opset::CoreML8, weights);
    let f = &mut builder;
    let x = f.input(EMBEDDING, DType::Fp16, [1, config.n_embd, 1, tokens])?;
    let graph = Graph::declare(f, config, options, tokens)?;
    let mut results = Vec::new();
    let mut x = rms_norm(f, "embedding_norm", &x, graph.eps, options.norm)?;
    for layer in 0..config.n_layer {
        let attended = graph.attention(f, layer, &x, &mut linear)?;
        results.extend(attended.new.into_iter().filter(|_| options.cache_update == CacheUpdate::Host));
        x = graph.mlp(f, layer, &attended.mixed, &mut linear)?;
    }
    let logits = linear(f, LOGITS, &x)?;
    f.output(&logits);
    results.iter().for_each(|new| f.output(new));
    Ok(builder.finish())
}

/// What the layers of a decode function share: its mask, its caches, and the options.
struct Graph<'a> {
    options: &'a ExportOptions,
    heads: Heads,
    eps: f32,
    mask: Var,
    write: CacheWrite,
    layers: Vec<LayerCaches>,
}

/// The caches of one layer.
struct LayerCaches {
    keys: Cache,
    values: Cache,
}

impl<'a> Graph<'a> {
    /// Declares the inputs after the embedding, and the states.
    fn declare(
        f: &mut FunctionBuilder<'_>,
        config: &GptConfig,
        options: &'a ExportOptions,
        tokens: usize,
    ) -> Result<Self> {
        let s = config.block_size;
        let heads = Heads { count: config.n_head, width: config.head_dim(), tokens };
        let mask = f.input(ATTN_MASK, DType::Fp16, [1, 1, tokens, s])?;
        let update = options.cache_update;
        let write = match update {
            CacheUpdate::OneHot | CacheUpdate::Host => {
                f.input(kv_write(update), DType::Fp16, [1, 1, s, tokens])?
            }
            CacheUpdate::SliceUpdate => f.input(kv_write(update), DType::Int32, [1])?,
        };
        let mut layers = Vec::with_capacity(config.n_layer);
        for [keys, values] in caches(config) {
            let mut declare = |HostCache { cache, new }: &HostCache| {
                let storage = match update {
                    CacheUpdate::OneHot | CacheUpdate::SliceUpdate => CacheStorage::State,
                    CacheUpdate::Host => CacheStorage::Host { new },
                };
                Cache::new(f, cache, [1, heads.count, s, heads.width], storage)
            };
            layers.push(LayerCaches { keys: declare(&keys)?, values: declare(&values)? });
        }
        let write = match update {
            CacheUpdate::OneHot | CacheUpdate::Host => CacheWrite::one_hot(f, &write, tokens)?,
            CacheUpdate::SliceUpdate => CacheWrite::slice(f, &write, tokens)?,
        };
        Ok(Self { options, heads, eps: config.rms_norm_eps as f32, mask, write, layers })
    }

    /// Adds the attention of a layer with its norm, its projections and its residual. The result's `mixed` is the
    /// sum with `x`, `[1, C, 1, T]`.
    fn attention(
        &self,
        f: &mut FunctionBuilder<'_>,
        layer: usize,
        x: &Var,
        mut linear: impl FnMut(&mut FunctionBuilder<'_>, &str, &Var) -> Result<Var>,
    ) -> Result<Attended> {
        let name = |part: &str| format!("layers_{layer}_{part}");
        let h = rms_norm(f, &name("attn_norm"), x, self.eps, self.options.norm)?;
        let [q, k, v] = match self.options.projections {
            Projections::Separate => [
                linear(f, &name("attn_q"), &h)?,
                linear(f, &name("attn_k"), &h)?,
                linear(f, &name("attn_v"), &h)?,
            ],
            Projections::FusedQkv => {
                let qkv = linear(f, &name("attn_qkv"), &h)?;
                split_qkv(f, &qkv, [&name("attn_q"), &name("attn_k"), &name("attn_v")])?
            }
        };
        let LayerCaches { keys, values } = &self.layers[layer];
        let attention = Attention { heads: self.heads, keys, values, write: &self.write, mask: &self.mask };
        let attended = attention.attend(f, &name("attn"), [&q, &k, &v])?;
        let mixed = linear(f, &name("attn_o"), &attended.mixed)?;
        let mixed = f.op("add", &name("attn_residual")).arg("x", x).arg("y", &mixed).one()?;
        Ok(Attended { mixed, new: attended.new })
    }

    /// Adds the feed-forward block of a layer with its norm and its residual.
    fn mlp(
        &self,
        f: &mut FunctionBuilder<'_>,
        layer: usize,
        x: &Var,
        linear: impl FnMut(&mut FunctionBuilder<'_>, &str, &Var) -> Result<Var>,
    ) -> Result<Var> {
        let name = |part: &str| format!("layers_{layer}_{part}");
        let h = rms_norm(f, &name("mlp_norm"), x, self.eps, self.options.norm)?;
        let h = relu_mlp(f, [&name("mlp_fc1"), &name("mlp_fc2")], &h, linear)?;
        Ok(f.op("add", &name("mlp_residual")).arg("x", x).arg("y", &h).one()?)
    }
}

/// Splits the channel axis into three equal parts.
fn split_qkv(f: &mut FunctionBuilder<'_>, qkv: &Var, names: [&str; 3]) -> Result<[Var; 3]> {
    let parts = f
        .op("split", names[0])
        .arg("x", qkv)
        .value("num_splits", Value::int(3))
        .value("axis", Value::int(1))
        .many(&names)?;
    Ok(<[Var; 3]>::try_from(parts).expect("split has as many results as it has names"))
}

/// Returns the weights of an export with these options, as the program sees them: rounded to fp16, or
/// quantized and dequantized. The weights of the queries also contain the rounding of 1/sqrt(D). A model with
/// these weights must produce the exported program's logits.
///
/// # Errors
///
/// [`Error::Overflow`](crate::Error::Overflow) for a weight beyond fp16; whatever error the checkpoint
/// reports.
pub fn stored_weights(checkpoint: &Checkpoint, options: &ExportOptions) -> Result<Weights> {
    let config = checkpoint.config();
    let mut stored = std::collections::BTreeMap::new();
    for spec in matrices(config, options.projections) {
        let mut values = Stored::new(&read(checkpoint, &spec)?, options.quantization)?.values();
        let part = values.len() / spec.tensors.len();
        for tensor in spec.tensors {
            let rest = values.split_off(part);
            stored.insert(tensor, std::mem::replace(&mut values, rest));
        }
    }
    for table in [TOKEN_EMBEDDING, POSITION_EMBEDDING] {
        let halves = to_half(table, &checkpoint.tensor(table)?)?;
        stored.insert(table.to_owned(), halves.iter().map(|h| h.to_f32()).collect());
    }
    // The graph scales queries by 1/sqrt(D) in fp16, which is exact only for powers of 4, such as D = 1, 4,
    // 16 and 64. For other D the program uses a rounded scale, and its error is moved into the weights of the
    // queries here.
    let exact = 1.0 / (config.head_dim() as f32).sqrt();
    let rounding = half::f16::from_f32(exact).to_f32() / exact;
    for (_, values) in stored.iter_mut().filter(|(name, _)| name.ends_with("attn_q.weight")) {
        values.iter_mut().for_each(|w| *w *= rounding);
    }
    Ok(Weights::from_fn(config, |name, _| {
        stored.remove(name).expect("every tensor is a table or in a matrix")
    }))
}
