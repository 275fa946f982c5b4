//! Versions of MIL's set of operations.

use std::fmt;

/// A version of the operation set, which a function declares. Each opset belongs to a version of the
/// specification and to the first systems that load it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opset {
    /// Specification 6: iOS 15, macOS 12.
    CoreML5,
    /// Specification 7: iOS 16, macOS 13. fp16 inputs and outputs.
    CoreML6,
    /// Specification 8: iOS 17, macOS 14.
    CoreML7,
    /// Specification 9: iOS 18, macOS 15. States, several functions, `constexpr_blockwise_shift_scale`.
    CoreML8,
    /// Specification 10: iOS 26, macOS 26. INT8 inputs and outputs.
    CoreML9,
}

impl Opset {
    /// All opsets, oldest first.
    pub const ALL: [Self; 5] = [Self::CoreML5, Self::CoreML6, Self::CoreML7, Self::CoreML8, Self::CoreML9];

    /// Returns the name that a function uses for its opset.
    pub fn name(self) -> &'static str {
        match self {
            Self::CoreML5 => "CoreML5",
            Self::CoreML6 => "CoreML6",
            Self::CoreML7 => "CoreML7",
            Self::CoreML8 => "CoreML8",
            Self::CoreML9 => "CoreML9",
        }
    }

    /// Returns the opset's name in MIL text, such as `ios18`.
    pub fn text_name(self) -> &'static str {
        match self {
            Self::CoreML5 => "ios15",
            Self::CoreML6 => "ios16",
            Self::CoreML7 => "ios17",
            Self::CoreML8 => "ios18",
            Self::CoreML9 => "ios26",
        }
    }

    /// Returns the `specificationVersion` that the opset requires.
    pub fn specification_version(self) -> i32 {
        match self {
            Self::CoreML5 => 6,
            Self::CoreML6 => 7,
            Self::CoreML7 => 8,
            Self::CoreML8 => 9,
            Self::CoreML9 => 10,
        }
    }

    /// Returns the opset with the given name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|o| o.name() == name)
    }
}

impl fmt::Display for Opset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
