//! Devices, and what comes of a graph as a whole.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A compute device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The Neural Engine.
    Ane,
    /// The CPU.
    Cpu,
    /// The GPU.
    Gpu,
    /// Not known. Counts as not the Neural Engine.
    #[default]
    Unknown,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ane => "ANE",
            Self::Cpu => "CPU",
            Self::Gpu => "GPU",
            Self::Unknown => "unknown",
        })
    }
}

/// What comes of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All of it on the Neural Engine.
    Ane,
    /// All of it on the CPU.
    Cpu,
    /// All of it on the GPU.
    Gpu,
    /// Some of it on the Neural Engine.
    Mixed,
    /// It is not compiled or not loaded.
    Error,
    /// It runs, and where is not told.
    Unknown,
}

impl Outcome {
    /// The device of each operation, where all share one; what is not loaded runs nowhere that is known.
    pub fn device(self) -> Device {
        match self {
            Self::Ane => Device::Ane,
            Self::Cpu => Device::Cpu,
            Self::Gpu => Device::Gpu,
            Self::Mixed | Self::Error | Self::Unknown => Device::Unknown,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ane => "ANE",
            Self::Cpu => "CPU",
            Self::Gpu => "GPU",
            Self::Mixed => "mixed",
            Self::Error => "error",
            Self::Unknown => "unknown",
        })
    }
}
