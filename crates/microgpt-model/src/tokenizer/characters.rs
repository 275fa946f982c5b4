//! microGPT's tokenizer: each character is a token. A word-level model over single characters, without an
//! unknown token.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{BOS_TOKEN, Tokenizer, TokenizerKind, build, expect_same, frame};

const KIND: TokenizerKind = TokenizerKind::Characters;

pub(super) fn from_documents<S: AsRef<str>>(documents: &[S]) -> Tokenizer {
    let characters: BTreeSet<char> = documents.iter().flat_map(|d| d.as_ref().chars()).collect();
    from_characters(characters.into_iter())
}

/// Reads a `tokenizer.json`, if it is a plain character tokenizer.
pub(super) fn from_json(json: &Value) -> Result<Tokenizer, String> {
    let characters = characters_of(json)?;
    expect_same(json, &canonical(characters.iter().copied()), KIND)?;
    Ok(from_characters(characters.into_iter()))
}

/// Creates the tokenizer of these characters, whose ids are their indices.
fn from_characters(characters: impl ExactSizeIterator<Item = char>) -> Tokenizer {
    let bos = characters.len() as u32;
    let inner = build(canonical(characters)).expect("the library reads what `canonical` returns");
    Tokenizer { inner, bos, kind: KIND }
}

/// Returns the `tokenizer.json` for characters whose ids are their indices.
fn canonical(characters: impl ExactSizeIterator<Item = char>) -> Value {
    let bos = characters.len();
    let mut vocab: serde_json::Map<String, Value> =
        characters.enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
    vocab.insert(BOS_TOKEN.into(), json!(bos));
    let split =
        json!({"type": "Split", "pattern": {"Regex": "(?s)."}, "behavior": "Isolated", "invert": false});
    // The library requires a name for the unknown token; it is not in the vocabulary, so an unknown character
    // is an error.
    let model = json!({"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"});
    frame(bos, model, split, json!({"type": "Fuse"}))
}

/// Returns the characters of a vocabulary in order of their ids, which must start at 0 and end with BOS.
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::characters(&["bca", "zé d"])
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
        let t = Tokenizer::characters(&["abcdefghijklmnopqrstuvwxyz"]);
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
        let read = Tokenizer::from_file(&path).unwrap();
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
            Tokenizer::from_file(&path).unwrap_err().to_string()
        };
        assert!(refused("\"a\": 1", "\"a\": 2").contains("no token has id 1"));
        assert!(refused("\"a\": 1", "\"a\": 1000000").contains("no token has id 1"));
        assert!(refused("\"a\": 1", "\"ab\": 1").contains("token 1 is \"ab\", expected a single character"));
        assert!(refused("<bos>", "<eos>").contains("it has no token <bos>"));
    }

    /// Files that the library reads but that would alter texts.
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
            let error = Tokenizer::from_file(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("field {field} is not")), "{error}");
        }
        // The library panics on this one.
        let broken = tokenizer().to_json().replace("\"Fuse\"", "Fuse");
        fs::write(&path, broken).unwrap();
        assert!(Tokenizer::from_file(&path).unwrap_err().to_string().contains("not a tokenizer"));
    }

    #[test]
    fn a_special_token_in_a_text_is_its_characters() {
        let t = Tokenizer::characters(&["<bos>"]);
        assert_eq!(t.encode("<bos>").unwrap().len(), 5);
        let error = tokenizer().encode("<bos>").unwrap_err();
        assert!(matches!(error, crate::error::Error::UnknownCharacter { character: '<', .. }), "{error}");
    }

    /// What a program sees that uses the library directly.
    #[test]
    fn the_library_alone_encodes_the_same_and_prepends_bos() {
        let inner = tokenizers::Tokenizer::from_bytes(tokenizer().to_json()).unwrap();
        assert_eq!(inner.encode("zéd", true).unwrap().get_ids(), [7, 5, 6, 4]);
        assert!(inner.encode("x", false).is_err(), "no silent unknown token");
    }
}
