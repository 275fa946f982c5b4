//! Devices, and the placement of a graph as a whole.

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
    /// Unknown; counts as not on the Neural Engine.
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

/// The placement of a graph as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All of it on the Neural Engine.
    Ane,
    /// All of it on the CPU.
    Cpu,
    /// All of it on the GPU.
    Gpu,
    /// Some of it on the Neural Engine.
    Mixed,
    /// It does not compile or load.
    Error,
    /// It runs on an unknown device.
    Unknown,
}

impl Verdict {
    /// Returns the device that all operations share, or `Unknown` if there is no such device.
    pub fn device(self) -> Device {
        match self {
            Self::Ane => Device::Ane,
            Self::Cpu => Device::Cpu,
            Self::Gpu => Device::Gpu,
            Self::Mixed | Self::Error | Self::Unknown => Device::Unknown,
        }
    }
}

impl fmt::Display for Verdict {
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
