//! A chat over any pair of streams: a line in, completions of it streamed back.

use std::io::{BufRead, Read as _, Write};
use std::time::{Duration, Instant};

use mlpackage::counted;

use crate::error::{Error, Result};
use crate::generate::Generation;
use crate::logits::LogitsSource;
use crate::sampling::{Sampler, Sampling};
use crate::tokenizer::TextTokenizer;

/// A chat with a model.
pub struct ChatSession<'a> {
    source: &'a mut dyn LogitsSource,
    tokenizer: &'a TextTokenizer,
    sampler: Sampler,
    completions: usize,
    seed: u64,
}

/// What a chat did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChatSummary {
    /// Completions given.
    pub completions: usize,
    /// Tokens that the model was run on.
    pub tokens: usize,
    /// Time that it took.
    pub time: Duration,
}

impl ChatSummary {
    /// Tokens a second; `None` before the first.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.tokens as f64 / self.time.as_secs_f64())
    }
}

/// No context holds more, and no memory is spent on reading it.
const LINE_LIMIT: u64 = 1 << 16;

const HELP: &str = "\
Type the beginning of a text and press return; an empty line begins from nothing.
  /temperature X   sharper below 1, wilder above (0: always the most likely token)
  /n N             completions a line
  /help            this
  /quit            end (so does the end of input)";

impl<'a> ChatSession<'a> {
    /// A chat that answers each line with `completions` completions.
    pub fn new(
        source: &'a mut dyn LogitsSource,
        tokenizer: &'a TextTokenizer,
        sampling: Sampling,
        completions: usize,
        seed: u64,
    ) -> Self {
        Self { source, tokenizer, sampler: Sampler::new(sampling, seed), completions, seed }
    }

    /// Answers lines until the input ends or asks to quit. What a user types wrong is answered, not returned. `prompt` is
    /// shown before each line; empty for input that nobody types.
    ///
    /// # Errors
    ///
    /// [`Error::Chat`] if a stream fails; whatever the engine reports.
    pub fn run(
        &mut self,
        mut input: impl BufRead,
        mut output: impl Write,
        prompt: &str,
    ) -> Result<ChatSummary> {
        let mut summary = ChatSummary::default();
        loop {
            write!(output, "{prompt}")?;
            output.flush()?;
            let mut line = Vec::new();
            // Lines as bytes: what is not UTF-8 is the user's mistake, not the end of the chat.
            if input.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line)? == 0 {
                return Ok(summary);
            }
            if line.len() as u64 == LINE_LIMIT && line.last() != Some(&b'\n') {
                input.skip_until(b'\n')?;
                writeln!(output, "! a line has at most {LINE_LIMIT} bytes")?;
                continue;
            }
            let Ok(line) = str::from_utf8(&line) else {
                writeln!(output, "! that is not UTF-8")?;
                continue;
            };
            let line = line.trim();
            match line.strip_prefix('/') {
                Some("quit" | "exit") => return Ok(summary),
                Some(command) => writeln!(output, "{}", self.command(command))?,
                None => self.answer(line, &mut output, &mut summary)?,
            }
        }
    }

    fn command(&mut self, command: &str) -> String {
        let (name, value) = command.split_once(' ').unwrap_or((command, ""));
        match name {
            "temperature" => match value
                .trim()
                .parse()
                .map_err(|_| ())
                .and_then(|t| Sampling::from_options(t, None, None).map_err(|_| ()))
            {
                Ok(sampling) => {
                    self.sampler = Sampler::new(sampling, self.seed);
                    format!("temperature {}", value.trim())
                }
                Err(()) => format!("! {value:?} is no temperature: a number of at least 0"),
            },
            "n" => match value.trim().parse() {
                Ok(n @ 1..=1_000) => {
                    self.completions = n;
                    format!("{} a line", counted(n, "completion"))
                }
                _ => format!("! {value:?} is no number from 1 to 1000"),
            },
            "help" => HELP.to_owned(),
            _ => format!("! no command /{name}; /help lists them"),
        }
    }

    fn answer(&mut self, line: &str, output: &mut impl Write, summary: &mut ChatSummary) -> Result<()> {
        for _ in 0..self.completions {
            let started = Instant::now();
            let mut generation =
                match Generation::new(self.source, self.tokenizer, &mut self.sampler, line, usize::MAX) {
                    Ok(generation) => generation,
                    Err(e @ (Error::UnknownCharacter { .. } | Error::ContextFull { .. })) => {
                        writeln!(output, "! {e}")?;
                        return Ok(());
                    }
                    Err(e) => return Err(e),
                };
            write!(output, "  {line}")?;
            for piece in generation.by_ref() {
                write!(output, "{}", piece?)?;
                output.flush()?;
            }
            writeln!(output)?;
            summary.tokens += generation.tokens();
            summary.completions += 1;
            summary.time += started.elapsed();
        }
        Ok(())
    }
}
