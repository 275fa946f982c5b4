//! Training text, and its split into a training and a held-out part.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// Given names, written for this project.
const BUILT_IN: &str = include_str!("../data/names.txt");

/// Size limit: a corpus is kept in memory, and endless inputs such as /dev/zero are rejected.
const LIMIT: u64 = 1 << 30;

/// How a text is divided into documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// One document per line, without surrounding white space; blank lines are skipped.
    #[default]
    Lines,
    /// Running text, trained on in windows as long as the context.
    Packed,
}

/// A text to train on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    origin: String,
    path: Option<PathBuf>,
    layout: Layout,
    documents: Vec<String>,
    sha256: String,
}

/// A corpus in two parts. For running text, each part has at most one string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Documents to train on, in the order of the first epoch.
    pub train: Vec<String>,
    /// Documents held out from training.
    pub held_out: Vec<String>,
}

impl Corpus {
    /// Returns the corpus that comes with the crate: given names, lower-case, a to z.
    pub fn built_in() -> Self {
        Self::from_text("built-in names", BUILT_IN, Layout::Lines).expect("the built-in corpus has documents")
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the path cannot be made absolute; [`Error::Corpus`] if the file cannot be read, is
    /// not UTF-8, has no document, or exceeds 1 GiB, or if its path is not UTF-8.
    pub fn from_file(path: impl AsRef<Path>, layout: Layout) -> Result<Self> {
        let path = path.as_ref();
        let origin = path.display().to_string();
        let mut bytes = Vec::new();
        if path.is_dir() {
            return Err(Error::Corpus {
                origin,
                reason: "it is a folder, expected a text file".into(),
                source: None,
            });
        }
        fs::File::open(path).and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes)).map_err(|e| {
            Error::Corpus {
                origin: origin.clone(),
                reason: format!("cannot be read: {e}"),
                source: Some(e.into()),
            }
        })?;
        if bytes.len() as u64 > LIMIT {
            let reason = format!("more than {LIMIT} bytes: use a part of it");
            return Err(Error::Corpus { origin, reason, source: None });
        }
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => {
                let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
                let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
                let reason = format!("line {line} is not UTF-8: convert the file first");
                return Err(Error::Corpus { origin, reason, source: None });
            }
        };
        // A resumed run finds the corpus by this path, which states store as text.
        let path = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
        if path.to_str().is_none() {
            return Err(Error::Corpus {
                origin,
                reason: "its path is not UTF-8: rename it".into(),
                source: None,
            });
        }
        Ok(Self { path: Some(path), ..Self::from_text(&origin, &text, layout)? })
    }

    /// Creates a corpus from a text in the given layout.
    ///
    /// # Errors
    ///
    /// [`Error::Corpus`] if the text is empty.
    pub fn from_text(origin: &str, text: &str, layout: Layout) -> Result<Self> {
        let sha256 = sha256(text.as_bytes());
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (documents, expected): (Vec<String>, _) = match layout {
            Layout::Lines => (
                text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect(),
                "it has no document: expected one per line",
            ),
            Layout::Packed => (
                [text].into_iter().filter(|t| !t.trim().is_empty()).map(str::to_owned).collect(),
                "it has no text",
            ),
        };
        if documents.is_empty() {
            return Err(Error::Corpus { origin: origin.to_owned(), reason: expected.into(), source: None });
        }
        Ok(Self { origin: origin.to_owned(), path: None, layout, documents, sha256 })
    }

    /// Returns the same corpus under another name: the one it had when the run began.
    #[cfg(feature = "train")]
    pub(crate) fn called(mut self, origin: &str) -> Self {
        self.origin = origin.to_owned();
        self
    }

    /// Returns the name of the corpus: the path as given, for a file.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the absolute path of the file, if the corpus was read from one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns how the text is divided into documents.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Returns the SHA-256 of the text, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Returns the documents, in the order of the text; running text is one document.
    pub fn documents(&self) -> &[String] {
        &self.documents
    }

    /// Splits off a share of the corpus, at least one document or character if the share is not zero.
    ///
    /// Documents are shuffled by `seed` first, or keep their order without one. Of running text, the end is
    /// held out.
    ///
    /// # Errors
    ///
    /// [`Error::Training`] if the share is not in `[0, 1)` or leaves nothing to train on.
    pub fn split(&self, held_out: f64, seed: Option<u64>) -> Result<Split> {
        let bad = |reason: String| Error::Training { option: "held_out", reason };
        if !(0.0..1.0).contains(&held_out) {
            return Err(bad(format!("{held_out} is not at least 0 and below 1")));
        }
        let aside = |all: usize, what: &str| match (held_out * all as f64).round() as usize {
            0 if held_out > 0.0 && all > 1 => Ok(1),
            n if n < all && (n > 0 || held_out == 0.0) => Ok(n),
            _ => Err(bad(format!(
                "{held_out} of {all} {what} leaves none to train on: lower held_out, or set it to 0"
            ))),
        };
        match self.layout {
            Layout::Lines => {
                let mut train = self.documents.clone();
                if let Some(seed) = seed {
                    train.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
                }
                let held_out = train.split_off(train.len() - aside(train.len(), "documents")?);
                Ok(Split { train, held_out })
            }
            Layout::Packed => {
                let text = &self.documents[0];
                let characters = text.chars().count();
                let kept = characters - aside(characters, "characters")?;
                let at = text.char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
                let (train, end) = text.split_at(at);
                let held_out = [end].into_iter().filter(|t| !t.is_empty()).map(str::to_owned).collect();
                Ok(Split { train: vec![train.to_owned()], held_out })
            }
        }
    }
}

/// Returns the SHA-256 digest of `bytes`, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
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
        let split = corpus.split(0.1, Some(7)).unwrap();
        assert_eq!(split, corpus.split(0.1, Some(7)).unwrap());
        assert_ne!(split.train, corpus.split(0.1, Some(8)).unwrap().train);
        let mut all = [split.train, split.held_out.clone()].concat();
        all.sort();
        let mut original = corpus.documents().to_vec();
        original.sort();
        assert_eq!(all, original);
        assert_eq!(split.held_out.len(), (corpus.documents().len() as f64 / 10.0).round() as usize);
    }

    #[test]
    fn nothing_to_train_on() {
        assert!(
            Corpus::from_text("t", "\n  \n", Layout::Lines).unwrap_err().to_string().contains("no document")
        );
        let one = Corpus::from_text("t", "ada", Layout::Lines).unwrap();
        assert!(one.split(0.1, Some(0)).unwrap_err().to_string().contains("leaves none"));
        assert_eq!(one.split(0.0, Some(0)).unwrap().train, ["ada"]);
        let error = one.split(f64::NAN, None).unwrap_err().to_string();
        assert!(error.contains("NaN is not at least 0 and below 1"), "{error}");
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latin1.txt");
        fs::write(&path, b"ada\nren\xe9\n").unwrap();
        assert!(
            Corpus::from_file(&path, Layout::Lines).unwrap_err().to_string().contains("line 2 is not UTF-8")
        );
    }

    #[test]
    fn windows_line_ends_and_byte_order_marks_are_not_part_of_a_document() {
        let corpus = Corpus::from_text("t", "\u{feff}ada\r\nbo\r\n", Layout::Lines).unwrap();
        assert_eq!(corpus.documents(), ["ada", "bo"]);
    }

    #[test]
    fn without_a_seed_documents_stay_in_order() {
        let corpus = Corpus::from_text("t", "a\nb\nc\nd", Layout::Lines).unwrap();
        let split = corpus.split(0.25, None).unwrap();
        assert_eq!(
            (split.train, split.held_out),
            (vec!["a".into(), "b".into(), "c".into()], vec!["d".into()])
        );
    }

    #[test]
    fn running_text_keeps_its_lines_and_its_end_is_held_out() {
        let corpus = Corpus::from_text("t", " One.\n\nTwo é.\n", Layout::Packed).unwrap();
        assert_eq!(corpus.documents(), [" One.\n\nTwo é.\n"]);
        let split = corpus.split(0.2, Some(1)).unwrap();
        // 14 characters, 3 of them held out.
        assert_eq!((split.train, split.held_out), (vec![" One.\n\nTwo ".into()], vec!["é.\n".into()]));
        assert!(corpus.split(0.0, None).unwrap().held_out.is_empty());
        assert!(Corpus::from_text("t", " \n", Layout::Packed).unwrap_err().to_string().contains("no text"));
    }

    /// FIPS 180-2, appendix B.1.
    #[test]
    fn digest_of_a_known_text() {
        let corpus = Corpus::from_text("t", "abc", Layout::Lines).unwrap();
        assert_eq!(corpus.sha256(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
