//! The choice of an engine and its options, for programs that leave it to their users.

use mlpackage::named_enum;

use crate::core_ml::{ComputeUnits, LoadObserver};
use crate::engine::Engine;
use crate::error::Result;
use crate::mil_cpu::{MilCpu, Numerics};

named_enum! {
    /// An engine, chosen by name.
    EngineKind, "engine", default Auto, {
        /// Core ML if it can run decoders, which it can on macOS 15 and later; mil-cpu otherwise.
        Auto = "auto",
        /// Core ML.
        CoreMl = "coreml",
        /// The engine mil-cpu, which runs on any machine.
        MilCpu = "mil-cpu",
    }
}

impl EngineKind {
    /// Resolves `Auto` to the engine for this machine; returns any other kind unchanged.
    #[must_use]
    pub fn here(self) -> Self {
        #[cfg(all(target_os = "macos", feature = "coreml"))]
        let best = if crate::core_ml::CoreMl::has_states() { Self::CoreMl } else { Self::MilCpu };
        #[cfg(not(all(target_os = "macos", feature = "coreml")))]
        let best = Self::MilCpu;
        if self == Self::Auto { best } else { self }
    }
}

/// An engine and its options. Each engine uses the options that concern it.
///
/// ```
/// use ane_runtime::EngineOptions;
///
/// let engine = EngineOptions::default().with_threads(2).engine()?;
/// println!("{}", engine.name()); // coreml (cpu-and-ane) on a Mac, mil-cpu (fast) elsewhere
/// # Ok::<(), ane_runtime::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct EngineOptions {
    /// The kind of engine.
    pub kind: EngineKind,
    /// Arithmetic of mil-cpu.
    pub numerics: Numerics,
    /// Number of threads of mil-cpu; `None` leaves the choice to it.
    pub threads: Option<usize>,
    /// The devices that Core ML may use.
    pub compute_units: ComputeUnits,
    /// Receives Core ML load progress.
    pub observer: Option<LoadObserver>,
}

/// The best engine of the machine, with fast arithmetic on mil-cpu and the default compute units on Core ML.
impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            kind: EngineKind::Auto,
            numerics: Numerics::Fast,
            threads: None,
            compute_units: ComputeUnits::default(),
            observer: None,
        }
    }
}

impl EngineOptions {
    /// Sets the kind of engine.
    #[must_use]
    pub fn with_kind(self, kind: EngineKind) -> Self {
        Self { kind, ..self }
    }

    /// Sets the arithmetic of mil-cpu.
    #[must_use]
    pub fn with_numerics(self, numerics: Numerics) -> Self {
        Self { numerics, ..self }
    }

    /// Sets the number of threads of mil-cpu.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads: Some(threads), ..self }
    }

    /// Sets the devices that Core ML may use.
    #[must_use]
    pub fn with_compute_units(self, compute_units: ComputeUnits) -> Self {
        Self { compute_units, ..self }
    }

    /// Sets what receives Core ML load progress.
    #[must_use]
    pub fn with_observer(self, observer: LoadObserver) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// Creates the engine.
    ///
    /// # Errors
    ///
    /// [`Error::NeedsMac`](crate::Error::NeedsMac) if the engine is Core ML and this is not a Mac.
    pub fn engine(&self) -> Result<Box<dyn Engine>> {
        match self.kind.here() {
            EngineKind::CoreMl => self.core_ml(),
            EngineKind::Auto | EngineKind::MilCpu => Ok(Box::new(self.mil_cpu())),
        }
    }

    /// Creates the engine mil-cpu with these options, whatever the kind.
    pub fn mil_cpu(&self) -> MilCpu {
        let engine = MilCpu::new(self.numerics);
        match self.threads {
            Some(threads) => engine.with_threads(threads),
            None => engine,
        }
    }

    #[cfg(all(target_os = "macos", feature = "coreml"))]
    fn core_ml(&self) -> Result<Box<dyn Engine>> {
        let engine = crate::core_ml::CoreMl::new(self.compute_units);
        Ok(match &self.observer {
            Some(observer) => Box::new(engine.with_observer(observer.clone())),
            None => Box::new(engine),
        })
    }

    #[cfg(all(target_os = "macos", not(feature = "coreml")))]
    fn core_ml(&self) -> Result<Box<dyn Engine>> {
        Err(crate::Error::NeedsFeature { what: "the engine coreml", feature: "coreml" })
    }

    #[cfg(not(target_os = "macos"))]
    fn core_ml(&self) -> Result<Box<dyn Engine>> {
        Err(crate::Error::NeedsMac { what: "the engine coreml is Core ML itself" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_read_back() {
        for &kind in EngineKind::ALL {
            assert_eq!(kind.name().parse::<EngineKind>().unwrap(), kind);
        }
        let error = "ane".parse::<EngineKind>().unwrap_err().to_string();
        assert_eq!(error, "engine \"ane\": expected one of auto, coreml, mil-cpu");
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn off_a_mac_auto_is_mil_cpu_and_core_ml_says_what_to_do() {
        let options = EngineOptions::default().with_threads(1);
        assert_eq!(options.kind.here(), EngineKind::MilCpu);
        assert_eq!(options.engine().unwrap().name(), "mil-cpu (fast)");
        assert_eq!(options.mil_cpu().threads(), 1);
        let error = options.with_kind(EngineKind::CoreMl).engine().err().unwrap().to_string();
        assert!(error.contains("run this on a Mac") && error.contains("mil-cpu"), "{error}");
    }
}
