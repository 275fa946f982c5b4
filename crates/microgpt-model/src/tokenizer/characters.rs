//! microGPT's tokenizer: a character is a token, and one more token begins and ends a document.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::error::{Error, Result};

/// The token that begins and ends a document; its id is the last one.
pub const BOS_TOKEN: &str = "<bos>";

const LIMIT: u64 = 64 << 20;

/// A character tokenizer, kept as a `tokenizer.json` of the `tokenizers` library: a word-level model over single
/// characters with no unknown token.
#[derive(Clone, Debug)]
pub struct CharTokenizer {
    inner: Tokenizer,
    bos: u32,
}

impl CharTokenizer {
    /// The tokenizer of a corpus: its characters in order of code points get ids from 0 on, BOS the next one.
    pub fn from_documents<S: AsRef<str>>(documents: &[S]) -> Self {
        let characters: BTreeSet<char> = documents.iter().flat_map(|d| d.as_ref().chars()).collect();
        Self::from_characters(characters.into_iter())
    }

    /// The tokenizer of these characters, whose ids are their places.
    fn from_characters(characters: impl ExactSizeIterator<Item = char>) -> Self {
        let bos = characters.len() as u32;
        let json = canonical(characters);
        let mut inner: Tokenizer =
            serde_json::from_value(json).expect("the library reads what `canonical` gives it");
        // A `<bos>` in a text is five characters, not the token.
        inner.set_encode_special_tokens(true);
        Self { inner, bos }
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::File`] if it is another tokenizer than one of characters with ids from 0 on and
    /// [`BOS_TOKEN`] behind them, or does more than that: normalise, truncate, pad.
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
        let characters = characters_of(&json).map_err(|reason| Error::file(path, reason))?;
        // Held against the one that these characters make, field by field: the library would take many others, and each
        // would change texts in its own way.
        let expected = canonical(characters.iter().copied());
        let fields = ["model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder"];
        for field in fields.into_iter().chain(["truncation", "padding"]) {
            if json.get(field).unwrap_or(&Value::Null) != &expected[field] {
                let reason = format!(
                    "field {field} is not that of a character tokenizer: expected {}",
                    expected[field]
                );
                return Err(Error::file(path, excerpt_to(&reason, 400)));
            }
        }
        Ok(Self::from_characters(characters.into_iter()))
    }

    /// The tokenizer as JSON, for `tokenizer.json`. The same tokenizer always gives the same text.
    pub fn to_json(&self) -> String {
        // The library writes its vocabulary in order of ids.
        self.inner.to_string(true).expect("a tokenizer serializes into memory")
    }

    /// Number of tokens, BOS included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Id of the token that begins and ends a document.
    pub fn bos(&self) -> u32 {
        self.bos
    }

    /// The ids of a text's characters, without BOS.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownCharacter`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut buffer = [0; 4];
        let unknown = text
            .chars()
            .enumerate()
            .find(|(_, c)| self.inner.token_to_id(c.encode_utf8(&mut buffer)).is_none());
        if let Some((position, character)) = unknown {
            return Err(Error::UnknownCharacter {
                character,
                position,
                text: excerpt(text),
                vocabulary: self.vocabulary(),
            });
        }
        let encoding = self.inner.encode_fast(text, false).expect("every character is a token");
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of a sequence of ids; BOS has none.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, true).unwrap_or_default()
    }

    /// Every character that is a token, in order of ids.
    pub fn vocabulary(&self) -> String {
        (0..self.vocab_size() as u32)
            .filter(|&id| id != self.bos)
            .filter_map(|id| self.inner.id_to_token(id))
            .collect()
    }
}

/// The text of a `tokenizer.json` for characters whose ids are their places.
fn canonical(characters: impl ExactSizeIterator<Item = char>) -> Value {
    let bos = characters.len();
    let mut vocab: serde_json::Map<String, Value> =
        characters.enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
    vocab.insert(BOS_TOKEN.into(), json!(bos));
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{
            "id": bos, "content": BOS_TOKEN, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Split", "pattern": {"Regex": "(?s)."}, "behavior": "Isolated", "invert": false,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": BOS_TOKEN, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                {"SpecialToken": {"id": BOS_TOKEN, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": BOS_TOKEN, "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}},
            ],
            "special_tokens": {BOS_TOKEN: {"id": BOS_TOKEN, "ids": [bos], "tokens": [BOS_TOKEN]}},
        },
        "decoder": {"type": "Fuse"},
        // The library wants a name here; it is in no vocabulary, so that an unknown character is an error.
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    })
}

/// The characters of a tokenizer's vocabulary in order of their ids, which run from 0 on with BOS as the last.
fn characters_of(json: &Value) -> Result<Vec<char>, String> {
    let vocab = json["model"]["vocab"].as_object().ok_or("it has no model.vocab of tokens and ids")?;
    let size = vocab.len();
    let mut tokens: Vec<Option<&str>> = vec![None; size];
    for (token, id) in vocab {
        if let Some(place) = id.as_u64().and_then(|id| tokens.get_mut(usize::try_from(id).ok()?)) {
            *place = Some(token);
        }
    }
    if !vocab.contains_key(BOS_TOKEN) {
        return Err(format!("it has no token {BOS_TOKEN}"));
    }
    let mut characters = Vec::with_capacity(size - 1);
    for (id, token) in tokens.into_iter().enumerate() {
        let token = token.ok_or_else(|| format!("no token has id {id} of {size}"))?;
        let mut chars = token.chars();
        match (chars.next(), chars.next()) {
            _ if token == BOS_TOKEN && id == size - 1 => {}
            (Some(one), None) => characters.push(one),
            _ if token == BOS_TOKEN => {
                return Err(format!("{BOS_TOKEN} is token {id} of {size}, expected the last one"));
            }
            _ => return Err(format!("token {id} is {token:?}, expected a single character")),
        }
    }
    Ok(characters)
}

/// The beginning of a text, for an error that quotes it.
fn excerpt(text: &str) -> String {
    excerpt_to(text, 80)
}

fn excerpt_to(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> CharTokenizer {
        CharTokenizer::from_documents(&["bca", "zé d"])
    }

    #[test]
    fn ids_follow_the_order_of_characters_and_bos_is_last() {
        let t = tokenizer();
        assert_eq!(t.vocabulary(), " abcdzé");
        assert_eq!(t.encode("a zé").unwrap(), [1, 0, 5, 6]);
        assert_eq!((t.bos(), t.vocab_size()), (7, 8));
        assert_eq!(t.decode(&[7, 1, 0, 6, 7]), "a é");
    }

    #[test]
    fn names_have_27_tokens() {
        let t = CharTokenizer::from_documents(&["abcdefghijklmnopqrstuvwxyz"]);
        assert_eq!((t.vocab_size(), t.bos()), (27, 26));
    }

    #[test]
    fn an_unknown_character_is_named() {
        let e = tokenizer().encode("abX").unwrap_err().to_string();
        assert_eq!(e, "character 'X' at position 2 of \"abX\" is not in the vocabulary of \" abcdzé\"");
    }

    #[test]
    fn survives_the_file_and_is_the_same_text_every_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        fs::write(&path, tokenizer().to_json()).unwrap();
        let read = CharTokenizer::from_file(&path).unwrap();
        assert_eq!(read.encode("dab").unwrap(), tokenizer().encode("dab").unwrap());
        for _ in 0..8 {
            assert_eq!(tokenizer().to_json(), read.to_json());
        }
    }

    #[test]
    fn vocabularies_that_are_not_one_of_characters_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        let refused = |from: &str, to: &str| {
            let json = tokenizer().to_json();
            assert!(json.contains(from), "{json}");
            fs::write(&path, json.replace(from, to)).unwrap();
            CharTokenizer::from_file(&path).unwrap_err().to_string()
        };
        assert!(refused("\"a\": 1", "\"a\": 2").contains("no token has id 1"));
        assert!(refused("\"a\": 1", "\"a\": 1000000").contains("no token has id 1"));
        assert!(refused("\"a\": 1", "\"ab\": 1").contains("token 1 is \"ab\", expected a single character"));
        assert!(refused("<bos>", "<eos>").contains("it has no token <bos>"));
    }

    /// What the library would do besides, each in a file that it reads.
    #[test]
    fn tokenizers_that_change_texts_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        let padding = json!({"strategy": {"Fixed": 300_000_000}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "a"});
        let truncation =
            json!({"max_length": 1, "stride": 0, "strategy": "LongestFirst", "direction": "Right"});
        let normalizer = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "b"});
        for (field, value) in [
            ("padding", padding),
            ("truncation", truncation),
            ("normalizer", normalizer),
            ("pre_tokenizer", Value::Null),
            ("added_tokens", json!([])),
            ("decoder", json!({"type": "ByteFallback"})),
        ] {
            let mut changed: Value = serde_json::from_str(&tokenizer().to_json()).unwrap();
            changed[field] = value;
            fs::write(&path, changed.to_string()).unwrap();
            let error = CharTokenizer::from_file(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("field {field} is not")), "{error}");
        }
        // The library panics on this one.
        let broken = tokenizer().to_json().replace("\"Fuse\"", "Fuse");
        fs::write(&path, broken).unwrap();
        assert!(CharTokenizer::from_file(&path).unwrap_err().to_string().contains("no tokenizer"));
    }

    #[test]
    fn a_special_token_in_a_text_is_its_characters() {
        let t = CharTokenizer::from_documents(&["<bos>"]);
        assert_eq!(t.encode("<bos>").unwrap().len(), 5);
        assert!(tokenizer().encode("<bos>").is_err());
    }

    /// What another program sees that uses the library by itself.
    #[test]
    fn the_library_alone_encodes_the_same_and_puts_bos_in_front() {
        let inner = Tokenizer::from_bytes(tokenizer().to_json()).unwrap();
        assert_eq!(inner.encode("zéd", true).unwrap().get_ids(), [7, 5, 6, 4]);
        assert!(inner.encode("x", false).is_err(), "no silent unknown token");
    }
}
