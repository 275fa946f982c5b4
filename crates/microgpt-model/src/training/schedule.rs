//! The learning rate over a run: a function of the step only, so that a resumed run needs no further state.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Linearly to 0, as in microGPT: step k of n has `1 - k / n` of the highest rate.
    #[default]
    Linear,
    /// Along half a cosine to 0: slowly, then fast, then slowly again.
    Cosine,
    /// Not at all.
    Constant,
}

impl Schedule {
    /// Every schedule.
    pub const ALL: [Self; 3] = [Self::Linear, Self::Cosine, Self::Constant];

    /// Returns the schedule's name, as `--schedule` accepts it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Cosine => "cosine",
            Self::Constant => "constant",
        }
    }

    /// Returns the share of the highest learning rate at step `step` (from 0) of `steps`; it rises over the
    /// first `warmup` steps.
    pub(crate) fn share(self, step: usize, steps: usize, warmup: usize) -> f64 {
        if step < warmup {
            return (step + 1) as f64 / (warmup + 1) as f64;
        }
        let done = (step - warmup) as f64 / (steps - warmup).max(1) as f64;
        match self {
            Self::Linear => 1.0 - done,
            // The system's cosine differs between machines; libm's does not.
            Self::Cosine => 0.5 + 0.5 * libm::cos(std::f64::consts::PI * done),
            Self::Constant => 1.0,
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name).ok_or_else(|| Error::Training {
            option: "schedule",
            reason: format!("{name:?} is not linear, cosine or constant"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_is_microgpts() {
        assert_eq!(Schedule::Linear.share(0, 1000, 0), 1.0);
        assert_eq!(Schedule::Linear.share(250, 1000, 0), 0.75);
        assert!(Schedule::Linear.share(999, 1000, 0) > 0.0);
    }

    #[test]
    fn rises_and_falls() {
        for schedule in Schedule::ALL {
            assert_eq!(schedule.share(0, 100, 9), 0.1);
            assert_eq!(schedule.share(9, 100, 9), 1.0);
            let shares: Vec<f64> = (9..100).map(|k| schedule.share(k, 100, 9)).collect();
            assert!(shares.windows(2).all(|w| w[1] <= w[0]), "{schedule}: {shares:?}");
        }
        assert!((Schedule::Cosine.share(50, 100, 0) - 0.5).abs() < 1e-12);
        assert_eq!(Schedule::Constant.share(99, 100, 0), 1.0);
        assert_eq!(Schedule::Linear.share(3, 5, 5), 4.0 / 6.0, "a warm-up as long as the run");
    }
}
