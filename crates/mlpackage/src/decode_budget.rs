//! Estimate of the memory that a decoded model needs, computed before decoding.
//!
//! An empty operation can be two bytes in the file and hundreds in memory. The estimate walks the tree of
//! messages by tags and lengths, and adds up the decoded size of each message.

use std::mem::size_of;

use prost::encoding::decode_varint;

use crate::mil;
use crate::proto;

/// A message of the schema that contains messages or is repeated.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Description,
    FunctionDescription,
    Feature,
    FeatureType,
    StateFeature,
    Array,
    Shapes,
    Shape,
    Program,
    Entry(&'static Kind),
    Function,
    Block,
    Operation,
    Argument,
    Binding,
    Named,
    Type,
    Wrapper,
    Tensor,
    Dimension,
    Value,
    Immediate,
    TensorValue,
    Values,
    Dictionary,
    Pair,
    Ints,
    LongInts,
    Strings,
    Leaf,
}

impl Kind {
    /// Returns the kind of the message in field `number`; [`Leaf`](Kind::Leaf) for strings, bytes and packed
    /// numbers.
    fn field(self, number: u64) -> Self {
        use Kind as K;
        match (self, number) {
            (K::Model, 2) => K::Description,
            (K::Model, 502) => K::Program,
            (K::Description, 1 | 10 | 13 | 50) | (K::FunctionDescription, 2 | 3 | 6) => K::Feature,
            (K::Description, 20) => K::FunctionDescription,
            (K::Feature, 3) => K::FeatureType,
            (K::FeatureType, 5) | (K::StateFeature, 1) => K::Array,
            (K::FeatureType, 8) => K::StateFeature,
            (K::Array, 21 | 31) => K::Shapes,
            (K::Shapes, 1) => K::Shape,
            (K::Array | K::Shape, 1) => K::LongInts,
            (K::Program, 2) => K::Entry(&K::Function),
            (K::Function, 3) => K::Entry(&K::Block),
            (K::Operation, 2) => K::Entry(&K::Argument),
            (K::Program | K::Function | K::Block | K::Tensor, 4) | (K::Operation, 5) => K::Entry(&K::Value),
            (K::Entry(value), 2) => *value,
            (K::Function | K::Block, 1) | (K::Operation, 3) => K::Named,
            (K::Block, 3) => K::Operation,
            (K::Operation, 4) => K::Block,
            (K::Argument, 1) => K::Binding,
            (K::Binding, 2) => K::Value,
            (K::Named, 2) | (K::Value, 2) => K::Type,
            (K::Type, 1) => K::Tensor,
            (K::Type, 2..=5) => K::Wrapper,
            (K::Wrapper, 1 | 2) => K::Type,
            (K::Tensor, 3) => K::Dimension,
            (K::Value, 3) => K::Immediate,
            (K::Immediate, 1) => K::TensorValue,
            (K::Immediate, 2 | 3) => K::Values,
            (K::Immediate, 4) => K::Dictionary,
            (K::Values, 1) => K::Value,
            (K::Dictionary, 1) => K::Pair,
            (K::Pair, 1 | 2) => K::Value,
            (K::TensorValue, 2) => K::Ints,
            (K::TensorValue, 5) => K::LongInts,
            (K::TensorValue, 4) => K::Strings,
            _ => K::Leaf,
        }
    }

    /// Returns the size of one message in bytes, as a protobuf message and as typed data, without its
    /// contents.
    fn bytes(self) -> u64 {
        let bytes = match self {
            Self::Operation => size_of::<proto::Operation>() + size_of::<mil::Operation>(),
            Self::Block => size_of::<proto::Block>() + size_of::<mil::Block>(),
            Self::Function => size_of::<proto::Function>() + size_of::<mil::Function>(),
            Self::Binding => size_of::<proto::Binding>() + size_of::<mil::Binding>(),
            Self::Named => size_of::<proto::NamedValueType>() + size_of::<mil::NamedType>(),
            Self::Value => size_of::<proto::Value>() + size_of::<mil::Value>(),
            Self::Pair => size_of::<proto::KeyValuePair>(),
            Self::Dimension => size_of::<proto::Dimension>() + size_of::<mil::Dim>(),
            Self::Feature => size_of::<proto::FeatureDescription>() + size_of::<crate::Feature>(),
            Self::FunctionDescription => {
                size_of::<proto::FunctionDescription>() + size_of::<crate::Interface>()
            }
            // A node of a map, its key and unused capacity.
            Self::Entry(_) => 4 * size_of::<String>(),
            Self::Type | Self::Wrapper => size_of::<proto::ValueType>(),
            Self::Shape => size_of::<proto::ArrayShape>().max(size_of::<proto::SizeRange>()),
            Self::Leaf | Self::Strings => size_of::<String>(),
            _ => 0,
        };
        // Vectors grow by doubling.
        2 * bytes as u64
    }
}

/// Estimates an upper bound on the decoded model's size in bytes; [`u64::MAX`] if the bytes are not valid
/// protobuf.
pub(crate) fn of(model: &[u8]) -> u64 {
    walk(Kind::Model, model, 0).unwrap_or(u64::MAX)
}

/// The nesting limit of `prost`.
const MAX_DEPTH: usize = 100;

fn walk(kind: Kind, mut message: &[u8], depth: usize) -> Option<u64> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut total = 0u64;
    while !message.is_empty() {
        let tag = decode_varint(&mut message).ok()?;
        match tag & 7 {
            0 => {
                decode_varint(&mut message).ok()?;
                total = total.saturating_add(16);
            }
            1 => {
                message = message.get(8..)?;
                total = total.saturating_add(16);
            }
            5 => {
                message = message.get(4..)?;
                total = total.saturating_add(8);
            }
            2 => {
                let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
                let (inner, rest) = message.split_at_checked(length)?;
                message = rest;
                let field = kind.field(tag >> 3);
                let inside = match (kind, field) {
                    // A packed number can be one byte in the file and four or eight in memory.
                    (Kind::Ints, _) => 4 * length as u64,
                    (Kind::LongInts, _) | (_, Kind::LongInts) if !matches!(kind, Kind::TensorValue) => {
                        8 * length as u64
                    }
                    (_, Kind::Leaf) => length as u64,
                    _ => walk(field, inner, depth + 1)?,
                };
                total = total.saturating_add(field.bytes()).saturating_add(inside);
            }
            _ => return None,
        }
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use prost::encoding::{WireType, encode_key, encode_varint};

    /// A thousand operations of two bytes each.
    #[test]
    fn many_empty_messages_are_seen_before_they_are_decoded() {
        let block =
            proto::Block { operations: vec![proto::Operation::default(); 1_000], ..Default::default() };
        let function = proto::Function {
            block_specializations: [("CoreML8".to_owned(), block)].into(),
            ..Default::default()
        };
        let program =
            proto::Program { functions: [("main".to_owned(), function)].into(), ..Default::default() };
        let model = proto::Model { ml_program: Some(program), ..Default::default() }.encode_to_vec();
        assert!(model.len() < 2_100, "{}", model.len());
        let least = 1_000 * size_of::<proto::Operation>() as u64;
        assert!(of(&model) > least, "{} bytes are estimated, {least} are needed", of(&model));
    }

    /// Encodes a model in which the messages that `path` names by field numbers are nested, and the last of
    /// them holds `payload`.
    fn nested(path: &[u32], payload: &[u8]) -> Vec<u8> {
        let Some((field, inner)) = path.split_first() else { return payload.to_vec() };
        let inner = nested(inner, payload);
        let mut message = Vec::new();
        encode_key(*field, WireType::LengthDelimited, &mut message);
        encode_varint(inner.len() as u64, &mut message);
        message.extend(inner);
        message
    }

    /// Asserts that `model` is estimated to need `least` bytes, and that the schema has all of its fields:
    /// decoding drops unknown ones.
    #[track_caller]
    fn assert_counted(path: &[u32], model: &[u8], least: usize) {
        let decoded = proto::Model::decode(model).unwrap();
        assert_eq!(decoded.encoded_len(), model.len(), "{path:?} is not in the schema");
        let estimate = of(model);
        assert!(estimate >= least as u64, "{path:?}: {estimate} bytes are estimated, {least} are needed");
    }

    const VALUE: [u32; 3] = [502, 4, 2];
    const FUNCTION: [u32; 3] = [502, 2, 2];
    const BLOCK: [u32; 5] = [502, 2, 2, 3, 2];

    /// A thousand empty messages, two bytes each, in every repeated field of the schema.
    #[test]
    fn messages_are_counted_in_every_repeated_field() {
        let feature = size_of::<proto::FeatureDescription>();
        let (value, ty) = (size_of::<proto::Value>(), size_of::<proto::ValueType>());
        let (named, dimension) = (size_of::<proto::NamedValueType>(), size_of::<proto::Dimension>());
        let description: &[(&[u32], usize)] = &[
            (&[2, 1], feature),
            (&[2, 10], feature),
            (&[2, 13], feature),
            (&[2, 50], feature),
            (&[2, 20], size_of::<proto::FunctionDescription>()),
            (&[2, 20, 2], feature),
            (&[2, 20, 3], feature),
            (&[2, 20, 6], feature),
            (&[2, 1, 3, 5, 21, 1], size_of::<proto::ArrayShape>()),
            (&[2, 1, 3, 5, 31, 1], size_of::<proto::SizeRange>()),
            (&[2, 1, 3, 8, 1, 21, 1], size_of::<proto::ArrayShape>()),
        ];
        // Every way to a value or a type, and the repeated fields in it.
        let values: &[(&[u32], usize)] = &[
            (&[2, 1, 3], dimension),
            (&[2, 1, 4, 2, 2, 1, 3], dimension),
            (&[2, 2, 1, 1, 3], dimension),
            (&[2, 3, 1], ty),
            (&[2, 4, 1, 1, 3], dimension),
            (&[2, 4, 2, 1, 3], dimension),
            (&[2, 5, 1, 1, 3], dimension),
            (&[3, 1, 4, 1], size_of::<String>()),
            (&[3, 2, 1], value),
            (&[3, 3, 1], value),
            (&[3, 4, 1], size_of::<proto::KeyValuePair>()),
            (&[3, 4, 1, 1, 2, 1, 3], dimension),
            (&[3, 4, 1, 2, 2, 1, 3], dimension),
        ];
        let functions: &[(&[u32], usize)] =
            &[(&[1], named), (&[1, 2, 1, 3], dimension), (&[4, 2, 2, 1, 3], dimension)];
        let blocks: &[(&[u32], usize)] = &[
            (&[1], named),
            (&[2], size_of::<String>()),
            (&[3], size_of::<proto::Operation>()),
            (&[4, 2, 2, 1, 3], dimension),
            (&[3, 2, 2, 1], size_of::<proto::Binding>()),
            (&[3, 2, 2, 1, 2, 2, 1, 3], dimension),
            (&[3, 3], named),
            (&[3, 4], size_of::<proto::Block>()),
            (&[3, 5, 2, 2, 1, 3], dimension),
        ];
        let groups: [(&[u32], _); 4] =
            [(&[], description), (&VALUE, values), (&FUNCTION, functions), (&BLOCK, blocks)];
        for (start, (rest, size)) in
            groups.iter().flat_map(|(start, ends)| ends.iter().map(|end| (*start, end)))
        {
            let path = [start, rest].concat();
            let (last, outer) = path.split_last().unwrap();
            let model = nested(outer, &nested(&[*last], &[]).repeat(1_000));
            assert_counted(&path, &model, 1_000 * size);
        }
    }

    /// A thousand numbers, one byte each.
    #[test]
    fn packed_numbers_are_counted_at_their_decoded_size() {
        let array = [2, 1, 3, 5];
        for (path, size) in [
            ([&VALUE[..], &[3, 1, 2, 1]].concat(), 4),
            ([&VALUE[..], &[3, 1, 5, 1]].concat(), 8),
            ([&array[..], &[1]].concat(), 8),
            ([&array[..], &[21, 1, 1]].concat(), 8),
            (vec![2, 1, 3, 8, 1, 1], 8),
        ] {
            assert_counted(&path, &nested(&path, &[1; 1_000]), 1_000 * size);
        }
    }

    /// A thousand entries of a map, each a key without a value, for which decoding makes an empty one.
    #[test]
    fn entries_without_a_value_are_counted() {
        for (path, size) in [
            (vec![502, 2], size_of::<proto::Function>()),
            ([&FUNCTION[..], &[3]].concat(), size_of::<proto::Block>()),
            ([&BLOCK[..], &[3, 2]].concat(), size_of::<proto::Argument>()),
            ([&BLOCK[..], &[3, 5]].concat(), size_of::<proto::Value>()),
            (vec![502, 4], size_of::<proto::Value>()),
        ] {
            let (last, outer) = path.split_last().unwrap();
            let keys = (1_000..2_000).flat_map(|key| nested(&[*last, 1], key.to_string().as_bytes()));
            let model = nested(outer, &keys.collect::<Vec<_>>());
            let estimate = of(&model);
            let least = 1_000 * (size_of::<String>() + size) as u64;
            assert!(estimate >= least, "{path:?}: {estimate} bytes are estimated, {least} are needed");
        }
    }

    #[test]
    fn invalid_protobuf_has_no_bound() {
        assert_eq!(of(&[0x12, 0xff]), u64::MAX);
        assert_eq!(of(&[]), 0);
    }
}
