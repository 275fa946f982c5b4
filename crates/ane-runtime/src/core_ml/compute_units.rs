//! Which devices Core ML may choose from.

use mlpackage::named_enum;

named_enum! {
    /// `MLComputeUnits`.
    ///
    /// Only `MLComputePlan` reports how Core ML uses them: a program that may use the Neural Engine may run on
    /// the CPU without an error.
    ComputeUnits, "compute units", default CpuAndAne, {
        /// Only the CPU (`cpuOnly`, 0).
        Cpu = "cpu",
        /// The CPU and the GPU (`cpuAndGPU`, 1).
        CpuAndGpu = "cpu-and-gpu",
        /// The CPU and the Neural Engine (`cpuAndNeuralEngine`, 3). This is the default: if the GPU were allowed
        /// as well, nothing would show whether the Neural Engine was used.
        CpuAndAne = "cpu-and-ane",
        /// Any device (`all`, 2).
        All = "all",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_the_default_excludes_the_gpu() {
        for &units in ComputeUnits::ALL {
            assert_eq!(units.name().parse::<ComputeUnits>().unwrap(), units);
        }
        assert_eq!(ComputeUnits::default(), ComputeUnits::CpuAndAne);
        let error = "ane".parse::<ComputeUnits>().unwrap_err().to_string();
        assert_eq!(error, "compute units \"ane\": expected one of cpu, cpu-and-gpu, cpu-and-ane, all");
    }
}
