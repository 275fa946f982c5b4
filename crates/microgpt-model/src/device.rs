//! burn's backends, by name.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::error::{Error, Result};

/// A backend that this build has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// burn's recommended CPU backend.
    #[cfg(feature = "flex")]
    Flex,
    /// burn's older CPU backend, deprecated upstream.
    #[cfg(feature = "ndarray")]
    Ndarray,
}

impl Backend {
    /// Every backend of this build; the first is the default.
    pub const ALL: &'static [Self] = &[
        #[cfg(feature = "flex")]
        Self::Flex,
        #[cfg(feature = "ndarray")]
        Self::Ndarray,
    ];

    /// Its name, as `--backend` takes it.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => "flex",
            #[cfg(feature = "ndarray")]
            Self::Ndarray => "ndarray",
        }
    }

    /// burn's device for it, without gradients.
    pub fn device(self) -> Device {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => Device::flex(),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)] // asked for by name
            Self::Ndarray => Device::ndarray(),
        }
    }
}

impl Default for Backend {
    fn default() -> Self {
        Self::ALL[0]
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|b| b.name() == name).ok_or_else(|| {
            let built: Vec<_> = Self::ALL.iter().map(|b| b.name()).collect();
            Error::Training {
                option: "backend",
                reason: format!(
                    "{name:?} is not in this build, which has {}; build with --features ndarray for ndarray",
                    built.join(", ")
                ),
            }
        })
    }
}
