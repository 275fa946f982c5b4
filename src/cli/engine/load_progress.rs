//! Shows the progress of loading a model into an engine.

use std::io::{self, IsTerminal as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ane_runtime::LoadStep;
use ane_runtime::core_ml::LoadObserver;

use crate::cli::output;

/// Loads that take less time are not reported when they finish.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// Shows load progress on standard error: as a spinner on a terminal, otherwise as a line for each step that
/// may take long.
pub(super) fn progress() -> LoadObserver {
    let spinner: Mutex<Option<indicatif::ProgressBar>> = Mutex::new(None);
    let on_terminal = io::stderr().is_terminal();
    Arc::new(move |step: &LoadStep| {
        let mut spinner = spinner.lock().unwrap_or_else(PoisonError::into_inner);
        match step {
            LoadStep::Loaded { compile, load, warm_up } => {
                if let Some(spinner) = spinner.take() {
                    spinner.finish_and_clear();
                }
                if compile.unwrap_or_default() + *load + *warm_up >= WORTH_A_LINE {
                    output::tell(&step.to_string());
                }
            }
            LoadStep::WarmUpFailed { .. } | LoadStep::NotKept { .. } => match &*spinner {
                Some(spinner) => spinner.suspend(|| output::tell(&step.to_string())),
                None => output::tell(&step.to_string()),
            },
            step if on_terminal => {
                spinner.get_or_insert_with(|| output::spinner("")).set_message(step.to_string());
            }
            LoadStep::Waiting | LoadStep::Compiling => output::tell(&step.to_string()),
            LoadStep::Loading { .. } | LoadStep::WarmingUp => {}
        }
    })
}
