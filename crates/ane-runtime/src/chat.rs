//! A chat over any pair of streams: reads lines and streams completions back.

use std::io::{self, BufRead, Read as _, Write};
use std::time::{Duration, Instant};

use mlpackage::counted;

use crate::error::{Error, Result};
use crate::generate::{FinishReason, Generation};
use crate::logits::LogitsSource;
use crate::sampling::{Sampler, Sampling};
use crate::tokenizer::TextTokenizer;

/// A chat with a model.
pub struct ChatSession<'a> {
    source: &'a mut dyn LogitsSource,
    tokenizer: &'a TextTokenizer,
    sampler: Sampler,
    completions: usize,
    /// The top-k and top-p that the chat began with, for every temperature.
    top: (Option<usize>, Option<f32>),
    notice: Option<Box<FullContext<'a>>>,
}

/// Receives how many completions of a line ended because the context was full, the number of completions, and
/// the length of the context.
type FullContext<'a> = dyn FnMut(usize, usize, usize) + 'a;

/// Statistics of a chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChatSummary {
    /// Number of completions.
    pub completions: usize,
    /// Number of tokens that the model ran on.
    pub tokens: usize,
    /// Number of completions that ended because the context was full.
    pub context_full: usize,
    /// Number of lines that were answered with completions.
    pub answered: usize,
    /// Number of lines that could not be answered, unknown commands included.
    pub refused: usize,
    /// Time spent on completions.
    pub time: Duration,
}

impl ChatSummary {
    /// Returns tokens per second; `None` before the first token.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.tokens as f64 / self.time.as_secs_f64())
    }
}

/// Longest line in bytes. No context holds more, and reading it costs little memory.
const LINE_LIMIT: u64 = 1 << 16;

const HELP: &str = "\
Type the beginning of a text and press return; an empty line begins from nothing.
  /temperature X   sharper below 1, wilder above (0: always the most likely token)
  /n N             completions per line
  /help            this
  /quit            end (so does the end of input)";

impl<'a> ChatSession<'a> {
    /// Creates a chat that answers each line with `completions` completions, whose tokens `sampler` chooses.
    ///
    /// The user can change the temperature; top-k, top-p and the random numbers stay those of `sampler`.
    pub fn new(
        source: &'a mut dyn LogitsSource,
        tokenizer: &'a TextTokenizer,
        sampler: Sampler,
        completions: usize,
    ) -> Self {
        let (_, k, p) = sampler.sampling().options();
        Self { source, tokenizer, sampler, completions, top: (k, p), notice: None }
    }

    /// Calls `notice` after each line with completions that ended because the context was full.
    ///
    /// `notice` receives the number of those completions, the number of all completions of the line, and the
    /// length of the context. Without a notice, the user would take the cut for the model's end of document.
    pub fn on_full_context(mut self, notice: impl FnMut(usize, usize, usize) + 'a) -> Self {
        self.notice = Some(Box::new(notice));
        self
    }

    /// Answers lines until the input ends or the user quits.
    ///
    /// Mistakes of the user are answered, not returned as errors. `prompt` is printed before each line; pass
    /// an empty string if nobody types the input.
    ///
    /// # Errors
    ///
    /// [`Error::Chat`] if a stream fails; whatever error the engine reports.
    pub fn run(
        &mut self,
        mut input: impl BufRead,
        mut output: impl Write,
        prompt: &str,
    ) -> Result<ChatSummary> {
        let mut summary = ChatSummary::default();
        loop {
            write!(output, "{prompt}").map_err(writing)?;
            output.flush().map_err(writing)?;
            let mut line = Vec::new();
            // Lines are read as bytes: text that is not UTF-8 is the user's mistake, and does not end the
            // chat.
            if input.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line).map_err(reading)? == 0 {
                return Ok(summary);
            }
            if line.len() as u64 == LINE_LIMIT && line.last() != Some(&b'\n') {
                input.skip_until(b'\n').map_err(reading)?;
                summary.refused += 1;
                writeln!(output, "! a line has at most {LINE_LIMIT} bytes").map_err(writing)?;
                continue;
            }
            let Ok(line) = str::from_utf8(&line) else {
                summary.refused += 1;
                writeln!(output, "! that is not UTF-8").map_err(writing)?;
                continue;
            };
            let line = line.trim();
            match line.strip_prefix('/') {
                Some("quit" | "exit") => return Ok(summary),
                Some(command) => {
                    let answer = self.command(command);
                    summary.refused += usize::from(answer.starts_with('!'));
                    writeln!(output, "{answer}").map_err(writing)?;
                }
                None => self.answer(line, &mut output, &mut summary)?,
            }
        }
    }

    fn command(&mut self, command: &str) -> String {
        let (name, value) = command.split_once(' ').unwrap_or((command, ""));
        match name {
            "temperature" => match value.trim().parse().ok().map(|t| self.set_temperature(t)) {
                Some(Ok(())) => format!("temperature {}", value.trim()),
                _ => format!("! {value:?} is not a temperature: expected a number of at least 0"),
            },
            "n" => match value.trim().parse() {
                Ok(n @ 1..=1_000) => {
                    self.completions = n;
                    format!("{} per line", counted(n, "completion"))
                }
                _ => format!("! {value:?} is not an integer from 1 to 1000"),
            },
            "help" => HELP.to_owned(),
            _ => format!("! no command /{name}; /help lists them"),
        }
    }

    fn set_temperature(&mut self, temperature: f32) -> Result<()> {
        let (k, p) = self.top;
        self.sampler.set_sampling(Sampling::from_options(temperature, k, p)?)
    }

    fn answer(&mut self, line: &str, output: &mut impl Write, summary: &mut ChatSummary) -> Result<()> {
        let mut full = 0;
        for number in 1..=self.completions {
            let started = Instant::now();
            let mut generation =
                match Generation::new(self.source, self.tokenizer, &mut self.sampler, line, usize::MAX) {
                    Ok(generation) => generation,
                    Err(e @ (Error::UnknownCharacter { .. } | Error::ContextFull { .. })) => {
                        summary.refused += 1;
                        writeln!(output, "! {e}").map_err(writing)?;
                        return Ok(());
                    }
                    Err(e) => return Err(e),
                };
            write!(output, "  {line}").map_err(writing)?;
            let mut lines = false;
            for piece in generation.by_ref() {
                let piece = piece?;
                lines |= piece.contains('\n');
                write!(output, "{}", piece.replace('\n', "\n  ")).map_err(writing)?;
                output.flush().map_err(writing)?;
            }
            writeln!(output).map_err(writing)?;
            // With several lines per text, the reader needs a mark where the next text begins.
            if lines && number < self.completions {
                writeln!(output, "  ---").map_err(writing)?;
            }
            full += usize::from(generation.finished() == Some(FinishReason::ContextFull));
            summary.tokens += generation.tokens();
            summary.completions += 1;
            summary.time += started.elapsed();
        }
        summary.answered += 1;
        summary.context_full += full;
        if full > 0
            && let Some(notice) = &mut self.notice
        {
            notice(full, self.completions, self.source.context_length());
        }
        Ok(())
    }
}

fn reading(source: io::Error) -> Error {
    Error::Chat { action: "read a line", source }
}

fn writing(source: io::Error) -> Error {
    Error::Chat { action: "write an answer", source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prefers "a" to "b", and "b" to the end of the document.
    struct Three(usize);

    impl LogitsSource for Three {
        fn name(&self) -> String {
            "three".into()
        }

        fn vocab_size(&self) -> usize {
            3
        }

        fn context_length(&self) -> usize {
            40
        }

        fn position(&self) -> usize {
            self.0
        }

        fn reset(&mut self) {
            self.0 = 0;
        }

        fn step(&mut self, _token: u32) -> Result<&[f32]> {
            self.0 += 1;
            Ok(&[1.0, 0.9, 0.0])
        }
    }

    fn tokenizer() -> TextTokenizer {
        let json = r#"{"version":"1.0","added_tokens":[],"decoder":{"type":"Fuse"},
            "model":{"type":"BPE","vocab":{"a":0,"b":1,"<bos>":2},"merges":[]}}"#;
        TextTokenizer::from_json(json, 2).unwrap()
    }

    /// Returns what a chat prints that begins with this strategy.
    fn printed(sampling: Sampling, input: &str) -> String {
        let (mut source, tokenizer, mut output) = (Three(0), tokenizer(), Vec::new());
        let sampler = Sampler::new(sampling, 3).unwrap();
        ChatSession::new(&mut source, &tokenizer, sampler, 1).run(input.as_bytes(), &mut output, "").unwrap();
        String::from_utf8(output).unwrap()
    }

    /// At a temperature of 1000, all three tokens are about as likely, but top-k leaves "a" alone, and so does top-p.
    #[test]
    fn another_temperature_keeps_top_k_and_top_p() {
        let expected = format!("temperature 1000\n  {}\n", "a".repeat(40));
        for sampling in [
            Sampling::TopK { k: 1, temperature: 1.0 },
            Sampling::TopP { p: 0.1, temperature: 1.0 },
            Sampling::TopKThenTopP { k: 2, p: 0.1, temperature: 1.0 },
        ] {
            assert_eq!(printed(sampling, "/temperature 1000\n\n"), expected, "{sampling:?}");
            // Greedy in between changes nothing.
            let through_greedy = printed(sampling, "/temperature 0\n/temperature 1000\n\n");
            assert_eq!(through_greedy, format!("temperature 0\n{expected}"), "{sampling:?}");
        }
    }

    /// Setting the temperature that is set already changes nothing, because the random numbers go on.
    #[test]
    fn another_temperature_keeps_the_random_numbers() {
        let sampling = Sampling::Temperature { temperature: 1.0 };
        let (plain, set) = (printed(sampling, "\n\n"), printed(sampling, "\n/temperature 1\n\n"));
        assert_eq!(set.replace("temperature 1\n", ""), plain);
        let lines: Vec<&str> = plain.lines().collect();
        assert_ne!(lines[0], lines[1]);
        assert!(printed(sampling, "/temperature -1\n").starts_with("! \"-1\" is not a temperature"));
    }
}
