//! Mean negative log likelihood.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};

use crate::batch::Batch;
use crate::dropout::Dropout;
use crate::examples::Examples;
use crate::model::Gpt;

/// Tokens evaluated at a time.
const EVALUATION_TOKENS: usize = 1_024;

/// Returns the sum of the negative log likelihoods of a batch's predictions.
pub(super) fn summed(model: &Gpt, batch: &Batch, dropout: &mut Dropout) -> Tensor<1> {
    let [rows] = batch.targets.dims();
    let log_probs = log_softmax(model.forward_batch(batch, dropout), 1); // [R * T, V]
    let picked = log_probs.gather(1, batch.targets.clone().reshape([rows, 1])).reshape([rows]);
    match &batch.mask {
        Some(mask) => -(picked * mask.clone()).sum(),
        None => -picked.sum(),
    }
}

/// Returns the mean negative log likelihood of every prediction in `examples`; `None` if there are none.
pub(super) fn evaluate(
    model: &Gpt,
    examples: &Examples,
    device: &Device,
    mut progress: impl FnMut(usize, usize),
) -> Option<f32> {
    // Batches of similar lengths need less padding; the sum is the same.
    let mut sorted: Vec<&[u32]> = examples.iter().collect();
    sorted.sort_by_key(|e| e.len());
    let mut total = 0f64;
    let mut done = 0;
    while done < sorted.len() {
        let longest = sorted[done..].iter().scan(0, |sum, e| {
            *sum += e.len();
            Some(*sum)
        });
        let count = longest.take_while(|sum| *sum <= EVALUATION_TOKENS).count().max(1);
        let batch = Batch::new(&sorted[done..done + count], device);
        total += f64::from(summed(model, &batch, &mut Dropout::none()).into_scalar::<f32>());
        done += count;
        progress(done, sorted.len());
    }
    let predictions = examples.predictions();
    (predictions > 0).then(|| (total / predictions as f64) as f32)
}
