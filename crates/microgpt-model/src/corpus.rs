//! Documents to train on, and their split into a training and a held-out part.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};

/// Given names, written for this project.
const BUILT_IN: &str = include_str!("../data/names.txt");

/// Everything is kept in memory; a device that never ends is told from a corpus by this.
const LIMIT: u64 = 1 << 30;

/// Documents, one a line of the text that they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    origin: String,
    documents: Vec<String>,
}

/// A corpus in two parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// To train on, in the order of training.
    pub train: Vec<String>,
    /// Never trained on.
    pub held_out: Vec<String>,
}

impl Corpus {
    /// The corpus that comes with the crate: given names, lower-case, a to z.
    pub fn built_in() -> Self {
        Self::from_text("built-in names", BUILT_IN).expect("the built-in corpus has documents")
    }

    /// Reads a file of one document a line.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Corpus`] if it is not UTF-8 or has no document.
    pub fn from_file(path: &Path) -> Result<Self> {
        let origin = path.display().to_string();
        let mut bytes = Vec::new();
        fs::File::open(path)
            .and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes))
            .map_err(|e| Error::io("read corpus", path, e))?;
        if bytes.len() as u64 > LIMIT {
            let reason = format!("more than {LIMIT} bytes: take a part of it");
            return Err(Error::Corpus { origin, reason });
        }
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => {
                let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
                let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
                let reason = format!("line {line} is not UTF-8: convert the file first");
                return Err(Error::Corpus { origin, reason });
            }
        };
        Self::from_text(&origin, &text)
    }

    /// Takes every line that is not blank as a document, without the space around it.
    ///
    /// # Errors
    ///
    /// [`Error::Corpus`] if there is none.
    pub fn from_text(origin: &str, text: &str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let documents: Vec<String> =
            text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
        if documents.is_empty() {
            return Err(Error::Corpus {
                origin: origin.to_owned(),
                reason: "it has no document: one a line is expected".into(),
            });
        }
        Ok(Self { origin: origin.to_owned(), documents })
    }

    /// Where it comes from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The documents, in the order of the text.
    pub fn documents(&self) -> &[String] {
        &self.documents
    }

    /// Shuffles the documents and sets `held_out` of them aside, at least one if the share is not zero.
    ///
    /// # Errors
    ///
    /// [`Error::Training`] if the share is not in `[0, 1)` or leaves nothing to train on.
    pub fn split(&self, held_out: f64, seed: u64) -> Result<Split> {
        let bad = |reason: String| Error::Training { option: "held_out", reason };
        if !(0.0..1.0).contains(&held_out) {
            return Err(bad(format!("{held_out} is not a share of at least 0 and below 1")));
        }
        let mut train = self.documents.clone();
        train.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let aside = match (held_out * train.len() as f64).round() as usize {
            0 if held_out > 0.0 => 1,
            n => n,
        };
        if aside >= train.len() {
            return Err(bad(format!(
                "{held_out} of {} documents leaves none to train on: lower --held-out, 0 holds none out",
                train.len()
            )));
        }
        let held_out = train.split_off(train.len() - aside);
        Ok(Split { train, held_out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_names_are_what_the_crate_promises() {
        let corpus = Corpus::built_in();
        assert!(corpus.documents().len() >= 1_000);
        assert!(corpus.documents().iter().all(|n| n.chars().all(|c| c.is_ascii_lowercase())));
        let mut unique = corpus.documents().to_vec();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), corpus.documents().len());
    }

    #[test]
    fn split_is_a_partition_and_repeats() {
        let corpus = Corpus::built_in();
        let split = corpus.split(0.1, 7).unwrap();
        assert_eq!(split, corpus.split(0.1, 7).unwrap());
        assert_ne!(split.train, corpus.split(0.1, 8).unwrap().train);
        let mut all = [split.train, split.held_out.clone()].concat();
        all.sort();
        let mut original = corpus.documents().to_vec();
        original.sort();
        assert_eq!(all, original);
        assert_eq!(split.held_out.len(), (corpus.documents().len() as f64 / 10.0).round() as usize);
    }

    #[test]
    fn nothing_to_train_on() {
        assert!(Corpus::from_text("t", "\n  \n").unwrap_err().to_string().contains("no document"));
        let one = Corpus::from_text("t", "ada").unwrap();
        assert!(one.split(0.1, 0).unwrap_err().to_string().contains("leaves none"));
        assert_eq!(one.split(0.0, 0).unwrap().train, ["ada"]);
        assert!(one.split(f64::NAN, 0).is_err());
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latin1.txt");
        fs::write(&path, b"ada\nren\xe9\n").unwrap();
        assert!(Corpus::from_file(&path).unwrap_err().to_string().contains("line 2 is not UTF-8"));
    }

    #[test]
    fn windows_line_ends_and_byte_order_marks_are_not_part_of_a_document() {
        let corpus = Corpus::from_text("t", "\u{feff}ada\r\nbo\r\n").unwrap();
        assert_eq!(corpus.documents(), ["ada", "bo"]);
    }
}
