//! The subset of Core ML's protobuf schema that an ML Program uses, as `prost` messages.
//!
//! The messages are written by hand from the field numbers of `Model.proto`, `FeatureTypes.proto` and
//! `MIL.proto`, so the build needs no protobuf compiler. Every map is a `BTreeMap`, so encoding a message
//! twice yields the same bytes; a hash map would not guarantee this.

use std::collections::BTreeMap;

use prost::{Message, Oneof};

/// `CoreML.Specification.Model`, the root message of `model.mlmodel`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Model {
    #[prost(int32, tag = "1")]
    pub(crate) specification_version: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) description: Option<ModelDescription>,
    #[prost(bool, tag = "10")]
    pub(crate) is_updatable: bool,
    #[prost(message, optional, tag = "502")]
    pub(crate) ml_program: Option<Program>,
}

/// The model's inputs, outputs and states, as Core ML's API shows them.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelDescription {
    #[prost(message, repeated, tag = "1")]
    pub(crate) input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "10")]
    pub(crate) output: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) state: Vec<FeatureDescription>,
    #[prost(string, tag = "11")]
    pub(crate) predicted_feature_name: String,
    #[prost(string, tag = "12")]
    pub(crate) predicted_probabilities_name: String,
    #[prost(message, repeated, tag = "50")]
    pub(crate) training_input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "20")]
    pub(crate) functions: Vec<FunctionDescription>,
    #[prost(string, tag = "21")]
    pub(crate) default_function_name: String,
    #[prost(message, optional, tag = "100")]
    pub(crate) metadata: Option<Metadata>,
}

/// One function of a multifunction model.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FunctionDescription {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) output: Vec<FeatureDescription>,
    #[prost(string, tag = "4")]
    pub(crate) predicted_feature_name: String,
    #[prost(string, tag = "5")]
    pub(crate) predicted_probabilities_name: String,
    #[prost(message, repeated, tag = "6")]
    pub(crate) state: Vec<FeatureDescription>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Metadata {
    #[prost(string, tag = "1")]
    pub(crate) short_description: String,
    #[prost(string, tag = "2")]
    pub(crate) version_string: String,
    #[prost(string, tag = "3")]
    pub(crate) author: String,
    #[prost(string, tag = "4")]
    pub(crate) license: String,
    #[prost(btree_map = "string, string", tag = "100")]
    pub(crate) user_defined: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureDescription {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) short_description: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) r#type: Option<FeatureType>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureType {
    #[prost(oneof = "feature_type::Type", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub(crate) r#type: Option<feature_type::Type>,
    #[prost(bool, tag = "1000")]
    pub(crate) is_optional: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageFeatureType {
    #[prost(int64, tag = "1")]
    pub(crate) width: i64,
    #[prost(int64, tag = "2")]
    pub(crate) height: i64,
    #[prost(int32, tag = "3")]
    pub(crate) color_space: i32,
    #[prost(oneof = "image_feature_type::SizeFlexibility", tags = "21, 31")]
    pub(crate) size_flexibility: Option<image_feature_type::SizeFlexibility>,
}

/// `ImageFeatureType.ColorSpace`.
impl ImageFeatureType {
    pub(crate) const GRAYSCALE: i32 = 10;
    pub(crate) const RGB: i32 = 20;
    pub(crate) const BGR: i32 = 30;
    pub(crate) const GRAYSCALE_FLOAT16: i32 = 40;
}

pub(crate) mod image_feature_type {
    use super::{EnumeratedImageSizes, ImageSizeRange, Oneof};

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum SizeFlexibility {
        #[prost(message, tag = "21")]
        Enumerated(EnumeratedImageSizes),
        #[prost(message, tag = "31")]
        Range(ImageSizeRange),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EnumeratedImageSizes {
    #[prost(message, repeated, tag = "1")]
    pub(crate) sizes: Vec<ImageSize>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageSize {
    #[prost(uint64, tag = "1")]
    pub(crate) width: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) height: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageSizeRange {
    #[prost(message, optional, tag = "1")]
    pub(crate) width: Option<SizeRange>,
    #[prost(message, optional, tag = "2")]
    pub(crate) height: Option<SizeRange>,
}

/// Types other than arrays and states are kept in encoded form.
pub(crate) mod feature_type {
    use super::{ArrayFeatureType, Oneof, StateFeatureType};

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum Type {
        #[prost(bytes, tag = "1")]
        Int64(Vec<u8>),
        #[prost(bytes, tag = "2")]
        Double(Vec<u8>),
        #[prost(bytes, tag = "3")]
        String(Vec<u8>),
        #[prost(bytes, tag = "4")]
        Image(Vec<u8>),
        #[prost(message, tag = "5")]
        MultiArray(ArrayFeatureType),
        #[prost(bytes, tag = "6")]
        Dictionary(Vec<u8>),
        #[prost(bytes, tag = "7")]
        Sequence(Vec<u8>),
        #[prost(message, tag = "8")]
        State(StateFeatureType),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArrayFeatureType {
    /// The default shape, if several are allowed.
    #[prost(int64, repeated, tag = "1")]
    pub(crate) shape: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(crate) data_type: i32,
    #[prost(oneof = "array_feature_type::ShapeFlexibility", tags = "21, 31")]
    pub(crate) shape_flexibility: Option<array_feature_type::ShapeFlexibility>,
    #[prost(oneof = "array_feature_type::DefaultOptionalValue", tags = "41, 51, 61")]
    pub(crate) default_optional_value: Option<array_feature_type::DefaultOptionalValue>,
}

pub(crate) mod array_feature_type {
    use super::{EnumeratedShapes, Oneof, ShapeRange};

    #[derive(Clone, Copy, PartialEq, Oneof)]
    pub(crate) enum DefaultOptionalValue {
        #[prost(int32, tag = "41")]
        Int(i32),
        #[prost(float, tag = "51")]
        Float(f32),
        #[prost(double, tag = "61")]
        Double(f64),
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum ShapeFlexibility {
        #[prost(message, tag = "21")]
        Enumerated(EnumeratedShapes),
        #[prost(message, tag = "31")]
        Range(ShapeRange),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EnumeratedShapes {
    #[prost(message, repeated, tag = "1")]
    pub(crate) shapes: Vec<ArrayShape>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArrayShape {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ShapeRange {
    #[prost(message, repeated, tag = "1")]
    pub(crate) size_ranges: Vec<SizeRange>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SizeRange {
    #[prost(uint64, tag = "1")]
    pub(crate) lower_bound: u64,
    /// -1 if there is no bound.
    #[prost(int64, tag = "2")]
    pub(crate) upper_bound: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StateFeatureType {
    #[prost(message, optional, tag = "1")]
    pub(crate) array_type: Option<ArrayFeatureType>,
}

// ---- MIL.proto ----

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Program {
    #[prost(int64, tag = "1")]
    pub(crate) version: i64,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(crate) functions: BTreeMap<String, Function>,
    #[prost(string, tag = "3")]
    pub(crate) doc_string: String,
    #[prost(btree_map = "string, message", tag = "4")]
    pub(crate) attributes: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Function {
    #[prost(message, repeated, tag = "1")]
    pub(crate) inputs: Vec<NamedValueType>,
    #[prost(string, tag = "2")]
    pub(crate) opset: String,
    #[prost(btree_map = "string, message", tag = "3")]
    pub(crate) block_specializations: BTreeMap<String, Block>,
    #[prost(btree_map = "string, message", tag = "4")]
    pub(crate) attributes: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Block {
    #[prost(message, repeated, tag = "1")]
    pub(crate) inputs: Vec<NamedValueType>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) outputs: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) operations: Vec<Operation>,
    #[prost(btree_map = "string, message", tag = "4")]
    pub(crate) attributes: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Operation {
    #[prost(string, tag = "1")]
    pub(crate) r#type: String,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(crate) inputs: BTreeMap<String, Argument>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) outputs: Vec<NamedValueType>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) blocks: Vec<Block>,
    #[prost(btree_map = "string, message", tag = "5")]
    pub(crate) attributes: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Argument {
    #[prost(message, repeated, tag = "1")]
    pub(crate) arguments: Vec<Binding>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Binding {
    #[prost(oneof = "binding::Binding", tags = "1, 2")]
    pub(crate) binding: Option<binding::Binding>,
}

pub(crate) mod binding {
    use super::{Oneof, Value};

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum Binding {
        #[prost(string, tag = "1")]
        Name(String),
        #[prost(message, tag = "2")]
        Value(Value),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NamedValueType {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) r#type: Option<ValueType>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueType {
    #[prost(oneof = "value_type::Type", tags = "1, 2, 3, 4, 5")]
    pub(crate) r#type: Option<value_type::Type>,
}

pub(crate) mod value_type {
    use super::{DictionaryType, ListType, Oneof, StateType, TensorType, TupleType};

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum Type {
        #[prost(message, tag = "1")]
        Tensor(TensorType),
        #[prost(message, tag = "2")]
        List(ListType),
        #[prost(message, tag = "3")]
        Tuple(TupleType),
        #[prost(message, tag = "4")]
        Dictionary(DictionaryType),
        #[prost(message, tag = "5")]
        State(StateType),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorType {
    #[prost(int32, tag = "1")]
    pub(crate) data_type: i32,
    #[prost(int64, tag = "2")]
    pub(crate) rank: i64,
    #[prost(message, repeated, tag = "3")]
    pub(crate) dimensions: Vec<Dimension>,
    #[prost(btree_map = "string, message", tag = "4")]
    pub(crate) attributes: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListType {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) r#type: Option<Box<ValueType>>,
    #[prost(message, optional, tag = "2")]
    pub(crate) length: Option<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TupleType {
    #[prost(message, repeated, tag = "1")]
    pub(crate) types: Vec<ValueType>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DictionaryType {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) key_type: Option<Box<ValueType>>,
    #[prost(message, optional, boxed, tag = "2")]
    pub(crate) value_type: Option<Box<ValueType>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StateType {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) wrapped_type: Option<Box<ValueType>>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Dimension {
    #[prost(oneof = "dimension::Dimension", tags = "1, 2")]
    pub(crate) dimension: Option<dimension::Dimension>,
}

pub(crate) mod dimension {
    use super::{ConstantDimension, Oneof, UnknownDimension};

    #[derive(Clone, Copy, PartialEq, Oneof)]
    pub(crate) enum Dimension {
        #[prost(message, tag = "1")]
        Constant(ConstantDimension),
        #[prost(message, tag = "2")]
        Unknown(UnknownDimension),
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ConstantDimension {
    #[prost(uint64, tag = "1")]
    pub(crate) size: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct UnknownDimension {
    #[prost(bool, tag = "1")]
    pub(crate) variadic: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Value {
    #[prost(string, tag = "1")]
    pub(crate) doc_string: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) r#type: Option<ValueType>,
    #[prost(oneof = "value::Value", tags = "3, 5")]
    pub(crate) value: Option<value::Value>,
}

pub(crate) mod value {
    use super::{BlobFileValue, ImmediateValue, Oneof};

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum Value {
        #[prost(message, tag = "3")]
        Immediate(ImmediateValue),
        #[prost(message, tag = "5")]
        BlobFile(BlobFileValue),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImmediateValue {
    #[prost(oneof = "immediate_value::Value", tags = "1, 2, 3, 4")]
    pub(crate) value: Option<immediate_value::Value>,
}

pub(crate) mod immediate_value {
    use super::{DictionaryValue, ListValue, Oneof, TensorValue, TupleValue};

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum Value {
        #[prost(message, tag = "1")]
        Tensor(TensorValue),
        #[prost(message, tag = "2")]
        Tuple(TupleValue),
        #[prost(message, tag = "3")]
        List(ListValue),
        #[prost(message, tag = "4")]
        Dictionary(DictionaryValue),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BlobFileValue {
    #[prost(string, tag = "1")]
    pub(crate) file_name: String,
    #[prost(uint64, tag = "2")]
    pub(crate) offset: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TupleValue {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListValue {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DictionaryValue {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<KeyValuePair>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValuePair {
    #[prost(message, optional, tag = "1")]
    pub(crate) key: Option<Value>,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<Value>,
}

/// The elements of an immediate tensor; each variant is a message with one repeated field.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorValue {
    #[prost(oneof = "tensor_value::Value", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(crate) value: Option<tensor_value::Value>,
}

pub(crate) mod tensor_value {
    use super::{
        Oneof, RepeatedBools, RepeatedBytes, RepeatedDoubles, RepeatedFloats, RepeatedInts, RepeatedLongInts,
        RepeatedStrings,
    };

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum Value {
        #[prost(message, tag = "1")]
        Floats(RepeatedFloats),
        #[prost(message, tag = "2")]
        Ints(RepeatedInts),
        #[prost(message, tag = "3")]
        Bools(RepeatedBools),
        #[prost(message, tag = "4")]
        Strings(RepeatedStrings),
        #[prost(message, tag = "5")]
        LongInts(RepeatedLongInts),
        #[prost(message, tag = "6")]
        Doubles(RepeatedDoubles),
        #[prost(message, tag = "7")]
        Bytes(RepeatedBytes),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RepeatedFloats {
    #[prost(float, repeated, tag = "1")]
    pub(crate) values: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RepeatedInts {
    #[prost(int32, repeated, tag = "1")]
    pub(crate) values: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RepeatedBools {
    #[prost(bool, repeated, tag = "1")]
    pub(crate) values: Vec<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RepeatedStrings {
    #[prost(string, repeated, tag = "1")]
    pub(crate) values: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RepeatedLongInts {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) values: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RepeatedDoubles {
    #[prost(double, repeated, tag = "1")]
    pub(crate) values: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RepeatedBytes {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) values: Vec<u8>,
}
