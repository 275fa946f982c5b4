//! Checks that a model can be trained in the free memory.

use crate::config::GptConfig;
use crate::error::{Error, Result};

/// Copies of a layer's attention scores that a step keeps in memory: the scores, their softmax, and what the
/// gradient needs of them.
const COPIES_OF_ATTENTION: u64 = 3;

/// Refuses a model whose training does not fit into the free memory, where the system reports it.
pub(super) fn check_parameters(config: &GptConfig) -> Result<()> {
    let needed = config.training_bytes();
    match available() {
        Some(available) if needed > available => Err(Error::Config {
            field: "n_embd",
            reason: format!(
                "{} with n_layer {} gives {} parameters; training them takes more than {:.1} GB, and {:.1} GB are free",
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

/// Refuses a batch whose attention does not fit: every position attends to every other, in every head of
/// every layer.
pub(super) fn check_attention(config: &GptConfig, rows: usize, positions: usize) -> Result<()> {
    let one = (rows as u64).saturating_mul(positions as u64).saturating_mul(4 * positions as u64);
    let copies = (config.n_head as u64).saturating_mul(config.n_layer as u64 * COPIES_OF_ATTENTION);
    let needed = one.saturating_mul(copies + 1);
    match available() {
        Some(available) if needed > available => Err(Error::Config {
            field: "block_size",
            reason: format!(
                "a step's attention over {positions} positions takes about {:.1} GB, and {:.1} GB are free: lower it or \
                 batch_size, or raise accumulate",
                needed as f64 / 1e9,
                available as f64 / 1e9
            ),
        }),
        _ => Ok(()),
    }
}

/// Returns the memory that Linux reports as available without swapping, in bytes; `None` on other systems.
fn available() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}
