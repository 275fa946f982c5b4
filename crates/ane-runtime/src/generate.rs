//! Streaming generation: from a prompt to pieces of text.

use crate::error::{Error, Result};
use crate::logits::{self, LogitsSource};
use crate::sampling::Sampler;
use crate::tokenizer::TextTokenizer;

/// A completion in progress: an iterator over the pieces of text that the model adds.
///
/// It ends at BOS, at the limit, or when the context is full.
pub struct Generation<'a> {
    source: &'a mut dyn LogitsSource,
    tokenizer: &'a TextTokenizer,
    sampler: &'a mut Sampler,
    logits: Vec<f32>,
    left: usize,
    tokens: usize,
    finished: Option<FinishReason>,
    /// Tokens whose text is incomplete: they hold only some of the bytes of a character.
    pending: Vec<u32>,
}

/// Maximum number of tokens that wait for the rest of a character. A character has at most four bytes and a
/// token at least one; more tokens than that are not UTF-8.
const PENDING: usize = 8;

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model ended the document.
    EndOfDocument,
    /// The requested number of tokens was generated.
    Limit,
    /// The context is full.
    ContextFull,
    /// The source of logits or the tokenizer failed; its error was returned.
    Failed,
}

impl FinishReason {
    /// Returns the reason's name, as it is in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::EndOfDocument => "end",
            Self::Limit => "limit",
            Self::ContextFull => "context-full",
            Self::Failed => "failed",
        }
    }
}

impl<'a> Generation<'a> {
    /// Begins a new sequence with BOS and `prompt`. At most `limit` tokens are added.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownCharacter`] and [`Error::ContextFull`] for an unusable prompt; [`Error::Engine`] if the
    /// source returns too few or too many logits, or NaN; whatever error the source returns.
    pub fn new(
        source: &'a mut dyn LogitsSource,
        tokenizer: &'a TextTokenizer,
        sampler: &'a mut Sampler,
        prompt: &str,
        limit: usize,
    ) -> Result<Self> {
        let mut tokens = vec![tokenizer.bos()];
        tokens.extend(tokenizer.encode(prompt)?);
        let context_length = source.context_length();
        if tokens.len() > context_length {
            return Err(Error::ContextFull { tokens: tokens.len(), context_length });
        }
        source.reset();
        let mut logits = Vec::new();
        for &token in &tokens {
            logits.clear();
            logits.extend_from_slice(source.step(token)?);
        }
        logits::check(source, &logits)?;
        Ok(Self {
            source,
            tokenizer,
            sampler,
            logits,
            left: limit,
            tokens: tokens.len(),
            finished: None,
            pending: Vec::new(),
        })
    }

    /// Returns why the completion ended; `None` while it continues.
    pub fn finished(&self) -> Option<FinishReason> {
        self.finished
    }

    /// Returns the number of tokens that the model ran on, BOS and prompt included.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

impl Generation<'_> {
    /// Returns the next token; `None` at the end.
    fn advance(&mut self) -> Option<Result<u32>> {
        if self.finished.is_some() {
            return None;
        }
        if self.left == 0 {
            self.finished = Some(FinishReason::Limit);
            return None;
        }
        let token = self.sampler.choose(&self.logits);
        if token == self.tokenizer.bos() {
            self.finished = Some(FinishReason::EndOfDocument);
            return None;
        }
        self.left -= 1;
        if self.source.position() == self.source.context_length() {
            self.finished = Some(FinishReason::ContextFull);
        } else {
            if let Err(e) = self.step(token) {
                self.finished = Some(FinishReason::Failed);
                return Some(Err(e));
            }
        }
        Some(Ok(token))
    }

    /// Appends a token to the sequence.
    fn step(&mut self, token: u32) -> Result<()> {
        let logits = self.source.step(token)?;
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.tokens += 1;
        logits::check(self.source, &self.logits)
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.advance() {
                Some(Ok(token)) => self.pending.push(token),
                Some(Err(e)) => return Some(Err(e)),
                None if self.pending.is_empty() => return None,
                None => {}
            }
            let text = match self.tokenizer.decode(&self.pending) {
                Ok(text) => text,
                Err(e) => {
                    self.finished = Some(FinishReason::Failed);
                    self.pending.clear();
                    return Some(Err(e));
                }
            };
            let complete = !text.ends_with(char::REPLACEMENT_CHARACTER);
            if complete || self.finished.is_some() || self.pending.len() >= PENDING {
                self.pending.clear();
                return Some(Ok(text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::Sampling;

    /// Predicts a fixed list of tokens.
    struct Script {
        tokens: Vec<u32>,
        position: usize,
        logits: Vec<f32>,
        /// The position at which the source fails.
        fails_at: usize,
        /// What it returns instead from position 2 on.
        broken: Option<Vec<f32>>,
    }

    impl LogitsSource for Script {
        fn name(&self) -> String {
            "script".into()
        }

        fn vocab_size(&self) -> usize {
            self.logits.len()
        }

        fn context_length(&self) -> usize {
            64
        }

        fn position(&self) -> usize {
            self.position
        }

        fn reset(&mut self) {
            self.position = 0;
        }

        fn step(&mut self, _token: u32) -> Result<&[f32]> {
            if self.position == self.fails_at {
                return Err(Error::Source {
                    source_name: self.name(),
                    reason: "planted".into(),
                    source: None,
                });
            }
            self.logits.fill(0.0);
            if let Some(&token) = self.tokens.get(self.position) {
                self.logits[token as usize] = 1.0;
            }
            self.position += 1;
            match &self.broken {
                Some(broken) if self.position > 2 => Ok(broken),
                _ => Ok(&self.logits),
            }
        }
    }

    /// Returns a byte-level tokenizer, like byte pair encoding without merges: the id of a byte is the index
    /// of its character in the alphabet.
    fn bytes() -> TextTokenizer {
        use std::fmt::Write as _;
        let alphabet: std::collections::BTreeSet<char> =
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
        let vocab = alphabet.iter().enumerate().fold(String::new(), |mut json, (id, c)| {
            write!(json, "{}:{id},", serde_json::to_string(&c.to_string()).unwrap()).unwrap();
            json
        });
        let byte_level =
            r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}"#;
        let json = format!(
            r#"{{"version":"1.0","added_tokens":[],"pre_tokenizer":{byte_level},"decoder":{byte_level},
                "model":{{"type":"BPE","vocab":{{{vocab}"<bos>":256}},"merges":[]}}}}"#
        );
        TextTokenizer::from_json(&json, 256).unwrap()
    }

    fn pieces(text_tokens: Vec<u32>) -> Vec<String> {
        let tokenizer = bytes();
        let tokens = text_tokens.into_iter().chain([256]).collect();
        let mut script =
            Script { tokens, position: 0, logits: vec![0.0; 257], fails_at: usize::MAX, broken: None };
        let mut sampler = Sampler::new(Sampling::Greedy, 0).unwrap();
        let generation = Generation::new(&mut script, &tokenizer, &mut sampler, "", usize::MAX).unwrap();
        generation.map(Result::unwrap).collect()
    }

    #[test]
    fn a_character_of_several_tokens_is_one_piece() {
        let tokens = bytes().encode("aé€😀b").unwrap();
        assert_eq!(tokens.len(), 1 + 2 + 3 + 4 + 1);
        assert_eq!(pieces(tokens), ["a", "é", "€", "😀", "b"]);
    }

    /// Returns the number of pieces and of errors, and the reason of the end.
    fn outcome(fails_at: usize, limit: usize) -> (usize, usize, Option<FinishReason>) {
        let tokenizer = bytes();
        let tokens = tokenizer.encode("abcd").unwrap().into_iter().chain([256]).collect();
        let mut script = Script { tokens, position: 0, logits: vec![0.0; 257], fails_at, broken: None };
        let mut sampler = Sampler::new(Sampling::Greedy, 0).unwrap();
        let mut generation = Generation::new(&mut script, &tokenizer, &mut sampler, "", limit).unwrap();
        let (pieces, errors): (Vec<_>, Vec<_>) = generation.by_ref().partition(Result::is_ok);
        (pieces.len(), errors.len(), generation.finished())
    }

    #[test]
    fn the_reason_of_the_end_is_the_right_one() {
        assert_eq!(outcome(usize::MAX, usize::MAX), (4, 0, Some(FinishReason::EndOfDocument)));
        assert_eq!(outcome(usize::MAX, 3), (3, 0, Some(FinishReason::Limit)));
        assert_eq!(outcome(2, usize::MAX), (1, 1, Some(FinishReason::Failed)));
    }

    #[test]
    fn bytes_that_are_no_character_come_at_the_end() {
        let mut tokens = bytes().encode("a€").unwrap();
        tokens.truncate(3);
        assert_eq!(pieces(tokens).concat(), "a\u{fffd}");
        let first_of_four = bytes().encode("😀").unwrap()[0];
        // Tokens are never held back forever.
        assert_eq!(pieces(vec![first_of_four; 20]).len(), 3);
    }

    /// Logits that are NaN, or of another vocabulary, are an error that names the source: in the prompt, and later.
    #[test]
    fn logits_that_choose_nothing_end_the_completion_as_an_error() {
        let tokenizer = bytes();
        for (broken, expected) in [
            (vec![], "script: output logits: expected 257 floats, found 0"),
            (vec![0.0; 258], "script: output logits: expected 257 floats, found 258"),
            (
                vec![f32::NAN; 257],
                "script: output logits: 257 of 257 are NaN, the first is that of token 0: watch the model for hazards \
                 to find the operation that produced it",
            ),
        ] {
            for sampling in [Sampling::Greedy, Sampling::Temperature { temperature: 1.0 }] {
                let mut sampler = Sampler::new(sampling, 0).unwrap();
                let mut script = Script {
                    tokens: vec![3; 9],
                    position: 0,
                    logits: vec![0.0; 257],
                    fails_at: usize::MAX,
                    broken: Some(broken.clone()),
                };
                let error = Generation::new(&mut script, &tokenizer, &mut sampler, "abc", 9).err().unwrap();
                assert_eq!(error.to_string(), expected);
                let mut generation =
                    Generation::new(&mut script, &tokenizer, &mut sampler, "a", usize::MAX).unwrap();
                let errors: Vec<String> =
                    generation.by_ref().filter_map(Result::err).map(|e| e.to_string()).collect();
                assert_eq!(errors, [expected]);
                assert_eq!(generation.finished(), Some(FinishReason::Failed));
            }
        }
    }
}
