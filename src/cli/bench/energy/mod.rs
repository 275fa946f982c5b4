//! Energy per token: reads the power of CPU, GPU and Neural Engine from macOS's `powermetrics`.
//!
//! powermetrics reads the whole chip, so other work is included in the result. The power of the idle chip is
//! therefore measured first, and reported as well.

mod powermetrics;

use std::fmt;

use serde::Serialize;

pub(super) use powermetrics::Meter;

/// Power of the parts of a chip, in milliwatts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Power {
    /// CPU.
    pub(crate) cpu: f64,
    /// GPU; `None` if the meter does not report it.
    pub(crate) gpu: Option<f64>,
    /// Neural Engine; `None` if the meter does not report it, as on a chip without a sensor for it.
    pub(crate) ane: Option<f64>,
}

impl Power {
    /// Returns the sum of the parts that are reported.
    pub(crate) fn total(&self) -> f64 {
        self.cpu + self.gpu.unwrap_or(0.0) + self.ane.unwrap_or(0.0)
    }

    /// Returns the mean of some readings.
    fn mean(readings: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> Option<f64>| {
            let reported: Vec<f64> = readings.iter().filter_map(of).collect();
            (!reported.is_empty()).then(|| reported.iter().sum::<f64>() / reported.len() as f64)
        };
        Self { cpu: mean(|p| Some(p.cpu)).unwrap_or(0.0), gpu: mean(|p| p.gpu), ane: mean(|p| p.ane) }
    }
}

/// Writes milliwatts; marks parts that the meter does not report.
impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reported = |part: Option<f64>| part.map_or("not reported".to_owned(), |p| format!("{p:.0}"));
        write!(f, "CPU {:.0} mW, GPU {}, ANE {}", self.cpu, reported(self.gpu), reported(self.ane))
    }
}

/// Power and energy while decoding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Energy {
    /// Mean power of the idle machine.
    pub(crate) idle: Power,
    /// Mean power while tokens are decoded.
    pub(crate) decoding: Power,
    /// Number of readings in the mean.
    pub(crate) readings: usize,
    /// Tokens decoded during the readings.
    pub(crate) tokens: usize,
    /// Duration of the readings in seconds.
    pub(crate) seconds: f64,
    /// Energy per token in millijoules.
    pub(crate) mj_per_token: f64,
    /// The part of it above idle, in millijoules.
    pub(crate) mj_per_token_above_idle: f64,
}

/// The result of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EnergyReport {
    /// The measurement succeeded.
    Measured(Energy),
    /// The measurement failed, for this reason.
    NotMeasured(String),
}

impl From<Result<Energy, String>> for EnergyReport {
    fn from(outcome: Result<Energy, String>) -> Self {
        outcome.map_or_else(Self::NotMeasured, Self::Measured)
    }
}

impl fmt::Display for EnergyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measured(energy) => energy.fmt(f),
            Self::NotMeasured(reason) => write!(f, "not measured: {reason}"),
        }
    }
}

impl fmt::Display for Energy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.3} mJ per token, {:.3} above idle; {}; idle: {}",
            self.mj_per_token, self.mj_per_token_above_idle, self.decoding, self.idle
        )
    }
}
