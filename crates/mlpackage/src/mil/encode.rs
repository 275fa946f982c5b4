//! Conversion of typed MIL data to protobuf messages.

use std::collections::BTreeMap;

use super::dims::Dim;
use super::program::{Binding, Block, Function, Operation, Program};
use super::types::{NamedType, TensorType, ValueType};
use super::value::{Literal, Value, ValueData};
use crate::proto;

pub(crate) fn program_to_proto(program: &Program) -> proto::Program {
    proto::Program {
        version: 1,
        functions: program.functions.iter().map(|(name, f)| (name.clone(), function(f))).collect(),
        doc_string: program.doc.clone(),
        attributes: attributes(&program.attributes),
    }
}

fn function(f: &Function) -> proto::Function {
    let opset = f.opset.name().to_owned();
    proto::Function {
        inputs: f.inputs.iter().map(named_type).collect(),
        block_specializations: BTreeMap::from([(opset.clone(), block(&f.block))]),
        opset,
        attributes: attributes(&f.attributes),
    }
}

fn block(b: &Block) -> proto::Block {
    proto::Block {
        inputs: b.inputs.iter().map(named_type).collect(),
        outputs: b.outputs.clone(),
        operations: b.operations.iter().map(operation).collect(),
        attributes: attributes(&b.attributes),
    }
}

fn attributes(attributes: &BTreeMap<String, Value>) -> BTreeMap<String, proto::Value> {
    attributes.iter().map(|(name, v)| (name.clone(), value(v))).collect()
}

fn operation(o: &Operation) -> proto::Operation {
    let argument =
        |bindings: &Vec<Binding>| proto::Argument { arguments: bindings.iter().map(binding).collect() };
    proto::Operation {
        r#type: o.op.clone(),
        inputs: o.inputs.iter().map(|(name, a)| (name.clone(), argument(a))).collect(),
        outputs: o.outputs.iter().map(named_type).collect(),
        blocks: o.blocks.iter().map(block).collect(),
        attributes: attributes(&o.attributes),
    }
}

fn binding(b: &Binding) -> proto::Binding {
    let binding = match b {
        Binding::Name(name) => proto::binding::Binding::Name(name.clone()),
        Binding::Value(v) => proto::binding::Binding::Value(value(v)),
    };
    proto::Binding { binding: Some(binding) }
}

fn named_type(n: &NamedType) -> proto::NamedValueType {
    proto::NamedValueType { name: n.name.clone(), r#type: Some(value_type(&n.ty)) }
}

fn value_type(ty: &ValueType) -> proto::ValueType {
    use proto::value_type::Type;
    let boxed = |ty: &ValueType| Some(Box::new(value_type(ty)));
    let ty = match ty {
        ValueType::Tensor(t) => Type::Tensor(tensor_type(t)),
        ValueType::State(t) => Type::State(proto::StateType {
            wrapped_type: Some(Box::new(proto::ValueType { r#type: Some(Type::Tensor(tensor_type(t))) })),
        }),
        ValueType::List { element, length } => {
            Type::List(proto::ListType { r#type: boxed(element), length: length.map(dimension) })
        }
        ValueType::Tuple(types) => {
            Type::Tuple(proto::TupleType { types: types.iter().map(value_type).collect() })
        }
        ValueType::Dictionary { key, value } => {
            Type::Dictionary(proto::DictionaryType { key_type: boxed(key), value_type: boxed(value) })
        }
    };
    proto::ValueType { r#type: Some(ty) }
}

fn dimension(dim: Dim) -> proto::Dimension {
    proto::Dimension {
        dimension: Some(match dim {
            Dim::Known(size) => {
                proto::dimension::Dimension::Constant(proto::ConstantDimension { size: size as u64 })
            }
            Dim::Unknown => proto::dimension::Dimension::Unknown(proto::UnknownDimension { variadic: false }),
        }),
    }
}

fn tensor_type(t: &TensorType) -> proto::TensorType {
    let mut dimensions: Vec<_> = t.shape.iter().map(dimension).collect();
    if t.shape.is_of_any_rank() {
        let any = proto::dimension::Dimension::Unknown(proto::UnknownDimension { variadic: true });
        dimensions.push(proto::Dimension { dimension: Some(any) });
    }
    proto::TensorType {
        data_type: t.dtype.mil_number(),
        rank: dimensions.len() as i64,
        dimensions,
        attributes: BTreeMap::new(),
    }
}

pub(crate) fn value(v: &Value) -> proto::Value {
    use proto::immediate_value::Value as Immediate;
    let values = |values: &[Value]| values.iter().map(value).collect();
    let immediate = match &v.data {
        ValueData::Blob(blob) => {
            let blob = proto::BlobFileValue { file_name: blob.file.clone(), offset: blob.offset };
            return proto::Value {
                r#type: Some(value_type(&v.ty)),
                value: Some(proto::value::Value::BlobFile(blob)),
                ..Default::default()
            };
        }
        ValueData::Immediate(literal) => {
            Immediate::Tensor(proto::TensorValue { value: Some(tensor_value(literal)) })
        }
        ValueData::List(list) => Immediate::List(proto::ListValue { values: values(list) }),
        ValueData::Tuple(tuple) => Immediate::Tuple(proto::TupleValue { values: values(tuple) }),
        ValueData::Dictionary(pairs) => Immediate::Dictionary(proto::DictionaryValue {
            values: pairs
                .iter()
                .map(|(k, v)| proto::KeyValuePair { key: Some(value(k)), value: Some(value(v)) })
                .collect(),
        }),
    };
    let immediate = proto::ImmediateValue { value: Some(immediate) };
    proto::Value {
        r#type: Some(value_type(&v.ty)),
        value: Some(proto::value::Value::Immediate(immediate)),
        ..Default::default()
    }
}

fn tensor_value(literal: &Literal) -> proto::tensor_value::Value {
    use proto::tensor_value::Value as V;
    match literal.clone() {
        Literal::Floats(values) => V::Floats(proto::RepeatedFloats { values }),
        Literal::Doubles(values) => V::Doubles(proto::RepeatedDoubles { values }),
        Literal::Ints(values) => V::Ints(proto::RepeatedInts { values }),
        Literal::LongInts(values) => V::LongInts(proto::RepeatedLongInts { values }),
        Literal::Bools(values) => V::Bools(proto::RepeatedBools { values }),
        Literal::Strings(values) => V::Strings(proto::RepeatedStrings { values }),
        Literal::Bytes(values) => V::Bytes(proto::RepeatedBytes { values }),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn hex(v: &Value) -> String {
        value(v).encode_to_vec().iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The bytes are what coremltools 9.0 writes for the same values.
    #[test]
    fn values_encode_as_coremltools_encodes_them() {
        assert_eq!(hex(&Value::fp16(1.0)), "12040a02080a1a080a063a040a02003c");
        assert!(hex(&Value::int(-1)).ends_with("120c0a0affffffffffffffffff01"), "a ten-byte varint");
        assert_eq!(hex(&Value::string("valid")), "12040a0208021a0b0a0922070a0576616c6964");
        assert!(hex(&Value::bool(false)).ends_with("1a030a0100"), "packed, not omitted");
        assert!(hex(&Value::fp32(1e-12)).ends_with("0a060a04ccbc8c2b"));
    }
}
