//! The floor of Experiment 27.
//!
//! A transformer shard of 1x1 convolutions that is under about 14 MB compiled in INT8 is placed on the CPU as a whole,
//! without an error; above it, on the Neural Engine as a whole.
//!
//! **Source**: ane-book, Experiment 27 (M4 Max, macOS 15). **Evidence**: two points, 0.03 MB (CPU, every operation) and
//! 19.07 MB (ANE, 37/37 convolutions and 260/260 compute operations); the experiment itself puts the floor between them at
//! about 14 MB. **Against it**: fp16 blocks of 19 to 36 MB that stayed on the CPU, attention shards of 4 to 8 MB and
//! convolutional nets of 5 to 7 MB that were placed. Bytes stand in for work: the law is about this family of graphs.

use mlpackage::mil::{Program, ValueType};
use serde::Serialize;

use crate::compiled_size::CompiledSize;
use crate::residency::Device;

/// The floor: "about 14 MB" compiled INT8, decimal.
pub const FLOOR_BYTES: u64 = 14_000_000;

/// What the law says of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Floor {
    /// Where the whole program goes.
    pub device: Device,
    /// Compiled size with every weight in INT8.
    pub int8_bytes: u64,
    /// The floor.
    pub floor_bytes: u64,
    /// Why, in a sentence.
    pub reason: String,
    /// What makes the verdict less sure.
    pub caveats: Vec<String>,
}

impl Floor {
    /// Applies the law.
    pub fn judge(program: &Program, size: &CompiledSize) -> Self {
        let int8_bytes = size.int8_equivalent();
        let mut caveats = Vec::new();
        let (device, reason) = if has_fp32(program) {
            // Every source agrees: nothing in fp32 is placed. It comes before any size.
            (Device::Cpu, "it computes in fp32, which the Neural Engine does not have".to_owned())
        } else if !has_conv(program) {
            (Device::Cpu, "it has no convolution, and the law is about shards of 1x1 convolutions".to_owned())
        } else if int8_bytes < FLOOR_BYTES {
            let below = FLOOR_BYTES - int8_bytes;
            let reason = format!(
                "{} compiled INT8 is {} below the floor of {}: Core ML puts such a shard on the CPU, without an error",
                megabytes(int8_bytes),
                megabytes(below),
                megabytes(FLOOR_BYTES)
            );
            (Device::Cpu, reason)
        } else {
            let reason = format!(
                "{} compiled INT8 is {} above the floor of {}",
                megabytes(int8_bytes),
                megabytes(int8_bytes - FLOOR_BYTES),
                megabytes(FLOOR_BYTES)
            );
            (Device::Ane, reason)
        };
        if size.weight_elements > 0 && size.weights > size.weight_elements * 3 / 2 {
            caveats.push(format!(
                "the weights are stored wider than INT8 ({}); the law was found on INT8, and is applied to their number",
                megabytes(size.weights)
            ));
        }
        if int8_bytes.abs_diff(FLOOR_BYTES) < FLOOR_BYTES / 5 {
            caveats
                .push("within 20 % of a floor that is known as \"about 14 MB\" from two points".to_owned());
        }
        Self { device, int8_bytes, floor_bytes: FLOOR_BYTES, reason, caveats }
    }
}

fn has_conv(program: &Program) -> bool {
    program.functions.values().flat_map(|f| &f.block.operations).any(|o| o.op == "conv")
}

fn has_fp32(program: &Program) -> bool {
    let operations = program.functions.values().flat_map(|f| &f.block.operations);
    let mut computed = operations.filter(|o| o.op != "const").flat_map(|o| &o.outputs);
    computed.any(|v| matches!(&v.ty, ValueType::Tensor(t) if t.dtype == mlpackage::DType::Fp32))
}

/// Decimal megabytes, as Experiment 27 states sizes.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
