//! Stops a run on Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;

use crate::cli::output;

/// Stops after the current step on Ctrl-C; a second one ends the process at once. `saved` is the newest step
/// on disk.
pub(super) fn stop_on_signals(saved: Arc<AtomicUsize>, folder: String) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        let step = saved.load(Ordering::Relaxed);
        let saved = match step {
            0 => "nothing of this run is saved yet".to_owned(),
            step => format!("it is saved up to step {step}"),
        };
        if asked.swap(true, Ordering::Relaxed) {
            let resume = match step {
                0 => String::new(),
                _ => format!("; microgpt train --resume {folder} continues from there"),
            };
            output::tell(&format!("ended at once: {saved}{resume}"));
            std::process::exit(130);
        }
        output::tell(&format!("stopping after this step and saving it; Ctrl-C again ends at once ({saved})"));
    })?;
    Ok(stop)
}
