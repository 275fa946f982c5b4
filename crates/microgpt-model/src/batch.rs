//! Documents as padded batches of token ids.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::error::Result;
use crate::tokenizer::CharTokenizer;

/// A document as token ids: wrapped in BOS and cut to the predictions that fit the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Example {
    /// At least BOS and one more, at most `block_size + 1`.
    tokens: Vec<u32>,
}

impl Example {
    pub(crate) fn new(document: &str, tokenizer: &CharTokenizer, block_size: usize) -> Result<Self> {
        let mut tokens = vec![tokenizer.bos()];
        tokens.extend(tokenizer.encode(document)?);
        tokens.push(tokenizer.bos());
        tokens.truncate(block_size + 1);
        Ok(Self { tokens })
    }

    /// Tokens to predict.
    pub(crate) fn predictions(&self) -> usize {
        self.tokens.len() - 1
    }
}

/// Examples side by side, padded at the end to the longest.
#[derive(Debug)]
pub(crate) struct Batch {
    /// `[B, T]`
    pub(crate) inputs: Tensor<2, Int>,
    /// `[B * T]`
    pub(crate) targets: Tensor<1, Int>,
    /// `[B * T]`: 1 where there is something to predict, 0 in the padding.
    pub(crate) mask: Tensor<1>,
    /// Number of ones in the mask.
    pub(crate) predictions: usize,
}

impl Batch {
    pub(crate) fn new<'a>(examples: impl IntoIterator<Item = &'a Example>, device: &Device) -> Self {
        let examples: Vec<&Example> = examples.into_iter().collect();
        let (b, t) = (examples.len(), examples.iter().map(|e| e.predictions()).max().unwrap_or(0));
        let mut inputs = vec![0i64; b * t];
        let mut targets = vec![0i64; b * t];
        let mut mask = vec![0f32; b * t];
        let mut predictions = 0;
        for (row, example) in examples.iter().enumerate() {
            for (i, pair) in example.tokens.windows(2).enumerate() {
                let at = row * t + i;
                inputs[at] = i64::from(pair[0]);
                targets[at] = i64::from(pair[1]);
                mask[at] = 1.0;
                predictions += 1;
            }
        }
        Self {
            inputs: Tensor::from_data(TensorData::new(inputs, [b, t]), device),
            targets: Tensor::from_data(TensorData::new(targets, [b * t]), device),
            mask: Tensor::from_data(TensorData::new(mask, [b * t]), device),
            predictions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Backend;

    #[test]
    fn documents_are_wrapped_cut_and_padded() {
        let tokenizer = CharTokenizer::from_documents(&["abcdef"]); // BOS is 6
        let example = |d: &str| Example::new(d, &tokenizer, 4).unwrap();
        assert_eq!(example("ab").tokens, [6, 0, 1, 6]);
        assert_eq!(example("abcdef").tokens, [6, 0, 1, 2, 3], "four predictions fit");
        let batch = Batch::new([&example("abcdef"), &example("b")], &Backend::default().device());
        let ints = |t: Tensor<2, Int>| t.into_data().try_into_vec_as::<i64>().unwrap();
        assert_eq!(ints(batch.inputs), [6, 0, 1, 2, 6, 1, 0, 0]);
        assert_eq!(batch.targets.into_data().try_into_vec_as::<i64>().unwrap(), [0, 1, 2, 3, 1, 6, 0, 0]);
        assert_eq!(
            batch.mask.into_data().try_into_vec_as::<f32>().unwrap(),
            [1., 1., 1., 1., 1., 1., 0., 0.]
        );
        assert_eq!(batch.predictions, 6);
    }
}
