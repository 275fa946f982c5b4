//! The subset of Core ML's protobuf schema that an ML Program uses, as `prost` messages.
//!
//! The messages are written by hand from the field numbers of `Model.proto`, `FeatureTypes.proto` and
//! `MIL.proto`, so the build needs no protobuf compiler. Every map is a `BTreeMap`, so encoding a message
//! twice yields the same bytes; a hash map would not guarantee this.

mod feature_types;
mod mil;
mod model;

pub(crate) use feature_types::*;
pub(crate) use mil::*;
pub(crate) use model::*;
