//! microGPT's Adam, with optional decoupled weight decay (AdamW).
//!
//! burn's optimizer runs a dozen tensor operations per parameter, each a pass over memory; on the CPU that
//! takes as long as a third of the matrix products of a batch of names. On the CPU the update here is one
//! pass, in place; on other devices it consists of tensor operations, like burn's. Moments are stored under
//! the names of the checkpoint's tensors, so that they can be saved and restored.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::model::Gpt;

/// Elements per work item of the thread pool.
const CHUNK: usize = 1 << 15;

/// Settings that stay constant during a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AdamOptions {
    pub(crate) beta_1: f64,
    pub(crate) beta_2: f64,
    pub(crate) epsilon: f64,
    /// Decoupled weight decay: each step multiplies the weights by `1 - learning_rate * weight_decay`.
    pub(crate) weight_decay: f64,
    /// The largest norm of all gradients together; longer ones are scaled down to it. Infinite: no clipping.
    pub(crate) clip_norm: f64,
}

/// The optimizer and its state.
#[derive(Debug)]
pub(crate) struct Adam {
    options: AdamOptions,
    /// Whether the device's tensors are in this process's memory.
    host: bool,
    /// Steps done.
    time: u64,
    moments: BTreeMap<String, Moments>,
}

/// Running means of the gradients and of their squares, `[elements]`, in burn's layout of the parameter.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    pub(crate) first: Tensor<1>,
    pub(crate) second: Tensor<1>,
}

/// Settings of one step.
#[derive(Clone, Copy, Debug)]
struct Step {
    options: AdamOptions,
    learning_rate: f64,
    /// Factor of the gradients, from clipping.
    scale: f64,
    /// `1 - beta^t`: corrects the bias of means that start at 0.
    correction_1: f64,
    correction_2: f64,
}

impl Adam {
    pub(crate) fn new(options: AdamOptions, host: bool) -> Self {
        Self { options, host, time: 0, moments: BTreeMap::new() }
    }

    /// Restores the state of an earlier optimizer.
    pub(crate) fn restore(&mut self, time: u64, moments: BTreeMap<String, Moments>) {
        (self.time, self.moments) = (time, moments);
    }

    pub(crate) fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// Updates every parameter from its gradient.
    pub(crate) fn step(&mut self, learning_rate: f64, model: Gpt, mut gradients: GradientsParams) -> Gpt {
        self.time += 1;
        let options = self.options;
        let scale = match options.clip_norm {
            clip if clip.is_finite() => (clip / norm(&model, &gradients).max(f64::MIN_POSITIVE)).min(1.0),
            _ => 1.0,
        };
        let step = Step {
            options,
            learning_rate,
            scale,
            correction_1: 1.0 - options.beta_1.powf(self.time as f64),
            correction_2: 1.0 - options.beta_2.powf(self.time as f64),
        };
        model.map(&mut Update { adam: self, step, gradients: &mut gradients, path: Vec::new() })
    }
}

/// Returns the Euclidean norm of all gradients as one vector.
fn norm(model: &Gpt, gradients: &GradientsParams) -> f64 {
    struct Squares<'a>(&'a GradientsParams, f64);
    impl burn::module::ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1 += f64::from((gradient.clone() * gradient).sum().into_scalar::<f32>());
            }
        }
    }
    let mut squares = Squares(gradients, 0.0);
    model.visit(&mut squares);
    squares.1.sqrt()
}

/// Updates the parameters, tracking their paths in the module, which are the names of a checkpoint's tensors.
struct Update<'a> {
    adam: &'a mut Adam,
    step: Step,
    gradients: &'a mut GradientsParams,
    path: Vec<String>,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let Some(gradient) = self.gradients.remove::<D>(id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let tensor = tensor.inner();
        let (shape, device) = (tensor.shape(), tensor.device());
        let elements = shape.num_elements();
        let zeros = || Tensor::zeros([elements], &device);
        let moments = self
            .adam
            .moments
            .remove(&self.path.join("."))
            .unwrap_or_else(|| Moments { first: zeros(), second: zeros() });
        let (weights, gradient) = (tensor.reshape([elements]), gradient.reshape([elements]));
        let (weights, moments) = match self.adam.host {
            true => update_in_place(self.step, weights, gradient, moments, &device),
            false => update_as_tensors(self.step, weights, gradient, moments),
        };
        self.adam.moments.insert(self.path.join("."), moments);
        let tensor = Tensor::from_inner(weights.reshape(shape)).require_grad();
        Param::from_mapped_value(id, tensor, mapper)
    }
}

fn update_in_place(
    step: Step,
    weights: Tensor<1>,
    gradient: Tensor<1>,
    moments: Moments,
    device: &Device,
) -> (Tensor<1>, Moments) {
    let Step { options, learning_rate, scale, correction_1, correction_2 } = step;
    // The tensors' memory is moved, not copied, if nothing else holds the tensors.
    let [mut w, g, mut m, mut v] =
        [weights, gradient, moments.first, moments.second].map(|tensor| tensor.into_data());
    let (beta_1, beta_2) = (options.beta_1 as f32, options.beta_2 as f32);
    let (scale, epsilon) = (scale as f32, options.epsilon as f32);
    let (rate, inverse_2) = ((learning_rate / correction_1) as f32, (1.0 / correction_2) as f32);
    let keep = (1.0 - learning_rate * options.weight_decay) as f32;
    let chunks = (slice(&mut w).par_chunks_mut(CHUNK), slice(&mut m).par_chunks_mut(CHUNK));
    let gradients = g.as_slice::<f32>().expect("gradients are f32").par_chunks(CHUNK);
    chunks.0.zip(gradients).zip(chunks.1).zip(slice(&mut v).par_chunks_mut(CHUNK)).for_each(
        |(((w, g), m), v)| {
            for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                let g = g * scale;
                *m = beta_1 * *m + (1.0 - beta_1) * g;
                *v = beta_2 * *v + (1.0 - beta_2) * g * g;
                *w = *w * keep - rate * *m / ((*v * inverse_2).sqrt() + epsilon);
            }
        },
    );
    let back = |data: TensorData| Tensor::from_data(data, device);
    (back(w), Moments { first: back(m), second: back(v) })
}

fn slice(data: &mut TensorData) -> &mut [f32] {
    data.as_mut_slice::<f32>().expect("parameters and their moments are f32")
}

fn update_as_tensors(
    step: Step,
    weights: Tensor<1>,
    gradient: Tensor<1>,
    moments: Moments,
) -> (Tensor<1>, Moments) {
    let Step { options, learning_rate, scale, correction_1, correction_2 } = step;
    let gradient = gradient * scale;
    let first = moments.first * options.beta_1 + gradient.clone() * (1.0 - options.beta_1);
    let second = moments.second * options.beta_2 + gradient.clone() * gradient * (1.0 - options.beta_2);
    let denominator = (second.clone() / correction_2).sqrt() + options.epsilon;
    let delta = first.clone() / denominator * (learning_rate / correction_1);
    let weights = weights * (1.0 - learning_rate * options.weight_decay) - delta;
    (weights, Moments { first, second })
}

impl Moments {
    /// Copies both moments to the host.
    pub(crate) fn read(&self) -> [Vec<f32>; 2] {
        [&self.first, &self.second].map(|t| t.to_data().try_into_vec_as::<f32>().expect("moments are f32"))
    }

    pub(crate) fn write(first: Vec<f32>, second: Vec<f32>, device: &Device) -> Self {
        let [first, second] = [first, second].map(|values| {
            let elements = values.len();
            Tensor::from_data(TensorData::new(values, [elements]), device)
        });
        Self { first, second }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{GptConfig, Preset};
    use crate::device::Backend;
    use crate::weights::{INIT_STD, Weights};

    const OPTIONS: AdamOptions =
        AdamOptions { beta_1: 0.85, beta_2: 0.99, epsilon: 1e-8, weight_decay: 0.1, clip_norm: 0.5 };

    /// Applies Adam by its formulas, in f64.
    fn by_hand(mut w: f64, gradients: &[f64], scale: f64, rate: f64) -> f64 {
        let (mut m, mut v) = (0.0, 0.0);
        for (t, g) in gradients.iter().enumerate() {
            let (g, t) = (g * scale, t as i32 + 1);
            m = 0.85 * m + 0.15 * g;
            v = 0.99 * v + 0.01 * g * g;
            let (m_hat, v_hat) = (m / (1.0 - 0.85f64.powi(t)), v / (1.0 - 0.99f64.powi(t)));
            w = w - rate * 0.1 * w - rate * m_hat / (v_hat.sqrt() + 1e-8);
        }
        w
    }

    #[test]
    fn follows_the_formulas_in_place_and_as_tensors() {
        let config = GptConfig::preset(Preset::Original, 27);
        let initial = Weights::random(&config, INIT_STD, 1);
        for backend in Backend::ALL {
            for host in [true, false] {
                let device = backend.device().autodiff();
                let mut model = Gpt::new(&config, &initial, &device);
                let mut adam = Adam::new(OPTIONS, host);
                // The gradient of sum(0.01 * k * wte) is 0.01 * k everywhere. 27 * 16 elements of 0.01 have
                // norm 0.208, below 0.5; 0.02 gives 0.416 and 0.03 gives 0.624, so the last one is clipped.
                let gradients = [0.01, 0.02, 0.03 * 0.5 / (0.03 * 432f64.sqrt())];
                for k in 1..=3 {
                    let loss = (model.wte_values() * (0.01 * f64::from(k))).sum();
                    let gradients = GradientsParams::from_grads(loss.backward(), &model);
                    model = adam.step(0.05, model, gradients);
                }
                let trained = model.weights(&config);
                for (before, after) in initial.get("wte.weight").iter().zip(trained.get("wte.weight")) {
                    let expected = by_hand(f64::from(*before), &gradients, 1.0, 0.05);
                    // f32 weights of about 0.3, three steps.
                    assert!((f64::from(*after) - expected).abs() < 2e-6, "{backend}: {after}, {expected}");
                }
                let untouched = initial.get("lm_head.weight");
                assert_eq!(trained.get("lm_head.weight"), untouched, "no gradient, no step, no decay");
                assert_eq!(adam.moments().keys().collect::<Vec<_>>(), ["wte.weight"]);
            }
        }
    }

    /// Every parameter's path in the module is the name of its tensor.
    #[test]
    fn moments_have_the_names_of_a_checkpoint() {
        let config = GptConfig { n_layer: 2, ..GptConfig::preset(Preset::Original, 27) };
        let device = Backend::default().device().autodiff();
        let model = Gpt::new(&config, &Weights::random(&config, INIT_STD, 1), &device);
        let mut adam = Adam::new(OPTIONS, true);
        let tokens = Tensor::<2, burn::tensor::Int>::from_data([[0, 1, 2]], &device);
        let gradients = GradientsParams::from_grads(model.forward(tokens).sum().backward(), &model);
        adam.step(0.1, model, gradients);
        let mut names: Vec<String> = config.tensors().into_iter().map(|t| t.name).collect();
        names.sort();
        assert_eq!(adam.moments().keys().cloned().collect::<Vec<_>>(), names);
    }
}
