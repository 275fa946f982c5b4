//! From MIL as typed data to its protobuf messages.

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
        ..Default::default()
    }
}

fn function(f: &Function) -> proto::Function {
    let opset = f.opset.name().to_owned();
    proto::Function {
        inputs: f.inputs.iter().map(named_type).collect(),
        block_specializations: BTreeMap::from([(opset.clone(), block(&f.block))]),
        opset,
        attributes: BTreeMap::new(),
    }
}

fn block(b: &Block) -> proto::Block {
    proto::Block {
        outputs: b.outputs.clone(),
        operations: b.operations.iter().map(operation).collect(),
        ..Default::default()
    }
}

fn operation(o: &Operation) -> proto::Operation {
    let argument =
        |bindings: &Vec<Binding>| proto::Argument { arguments: bindings.iter().map(binding).collect() };
    proto::Operation {
        r#type: o.op.clone(),
        inputs: o.inputs.iter().map(|(name, a)| (name.clone(), argument(a))).collect(),
        outputs: o.outputs.iter().map(named_type).collect(),
        attributes: o.attributes.iter().map(|(name, v)| (name.clone(), value(v))).collect(),
        ..Default::default()
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
    let ty = match &n.ty {
        ValueType::Tensor(t) => tensor_type(t),
        ValueType::State(t) => proto::ValueType {
            r#type: Some(proto::value_type::Type::State(proto::StateType {
                wrapped_type: Some(Box::new(tensor_type(t))),
            })),
        },
    };
    proto::NamedValueType { name: n.name.clone(), r#type: Some(ty) }
}

fn tensor_type(t: &TensorType) -> proto::ValueType {
    let dimension = |dim: Dim| proto::Dimension {
        dimension: Some(match dim {
            Dim::Known(size) => {
                proto::dimension::Dimension::Constant(proto::ConstantDimension { size: size as u64 })
            }
            Dim::Unknown => proto::dimension::Dimension::Unknown(proto::UnknownDimension { variadic: false }),
        }),
    };
    proto::ValueType {
        r#type: Some(proto::value_type::Type::Tensor(proto::TensorType {
            data_type: t.dtype.mil_number(),
            rank: t.shape.rank() as i64,
            dimensions: t.shape.iter().map(dimension).collect(),
            attributes: BTreeMap::new(),
        })),
    }
}

fn value(v: &Value) -> proto::Value {
    let data = match &v.data {
        ValueData::Immediate(literal) => proto::value::Value::Immediate(proto::ImmediateValue {
            value: Some(proto::immediate_value::Value::Tensor(proto::TensorValue {
                value: Some(tensor_value(literal)),
            })),
        }),
        ValueData::Blob(blob) => proto::value::Value::BlobFile(proto::BlobFileValue {
            file_name: blob.file.clone(),
            offset: blob.offset,
        }),
    };
    proto::Value { r#type: Some(tensor_type(&v.ty)), value: Some(data), ..Default::default() }
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

    /// The bytes that coremltools 9.0 writes for the same values.
    #[test]
    fn values_encode_as_coremltools_encodes_them() {
        assert_eq!(hex(&Value::fp16(1.0)), "12040a02080a1a080a063a040a02003c");
        assert!(hex(&Value::int(-1)).ends_with("120c0a0affffffffffffffffff01"), "a ten-byte varint");
        assert_eq!(hex(&Value::string("valid")), "12040a0208021a0b0a0922070a0576616c6964");
        assert!(hex(&Value::bool(false)).ends_with("1a030a0100"), "packed, not omitted");
        assert!(hex(&Value::fp32(1e-12)).ends_with("0a060a04ccbc8c2b"));
    }
}
