//! Conversion of text to tokens and back, with a bundle's `tokenizer.json`.

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
        match self.inner.encode_fast(text, false) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(e) => Err(self
                .unknown_character(text)
                .unwrap_or_else(|| failed(format!("{:?} cannot be encoded: {e}", excerpt(text)), e))),
        }
    }

    /// Returns the text of ids. Special tokens are skipped.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, true).unwrap_or_default()
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

/// Why a `tokenizer.json` cannot be used.
#[derive(Debug, thiserror::Error)]
enum ParseError {
    #[error("not a tokenizer: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its field {0} would change the text that a model is given: set it to null")]
    Changes(&'static str),
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
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(ParseError::Library)?;
    // A special token within a text is encoded as its characters.
    tokenizer.set_encode_special_tokens(true);
    Ok(tokenizer)
}
