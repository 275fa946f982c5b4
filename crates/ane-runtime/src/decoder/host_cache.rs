//! KV caches that the host holds for a sequence, where the model has no states for them.

use mlpackage::bundle::{Architecture, HostCache};
use mlpackage::{DType, Shape};

use crate::tensor::{Data, Tensor, TensorView, Tensors};

/// The caches of one sequence, fp16 `[1, H, S, D]` each, in the manifest's order. Like states, they begin as
/// zeros.
#[derive(Clone, Debug)]
pub(super) struct HostCaches {
    tensors: Vec<Tensor>,
    context_length: usize,
    width: usize,
}

impl HostCaches {
    /// Creates a cache for each name in the manifest.
    pub(super) fn new(names: &[HostCache], a: &Architecture) -> Self {
        let width = a.n_embd / a.n_head;
        let shape = Shape::from([1, a.n_head, a.context_length, width]);
        let zeros = || {
            let data = Data::F32(vec![0.0; shape.elements()]);
            Tensor::with_dtype(DType::Fp16, shape.clone(), data).expect("as many zeros as the shape has")
        };
        Self { tensors: names.iter().map(|_| zeros()).collect(), context_length: a.context_length, width }
    }

    /// Returns views of all caches, to pass to a call.
    pub(super) fn views(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.tensors.iter().map(Tensor::view)
    }

    /// Writes the new keys and values, `[1, H, 1, D]` each, at `position`.
    pub(super) fn write(&mut self, names: &[HostCache], results: &Tensors, position: usize) {
        let (s, d) = (self.context_length, self.width);
        for (cache, HostCache { new, .. }) in self.tensors.iter_mut().zip(names) {
            let new = results.get(new).and_then(Tensor::as_f32).expect("the interface was checked");
            if let Data::F32(cache) = cache.data_mut() {
                for (head, new) in cache.chunks_exact_mut(s * d).zip(new.chunks_exact(d)) {
                    head[position * d..(position + 1) * d].copy_from_slice(new);
                }
            }
        }
    }

    /// Fills the caches with zeros.
    pub(super) fn reset(&mut self) {
        for cache in &mut self.tensors {
            if let Data::F32(values) = cache.data_mut() {
                values.fill(0.0);
            }
        }
    }
}
