//! Forms of quantization.
//!
//! INT8 with per-tensor or per-channel scales keeps every convolution on the Neural Engine in most sources.
//! INT4 with per-block scales (`constexpr_blockwise_shift_scale`) falls to the CPU in small or stateless
//! shards, while a large stateful decoder in it was placed. 4-bit palettes are another form, and are placed.

use super::{Card, Law, Opinion, Statement};
use crate::corpus::WeightFormat;
use crate::device::Verdict;
use crate::features::Features;

/// INT4 with per-block scales is placed only in deep stateful graphs.
#[derive(Clone, Copy, Debug)]
pub struct BlockwiseInt4;

/// The shards that fell to the CPU had 2 and 3 layers; the decoder that was placed had 24.
const DEEP: u64 = 4;

const CARD: Card = Card {
    name: "int4-per-block",
    says: "weights in INT4 with per-block scales fall to the CPU, except in deep graphs with states",
    source: "ane-book",
    made_from: &["ane-book"],
    statements: &[Statement::supporting(
        "constexpr int4 weights list only the CPU as supported (M4)",
        "stablehlo-coreml, pull request 110",
    )],
};

impl Law for BlockwiseInt4 {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn graph(&self, features: &Features) -> Option<Opinion> {
        if features.weights? != WeightFormat::Int4PerBlock {
            return None;
        }
        let placed = features.stateful == Some(true) && features.depth.is_some_and(|d| d >= DEEP);
        Some(if placed {
            Opinion {
                outcome: Verdict::Ane,
                reason: "its weights are INT4 with per-block scales, and it is deep and has states: the only such graph known was placed".into(),
                margin: 0.6,
            }
        } else {
            Opinion {
                outcome: Verdict::Cpu,
                reason: "its weights are INT4 with per-block scales, which fall to the CPU in small or stateless shards".into(),
                margin: 0.9,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Family;
    use crate::features::tests::unknown;

    /// The ane-book's rows: with 24 layers, 97 of 97 on the CPU without states and on the Neural Engine with
    /// them; shards of 2 and 3 layers on the CPU.
    #[test]
    fn states_and_depth_tip_it() {
        let of = |weights: WeightFormat, stateful: Option<bool>, depth: u64| {
            let known = unknown(Family::Decoder);
            BlockwiseInt4.graph(&Features { weights: Some(weights), stateful, depth: Some(depth), ..known })
        };
        let outcome = |stateful, depth| of(WeightFormat::Int4PerBlock, stateful, depth).map(|o| o.outcome);
        assert_eq!(outcome(Some(false), 24), Some(Verdict::Cpu));
        assert_eq!(outcome(Some(true), 24), Some(Verdict::Ane));
        assert_eq!(outcome(None, 3), Some(Verdict::Cpu));
        assert_eq!(outcome(Some(true), 2), Some(Verdict::Cpu));
        // The law does not apply to other 4-bit forms.
        for other in [WeightFormat::Lut4, WeightFormat::Int4, WeightFormat::Int8] {
            assert!(of(other, Some(false), 2).is_none());
        }
    }
}
