//! Conversion of text to tokens and back, with a bundle's `tokenizer.json`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ane_bundle::Bundle;
use mlpackage::files;
use tokenizers::Tokenizer;

use crate::error::{BoxError, Error, Result};

/// Size limit of a `tokenizer.json`, in bytes.
const LIMIT: u64 = 64 << 20;

/// A tokenizer with the token that begins and ends a document.
#[derive(Clone, Debug)]
pub struct TextTokenizer {
    inner: Tokenizer,
    bos: u32,
}

impl TextTokenizer {
    /// Reads the tokenizer of a bundle.
    ///
    /// # Errors
    ///
    /// [`Error::BundlePart`] if the library cannot read it, if it has a token that the model lacks, or if BOS is
    /// not a special token.
    pub fn from_bundle(bundle: &Bundle) -> Result<Self> {
        let manifest = bundle.manifest();
        let file = &manifest.tokenizer.file;
        let path = bundle.file(file)?;
        let part = |reason: String, source: Option<BoxError>| Error::BundlePart {
            path: bundle.path().to_owned(),
            what: file.clone(),
            reason,
            source,
        };
        let bad = |reason: String| part(reason, None);
        let inner =
            parse(&files::read_small(&path, LIMIT)?).map_err(|e| part(e.to_string(), Some(e.into())))?;
        let vocab_size = manifest.architecture.vocab_size;
        if let Some((token, id)) = inner.get_vocab(true).iter().find(|(_, id)| **id as usize >= vocab_size) {
            return Err(bad(format!("token {token:?} has id {id}, the model has {vocab_size} tokens")));
        }
        let bos = manifest.tokenizer.bos_token_id;
        let special = inner.get_added_tokens_decoder().get(&bos).is_some_and(|token| token.special);
        if !special {
            let reason =
                format!("token {bos} is not a special token, but bundle.json uses it to begin a document");
            return Err(bad(reason));
        }
        Ok(Self { inner, bos })
    }

    /// Creates a tokenizer from the text of a `tokenizer.json`, with the id of the token that begins and ends
    /// a document.
    ///
    /// # Errors
    ///
    /// [`Error::Source`] if the library cannot read it.
    pub fn from_json(json: &str, bos: u32) -> Result<Self> {
        let inner = parse(json.as_bytes()).map_err(|e| failed(e.to_string(), e))?;
        Ok(Self { inner, bos })
    }

    /// Returns the id of the token that begins and ends a document.
    pub fn bos(&self) -> u32 {
        self.bos
    }

    /// Returns the ids of a text, without BOS.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownCharacter`] with the first character that the vocabulary lacks; [`Error::Source`] for
    /// any other failure of the library.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match contained(|| self.inner.encode_fast(text, false)) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(e) => Err(self
                .unknown_character(text)
                .unwrap_or_else(|| failed(format!("{:?} cannot be encoded: {e}", excerpt(text)), e))),
        }
    }

    /// Returns the text of ids. Special tokens are skipped.
    ///
    /// # Errors
    ///
    /// [`Error::Source`] if the library cannot decode them.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        contained(|| self.inner.decode(ids, true))
            .map_err(|e| failed(format!("tokens {ids:?} cannot be decoded: {e}"), e))
    }

    /// Returns the error about the first character that is not a token; `None` if all are.
    fn unknown_character(&self, text: &str) -> Option<Error> {
        let mut buffer = [0; 4];
        let known = |c: char, buffer: &mut [u8; 4]| self.inner.token_to_id(c.encode_utf8(buffer)).is_some();
        let (position, character) = text.chars().enumerate().find(|&(_, c)| !known(c, &mut buffer))?;
        let size = self.inner.get_vocab_size(true) as u32;
        let tokens = (0..size).filter(|&id| id != self.bos).filter_map(|id| self.inner.id_to_token(id));
        let vocabulary = tokens.collect();
        Some(Error::UnknownCharacter { character, position, text: excerpt(text), vocabulary })
    }
}

/// Returns the beginning of a text, for an error that quotes it.
fn excerpt(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn failed(reason: String, source: impl Into<BoxError>) -> Error {
    Error::Source { source_name: "tokenizer".into(), reason, source: Some(source.into()) }
}

/// Calls the library, and returns a panic as an error.
///
/// The library panics on some files that it has read without an error, and on some that it is reading, such as those
/// with a damaged character map. A `tokenizer.json` comes from outside, so it must not end the process. A call leaves
/// nothing behind in a tokenizer that a later one could find incomplete: it changes only caches, which have locks.
fn contained<T>(call: impl FnOnce() -> Result<T, tokenizers::Error>) -> Result<T, tokenizers::Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(format!("the tokenizers library panicked: {message}").into())
    })
}

/// Why a `tokenizer.json` cannot be used.
#[derive(Debug, thiserror::Error)]
enum ParseError {
    #[error("not a tokenizer: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its field {0} would change the text that a model is given: set it to null")]
    Changes(&'static str),
    #[error("its field {0} makes the tokens of a text random: set it to null")]
    Random(&'static str),
    #[error("not a tokenizer: {0}")]
    Library(#[source] tokenizers::Error),
}

/// Creates a tokenizer that encodes all of a text and nothing else.
fn parse(json: &[u8]) -> Result<Tokenizer, ParseError> {
    // Parts of the library panic on input that is not JSON.
    let value: serde_json::Value = serde_json::from_slice(json)?;
    for field in ["truncation", "padding"] {
        if value.get(field).is_some_and(|v| !v.is_null()) {
            return Err(ParseError::Changes(field));
        }
    }
    let dropout = value.pointer("/model/dropout").filter(|v| !v.is_null());
    if dropout.is_some_and(|v| v.as_f64() != Some(0.0)) {
        return Err(ParseError::Random("model.dropout"));
    }
    let mut tokenizer = contained(|| Tokenizer::from_bytes(json)).map_err(ParseError::Library)?;
    // A special token within a text is encoded as its characters.
    tokenizer.set_encode_special_tokens(true);
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a tokenizer of two characters, with these fields besides.
    fn with(fields: &str, model_fields: &str) -> Result<TextTokenizer> {
        let json = format!(
            r#"{{"version":"1.0","added_tokens":[],{fields}
                "model":{{"type":"BPE",{model_fields}"vocab":{{"a":0,"b":1,"<bos>":2}},"merges":[]}}}}"#
        );
        TextTokenizer::from_json(&json, 2)
    }

    /// The library panics while it reads this file.
    #[test]
    fn a_panic_while_reading_is_an_error() {
        let damaged = r#""normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"},"#;
        let error = with(damaged, "").unwrap_err();
        assert!(matches!(error, Error::Source { .. }));
        let error = error.to_string();
        assert!(
            error.starts_with("tokenizer: not a tokenizer: the tokenizers library panicked: "),
            "{error}"
        );
    }

    /// The library reads this file, and panics when it strips more characters than a token has.
    #[test]
    fn a_panic_while_decoding_is_an_error() {
        let tokenizer = with(r#""decoder":{"type":"Strip","content":"a","start":0,"stop":9},"#, "").unwrap();
        let error = tokenizer.decode(&[0]).unwrap_err().to_string();
        let expected = "tokenizer: tokens [0] cannot be decoded: the tokenizers library panicked: ";
        assert!(error.starts_with(expected), "{error}");
        // The tokenizer can still be used.
        assert_eq!(tokenizer.encode("ab").unwrap(), [0, 1]);
    }

    #[test]
    fn random_tokens_are_refused() {
        let error = with("", r#""dropout":0.5,"#).unwrap_err().to_string();
        assert_eq!(
            error,
            "tokenizer: its field model.dropout makes the tokens of a text random: set it to null"
        );
        for dropout in ["null", "0.0"] {
            let tokenizer = with("", &format!(r#""dropout":{dropout},"#)).unwrap();
            assert_eq!(tokenizer.encode("ba").unwrap(), [1, 0]);
        }
    }
}
