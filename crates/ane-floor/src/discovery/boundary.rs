//! The width at which placement flips along a line.

use serde::{Deserialize, Serialize};

use crate::device::Verdict;

/// The width at which placement flips along a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boundary {
    /// Number of layers.
    pub n_layer: usize,
    /// Tokens per call.
    pub tokens: usize,
    /// Form of the weights.
    pub quantization: String,
    /// The widest probe below `above` that is not wholly on the Neural Engine, with its INT8 bytes; `None` if
    /// the narrowest is.
    pub below: Option<(usize, u64)>,
    /// The narrowest probe that is wholly on the Neural Engine, with its INT8 bytes; `None` if none is.
    pub above: Option<(usize, u64)>,
    /// The outcome of the widest probe, and the law that determined it.
    pub widest: (Verdict, String),
    /// Whether a probe wider than `above` was not placed: the line then has more than one boundary, or an
    /// inverted one.
    pub turned: bool,
}

impl Boundary {
    /// Finds the boundary from what is known along a line, narrowest first: width, whether it is on the
    /// Neural Engine, bytes.
    pub(super) fn of_line(
        (n_layer, tokens, quantization): (usize, usize, String),
        known: &[(usize, bool, u64)],
        widest: (Verdict, String),
    ) -> Self {
        let known = || known.iter().copied();
        let above = known().find(|(_, on, _)| *on).map(|(width, _, bytes)| (width, bytes));
        let before = |width: usize| above.is_none_or(|(first, _)| width < first);
        let below = known().rfind(|(width, on, _)| !on && before(*width));
        let turned = above.is_some_and(|(first, _)| known().any(|(width, on, _)| !on && width > first));
        Self {
            n_layer,
            tokens,
            quantization,
            below: below.map(|(width, _, bytes)| (width, bytes)),
            above,
            widest,
            turned,
        }
    }
}
