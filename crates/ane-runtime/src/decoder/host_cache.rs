//! KV caches that the host holds for a sequence, where the model has no states for them.

use ane_bundle::{Architecture, HostCache};
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

    /// Writes the new keys and values, `[1, H, 1, D]` each, at `position`. The error is the name of a result that is
    /// missing or of another size; nothing is written then.
    pub(super) fn write<'n>(
        &mut self,
        names: &'n [HostCache],
        results: &Tensors,
        position: usize,
    ) -> Result<(), &'n str> {
        let (s, d) = (self.context_length, self.width);
        let entry = |name: &str| results.get(name).and_then(Tensor::as_f32);
        for (cache, HostCache { new, .. }) in self.tensors.iter().zip(names) {
            let heads = cache.shape().elements() / (s * d);
            if entry(new).is_none_or(|new| new.len() != heads * d) {
                return Err(new);
            }
        }
        for (cache, HostCache { new, .. }) in self.tensors.iter_mut().zip(names) {
            if let (Data::F32(cache), Some(new)) = (cache.data_mut(), entry(new)) {
                for (head, new) in cache.chunks_exact_mut(s * d).zip(new.chunks_exact(d)) {
                    head[position * d..(position + 1) * d].copy_from_slice(new);
                }
            }
        }
        Ok(())
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
