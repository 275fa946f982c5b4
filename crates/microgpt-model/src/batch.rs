//! Batches of examples, as tensors.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Target length of a row, or the length of the longest document if that is larger; the number of rows follows
/// from it. The cost of attention grows with the square of the row length, that of projections does not depend
/// on it.
const ROW: usize = 64;

/// Examples packed into rows.
///
/// Short documents share a row, because padding would be computed like any other position. A position attends
/// only to its own example, and position indices start where the example starts.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Input tokens, `[R, T]`.
    pub(crate) inputs: Tensor<2, Int>,
    /// Positions within the examples, `[R, T]`.
    pub(crate) positions: Tensor<2, Int>,
    /// The attention mask, added to the scores: 0 where a position may look, minus infinity elsewhere. `[R,
    /// T, T]`, or `[1, T, T]` if all rows have the same mask.
    pub(crate) visible: Tensor<3>,
    /// Target tokens, `[R * T]`.
    pub(crate) targets: Tensor<1, Int>,
    /// 1 where there is a prediction, 0 in the padding, `[R * T]`; `None` without padding.
    pub(crate) mask: Option<Tensor<1>>,
}

impl Batch {
    /// Estimates the number of rows of a batch and the positions of each, from the number of examples and the
    /// predictions of the longest and the mean example.
    pub(crate) fn extent(examples: usize, longest: usize, mean: usize) -> (usize, usize) {
        let row = longest.max(ROW);
        (examples.saturating_mul(mean.max(1)).div_ceil(row), row)
    }

    pub(crate) fn new(examples: &[&[u32]], device: &Device) -> Self {
        let (rows, t) = layout(examples);
        let r = rows.len();
        let (mut inputs, mut targets) = (vec![0i32; r * t], vec![0i32; r * t]);
        let (mut positions, mut mask) = (vec![0i32; r * t], vec![0f32; r * t]);
        let mut visible = vec![f32::NEG_INFINITY; r * t * t];
        let mut predictions = 0;
        for (row, members) in rows.iter().enumerate() {
            let mut begin = 0;
            for &member in members {
                let tokens = examples[member];
                for (i, pair) in tokens.windows(2).enumerate() {
                    let at = row * t + begin + i;
                    inputs[at] = pair[0] as i32;
                    targets[at] = pair[1] as i32;
                    positions[at] = i as i32;
                    mask[at] = 1.0;
                    visible[at * t + begin..=at * t + begin + i].fill(0.0);
                }
                begin += tokens.len() - 1;
                predictions += tokens.len() - 1;
            }
            // Padding attends to itself: a softmax over nothing is NaN.
            (begin..t).for_each(|i| visible[(row * t + i) * t + i] = 0.0);
        }
        let one = t * t;
        let alike = visible.chunks_exact(one).all(|row| row == &visible[..one]);
        let masks = if alike { 1 } else { r };
        visible.truncate(masks * one);
        let ints = |values: Vec<i32>| Tensor::<1, Int>::from_data(TensorData::new(values, [r * t]), device);
        Self {
            inputs: ints(inputs).reshape([r, t]),
            positions: ints(positions).reshape([r, t]),
            visible: Tensor::from_data(TensorData::new(visible, [masks, t, t]), device),
            targets: ints(targets),
            mask: (predictions < r * t).then(|| Tensor::from_data(TensorData::new(mask, [r * t]), device)),
        }
    }
}

/// Assigns examples to rows, and returns the rows and their length. Examples are placed from the longest to the
/// shortest, each into the emptiest row.
fn layout(examples: &[&[u32]]) -> (Vec<Vec<usize>>, usize) {
    let lengths: Vec<usize> = examples.iter().map(|e| e.len() - 1).collect();
    let (total, longest) = (lengths.iter().sum::<usize>(), lengths.iter().copied().max().unwrap_or(0));
    let count = total.div_ceil(longest.max(ROW)).max(1);
    let mut by_length: Vec<usize> = (0..examples.len()).collect();
    by_length.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
    let mut rows = vec![Vec::new(); count];
    let mut filled = vec![0; count];
    for i in by_length {
        let emptiest = (0..count).min_by_key(|&row| filled[row]).expect("there is at least one row");
        rows[emptiest].push(i);
        filled[emptiest] += lengths[i];
    }
    (rows, filled.into_iter().max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::device::Backend;

    #[test]
    fn documents_share_a_row_and_see_only_themselves() {
        let batch = Batch::new(&[&[6, 0, 1, 6], &[6, 2]], &Backend::default().device());
        let ints = |t: Tensor<2, Int>| t.into_data().try_into_vec_as::<i64>().unwrap();
        assert_eq!(ints(batch.inputs), [6, 0, 1, 6]);
        assert_eq!(ints(batch.positions), [0, 1, 2, 0]);
        assert_eq!(batch.targets.into_data().try_into_vec_as::<i64>().unwrap(), [0, 1, 6, 2]);
        assert!(batch.mask.is_none());
        let no = f32::NEG_INFINITY;
        assert_eq!(
            batch.visible.into_data().try_into_vec_as::<f32>().unwrap(),
            [0., no, no, no, 0., 0., no, no, 0., 0., 0., no, no, no, no, 0.]
        );
    }

    #[test]
    fn full_windows_have_one_mask_and_no_padding() {
        let window: Vec<u32> = (0..=64).collect();
        let batch = Batch::new(&[&window, &window, &window], &Backend::default().device());
        assert_eq!(batch.inputs.dims(), [3, 64]);
        assert_eq!(batch.visible.dims(), [1, 64, 64]);
        assert!(batch.mask.is_none());
    }

    proptest! {
        /// Every example is in exactly one row, and there is little padding.
        #[test]
        fn rows_hold_every_example_once(lengths in prop::collection::vec(1usize..40, 1..60)) {
            let examples: Vec<Vec<u32>> = lengths.iter().map(|&l| vec![0; l + 1]).collect();
            let examples: Vec<&[u32]> = examples.iter().map(Vec::as_slice).collect();
            let (rows, t) = layout(&examples);
            let mut members: Vec<usize> = rows.concat();
            members.sort_unstable();
            prop_assert_eq!(members, (0..lengths.len()).collect::<Vec<_>>());
            let total: usize = lengths.iter().sum();
            // The emptiest row is at most one example shorter than the fullest.
            prop_assert!(rows.len() * t <= total + rows.len() * lengths.iter().max().unwrap());
        }
    }
}
