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

    /// Whether its tensors are memory of this process.
    pub(crate) fn is_host(self) -> bool {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => true,
            #[cfg(feature = "ndarray")]
            Self::Ndarray => true,
        }
    }

    /// As many of its devices as are asked for, without gradients.
    ///
    /// # Errors
    ///
    /// [`Error::Training`] if it has fewer.
    pub(crate) fn devices(self, count: usize) -> Result<Vec<Device>> {
        match count {
            0 => Err(Error::Training { option: "devices", reason: "0, expected at least 1".into() }),
            1 => Ok(vec![self.device()]),
            _ => Err(Error::Training {
                option: "devices",
                reason: format!(
                    "{count}, but burn's {self} runs on the CPU, which is one device and already takes every core: \
                     accumulate computes a large batch in parts on one device"
                ),
            }),
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

impl serde::Serialize for Backend {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for Backend {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
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
