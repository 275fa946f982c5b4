//! What a load is at. The first one of a package can take minutes: Core ML compiles it for the Neural Engine, and again after every
//! update of the system.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A step of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadStep {
    /// Another load compiles the same package.
    Waiting,
    /// The cache cannot be used, so that the compiled package is not kept.
    NotKept {
        /// Why.
        reason: String,
    },
    /// The package is being compiled; the result is kept.
    Compiling,
    /// The compiled package is being loaded: a function, for these compute units.
    Loading {
        /// Name of the function.
        function: String,
    },
    /// The function is called a few times, as the first calls are slower than the rest.
    WarmingUp,
    /// A call to warm up failed. The load goes on; what is wrong will be told by the first call that somebody made.
    WarmUpFailed {
        /// In Core ML's words.
        message: String,
    },
    /// Done.
    Loaded {
        /// How long compiling took; `None` if the package had been compiled before.
        compile: Option<Duration>,
        /// How long loading took.
        load: Duration,
        /// How long warming up took.
        warm_up: Duration,
    },
}

/// Who is told of each step, from the thread that loads.
pub type LoadObserver = Arc<dyn Fn(&LoadStep) + Send + Sync>;

/// The step as a line.
impl fmt::Display for LoadStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("Core ML: another load compiles this package; waiting for it"),
            Self::NotKept { reason } => write!(f, "Core ML: the compiled package is not kept: {reason}"),
            Self::Compiling => f.write_str("Core ML: compiling the package, once"),
            Self::Loading { function } => {
                write!(f, "Core ML: loading {function}; a first load can take minutes")
            }
            Self::WarmingUp => f.write_str("Core ML: warming up"),
            Self::WarmUpFailed { message } => write!(f, "Core ML: a call to warm up failed: {message}"),
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
