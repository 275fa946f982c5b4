//! Chooses the context length for the user's own text.

use anyhow::Result;
use microgpt_model::{Corpus, Layout, Tokenizer, Trainer};

use super::Train;
use crate::cli::output;

/// Longest context that is chosen for documents: the cost of attention is quadratic in it.
const MOST: usize = 256;
/// Longest context that is chosen for running text, whose length does not suggest one.
const MOST_PACKED: usize = 128;
/// A context other than the preset's is a multiple of this: states of other lengths are reported to fail in
/// Core ML.
const MULTIPLE: usize = 32;
/// The context must leave at least this many windows of running text.
const WINDOWS: usize = 16;
/// Longest context that is suggested for documents; longer ones should be running text.
const WORTH_ADVISING: usize = 4096;

/// Returns the context for a text: the preset's, or a longer one if the text's documents need it, which is
/// then reported.
///
/// For documents it is the smallest multiple of 32 that holds the longest one, up to 256; for running text
/// the largest multiple of 32 that leaves sixteen windows, up to 128.
pub(super) fn choose(preset: usize, corpus: &Corpus, tokenizer: &Tokenizer) -> Result<usize> {
    let (chosen, reason) = match corpus.layout() {
        Layout::Lines => {
            let mut longest = 0;
            for document in corpus.documents() {
                // A token has at least one byte, so most documents need not be encoded.
                if document.len() + 1 > longest.max(preset) {
                    longest = longest.max(tokenizer.encode(document)?.len() + 1);
                }
            }
            let fits = if longest <= preset { preset } else { longest.next_multiple_of(MULTIPLE).min(MOST) };
            (fits, format!("the longest document has {longest}, including BOS"))
        }
        Layout::Packed => {
            let text: String = corpus.documents()[0].chars().take(WINDOWS * MOST_PACKED * 8).collect();
            let window = tokenizer.encode(&text)?.len() / WINDOWS;
            let fits = (window / MULTIPLE * MULTIPLE).min(MOST_PACKED);
            (fits, "the running text then has at least sixteen windows".to_owned())
        }
    };
    if chosen <= preset {
        return Ok(preset);
    }
    output::tell(&format!(
        "context: {chosen} tokens, as {reason}; --block-size {preset} restores the preset's"
    ));
    Ok(chosen)
}

/// Reports how many documents are cut at the context, and which command trains on all of them.
pub(super) fn warn_of_cut_documents(trainer: &Trainer, command: &Train) {
    let sizes = trainer.sizes();
    if sizes.cut == 0 {
        return;
    }
    let again = another_run(command);
    let mut advice = Vec::new();
    let whole = sizes.longest.next_multiple_of(MULTIPLE);
    if whole <= WORTH_ADVISING {
        advice.push(format!("`{again} --block-size {whole}` trains on whole documents"));
    }
    // The built-in names are not running text.
    if command.data.data.is_some() || command.resume.is_some() {
        advice.push(format!("`{again} --packed` trains on all of the text"));
    }
    output::tell(&format!(
        "warning: {} of {} documents are longer than the context of {} tokens, and the part beyond it is not trained on: {}",
        sizes.cut,
        sizes.examples + sizes.held_out,
        trainer.config().block_size,
        advice.join("; ")
    ));
}

/// Returns the command of a new run on the same text, without the options that set its context and
/// destination.
fn another_run(command: &Train) -> String {
    let mut words = vec!["microgpt train".to_owned()];
    if command.resume.is_some() || command.model.init.is_some() {
        // The options of that run are not known here.
        let data = command.data.data.as_deref().map_or("TEXT".to_owned(), output::path);
        words.push(format!("--data {data}"));
    } else {
        const LEFT_OUT: [&str; 2] = ["--block-size", "--out"];
        let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
        let mut arguments = arguments.skip_while(|argument| argument != "train").skip(1);
        while let Some(argument) = arguments.next() {
            if LEFT_OUT.contains(&argument.as_str()) {
                arguments.next();
            } else if argument != "--force"
                && !LEFT_OUT.iter().any(|o| argument.starts_with(&format!("{o}=")))
            {
                words.push(output::quoted(&argument));
            }
        }
    }
    words.push("--out NEW".to_owned());
    words.join(" ")
}
