//! Progress of a load.
//!
//! The first load of a package can take minutes: Core ML compiles it for the Neural Engine, and again after
//! every update of the system.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A step of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadStep {
    /// Another load is compiling the same package.
    Waiting,
    /// The cache cannot be used, so the compiled package is not kept.
    NotKept {
        /// The reason.
        reason: String,
    },
    /// The package is being compiled.
    Compiling,
    /// A function of the compiled package is being loaded for the engine's compute units.
    Loading {
        /// Name of the function.
        function: String,
    },
    /// The function is called a few times, because the first calls are slower than later ones.
    WarmingUp,
    /// A warm-up call failed. The load continues; if something is wrong, the first real call reports it.
    WarmUpFailed {
        /// Core ML's error message.
        message: String,
    },
    /// The load is complete.
    Loaded {
        /// How long compiling took; `None` if the package was already compiled.
        compile: Option<Duration>,
        /// How long loading took.
        load: Duration,
        /// How long warming up took.
        warm_up: Duration,
    },
}

/// Receives each step, on the thread that loads.
pub type LoadObserver = Arc<dyn Fn(&LoadStep) + Send + Sync>;

/// Writes the step as a line of text.
impl fmt::Display for LoadStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("Core ML: another load is compiling this package; waiting for it"),
            Self::NotKept { reason } => write!(f, "Core ML: the compiled package is not kept: {reason}"),
            Self::Compiling => f.write_str("Core ML: compiling the package, once"),
            Self::Loading { function } => {
                write!(f, "Core ML: loading {function}; a first load can take minutes")
            }
            Self::WarmingUp => f.write_str("Core ML: warming up"),
            Self::WarmUpFailed { message } => write!(f, "Core ML: a warm-up call failed: {message}"),
            Self::Loaded { compile, load, warm_up } => {
                match compile {
                    Some(time) => write!(f, "Core ML: compiled in {:.1} s", time.as_secs_f64())?,
                    None => f.write_str("Core ML: compiled before")?,
                }
                write!(f, ", loaded in {:.1} s, ", load.as_secs_f64())?;
                write!(f, "warmed up in {:.0} ms", 1e3 * warm_up.as_secs_f64())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_lines() {
        let ms = Duration::from_millis;
        let loaded = |compile| LoadStep::Loaded { compile, load: ms(64_200), warm_up: ms(31) };
        assert_eq!(
            loaded(Some(ms(1_250))).to_string(),
            "Core ML: compiled in 1.2 s, loaded in 64.2 s, warmed up in 31 ms"
        );
        assert_eq!(
            loaded(None).to_string(),
            "Core ML: compiled before, loaded in 64.2 s, warmed up in 31 ms"
        );
        let loading = LoadStep::Loading { function: "main".into() };
        assert_eq!(loading.to_string(), "Core ML: loading main; a first load can take minutes");
    }
}
