//! What the commands that generate text share.

use ane_runtime::Sampling;
use clap::Args;

/// How tokens are chosen.
#[derive(Debug, Args)]
pub(super) struct SamplingArgs {
    /// Values below 1 make likely tokens likelier, values above 1 less likely; 0 always chooses the most
    /// likely token
    #[arg(long, default_value_t = 0.5, allow_negative_numbers = true)]
    temperature: f32,
    /// Draw from the K most likely tokens only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the smallest set of most likely tokens whose total probability is at least P
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Seed; the same seed produces the same texts
    #[arg(long, default_value_t = 42)]
    pub(super) seed: u64,
}

impl SamplingArgs {
    pub(super) fn sampling(&self) -> ane_runtime::Result<Sampling> {
        Sampling::from_options(self.temperature, self.top_k, self.top_p)
    }
}

/// Explains that texts end because the context is full, not where the model would have ended them.
pub(super) fn context_is_full(texts: usize, of: usize, context_length: usize) -> String {
    let which = match (texts, of) {
        (1, 1) => "the text ends".to_owned(),
        (1, _) => format!("1 of {of} texts ends"),
        _ => format!("{texts} of {of} texts end"),
    };
    format!(
        "note: {which} because the context of {context_length} tokens is full, perhaps in mid-word; a model that is trained with \
         --block-size {} writes longer texts",
        2 * context_length
    )
}

/// Parses an integer of at least 1.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("there is nothing to do; give at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected an integer of at least 1".to_owned()),
    }
}
