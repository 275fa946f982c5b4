//! How much larger a decoder must be to reach the floor.

use ane_bundle::Architecture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compiled_size::CompiledSize;
use crate::device::Verdict;

/// Step of the widths: channels and state dimensions that are not multiples of 32 are known to fail.
const WIDTH_STEP: usize = 32;
const MAX_WIDTH: usize = 8_192;
const MAX_LAYERS: usize = 96;
/// Ratio of width to layers in Experiment 27's scaled shard.
const EXPERIMENT_PROPORTION: f64 = 512.0 / 6.0;

/// A larger decoder of the same family that reaches the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// Its width.
    pub n_embd: usize,
    /// Its heads: 64 wide if that divides the width, otherwise 32.
    pub n_head: usize,
    /// Its layers.
    pub n_layer: usize,
    /// Parameters of its projections.
    pub weights: u64,
    /// A lower bound of its compiled size in INT8, in bytes.
    pub int8_bytes: u64,
    /// The predicted placement of the exported decoder; `None` if it was not exported.
    pub predicted: Option<Verdict>,
}

/// Scalings of a decoder that reach the floor, by what may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scalings {
    /// Among those with at most 2 % more weights than the fewest, the one with the fewest layers: a token
    /// reads every weight once, and a layer is some fifty operations.
    pub cheapest: Option<Scaling>,
    /// Among those with at most 5 % more weights than the fewest, the one whose proportions are nearest to
    /// those that Experiment 27 saw placed: 512 wide, 6 layers.
    pub balanced: Option<Scaling>,
    /// Only the width grows.
    pub width: Option<Scaling>,
    /// Only the number of layers grows; `None` if even 96 are not enough.
    pub depth: Option<Scaling>,
}

impl Scalings {
    /// Searches widths in steps of 32 up to 8,192 and up to 96 layers. The weights must reach the floor with
    /// the current program text: a deeper program has more text, but text does not keep the engine busy.
    pub(crate) fn search(decoder: &Architecture, size: &CompiledSize, floor: u64) -> Self {
        let rest = size.program.saturating_add(size.descriptions);
        let scaled = |n_embd: usize, n_layer: usize| {
            let weights = projection_weights(decoder.vocab_size, n_embd, n_layer);
            let n_head = n_embd / if n_embd.is_multiple_of(64) { 64 } else { WIDTH_STEP };
            Scaling {
                n_embd,
                n_head,
                n_layer,
                weights,
                int8_bytes: weights.saturating_add(rest),
                predicted: None,
            }
        };
        let clears = |s: &Scaling| s.int8_bytes >= floor;
        // No width is beyond the search, whatever a caller states.
        let first_width = decoder.n_embd.checked_next_multiple_of(WIDTH_STEP).unwrap_or(usize::MAX);
        let widths = || (first_width..=MAX_WIDTH).step_by(WIDTH_STEP);
        let at_depth = |n_layer: usize| widths().map(|w| scaled(w, n_layer)).find(clears);
        let found: Vec<Scaling> = (decoder.n_layer..=MAX_LAYERS).filter_map(at_depth).collect();
        let fewest = found.iter().map(|s| s.weights).min().unwrap_or(0);
        let within = |percent: u64| {
            found.iter().filter(move |s| s.weights <= fewest.saturating_add(fewest / 100 * percent)).copied()
        };
        let proportion =
            |s: &Scaling| (s.n_embd as f64 / s.n_layer as f64 / EXPERIMENT_PROPORTION).ln().abs();
        Self {
            cheapest: within(2).min_by_key(|s| s.n_layer),
            balanced: within(5).min_by(|a, b| proportion(a).total_cmp(&proportion(b))),
            width: at_depth(decoder.n_layer),
            depth: (decoder.n_layer..=MAX_LAYERS).map(|l| scaled(first_width, l)).find(clears),
        }
    }
}

/// Returns the number of weights in a microGPT's projections: 12 C^2 per layer and the LM head. The embedding
/// tables stay on the host.
fn projection_weights(vocab_size: usize, n_embd: usize, n_layer: usize) -> u64 {
    let (v, c, l) = (vocab_size as u64, n_embd as u64, n_layer as u64);
    l.saturating_mul(12).saturating_mul(c).saturating_mul(c).saturating_add(v.saturating_mul(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::FLOOR_BYTES;

    fn decoder(n_embd: usize, n_layer: usize) -> Architecture {
        Architecture {
            model_type: "microgpt".into(),
            vocab_size: 27,
            n_embd,
            n_head: 4,
            n_layer,
            context_length: 16,
            parameters: 0,
        }
    }

    const SMALL: CompiledSize =
        CompiledSize { weights: 4_016, program: 20_000, descriptions: 4_000, weight_elements: 3_504 };

    #[test]
    fn dimensions_of_any_size_are_searched() {
        let search = |n_embd, n_layer| {
            let vast = Architecture { vocab_size: usize::MAX, ..decoder(n_embd, n_layer) };
            Scalings::search(&vast, &SMALL, FLOOR_BYTES)
        };
        // Wider than the search goes.
        assert_eq!(search(usize::MAX, 1).width, None);
        // Deeper than the search goes; the width keeps its layers, and the sums saturate.
        let deep = search(16, usize::MAX);
        assert_eq!((deep.depth, deep.width.unwrap().int8_bytes), (None, u64::MAX));
    }

    #[test]
    fn scaled_has_the_published_number_of_projection_weights() {
        assert_eq!(projection_weights(27, 512, 6), 18_888_192);
        assert_eq!(projection_weights(27, 16, 1), 3_504);
    }

    #[test]
    fn each_scaling_clears_the_floor_and_one_step_less_does_not() {
        let found = Scalings::search(&decoder(16, 1), &SMALL, FLOOR_BYTES);
        let width = found.width.unwrap();
        // sqrt(14e6 / 12) = 1080; the next multiple of 32 is 1088.
        assert_eq!((width.n_embd, width.n_layer), (1_088, 1));
        assert!(projection_weights(27, width.n_embd - WIDTH_STEP, 1) + 24_000 < FLOOR_BYTES);
        assert_eq!(width.int8_bytes, projection_weights(27, 1_088, 1) + 24_000);
        // 14e6 / (12 * 256) = 4,550 layers, above the limit.
        assert_eq!(found.depth, None);
        let (cheapest, balanced) = (found.cheapest.unwrap(), found.balanced.unwrap());
        assert!(cheapest.int8_bytes >= FLOOR_BYTES && cheapest.weights <= width.weights);
        for layers in 1..=MAX_LAYERS {
            for width in (32..=2_048).step_by(WIDTH_STEP) {
                let weights = projection_weights(27, width, layers);
                let below = weights + 24_000 < FLOOR_BYTES;
                // No candidate has 2 % fewer weights, and none with as few weights has fewer layers.
                assert!(below || weights * 102 / 100 >= cheapest.weights, "{width} x {layers}");
                assert!(
                    below || weights > cheapest.weights || layers >= cheapest.n_layer,
                    "{width} x {layers}"
                );
            }
        }
        // 448 wide, 6 layers: 75 per layer, where the experiment had 85.
        assert_eq!((balanced.n_embd, balanced.n_head, balanced.n_layer), (448, 7, 6));
    }

    #[test]
    fn depth_alone_where_it_is_enough() {
        let found = Scalings::search(&decoder(512, 4), &SMALL, FLOOR_BYTES);
        assert_eq!(found.depth.map(|s| s.n_layer), Some(5), "12 * 512^2 = 3.1 M per layer");
    }
}
