//! Tokenizers: a token is a character or a merged sequence of bytes, and one special token begins and ends a
//! document.

mod byte_pairs;
mod characters;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// The token that begins and ends a document; it has the last id.
pub const BOS_TOKEN: &str = "<bos>";

/// Smallest vocabulary of a byte pair tokenizer: every byte, and BOS.
pub const MIN_BYTE_PAIR_VOCAB: usize = 257;

/// Size limit of a `tokenizer.json`: some hundred bytes for each of 2^20 tokens.
const LIMIT: u64 = 256 << 20;

/// The units of text that tokens represent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenizerKind {
    /// A character of the corpus, as in microGPT. A text with any other character is rejected.
    Characters,
    /// A byte, or a sequence of bytes that is frequent in the corpus, as in GPT-2. Every text can be encoded.
    BytePairs,
}

impl fmt::Display for TokenizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Characters => "characters",
            Self::BytePairs => "byte pairs",
        })
    }
}

/// A tokenizer, stored as a `tokenizer.json` of the `tokenizers` library.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: u32,
    kind: TokenizerKind,
}

impl Tokenizer {
    /// Creates a character tokenizer. Ids follow the order of code points, from 0; BOS has the last id.
    pub fn characters<S: AsRef<str>>(documents: &[S]) -> Self {
        characters::from_documents(documents)
    }

    /// Trains a byte pair tokenizer: merges bytes until there are `vocab_size` tokens including BOS, or
    /// nothing is left to merge. The same corpus results in the same tokenizer.
    ///
    /// # Errors
    ///
    /// [`Error::Training`] if `vocab_size` is below [`MIN_BYTE_PAIR_VOCAB`] or above 2^20.
    pub fn byte_pairs<S: AsRef<str> + Sync>(documents: &[S], vocab_size: usize) -> Result<Self> {
        byte_pairs::train(documents, vocab_size)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::File`] if it is not a tokenizer of characters or byte pairs with ids from 0
    /// and [`BOS_TOKEN`] last, or if it also normalizes, truncates or pads.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let metadata = fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
        if !metadata.is_file() {
            return Err(Error::file(path, "not a file"));
        }
        if metadata.len() > LIMIT {
            let reason = format!("{} bytes, expected a tokenizer of at most {LIMIT}", metadata.len());
            return Err(Error::file(path, reason));
        }
        let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
        let json: Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::file_because(path, "not a tokenizer", e))?;
        let read = match json["model"]["type"].as_str() {
            Some("BPE") => byte_pairs::from_json(&json),
            _ => characters::from_json(&json),
        };
        read.map_err(|reason| Error::file(path, reason))
    }

    /// Returns the contents of `tokenizer.json`. The same tokenizer always results in the same text.
    pub fn to_json(&self) -> String {
        // The library writes its vocabulary in order of ids.
        self.inner.to_string(true).expect("a tokenizer serializes into memory")
    }

    /// Returns the units of text that tokens represent.
    pub fn kind(&self) -> TokenizerKind {
        self.kind
    }

    /// Returns the number of tokens, BOS included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Returns the id of [`BOS_TOKEN`].
    pub fn bos(&self) -> u32 {
        self.bos
    }

    /// Encodes a text, without BOS.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownCharacter`], from a character tokenizer.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self.kind {
            TokenizerKind::Characters => self.encode_characters(text),
            // In pieces, because the library needs hundreds of bytes of memory per byte of text.
            TokenizerKind::BytePairs => Ok(byte_pairs::pieces(text)
                .flat_map(|piece| {
                    let encoding = self.inner.encode_fast(piece, false).expect("every text can be encoded");
                    encoding.get_ids().to_vec()
                })
                .collect()),
        }
    }

    /// Decodes ids to text. BOS decodes to nothing; bytes that are not valid UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, true).unwrap_or_default()
    }

    /// Returns every token except BOS, concatenated in order of ids, as `tokenizer.json` writes them.
    pub fn vocabulary(&self) -> String {
        (0..self.vocab_size() as u32)
            .filter(|&id| id != self.bos)
            .filter_map(|id| self.inner.id_to_token(id))
            .collect()
    }

    /// Encodes a text whose characters are tokens. The library is asked once for the id of each character.
    fn encode_characters(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids: HashMap<char, Option<u32>> = HashMap::new();
        let mut buffer = [0; 4];
        let mut id =
            |c: char| *ids.entry(c).or_insert_with(|| self.inner.token_to_id(c.encode_utf8(&mut buffer)));
        let mut encoded = Vec::with_capacity(text.len());
        for (position, character) in text.chars().enumerate() {
            match id(character) {
                Some(id) => encoded.push(id),
                None => {
                    return Err(Error::UnknownCharacter {
                        character,
                        position,
                        text: excerpt_to(text, 80),
                        vocabulary: self.vocabulary(),
                    });
                }
            }
        }
        Ok(encoded)
    }
}

/// Describes the tokenizer, for example `27 tokens: the characters "abc" and BOS`.
impl fmt::Display for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.vocab_size();
        match self.kind {
            TokenizerKind::Characters => {
                write!(f, "{size} tokens: the characters {:?} and BOS", self.vocabulary())
            }
            TokenizerKind::BytePairs => {
                let merges = size.saturating_sub(MIN_BYTE_PAIR_VOCAB);
                write!(f, "{size} tokens: 256 bytes, {merges} merged from pairs, and BOS")
            }
        }
    }
}

/// Compares a `tokenizer.json`, field by field, with the one that its vocabulary implies: the library accepts
/// many others, each of which would alter texts in its own way.
fn expect_same(json: &Value, expected: &Value, what: TokenizerKind) -> Result<(), String> {
    let fields = ["model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder"];
    for field in fields.into_iter().chain(["truncation", "padding"]) {
        if json.get(field).unwrap_or(&Value::Null) != &expected[field] {
            let reason =
                format!("field {field} is not that of a tokenizer of {what}: expected {}", expected[field]);
            return Err(excerpt_to(&reason, 400));
        }
    }
    Ok(())
}

/// Adds the fields that all tokenizers share to a model, a pre-tokenizer and a decoder. BOS is the last
/// token; by default the library prepends it to a text.
fn frame(bos: usize, model: Value, pre_tokenizer: Value, decoder: Value) -> Value {
    serde_json::json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{
            "id": bos, "content": BOS_TOKEN, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": BOS_TOKEN, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                {"SpecialToken": {"id": BOS_TOKEN, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": BOS_TOKEN, "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}},
            ],
            "special_tokens": {BOS_TOKEN: {"id": BOS_TOKEN, "ids": [bos], "tokens": [BOS_TOKEN]}},
        },
        "decoder": decoder,
        "model": model,
    })
}

/// Builds the library's tokenizer from JSON made in this module. `<bos>` in a text is encoded as its
/// characters, not as the token.
fn build(json: Value) -> Result<tokenizers::Tokenizer, String> {
    let mut inner: tokenizers::Tokenizer =
        serde_json::from_value(json).map_err(|e| format!("not a tokenizer: {e}"))?;
    inner.set_encode_special_tokens(true);
    Ok(inner)
}

/// Returns the beginning of a text, to quote it in an error.
fn excerpt_to(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
