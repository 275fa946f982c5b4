//! Faults in types, constants and names.

use super::draft::{fixed, ints, tensor};
use super::fault::{Fault, fault};
use crate::finding::Rule;
use crate::mil::{Literal, Opset, Value, value_to_proto};
use crate::{DType, proto};

pub(super) const FAULTS: &[Fault] = &[
    fault("unknown data type", Rule::Type, "unknown data type 99", |d| {
        d.result_type("conv").data_type = 99;
    }),
    fault("rank that is not the dimensions' number", Rule::Type, "rank 5 with 4", |d| {
        d.result_type("conv").rank = 5;
    }),
    fault("a dimension without a kind", Rule::Type, "neither constant nor unknown", |d| {
        d.result_type("conv").dimensions[1].dimension = None;
    }),
    fault("too many dimensions", Rule::Type, "rank 17", |d| {
        let ty = d.result_type("conv");
        ty.dimensions = vec![fixed(1); 17];
        ty.rank = 17;
    }),
    fault("more elements than can be counted", Rule::Type, "too many elements", |d| {
        d.result_type("conv").dimensions = vec![fixed(u64::MAX / 2); 4];
    }),
    fault("a result without a type", Rule::Type, "it has no type", |d| d.op("conv").outputs[0].r#type = None),
    fault("an input without a type", Rule::Type, "%steps: it has no type", |d| {
        d.function().inputs[1].r#type = None;
    }),
    fault("a state of nothing", Rule::Type, "must hold a tensor", |d| {
        let state = proto::StateType { wrapped_type: None };
        d.function().inputs[2].r#type =
            Some(proto::ValueType { r#type: Some(proto::value_type::Type::State(state)) });
    }),
    fault("a state of fp32", Rule::StateType, "expected fp16", |d| {
        let Some(proto::value_type::Type::State(state)) =
            d.function().inputs[2].r#type.as_mut().unwrap().r#type.as_mut()
        else {
            panic!("the third input is the state")
        };
        tensor(state.wrapped_type.as_mut().unwrap()).data_type = 11;
    }),
    fault("a state of open shape", Rule::StateType, "fixed shape", |d| {
        let Some(proto::value_type::Type::State(state)) =
            d.function().inputs[2].r#type.as_mut().unwrap().r#type.as_mut()
        else {
            panic!("the third input is the state")
        };
        let open = proto::dimension::Dimension::Unknown(proto::UnknownDimension { variadic: false });
        tensor(state.wrapped_type.as_mut().unwrap()).dimensions[3].dimension = Some(open);
    }),
    fault("a state before iOS 18", Rule::StateType, "requires opset CoreML8", |d| {
        d.set_opset(Opset::CoreML7)
    }),
    fault("a constant without a value", Rule::Constant, "no attribute val", |d| {
        d.op("w").attributes.remove("val");
    }),
    fault("a constant that holds nothing", Rule::Constant, "holds nothing", |d| d.constant("w").value = None),
    fault("fp16 in floats", Rule::Constant, "TensorValue.bytes, found floats", |d| {
        let mut value = value_to_proto(&Value::fp32s([1], [1.0]));
        tensor(value.r#type.as_mut().unwrap()).data_type = 10;
        *d.constant("w") = value;
    }),
    fault("int32 in longInts", Rule::Constant, "TensorValue.ints, found longInts", |d| {
        let long = Value::immediate(DType::Int64, [1], Literal::LongInts(vec![1]));
        let mut value = value_to_proto(&long);
        tensor(value.r#type.as_mut().unwrap()).data_type = 23;
        *d.constant("w") = value;
    }),
    fault("fewer elements than the type says", Rule::Constant, "holds 1 values, expected 2", |d| {
        let mut value = value_to_proto(&ints(&[1]));
        tensor(value.r#type.as_mut().unwrap()).dimensions[0] = fixed(2);
        *d.constant("w") = value;
    }),
    fault("a list in a tensor's place", Rule::Constant, "value of another kind", |d| {
        let list = proto::immediate_value::Value::List(proto::ListValue::default());
        let held = proto::value::Value::Immediate(proto::ImmediateValue { value: Some(list) });
        d.constant("w").value = Some(held);
    }),
    fault("a constant that is declared otherwise", Rule::DeclaredType, "its value is", |d| {
        d.result_type("w").dimensions[0] = fixed(4);
    }),
    fault("a constant with an argument", Rule::ArgumentUnknown, "has no parameters", |d| {
        d.name("w", "x", "x");
    }),
    fault("a name with a dash", Rule::Identifier, "%a-b is not an identifier", |d| {
        d.op("wide").outputs[0].name = "a-b".into();
    }),
    fault("a name that begins with a digit", Rule::Identifier, "%0 is not an identifier", |d| {
        d.op("mean").outputs[0].name = "0".into();
    }),
    fault("an empty name", Rule::Identifier, "% is not an identifier", |d| {
        d.op("mean").outputs[0].name = String::new();
    }),
    fault("a name that is defined twice", Rule::DefinedTwice, "%sum is defined twice", |d| {
        d.op("mean").outputs[0].name = "sum".into();
    }),
    fault("a result with an input's name", Rule::DefinedTwice, "%x is defined twice", |d| {
        d.op("mean").outputs[0].name = "x".into();
    }),
    fault("a name that nothing defines", Rule::Undefined, "argument x is %nothing", |d| {
        d.name("conv", "x", "nothing");
    }),
    fault("a result used before its definition", Rule::Undefined, "argument x is %wide", |d| {
        d.name("conv", "x", "wide");
    }),
    fault("a result computed from itself", Rule::Undefined, "argument x is %soft", |d| {
        d.name("soft", "x", "soft");
    }),
];
