//! `microgpt chat`

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use ane_runtime::chat::ChatSession;
use ane_runtime::{Decoder, LogitsSource as _, Sampler, TextTokenizer};
use anyhow::{Result, bail, ensure};
use clap::Args;
use mlpackage::counted;

use super::engine::EngineArgs;
use super::generation::{SamplingArgs, at_least_one, context_is_full};
use super::{Exit, open, output};

/// Chat with a bundle: type the beginning of a name, get completions streamed back.
#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// The bundle's folder [default: ./bundle, if it is there]
    bundle: Option<PathBuf>,
    /// Completions per line
    #[arg(short, default_value_t = 3, value_parser = at_least_one)]
    n: usize,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Chat {
    pub(crate) fn run(self) -> Result<Exit> {
        let path = match self.bundle {
            Some(path) => path,
            None if PathBuf::from("bundle").is_dir() => "bundle".into(),
            None => bail!(
                "no bundle given and none at ./bundle: make one with `microgpt train --out ckpt` and \
                 `microgpt export ckpt --out bundle`"
            ),
        };
        let bundle = open::bundle(&path)?;
        let tokenizer = TextTokenizer::from_bundle(&bundle)?;
        let mut decoder = Decoder::load(&bundle, &*self.engine.decoding()?.engine()?)?;
        let sampler = Sampler::new(self.sampling.sampling()?, self.sampling.seed)?;
        let interactive = io::stdin().is_terminal();
        if interactive {
            output::print(&format!("{} on {}; /help for help\n", path.display(), decoder.name()))?;
        }
        let mut noticed = false;
        let mut session = ChatSession::new(&mut decoder, &tokenizer, sampler, self.n).on_full_context(
            |texts, of, context| {
                // Only once: it is the same for every line.
                if !std::mem::replace(&mut noticed, true) {
                    output::tell(&context_is_full(texts, of, context));
                }
            },
        );
        let prompt = if interactive { "> " } else { "" };
        let summary = session.run(io::stdin().lock(), output::Visible(io::stdout().lock()), prompt)?;
        if let Some(speed) = summary.tokens_per_second() {
            let (completions, tokens) =
                (counted(summary.completions, "completion"), counted(summary.tokens, "token"));
            output::tell(&format!("{completions}, {tokens}, {speed:.0} tokens/s"));
        }
        // A person sees the refusal and types something else; a script would take exit code 0 for success.
        ensure!(
            interactive || summary.refused == 0 || summary.answered > 0,
            "no line could be answered: each is marked with `!` in the output"
        );
        Ok(Exit::Done)
    }
}
