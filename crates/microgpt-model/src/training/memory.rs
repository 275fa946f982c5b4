//! Whether a model can be trained in the memory that is free.

use crate::config::GptConfig;
use crate::error::{Error, Result};

/// Bytes of memory that training takes for each parameter: the weight, its gradient and Adam's two moments, in f32.
const BYTES_A_PARAMETER: u64 = 16;

/// Refuses a model that does not fit into the memory that is left, where the system says how much that is.
pub(super) fn check(config: &GptConfig) -> Result<()> {
    let needed = config.parameters().saturating_mul(BYTES_A_PARAMETER);
    match available() {
        Some(available) if needed > available => Err(Error::Config {
            field: "n_embd",
            reason: format!(
                "{} with n_layer {} makes {} parameters, training them takes more than {:.1} GB, {:.1} GB are free",
                config.n_embd,
                config.n_layer,
                config.parameters(),
                needed as f64 / 1e9,
                available as f64 / 1e9
            ),
        }),
        _ => Ok(()),
    }
}

/// What Linux says could be had without swapping; `None` elsewhere.
fn available() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}
