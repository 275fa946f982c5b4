//! Arguments of `microgpt run` that have a form of their own.

use std::path::PathBuf;
use std::str::FromStr;

/// A function to call, as an argument of `--function`: `FUNCTION` or `FUNCTION=STEPS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FunctionArg {
    pub(super) name: String,
    pub(super) steps: Option<usize>,
}

impl FromStr for FunctionArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, steps) = match text.split_once('=') {
            Some((name, steps)) => (name, Some(steps)),
            None => (text, None),
        };
        if name.is_empty() {
            return Err("expected FUNCTION or FUNCTION=STEPS, such as prefill,decode=16".into());
        }
        let steps = steps.map(|steps| match steps.parse() {
            Ok(steps @ 1..) => Ok(steps),
            _ => Err(format!("{steps:?} steps of {name}: expected a number from 1 on")),
        });
        Ok(Self { name: name.to_owned(), steps: steps.transpose()? })
    }
}

/// An input or output with a file, as an argument of `--image` and `--out-image`: `NAME=FILE`, or
/// `FUNCTION/NAME=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedFile {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl FromStr for NamedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                Ok(Self { name: name.to_owned(), path: path.into() })
            }
            _ => Err("expected NAME=FILE, such as image=photo.png".into()),
        }
    }
}
