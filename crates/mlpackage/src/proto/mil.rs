//! `MIL.proto`: the program.

use std::collections::BTreeMap;

use prost::{Message, Oneof};

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
