//! Names for models that are not ML Programs.

use std::path::Path;

use crate::error::Error;
use crate::files;

/// The members of `CoreML.Specification.Model.Type`, by field number (`Model.proto` of coremltools 9.0).
const KINDS: [(u64, &str); 37] = [
    (200, "a pipeline that classifies"),
    (201, "a pipeline that predicts a number"),
    (202, "a pipeline"),
    (300, "a generalized linear regressor"),
    (301, "a support vector regressor"),
    (302, "a tree ensemble regressor"),
    (303, "a neural network regressor"),
    (304, "a Bayesian probit regressor"),
    (400, "a generalized linear classifier"),
    (401, "a support vector classifier"),
    (402, "a tree ensemble classifier"),
    (403, "a neural network classifier"),
    (404, "a k nearest neighbours classifier"),
    (500, "a neural network"),
    (501, "an item similarity recommender"),
    (555, "a custom model"),
    (556, "a linked model"),
    (560, "a class confidence threshold"),
    (600, "a one-hot encoder"),
    (601, "an imputer"),
    (602, "a feature vectorizer"),
    (603, "a dictionary vectorizer"),
    (604, "a scaler"),
    (606, "a categorical mapping"),
    (607, "a normalizer"),
    (609, "an array feature extractor"),
    (610, "non-maximum suppression"),
    (900, "the identity"),
    (2000, "a text classifier"),
    (2001, "a word tagger"),
    (2002, "a vision feature print"),
    (2003, "sound analysis preprocessing"),
    (2004, "a gazetteer"),
    (2005, "a word embedding"),
    (2006, "an audio feature print"),
    (3000, "a serialized model"),
    (502, "an ML Program"),
];

/// Returns the kind of model that field `number` of `CoreML.Specification.Model` holds, as a noun phrase such
/// as `a neural network`; `None` if the field holds no model.
pub fn model_type(number: u64) -> Option<&'static str> {
    KINDS.iter().find(|(field, _)| *field == number).map(|(_, kind)| *kind)
}

/// Returns the kind of an encoded model, by the first field that names one; `None` if none does.
pub(super) fn of(mut model: &[u8]) -> Option<&'static str> {
    while !model.is_empty() {
        let tag = prost::encoding::decode_varint(&mut model).ok()?;
        let (field, wire) = (tag >> 3, tag & 7);
        if let Some(kind) = model_type(field) {
            return Some(kind);
        }
        let skipped = match wire {
            0 => prost::encoding::decode_varint(&mut model).ok().map(|_| 0),
            1 => Some(8),
            2 => prost::encoding::decode_varint(&mut model).ok(),
            5 => Some(4),
            _ => None,
        };
        model = model.get(usize::try_from(skipped?).ok()?..)?;
    }
    None
}

/// Returns the error for a file that was given in place of a package folder.
pub(super) fn refuse_file(path: &Path) -> Error {
    let no_package = |reason: String| Error::NoPackage { path: path.to_owned(), reason };
    let expected = "expected the folder of a .mlpackage";
    // `read_small` refuses pipes, and files that are larger than any program.
    let bytes = match files::read_small(path, super::MODEL_LIMIT) {
        Ok(bytes) => bytes,
        Err(pointer @ Error::GitLfsPointer { .. }) => return pointer,
        Err(_) => return no_package(format!("it is a file, {expected}")),
    };
    let is_model = path.extension().is_some_and(|extension| extension == "mlmodel");
    match of(&bytes).filter(|_| is_model) {
        Some("an ML Program") => {
            no_package(format!("it is the model file of a package, {expected} that contains it"))
        }
        Some(kind) => no_package(format!("a single-file model (.mlmodel): {}", no_program(kind))),
        None => no_package(format!("it is a file, {expected}")),
    }
}

/// Returns the message for a model that is not an ML Program.
pub(super) fn no_program(kind: &str) -> String {
    format!(
        "it is {kind}, not an ML Program: convert the model that it was made from again, in coremltools with \
         convert_to=\"mlprogram\""
    )
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn kinds_are_identified_by_their_field() {
        // specificationVersion 4, then an empty message in field 500, 202 and 502.
        assert_eq!(of(&[0x08, 0x04, 0xa2, 0x1f, 0x00]), Some("a neural network"));
        assert_eq!(of(&[0x08, 0x04, 0xd2, 0x0c, 0x00]), Some("a pipeline"));
        assert_eq!(of(&[0x08, 0x04, 0xb2, 0x1f, 0x00]), Some("an ML Program"));
        assert_eq!(of(&[0x08, 0x04]), None);
        assert_eq!(of(&[0x12, 0xff]), None);
    }
}
