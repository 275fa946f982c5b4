//! burn's backends, by name.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Device, DeviceType};

use crate::error::{Error, Result};

/// A backend that is part of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// burn's recommended CPU backend.
    #[cfg(feature = "flex")]
    Flex,
    /// burn's older CPU backend, deprecated upstream.
    #[cfg(feature = "ndarray")]
    Ndarray,
    /// Any GPU that `wgpu` finds: Vulkan, DirectX 12, Metal.
    #[cfg(feature = "wgpu")]
    Wgpu,
    /// Apple's GPUs, in Metal's shading language.
    #[cfg(feature = "metal")]
    Metal,
    /// NVIDIA's GPUs.
    #[cfg(feature = "cuda")]
    Cuda,
    /// AMD's GPUs.
    #[cfg(feature = "rocm")]
    Rocm,
}

impl Backend {
    /// Every backend of this build; the first is the default.
    pub const ALL: &'static [Self] = &[
        #[cfg(feature = "flex")]
        Self::Flex,
        #[cfg(feature = "ndarray")]
        Self::Ndarray,
        #[cfg(feature = "wgpu")]
        Self::Wgpu,
        #[cfg(feature = "metal")]
        Self::Metal,
        #[cfg(feature = "cuda")]
        Self::Cuda,
        #[cfg(feature = "rocm")]
        Self::Rocm,
    ];

    /// Returns the backend's name, as `--backend` accepts it.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => "flex",
            #[cfg(feature = "ndarray")]
            Self::Ndarray => "ndarray",
            #[cfg(feature = "wgpu")]
            Self::Wgpu => "wgpu",
            #[cfg(feature = "metal")]
            Self::Metal => "metal",
            #[cfg(feature = "cuda")]
            Self::Cuda => "cuda",
            #[cfg(feature = "rocm")]
            Self::Rocm => "rocm",
        }
    }

    /// Returns the device type under which burn lists the hardware; `None` for the CPU, whose tensors are in
    /// this process's memory.
    fn hardware(self) -> Option<DeviceType> {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => None,
            #[cfg(feature = "ndarray")]
            Self::Ndarray => None,
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Some(DeviceType::Wgpu),
            #[cfg(feature = "metal")]
            Self::Metal => Some(DeviceType::Metal),
            #[cfg(feature = "cuda")]
            Self::Cuda => Some(DeviceType::Cuda),
            #[cfg(feature = "rocm")]
            Self::Rocm => Some(DeviceType::Rocm),
        }
    }

    /// Returns whether tensors are in this process's memory.
    pub(crate) fn is_host(self) -> bool {
        self.hardware().is_none()
    }

    /// Returns `count` devices of the backend, without autodiff.
    ///
    /// # Errors
    ///
    /// [`Error::Training`] if this machine has fewer.
    pub(crate) fn devices(self, count: usize) -> Result<Vec<Device>> {
        let bad = |reason| Err(Error::Training { option: "devices", reason });
        if count == 0 {
            return bad("0, expected at least 1".into());
        }
        let Some(hardware) = self.hardware() else {
            if count == 1 {
                return Ok(vec![self.device()]);
            }
            return bad(format!(
                "{count}, but burn's {self} runs on the CPU, which is one device and already uses every core: accumulate \
                 computes a large batch in parts on one device"
            ));
        };
        let found: Vec<Device> = Device::enumerate(hardware).into_iter().collect();
        match found.len() {
            0 => bad(format!("burn's {self} finds none on this machine: choose another backend")),
            n if n < count => bad(format!("{count}, burn's {self} finds {n}")),
            _ => Ok(found.into_iter().take(count).collect()),
        }
    }

    /// Returns the backend's default device, without autodiff.
    ///
    /// # Panics
    ///
    /// burn panics on the first use of a device that the machine does not have.
    pub fn device(self) -> Device {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => Device::flex(),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)] // asked for by name
            Self::Ndarray => Device::ndarray(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
            #[cfg(feature = "metal")]
            Self::Metal => Device::metal(burn::tensor::DeviceKind::DefaultDevice),
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::cuda(burn::tensor::DeviceIndex::Default),
            #[cfg(feature = "rocm")]
            Self::Rocm => Device::rocm(burn::tensor::DeviceIndex::Default),
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
            let built = built.join(", ");
            let reason = match FEATURES.contains(&name) {
                true => {
                    format!("{name} is not in this build, which has {built}: enable the feature {name}")
                }
                false => {
                    format!("{name:?} is unknown: this build has {built}; all are {}", FEATURES.join(", "))
                }
            };
            Error::Training { option: "backend", reason }
        })
    }
}

/// Every backend that a build can have, by the name of its feature.
const FEATURES: [&str; 6] = ["flex", "ndarray", "wgpu", "metal", "cuda", "rocm"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_by_name() {
        for &backend in Backend::ALL {
            assert_eq!(backend.name().parse::<Backend>().unwrap(), backend);
            assert!(FEATURES.contains(&backend.name()));
        }
        let error = "tpu".parse::<Backend>().unwrap_err().to_string();
        assert!(error.contains("\"tpu\" is unknown") && error.contains("cuda"), "{error}");
    }

    #[test]
    fn the_cpu_is_one_device() {
        assert_eq!(Backend::default().devices(1).unwrap().len(), 1);
        let error = Backend::default().devices(2).unwrap_err().to_string();
        assert!(error.contains("one device") && error.contains("accumulate"), "{error}");
    }
}
