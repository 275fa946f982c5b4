//! Types of features that are not tensors: images, labels and probabilities.

use std::fmt;

use crate::dtype::DType;
use crate::image::ImageType;
use crate::mil::{Container, ValueType};

/// A feature type other than a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherType {
    pub(crate) kind: OtherKind,
    pub(crate) encoded: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherKind {
    Int64,
    Double,
    String,
    Image,
    Dictionary,
    Sequence,
}

/// `DictionaryFeatureType` with int64 keys, and with string keys.
const INT64_KEYS: &[u8] = &[0x0a, 0x00];
const STRING_KEYS: &[u8] = &[0x12, 0x00];

impl OtherType {
    /// Returns the type that describes a classifier's label or probabilities; `None` for other values.
    pub(super) fn of(ty: &ValueType) -> Option<Self> {
        let (content, container) = ty.content()?;
        let (kind, encoded) = match (container, content.dtype) {
            (Container::Tensor, DType::String) => (OtherKind::String, &[][..]),
            (Container::Tensor, DType::Int64) => (OtherKind::Int64, &[][..]),
            (Container::Dictionary { key: DType::String }, _) => (OtherKind::Dictionary, STRING_KEYS),
            (Container::Dictionary { key: DType::Int64 }, _) => (OtherKind::Dictionary, INT64_KEYS),
            _ => return None,
        };
        Some(Self { kind, encoded: encoded.to_vec() })
    }

    /// Returns whether both dictionaries have keys of the same type. A description without a key type matches
    /// any.
    pub(super) fn has_keys_of(&self, other: &Self) -> bool {
        match (self.encoded.first(), other.encoded.first()) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
    }

    /// Returns Core ML's name of the type, such as `image`.
    pub fn name(&self) -> &'static str {
        match self.kind {
            OtherKind::Int64 => "int64",
            OtherKind::Double => "double",
            OtherKind::String => "string",
            OtherKind::Image => "image",
            OtherKind::Dictionary => "dictionary",
            OtherKind::Sequence => "sequence",
        }
    }

    /// Returns the image type; `None` if this is not an image, or its colour space or size is unknown.
    pub fn image(&self) -> Option<ImageType> {
        (self.kind == OtherKind::Image).then(|| ImageType::decode(&self.encoded)).flatten()
    }
}

/// Displays an image with its size and colour space, and any other type by its name.
impl fmt::Display for OtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.image() {
            Some(image) => image.fmt(f),
            None => f.write_str(self.name()),
        }
    }
}
