//! Versions of MIL's set of operations.

use std::fmt;

/// An opset: which operations, in which form, a function may use. Each is tied to a specification version and to the
/// first systems that load it.
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
    /// Every opset, oldest first.
    pub const ALL: [Self; 5] = [Self::CoreML5, Self::CoreML6, Self::CoreML7, Self::CoreML8, Self::CoreML9];

    /// The string by which a function names its opset.
    pub fn name(self) -> &'static str {
        match self {
            Self::CoreML5 => "CoreML5",
            Self::CoreML6 => "CoreML6",
            Self::CoreML7 => "CoreML7",
            Self::CoreML8 => "CoreML8",
            Self::CoreML9 => "CoreML9",
        }
    }

    /// MIL text's name of the opset, such as `ios18`.
    pub fn text_name(self) -> &'static str {
        match self {
            Self::CoreML5 => "ios15",
            Self::CoreML6 => "ios16",
            Self::CoreML7 => "ios17",
            Self::CoreML8 => "ios18",
            Self::CoreML9 => "ios26",
        }
    }

    /// `specificationVersion` of a model that uses the opset.
    pub fn specification_version(self) -> i32 {
        match self {
            Self::CoreML5 => 6,
            Self::CoreML6 => 7,
            Self::CoreML7 => 8,
            Self::CoreML8 => 9,
            Self::CoreML9 => 10,
        }
    }

    /// The opset of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|o| o.name() == name)
    }
}

impl fmt::Display for Opset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
