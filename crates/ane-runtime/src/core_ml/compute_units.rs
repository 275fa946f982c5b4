//! Which devices Core ML may choose from.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// `MLComputeUnits`.
///
/// Only `MLComputePlan` tells how Core ML uses them: a program that may use the Neural Engine may end up on
/// the CPU without an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ComputeUnits {
    /// The CPU (`cpuOnly`, 0).
    Cpu,
    /// The CPU and the GPU (`cpuAndGPU`, 1).
    CpuAndGpu,
    /// The CPU and the Neural Engine (`cpuAndNeuralEngine`, 3). This is the default: if the GPU were allowed
    /// as well, nothing would show whether the Neural Engine was used.
    #[default]
    CpuAndAne,
    /// Any device (`all`, 2).
    All,
}

impl ComputeUnits {
    /// Every choice.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::CpuAndGpu, Self::CpuAndAne, Self::All];

    /// Returns the name, as a command line accepts it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::CpuAndGpu => "cpu-and-gpu",
            Self::CpuAndAne => "cpu-and-ane",
            Self::All => "all",
        }
    }
}

impl fmt::Display for ComputeUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ComputeUnits {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|units| units.name() == text).ok_or_else(|| Error::Choice {
            choice: "compute units",
            found: text.to_owned(),
            expected: Self::ALL.map(Self::name).join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_the_default_excludes_the_gpu() {
        for units in ComputeUnits::ALL {
            assert_eq!(units.name().parse::<ComputeUnits>().unwrap(), units);
        }
        assert_eq!(ComputeUnits::default(), ComputeUnits::CpuAndAne);
        let error = "ane".parse::<ComputeUnits>().unwrap_err().to_string();
        assert_eq!(error, "compute units \"ane\": expected one of cpu, cpu-and-gpu, cpu-and-ane, all");
    }
}
