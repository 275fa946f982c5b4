//! Recognizes a run that diverged.

use microgpt_model::Trained;

/// A run whose final loss exceeds that of uniform guessing by more than this many nats has diverged.
const DIVERGED: f32 = 1.0;

/// Reports a run that diverged, and suggests what to try.
pub(super) fn divergence(trained: &Trained) -> Option<String> {
    let (report, vocab) = (&trained.report, trained.config.vocab_size);
    let nothing = (vocab as f32).ln();
    let limit = nothing + DIVERGED;
    if report.train_loss <= limit {
        return None;
    }
    let first = report.history.first().map_or(0.0, |step| step.loss);
    let small = microgpt_model::WIDE_INIT_STD;
    let advice = match first > limit && report.init_std > small {
        true => format!(
            "it began at {first:.2}, so try smaller initial weights: --init-std {small} instead of {}",
            report.init_std
        ),
        false => {
            format!(
                "try --learning-rate {} instead of {}",
                microgpt_model::a_tenth(report.learning_rate),
                report.learning_rate
            )
        }
    };
    Some(format!(
        "the run diverged: its training loss is {:.2}, and uniform guessing costs ln {vocab} = {nothing:.2}. The model is useless; \
         {advice}",
        report.train_loss
    ))
}
