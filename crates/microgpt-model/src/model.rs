//! microGPT as a burn module.
//!
//! ```text
//! x = rmsnorm(wte[token] + wpe[position])
//! each layer:  x = x + attn_o(attention(rmsnorm(x)))
//!              x = x + mlp_fc2(relu(mlp_fc1(rmsnorm(x))))
//! logits = lm_head(x)
//! ```
//!
//! There are no biases, norm gains or final norm; `rmsnorm(x) = x * (mean(x^2) + eps)^-0.5`. The residual
//! stream is kept flat, `[B * T, C]`: burn's linear layers are about twice as fast on it as on `[B, T, C]`.

use burn::module::{Module, Param};
use burn::nn::{Embedding, Linear};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::batch::Batch;
use crate::config::GptConfig;
use crate::dropout::Dropout;
use crate::weights::Weights;

/// A microGPT.
#[derive(Module, Debug)]
pub struct Gpt {
    wte: Embedding,
    wpe: Embedding,
    layers: Vec<Layer>,
    lm_head: Linear,
    eps: f64,
}

#[derive(Module, Debug)]
struct Layer {
    attn_q: Linear,
    attn_k: Linear,
    attn_v: Linear,
    attn_o: Linear,
    mlp_fc1: Linear,
    mlp_fc2: Linear,
    n_head: usize,
    eps: f64,
}

impl Gpt {
    /// Creates a model from its dimensions and weights. On a device with autodiff, its parameters collect
    /// gradients.
    pub fn new(config: &GptConfig, weights: &Weights, device: &Device) -> Self {
        let linear = |name: &str, inputs: usize| Linear {
            weight: parameter(transposed(weights.get(name), inputs), inputs, device),
            bias: None,
        };
        let embedding = |name: &str| Embedding {
            weight: parameter(weights.get(name).to_vec(), weights.get(name).len() / config.n_embd, device),
        };
        let c = config.n_embd;
        let layer = |i: usize| {
            let part = |part: &str, inputs: usize| linear(&format!("layers.{i}.{part}.weight"), inputs);
            Layer {
                attn_q: part("attn_q", c),
                attn_k: part("attn_k", c),
                attn_v: part("attn_v", c),
                attn_o: part("attn_o", c),
                mlp_fc1: part("mlp_fc1", c),
                mlp_fc2: part("mlp_fc2", 4 * c),
                n_head: config.n_head,
                eps: config.rms_norm_eps,
            }
        };
        Self {
            wte: embedding("wte.weight"),
            wpe: embedding("wpe.weight"),
            layers: (0..config.n_layer).map(layer).collect(),
            lm_head: linear("lm_head.weight", c),
            eps: config.rms_norm_eps,
        }
    }

    /// Returns the weights, in the layout of a checkpoint.
    pub fn weights(&self, config: &GptConfig) -> Weights {
        let read = |param: &Param<Tensor<2>>| -> Vec<f32> {
            param.val().into_data().try_into_vec_as::<f32>().expect("parameters are floats")
        };
        let linear = |linear: &Linear| {
            let [_, outputs] = linear.weight.dims();
            transposed(&read(&linear.weight), outputs)
        };
        Weights::from_fn(config, |name, _| match name {
            "wte.weight" => read(&self.wte.weight),
            "wpe.weight" => read(&self.wpe.weight),
            "lm_head.weight" => linear(&self.lm_head),
            _ => {
                let mut parts = name.split('.').skip(1);
                let layer = parts.next().and_then(|i| i.parse::<usize>().ok()).map(|i| &self.layers[i]);
                let layer = layer.expect("every other tensor is a layer's");
                match parts.next() {
                    Some("attn_q") => linear(&layer.attn_q),
                    Some("attn_k") => linear(&layer.attn_k),
                    Some("attn_v") => linear(&layer.attn_v),
                    Some("attn_o") => linear(&layer.attn_o),
                    Some("mlp_fc1") => linear(&layer.mlp_fc1),
                    Some("mlp_fc2") => linear(&layer.mlp_fc2),
                    other => unreachable!("{other:?} is no part of a layer"),
                }
            }
        })
    }

    #[cfg(test)]
    pub(crate) fn wte_values(&self) -> Tensor<2> {
        self.wte.weight.val()
    }

    /// Computes the logits of every next token.
    ///
    /// # Shapes
    ///
    /// - tokens: `[B, T]`, T at most the block size
    /// - output: `[B * T, V]`
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        let x = self.embed(tokens);
        self.forward_embedded(x)
    }

    /// Computes the logits of a training batch, `[R * T, V]`. Dropout applies to the embedding sums and to
    /// the output of each half of a layer.
    pub(crate) fn forward_batch(&self, batch: &Batch, dropout: &mut Dropout) -> Tensor<2> {
        let [r, t] = batch.inputs.dims();
        let x = self.wte.forward(batch.inputs.clone()) + self.wpe.forward(batch.positions.clone());
        let [_, _, c] = x.dims();
        let x = dropout.apply(x.reshape([r * t, c]));
        self.decode(x, [r, t], batch.visible.clone().unsqueeze_dim(1), dropout)
    }

    /// Computes the sums of token and position embeddings.
    ///
    /// # Shapes
    ///
    /// - tokens: `[B, T]`
    /// - output: `[B, T, C]`
    pub fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [_, t] = tokens.dims();
        let positions = Tensor::<1, Int>::arange(0..t as i64, &tokens.device()).unsqueeze::<2>(); // [1, T]
        self.wte.forward(tokens) + self.wpe.forward(positions)
    }

    /// Computes logits from embedding sums, where the exported decode graph begins.
    ///
    /// # Shapes
    ///
    /// - x: `[B, T, C]`
    /// - output: `[B * T, V]`
    pub fn forward_embedded(&self, x: Tensor<3>) -> Tensor<2> {
        let [b, t, c] = x.dims();
        let causal: Vec<f32> =
            (0..t * t).map(|i| if i % t <= i / t { 0.0 } else { f32::NEG_INFINITY }).collect();
        let visible = Tensor::from_data(TensorData::new(causal, [1, 1, t, t]), &x.device());
        self.decode(x.reshape([b * t, c]), [b, t], visible, &mut Dropout::none())
    }

    /// Computes logits `[B * T, V]` from embedding sums `[B * T, C]`; `visible`, `[B or 1, 1, T, T]`, is
    /// added to the attention scores.
    fn decode(
        &self,
        x: Tensor<2>,
        [b, t]: [usize; 2],
        visible: Tensor<4>,
        dropout: &mut Dropout,
    ) -> Tensor<2> {
        let mut x = rms_norm(x, self.eps);
        for layer in &self.layers {
            x = layer.forward(x, [b, t], &visible, dropout);
        }
        self.lm_head.forward(x)
    }

    /// Returns the logits of every position of one sequence, row-major `[T, V]`.
    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let device = self.wte.weight.val().device();
        let ids: Vec<i64> = tokens.iter().map(|&t| i64::from(t)).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [tokens.len()]), &device).unsqueeze::<2>();
        to_vec(self.forward(ids))
    }

    /// Returns the logits of every position from one sequence of embedding sums; both are row-major, `[T, C]`
    /// to `[T, V]`.
    pub fn logits_embedded(&self, x: Vec<f32>, n_embd: usize) -> Vec<f32> {
        let device = self.wte.weight.val().device();
        let t = x.len() / n_embd;
        to_vec(self.forward_embedded(Tensor::from_data(TensorData::new(x, [1, t, n_embd]), &device)))
    }
}

impl Layer {
    /// Applies one layer to the residual stream `[B * T, C]`.
    fn forward(
        &self,
        x: Tensor<2>,
        [b, t]: [usize; 2],
        visible: &Tensor<4>,
        dropout: &mut Dropout,
    ) -> Tensor<2> {
        let h = rms_norm(x.clone(), self.eps);
        let x = x + dropout.apply(self.attn_o.forward(self.attention(h, [b, t], visible)));
        let h = relu(self.mlp_fc1.forward(rms_norm(x.clone(), self.eps))); // [B * T, 4C]
        x + dropout.apply(self.mlp_fc2.forward(h))
    }

    /// Computes attention, `softmax(q k^T / sqrt(D) + visible) v`.
    fn attention(&self, h: Tensor<2>, [b, t]: [usize; 2], visible: &Tensor<4>) -> Tensor<2> {
        let [_, c] = h.dims();
        let d = c / self.n_head;
        let heads = |x: Tensor<2>| x.reshape([b, t, self.n_head, d]).swap_dims(1, 2); // [B, H, T, D]
        let q = heads(self.attn_q.forward(h.clone()));
        let k = heads(self.attn_k.forward(h.clone()));
        let v = heads(self.attn_v.forward(h));
        let scores = q.matmul(k.swap_dims(2, 3)) / (d as f64).sqrt() + visible.clone(); // [B, H, T, T]
        softmax(scores, 3).matmul(v).swap_dims(1, 2).reshape([b * t, c])
    }
}

/// Computes `x * (mean(x^2) + eps)^-0.5` over the last axis. burn's variant has a gain; microGPT's has none.
fn rms_norm(x: Tensor<2>, eps: f64) -> Tensor<2> {
    let scale = (x.clone().powi_scalar(2).mean_dim(1) + eps).sqrt().recip(); // [N, 1]
    x * scale
}

fn parameter(values: Vec<f32>, rows: usize, device: &Device) -> Param<Tensor<2>> {
    let columns = values.len() / rows;
    Param::from_tensor(Tensor::from_data(TensorData::new(values, [rows, columns]), device))
}

/// Transposes a row-major matrix of `columns` columns. burn stores a Linear as `[in, out]`, checkpoints store
/// it as `[out, in]`.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|j| values.iter().skip(j).step_by(columns).copied()).collect()
}

fn to_vec(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as::<f32>().expect("logits are floats")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Preset;
    use crate::device::Backend;
    use crate::weights::INIT_STD;

    /// Computes the logits with scalars only, by the formulas above.
    fn reference(config: &GptConfig, weights: &Weights, tokens: &[u32]) -> Vec<f64> {
        let c = config.n_embd;
        let d = config.head_dim();
        let matvec = |name: &str, x: &[f64]| -> Vec<f64> {
            let w = weights.get(name);
            w.chunks_exact(x.len())
                .map(|row| row.iter().zip(x).map(|(&a, b)| f64::from(a) * b).sum())
                .collect()
        };
        let norm = |x: &[f64]| -> Vec<f64> {
            let ms = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
            x.iter().map(|v| v * (ms + config.rms_norm_eps).powf(-0.5)).collect()
        };
        let add = |a: Vec<f64>, b: Vec<f64>| -> Vec<f64> { a.iter().zip(&b).map(|(a, b)| a + b).collect() };
        let mut cache = vec![(Vec::<Vec<f64>>::new(), Vec::<Vec<f64>>::new()); config.n_layer];
        let mut logits = Vec::new();
        for (p, &token) in tokens.iter().enumerate() {
            let row = |name: &str, i: usize| -> Vec<f64> {
                weights.get(name)[i * c..(i + 1) * c].iter().map(|&v| f64::from(v)).collect()
            };
            let mut x = norm(&add(row("wte.weight", token as usize), row("wpe.weight", p)));
            for (i, (keys, values)) in cache.iter_mut().enumerate() {
                let w = |part: &str| format!("layers.{i}.{part}.weight");
                let h = norm(&x);
                let q = matvec(&w("attn_q"), &h);
                keys.push(matvec(&w("attn_k"), &h));
                values.push(matvec(&w("attn_v"), &h));
                let mut attended = vec![0.0; c];
                for head in 0..config.n_head {
                    let at = head * d..(head + 1) * d;
                    let scores: Vec<f64> = keys
                        .iter()
                        .map(|k| {
                            q[at.clone()].iter().zip(&k[at.clone()]).map(|(a, b)| a * b).sum::<f64>()
                                / (d as f64).sqrt()
                        })
                        .collect();
                    let max = scores.iter().copied().fold(f64::MIN, f64::max);
                    let exp: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                    let sum: f64 = exp.iter().sum();
                    for (e, v) in exp.iter().zip(values.iter()) {
                        for j in at.clone() {
                            attended[j] += e / sum * v[j];
                        }
                    }
                }
                x = add(x, matvec(&w("attn_o"), &attended));
                let h: Vec<f64> = matvec(&w("mlp_fc1"), &norm(&x)).into_iter().map(|v| v.max(0.0)).collect();
                x = add(x, matvec(&w("mlp_fc2"), &h));
            }
            logits.extend(matvec("lm_head.weight", &x));
        }
        logits
    }

    #[test]
    fn forward_follows_the_formulas_on_every_backend() {
        let config = GptConfig { n_layer: 2, ..GptConfig::preset(Preset::Original, 27) };
        let weights = Weights::random(&config, INIT_STD, 5);
        let tokens: Vec<u32> = (0..16).map(|i| (i * 7 + 3) % 27).collect();
        let expected = reference(&config, &weights, &tokens);
        let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for backend in Backend::ALL {
            let logits = Gpt::new(&config, &weights, &backend.device()).logits(&tokens);
            assert_eq!(logits.len(), expected.len());
            for (got, want) in logits.iter().zip(&expected) {
                // f32 against f64 over sums of at most 64 terms: a few units of 2^-24 each.
                assert!((f64::from(*got) - want).abs() <= 2e-6 * largest, "{backend}: {got} against {want}");
            }
        }
    }

    #[test]
    fn weights_come_back_as_they_went_in() {
        let config = GptConfig { n_layer: 2, ..GptConfig::preset(Preset::Original, 27) };
        let weights = Weights::random(&config, INIT_STD, 6);
        for backend in Backend::ALL {
            assert_eq!(Gpt::new(&config, &weights, &backend.device()).weights(&config), weights);
        }
    }

    #[test]
    fn burn_counts_the_published_number_of_parameters() {
        let config = GptConfig::preset(Preset::Original, 27);
        let model = Gpt::new(&config, &Weights::random(&config, INIT_STD, 0), &Backend::default().device());
        assert_eq!(model.num_params(), 4_192);
    }

    #[test]
    fn a_token_does_not_see_the_future() {
        let config = GptConfig::preset(Preset::Original, 27);
        let model = Gpt::new(&config, &Weights::random(&config, INIT_STD, 0), &Backend::default().device());
        let (a, b) = (model.logits(&[26, 1, 2, 3]), model.logits(&[26, 1, 2, 9]));
        assert_eq!(a[..3 * 27], b[..3 * 27]);
        assert_ne!(a[3 * 27..], b[3 * 27..]);
    }
}
