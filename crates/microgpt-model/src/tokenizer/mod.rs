//! Text to tokens and back: a character or a pair of bytes that was merged is a token, and one more token begins and ends a
//! document.

mod byte_pairs;
mod characters;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// The token that begins and ends a document; its id is the last one.
pub const BOS_TOKEN: &str = "<bos>";

/// Tokens that a tokenizer of byte pairs has at least: every byte, and BOS.
pub const MIN_BYTE_PAIR_VOCAB: usize = 257;

/// A `tokenizer.json` beyond this is none: some hundred bytes for each of 2^20 tokens.
const LIMIT: u64 = 256 << 20;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenizerKind {
    /// A character of the corpus: microGPT's own. A text with any other character is refused.
    Characters,
    /// A byte, or a sequence of bytes that is frequent in the corpus, as GPT-2 has it. Every text has tokens.
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

/// A tokenizer, kept as a `tokenizer.json` of the `tokenizers` library.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: u32,
    kind: TokenizerKind,
}

impl Tokenizer {
    /// The characters of a corpus in order of code points get ids from 0 on, BOS the next one.
    pub fn characters<S: AsRef<str>>(documents: &[S]) -> Self {
        characters::from_documents(documents)
    }

    /// Learns from a corpus which bytes to merge, until there are `vocab_size` tokens with BOS, or fewer if nothing is left
    /// to merge. The same corpus gives the same tokenizer.
    ///
    /// # Errors
    ///
    /// [`Error::Training`] if `vocab_size` is below [`MIN_BYTE_PAIR_VOCAB`] or beyond 2^20.
    pub fn byte_pairs<S: AsRef<str> + Sync>(documents: &[S], vocab_size: usize) -> Result<Self> {
        byte_pairs::train(documents, vocab_size)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::File`] if it is another tokenizer than one of characters or of byte pairs, with ids from 0 on
    /// and [`BOS_TOKEN`] as the last, or does more than that: normalise, truncate, pad.
    pub fn from_file(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
        if !metadata.is_file() {
            return Err(Error::file(path, "not a file"));
        }
        if metadata.len() > LIMIT {
            let reason = format!("{} bytes, expected a tokenizer of less than {LIMIT}", metadata.len());
            return Err(Error::file(path, reason));
        }
        let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
        let json: Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::file(path, format!("no tokenizer: {e}")))?;
        let read = match json["model"]["type"].as_str() {
            Some("BPE") => byte_pairs::from_json(&json),
            _ => characters::from_json(&json),
        };
        read.map_err(|reason| Error::file(path, reason))
    }

    /// The tokenizer as JSON, for `tokenizer.json`. The same tokenizer always gives the same text.
    pub fn to_json(&self) -> String {
        // The library writes its vocabulary in order of ids.
        self.inner.to_string(true).expect("a tokenizer serializes into memory")
    }

    /// What a token is.
    pub fn kind(&self) -> TokenizerKind {
        self.kind
    }

    /// Number of tokens, BOS included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Id of the token that begins and ends a document.
    pub fn bos(&self) -> u32 {
        self.bos
    }

    /// The ids of a text, without BOS.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownCharacter`], from a tokenizer of characters.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self.kind {
            TokenizerKind::Characters => self.encode_characters(text),
            // In pieces, as the library takes hundreds of bytes of memory for one of text.
            TokenizerKind::BytePairs => Ok(byte_pairs::pieces(text)
                .flat_map(|piece| {
                    let encoding = self.inner.encode_fast(piece, false).expect("all of a text has tokens");
                    encoding.get_ids().to_vec()
                })
                .collect()),
        }
    }

    /// The text of a sequence of ids; BOS has none. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, true).unwrap_or_default()
    }

    /// Every token but BOS in order of ids, as `tokenizer.json` writes it.
    pub fn vocabulary(&self) -> String {
        (0..self.vocab_size() as u32)
            .filter(|&id| id != self.bos)
            .filter_map(|id| self.inner.id_to_token(id))
            .collect()
    }

    /// A character is a token: no need to ask the library for more than its id, once.
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

/// What it is, for a person: `27 tokens: the characters "abc" and BOS`.
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

/// Holds a `tokenizer.json` against the one that its vocabulary makes, field by field: the library would take many others,
/// and each would change texts in its own way.
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

/// The fields that every tokenizer here has besides its model, its pre-tokenizer and its decoder. BOS is the last token; the
/// library by itself puts it in front of a text.
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

/// The library's tokenizer for a JSON that this module made. A `<bos>` in a text is its characters, not the token.
fn build(json: Value) -> Result<tokenizers::Tokenizer, String> {
    let mut inner: tokenizers::Tokenizer =
        serde_json::from_value(json).map_err(|e| format!("no tokenizer: {e}"))?;
    inner.set_encode_special_tokens(true);
    Ok(inner)
}

/// The beginning of a text, for an error that quotes it.
fn excerpt_to(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
