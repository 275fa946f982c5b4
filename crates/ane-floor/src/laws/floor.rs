//! The floor of Experiment 27.
//!
//! A transformer shard of 1x1 convolutions below about 14 MB, compiled in INT8, runs on the CPU as a whole,
//! without an error; above it, on the Neural Engine as a whole.
//!
//! **Source**: Experiment 27 (M4 Max, macOS 15). **Evidence**: two points, 0.03 MB (CPU, every operation) and
//! 19.07 MB (ANE, 37/37 convolutions and 260/260 compute operations); the experiment itself puts the floor
//! between them at about 14 MB. **Against it**: fp16 blocks of 19 to 36 MB that stayed on the CPU, and
//! attention shards of 4 to 8 MB and convolutional nets of 5 to 7 MB that were placed. Bytes are a proxy for
//! work. The law applies to this family of graphs, and is the default verdict only for it.

use super::{Card, Law, Opinion, Statement, megabytes};
use crate::device::Verdict;
use crate::features::Features;

/// The floor: "about 14 MB" compiled INT8, decimal.
pub const FLOOR_BYTES: u64 = 14_000_000;

/// Which size is compared with the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The size with all weights in INT8, as in Experiment 27.
    Int8,
    /// The size as stored.
    AsStored,
}

/// The law, in the variants that are checked against the corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// Which size is compared.
    pub reading: Reading,
    /// Whether it applies only to transformer shards, as intended, or to every graph of known size.
    pub shards_only: bool,
}

impl Floor {
    /// The law as Experiment 27 found it, and as reports apply it.
    pub const OF_SHARDS: Self = Self { reading: Reading::Int8, shards_only: true };
    /// The threshold applied to every graph, in INT8.
    pub const OF_EVERYTHING: Self = Self { reading: Reading::Int8, shards_only: false };
    /// The threshold applied to every graph, as stored.
    pub const AS_STORED: Self = Self { reading: Reading::AsStored, shards_only: false };
}

const CARD: Card = Card {
    name: "floor",
    says: "a transformer shard of 1x1 convolutions whose compiled size in INT8 is below about 14 MB is placed on the CPU, without an error",
    source: "ane-book, Experiment 27",
    made_from: &["ane-book, Experiment 27"],
    statements: &[
        Statement::opposing(
            "constexpr int8 weights list only the CPU as supported (M4)",
            "stablehlo-coreml, pull request 110",
        ),
        Statement::supporting("fp16 linear layers are placed reliably only above 16 MB", "ane-book, history"),
    ],
};

impl Law for Floor {
    fn card(&self) -> &'static Card {
        match (self.shards_only, self.reading) {
            (true, _) => &CARD,
            (false, Reading::Int8) => {
                const EVERYTHING: Card = Card { name: "14 MB in INT8, any graph", ..CARD };
                &EVERYTHING
            }
            (false, Reading::AsStored) => {
                const STORED: Card = Card { name: "14 MB as stored, any graph", ..CARD };
                &STORED
            }
        }
    }

    fn graph(&self, features: &Features) -> Option<Opinion> {
        if self.shards_only && !features.is_shard() {
            return None;
        }
        let (bytes, how) = match self.reading {
            Reading::Int8 => (features.int8_bytes?, "compiled INT8"),
            Reading::AsStored => (features.stored_bytes?, "as stored"),
        };
        let size = megabytes(bytes);
        let (outcome, reason) = if bytes < FLOOR_BYTES {
            let below = megabytes(FLOOR_BYTES - bytes);
            let floor = megabytes(FLOOR_BYTES);
            (
                Verdict::Cpu,
                format!(
                    "{size} {how} is {below} below the floor of {floor}: Core ML puts such a shard on the CPU, without an error"
                ),
            )
        } else {
            let above = megabytes(bytes - FLOOR_BYTES);
            (Verdict::Ane, format!("{size} {how} is {above} above the floor of {}", megabytes(FLOOR_BYTES)))
        };
        Some(Opinion::at_threshold(outcome, reason, bytes as f64, FLOOR_BYTES as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Family;
    use crate::features::tests::unknown;

    #[test]
    fn it_divides_shards_at_14_mb_and_is_silent_about_the_rest() {
        let of = |family, int8: u64| {
            Floor::OF_SHARDS.graph(&Features { int8_bytes: Some(int8), ..unknown(family) })
        };
        assert_eq!(of(Family::Decoder, 13_999_999).map(|o| o.outcome), Some(Verdict::Cpu));
        assert_eq!(of(Family::Decoder, 14_000_000).map(|o| o.outcome), Some(Verdict::Ane));
        // Experiment 27's small point has a margin near 1; at the threshold the margin is a half.
        assert!(of(Family::Decoder, 30_000).unwrap().margin > 0.99);
        assert!((of(Family::Decoder, 14_000_000).unwrap().margin - 0.5).abs() < 1e-9);
        for family in [Family::ConvNet, Family::Encoder, Family::Matmul, Family::Elementwise] {
            assert!(of(family, 1 << 30).is_none(), "{family}");
        }
        // A shard that is not mainly 1x1 convolutions.
        let linear = Features { pointwise: Some(0.1), int8_bytes: Some(1 << 30), ..unknown(Family::Decoder) };
        assert!(Floor::OF_SHARDS.graph(&linear).is_none());
    }
}
