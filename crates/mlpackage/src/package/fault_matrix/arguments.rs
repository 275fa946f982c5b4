//! Faults in operations and their arguments.

use super::draft::ints;
use super::fault::{Fault, fault, in_fixture};
use crate::finding::Rule;
use crate::mil::{Literal, Value, value_to_proto};
use crate::{DType, proto};

pub(super) const FAULTS: &[Fault] = &[
    fault("an unknown operation", Rule::OperationUnknown, "conv2d -> %conv", |d| {
        d.op("conv").r#type = "conv2d".into();
    }),
    in_fixture(
        "opset_ios17",
        "an operation of a later opset",
        Rule::OperationTooNew,
        "requires opset",
        |d| {
            let op = d.block().operations.iter_mut().find(|o| o.r#type != "const").unwrap();
            op.r#type = "scaled_dot_product_attention".into();
        },
    ),
    fault("an operation without a name", Rule::OperationName, "conv -> %conv", |d| {
        d.op("conv").attributes.clear();
    }),
    fault("an argument that is missing", Rule::ArgumentMissing, "argument weight is missing", |d| {
        d.op("conv").inputs.remove("weight");
    }),
    fault("an argument that has a default", Rule::ArgumentDefault, "argument groups is not bound", |d| {
        d.op("conv").inputs.remove("groups");
    }),
    fault("an unknown argument", Rule::ArgumentUnknown, "argument kernel", |d| {
        d.name("conv", "kernel", "w");
    }),
    fault("an argument of write_state", Rule::ArgumentUnknown, "argument axis", |d| {
        let axis = proto::binding::Binding::Value(value_to_proto(&Value::int(0)));
        let arguments = vec![proto::Binding { binding: Some(axis) }];
        d.kind("write_state").inputs.insert("axis".into(), proto::Argument { arguments });
    }),
    fault("an argument without a binding", Rule::ArgumentCount, "argument x has 0 bindings", |d| {
        d.argument("conv", "x", vec![]);
    }),
    fault("an argument with two", Rule::ArgumentCount, "argument x has 2 bindings", |d| {
        let x = proto::binding::Binding::Name("x".into());
        d.argument("conv", "x", vec![x.clone(), x]);
    }),
    fault("a binding that holds nothing", Rule::ArgumentCount, "neither a name nor a value", |d| {
        d.op("conv").inputs.get_mut("x").unwrap().arguments[0].binding = None;
    }),
    fault("strides in fp16", Rule::ArgumentType, "argument strides", |d| {
        d.bind("conv", "strides", Value::fp16s([2], &[half::f16::ONE; 2]));
    }),
    fault("pad_type that is a number", Rule::ArgumentType, "argument pad_type", |d| {
        d.bind("conv", "pad_type", Value::int(0));
    }),
    fault("a numeric condition", Rule::ArgumentType, "argument cond", |d| {
        d.name("chosen", "cond", "picked");
    }),
    fault("strides that are computed", Rule::ArgumentConstant, "argument strides", |d| {
        d.name("conv", "strides", "steps");
    }),
    fault("compressed data that are computed", Rule::ArgumentConstant, "argument data", |d| {
        d.name("dense", "data", "conv");
    }),
    fault("a large value bound directly", Rule::BlobBinding, "argument weight", |d| {
        let value = d.constant("w").clone();
        d.argument("conv", "weight", vec![proto::binding::Binding::Value(value)]);
    }),
    fault("an unknown padding", Rule::ArgumentValue, "argument pad_type is \"around\"", |d| {
        d.bind("conv", "pad_type", Value::string("around"));
    }),
    fault("too many strides", Rule::ArgumentValue, "argument strides", |d| {
        d.bind("conv", "strides", ints(&[1, 1, 1]));
    }),
    fault("a negative stride", Rule::ArgumentValue, "argument strides", |d| {
        d.bind("conv", "strides", ints(&[1, -1]));
    }),
    fault("a dilation of zero", Rule::ArgumentValue, "argument dilations", |d| {
        d.bind("conv", "dilations", ints(&[0, 1]));
    }),
    fault("zero groups", Rule::ArgumentValue, "argument groups", |d| d.bind("conv", "groups", Value::int(0))),
    fault("too little padding", Rule::ArgumentValue, "argument pad", |d| {
        d.bind("conv", "pad_type", Value::string("custom"));
        d.bind("conv", "pad", ints(&[0, 0]));
    }),
    fault("a vector in place of a scalar", Rule::ArgumentValue, "expected a scalar", |d| {
        d.bind("soft", "axis", ints(&[1]));
    }),
    fault("a scalar in place of a vector", Rule::ArgumentValue, "expected a vector", |d| {
        d.bind("mean", "axes", Value::int(1));
    }),
    fault("unused padding of another rank", Rule::ArgumentValue, "argument pad", |d| {
        d.bind("conv", "pad_type", Value::string("valid"));
        d.bind("conv", "pad", ints(&[0, 0, 0]));
    }),
    fault("an index out of range", Rule::ArgumentValue, "argument indices holds 65535", |d| {
        d.bind("picked", "indices", ints(&[65_535]));
    }),
    fault("an axis out of range", Rule::ArgumentValue, "argument axis", |d| {
        d.bind("soft", "axis", Value::int(4));
    }),
    fault("an axis twice", Rule::ArgumentValue, "argument axes", |d| {
        d.bind("mean", "axes", ints(&[1, -1]));
    }),
    fault("axes that are not a permutation", Rule::ArgumentValue, "argument perm", |d| {
        d.bind("turned", "perm", ints(&[1, 1]));
    }),
    fault("a join axis out of range", Rule::ArgumentValue, "argument axis", |d| {
        d.bind("joined", "axis", Value::int(2));
    }),
    fault("a stride of zero", Rule::ArgumentValue, "argument stride is 0", |d| {
        d.bind("cut", "stride", ints(&[0, 1]));
    }),
    fault("a mask that is too short", Rule::ArgumentValue, "argument end_mask", |d| {
        d.bind("cut", "end_mask", Value::bools([true]));
    }),
    fault("an unknown cast type", Rule::ArgumentValue, "argument dtype is \"fp8\"", |d| {
        d.bind("wide", "dtype", Value::string("fp8"));
    }),
    fault("an unknown approximation", Rule::ArgumentValue, "argument mode", |d| {
        d.bind("gelu", "mode", Value::string("ROUGH"));
    }),
    fault("more of the largest than there are", Rule::ArgumentValue, "argument k is 9", |d| {
        d.bind("top", "k", Value::int(9));
    }),
    fault("a gather axis out of range", Rule::ArgumentValue, "argument axis", |d| {
        d.bind("picked", "axis", Value::int(-3));
    }),
    fault("groups that do not divide", Rule::ArgumentsMismatch, "in each of 3 groups", |d| {
        d.bind("conv", "groups", Value::int(3));
    }),
    fault("x and weight of two types", Rule::ArgumentsMismatch, "expected one type", |d| {
        d.bind("sum", "y", Value::fp32(1.0));
    }),
    fault("a weight of other channels", Rule::ArgumentsMismatch, "channels", |d| d.name("conv8", "x", "x")),
    fault("other numbers of elements", Rule::ArgumentsMismatch, "cannot be reshaped", |d| {
        d.bind("flat", "shape", ints(&[3, 7]));
    }),
    fault("two unknown dimensions", Rule::ArgumentsMismatch, "cannot be reshaped", |d| {
        d.bind("flat", "shape", ints(&[-1, -1]));
    }),
    fault("parts that are not equal", Rule::ArgumentsMismatch, "split into 4", |d| {
        d.bind("left", "num_splits", Value::int(4));
    }),
    fault("tensors of two ranks joined", Rule::ArgumentsMismatch, "differ in rank", |d| {
        let names = ["product", "x"].map(|n| proto::binding::Binding::Name(n.into()));
        d.argument("joined", "values", names.to_vec());
    }),
    fault("a box outside", Rule::ArgumentsMismatch, "outside of axis 1", |d| {
        d.bind("cut", "begin", ints(&[0, 5]));
    }),
    fault("matrices that do not fit", Rule::ArgumentsMismatch, "do not match: 8 against 3", |d| {
        d.name("product", "y", "flat");
    }),
    fault("shapes that do not broadcast", Rule::ArgumentsMismatch, "do not broadcast", |d| {
        d.name("sum", "y", "x");
    }),
    fault("a state's content of another shape", Rule::ArgumentsMismatch, "data is", |d| {
        d.kind("write_state").inputs.get_mut("data").unwrap().arguments[0].binding =
            Some(proto::binding::Binding::Name("x".into()));
    }),
    fault("gamma of another length", Rule::ArgumentValue, "argument gamma", |d| {
        d.bind("norm", "gamma", Value::fp32s([2], [1.0, 1.0]));
    }),
    fault("scales that do not divide", Rule::ArgumentsMismatch, "does not divide", |d| {
        d.bind("dense", "scale", Value::fp16s([2, 1, 1, 1], &[half::f16::ONE; 2]));
    }),
    fault("compressed data in int16", Rule::ArgumentType, "argument data", |d| {
        let data = Value::immediate(DType::Int16, [3, 3, 1, 1], Literal::Ints(vec![1; 9]));
        d.bind("dense", "data", data);
    }),
    fault("an offset of another shape", Rule::ArgumentsMismatch, "must have the shape of scale", |d| {
        let offset = Value::immediate(DType::Int8, [1, 1, 1, 1], Literal::Bytes(vec![0]));
        d.bind("dense", "offset", offset);
    }),
    fault("a state in a tensor's place", Rule::StateUse, "argument x is a state", |d| {
        d.name("conv8", "x", "cache");
    }),
    fault("a tensor in a state's place", Rule::StateUse, "argument input is a tensor", |d| {
        d.name("before", "input", "x");
    }),
    in_fixture("slices", "an update of another shape", Rule::ArgumentsMismatch, "a box of [2, 2, 5]", |d| {
        d.bind("slice_update_0", "end", ints(&[3, 3, 5]));
    }),
    // The known properties of computed bounds suffice.
    in_fixture(
        "slices",
        "an update that cannot fit",
        Rule::ArgumentValue,
        "at most 2 elements on axis 2",
        |d| {
            d.bind("slice_update_1", "stride", ints(&[1, 1, 5]));
        },
    ),
    // Without `axes` the norm is over all axes, which gamma does not match.
    in_fixture("normalizations", "a norm of no axes", Rule::ArgumentValue, "expected [2, 4, 3, 5]", |d| {
        d.kind("layer_norm").inputs.remove("axes");
    }),
    in_fixture(
        "convolutions",
        "strides that are not positive",
        Rule::ArgumentValue,
        "argument strides",
        |d| {
            let shape = proto::binding::Binding::Value(value_to_proto(&ints(&[1, 2, 6, 6])));
            let strides = proto::binding::Binding::Value(value_to_proto(&ints(&[-1, 0])));
            for (param, binding) in [("output_shape", shape), ("strides", strides)] {
                let arguments = vec![proto::Binding { binding: Some(binding) }];
                d.kind("conv_transpose").inputs.insert(param.into(), proto::Argument { arguments });
            }
        },
    ),
    in_fixture("resizes", "an unknown interpolation", Rule::ArgumentValue, "interpolation_mode", |d| {
        let binding = proto::binding::Binding::Value(value_to_proto(&Value::string("CUBIC")));
        let arguments = vec![proto::Binding { binding: Some(binding) }];
        d.kind("resize").inputs.insert("interpolation_mode".into(), proto::Argument { arguments });
    }),
];
