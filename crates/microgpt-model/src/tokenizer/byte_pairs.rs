//! Byte-level byte pair encoding, as in GPT-2: every text can be encoded.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{Model as _, PreTokenizerWrapper};

use super::{BOS_TOKEN, MIN_BYTE_PAIR_VOCAB, Tokenizer, TokenizerKind, build, expect_same, frame};
use crate::error::{Error, Result};

const KIND: TokenizerKind = TokenizerKind::BytePairs;

/// Largest vocabulary: the limit of a model's dimensions.
const MAX_VOCAB: usize = 1 << 20;

pub(super) fn train<S: AsRef<str> + Sync>(documents: &[S], vocab_size: usize) -> Result<Tokenizer> {
    if !(MIN_BYTE_PAIR_VOCAB..=MAX_VOCAB).contains(&vocab_size) {
        let reason = format!(
            "{vocab_size} is not between {MIN_BYTE_PAIR_VOCAB} (every byte, and BOS) and {MAX_VOCAB}"
        );
        return Err(Error::Training { option: "vocab_size", reason });
    }
    let failed = |e: tokenizers::Error| Error::Training { option: "tokenizer", reason: e.to_string() };
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab_size - 1) // BOS is added last
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    let mut trainer = TrainerWrapper::from(trainer);
    let mut learner = tokenizers::Tokenizer::new(BPE::default());
    learner.with_pre_tokenizer(Some(PreTokenizerWrapper::ByteLevel(pre_tokenizer())));
    let texts = documents.iter().flat_map(|document| pieces(document.as_ref()));
    learner.train(&mut trainer, texts).map_err(failed)?;

    let model = serde_json::to_value(learner.get_model()).map_err(|e| failed(e.into()))?;
    let mut vocab: Map<String, Value> = Map::new();
    for (token, id) in learner.get_model().get_vocab() {
        vocab.insert(token, json!(id));
    }
    let bos = vocab.len();
    vocab.insert(BOS_TOKEN.into(), json!(bos));
    let inner = build(canonical(vocab, model["merges"].clone())).map_err(|reason| failed(reason.into()))?;
    Ok(Tokenizer { inner, bos: bos as u32, kind: KIND })
}

/// Reads a `tokenizer.json`, if it is a plain byte pair tokenizer.
pub(super) fn from_json(json: &Value) -> Result<Tokenizer, String> {
    let vocab = json["model"]["vocab"].as_object().ok_or("it has no model.vocab of tokens and ids")?;
    let size = vocab.len();
    let ids: HashSet<u64> = vocab.values().filter_map(Value::as_u64).collect();
    if let Some(missing) = (0..size as u64).find(|id| !ids.contains(id)) {
        return Err(format!("no token has id {missing} of {size}"));
    }
    match vocab.get(BOS_TOKEN).and_then(Value::as_u64) {
        Some(id) if id + 1 == size as u64 => {}
        Some(id) => return Err(format!("{BOS_TOKEN} is token {id} of {size}, expected the last one")),
        None => return Err(format!("it has no token {BOS_TOKEN}")),
    }
    if let Some(byte) = ByteLevel::alphabet().iter().find(|c| !vocab.contains_key(&c.to_string())) {
        return Err(format!("it has no token for the byte written {byte:?}, so it cannot encode every text"));
    }
    let expected = canonical(vocab.clone(), json["model"]["merges"].clone());
    expect_same(json, &expected, KIND)?;
    Ok(Tokenizer { inner: build(expected)?, bos: size as u32 - 1, kind: KIND })
}

/// Minimum bytes of a piece of text, except the last.
const PIECE: usize = 1 << 16;

/// Divides a text into pieces whose tokens are those of the whole text.
///
/// A cut is made before white space that follows a non-white-space character, where the pre-tokenizer cuts as
/// well.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> + Send {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let begin = rest.ceil_char_boundary(PIECE.min(rest.len()));
        let mut before = rest[..begin].chars().next_back();
        let cut = rest[begin..].char_indices().find(|(_, c)| {
            let cuts = c.is_whitespace() && before.is_some_and(|b| !b.is_whitespace());
            before = Some(*c);
            cuts
        });
        let (piece, left) = rest.split_at(cut.map_or(rest.len(), |(at, _)| begin + at));
        rest = left;
        Some(piece)
    })
}

fn pre_tokenizer() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

/// Returns the `tokenizer.json` for these tokens and merges; merges are in the order in which they were
/// learnt.
fn canonical(vocab: Map<String, Value>, merges: Value) -> Value {
    let bos = vocab.len() - 1;
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
        "vocab": vocab, "merges": merges,
    });
    let byte_level = serde_json::to_value(pre_tokenizer()).expect("four fields serialize into memory");
    frame(bos, model, byte_level.clone(), byte_level)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[&str] = &["low lower lowest", "new newer newest", "wide wider widest"];

    #[test]
    fn merges_what_is_frequent_and_puts_bos_last() {
        let t = Tokenizer::byte_pairs(TEXT, 270).unwrap();
        assert_eq!((t.vocab_size(), t.bos(), t.kind()), (270, 269, KIND));
        // "est" occurs three times, so a few merges make it one token.
        assert!(t.encode("lowest").unwrap().len() < 4, "{:?}", t.encode("lowest"));
        assert_eq!(t.decode(&t.encode("lowest").unwrap()), "lowest");
        assert_eq!(t.decode(&[t.bos()]), "");
    }

    #[test]
    fn a_small_corpus_gives_as_many_tokens_as_it_has_pairs() {
        let t = Tokenizer::byte_pairs(&["ab"], 1000).unwrap();
        assert_eq!(t.vocab_size(), 258, "256 bytes, ab and BOS");
    }

    #[test]
    fn the_same_corpus_gives_the_same_bytes_and_survives_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        let made = Tokenizer::byte_pairs(TEXT, 280).unwrap();
        std::fs::write(&path, made.to_json()).unwrap();
        let read = Tokenizer::from_file(&path).unwrap();
        assert_eq!(read.to_json(), made.to_json());
        assert_eq!(read.kind(), KIND);
        for _ in 0..4 {
            assert_eq!(Tokenizer::byte_pairs(TEXT, 280).unwrap().to_json(), made.to_json());
        }
    }

    #[test]
    fn too_few_tokens_for_every_byte() {
        let error = Tokenizer::byte_pairs(TEXT, 256).unwrap_err().to_string();
        assert!(error.contains("vocab_size: 256 is not between 257"), "{error}");
    }

    /// Tokenizers that the library accepts but that do something else.
    #[test]
    fn tokenizers_that_change_texts_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        let made: Value = serde_json::from_str(&Tokenizer::byte_pairs(TEXT, 270).unwrap().to_json()).unwrap();
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut json = made.clone();
            change(&mut json);
            std::fs::write(&path, json.to_string()).unwrap();
            Tokenizer::from_file(&path).unwrap_err().to_string()
        };
        assert!(refused(&|j| j["normalizer"] = json!({"type": "Lowercase"})).contains("field normalizer"));
        assert!(refused(&|j| j["model"]["dropout"] = json!(0.5)).contains("field model"));
        assert!(refused(&|j| j["pre_tokenizer"]["add_prefix_space"] = json!(true)).contains("pre_tokenizer"));
        assert!(refused(&|j| j["added_tokens"] = json!([])).contains("added_tokens"));
        let no_bos = refused(&|j| {
            j["model"]["vocab"].as_object_mut().unwrap().remove(BOS_TOKEN);
        });
        assert!(no_bos.contains("no token <bos>"), "{no_bos}");
        assert!(refused(&|j| j["model"]["vocab"]["a"] = json!(9999)).contains("no token has id"));
        let no_byte = refused(&|j| {
            let vocab = j["model"]["vocab"].as_object_mut().unwrap();
            let id = vocab.remove("a").unwrap();
            vocab.insert("zzz".into(), id);
        });
        assert!(no_byte.contains("no token for the byte written 'a'"), "{no_byte}");
        assert!(refused(&|j| j["model"]["merges"] = json!([["no", "such"]])).contains("not a tokenizer"));
    }

    /// A text of many pieces has the same tokens as when the library encodes it at once.
    #[test]
    fn pieces_have_the_tokens_of_the_whole() {
        let words = ["low", "  newer", "\n\n", "it's", " 12", "\u{3000}widest", "!?", "\t", "é€"];
        let text: String = (0..60_000).map(|i| words[i * 7919 % words.len()]).collect();
        assert!(pieces(&text).count() > 3);
        assert_eq!(pieces(&text).collect::<String>(), text);
        let t = Tokenizer::byte_pairs(TEXT, 270).unwrap();
        let whole = t.inner.encode_fast(text.as_str(), false).unwrap();
        assert_eq!(t.encode(&text).unwrap(), whole.get_ids());
    }

    proptest! {
        /// Any text, of any script, is restored from its tokens.
        #[test]
        fn every_text_comes_back(text in any::<String>()) {
            let t = Tokenizer::byte_pairs(TEXT, 270).unwrap();
            let ids = t.encode(&text).unwrap();
            prop_assert!(ids.iter().all(|&id| id < t.bos()));
            prop_assert_eq!(t.decode(&ids), text);
        }
    }
}
