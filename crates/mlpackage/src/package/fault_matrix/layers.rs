//! Faults in recurrent layers, lists, detectors and classifiers.

use super::draft::{Draft, ints, tensor};
use super::fault::{Fault, in_fixture};
use crate::finding::Rule;
use crate::mil::{Literal, Value, value_to_proto};
use crate::{DType, proto};

impl Draft {
    /// Binds an argument of the first operation of type `op` directly to a constant.
    fn bind_kind(&mut self, op: &str, param: &str, value: &Value) {
        let binding = proto::binding::Binding::Value(value_to_proto(value));
        let arguments = vec![proto::Binding { binding: Some(binding) }];
        self.kind(op).inputs.insert(param.into(), proto::Argument { arguments });
    }

    /// Binds an argument of the first operation of type `op` to a name.
    fn name_kind(&mut self, op: &str, param: &str, name: &str) {
        let arguments = vec![proto::Binding { binding: Some(proto::binding::Binding::Name(name.into())) }];
        self.kind(op).inputs.insert(param.into(), proto::Argument { arguments });
    }

    /// Returns the class labels of `classify`, which are bound directly.
    fn classes(&mut self) -> &mut Vec<proto::Value> {
        let binding = &mut self.kind("classify").inputs.get_mut("classes").unwrap().arguments[0].binding;
        let Some(proto::binding::Binding::Value(value)) = binding else { panic!("classes have a name") };
        let Some(proto::value::Value::Immediate(held)) = &mut value.value else {
            panic!("classes are a blob")
        };
        match held.value.as_mut().unwrap() {
            proto::immediate_value::Value::List(list) => &mut list.values,
            other => panic!("{other:?}"),
        }
    }
}

fn floats(dims: &[usize]) -> Value {
    Value::fp32s(dims.to_vec(), vec![0.0; dims.iter().product()])
}

fn strings(values: &[&str]) -> Value {
    let strings = values.iter().map(ToString::to_string).collect();
    Value::immediate(DType::String, [values.len()], Literal::Strings(strings))
}

const RECURRENT: &[Fault] = &[
    in_fixture("recurrent_ios15", "an undefined name in a layer", Rule::Undefined, "is %nowhere", |d| {
        d.name_kind("rnn", "x", "nowhere");
    }),
    in_fixture("recurrent_ios15", "three gates of four", Rule::ArgumentValue, "expected [4 H, H]", |d| {
        d.bind_kind("lstm", "weight_hh", &floats(&[6, 2]));
    }),
    in_fixture("recurrent_ios15", "weights of another width", Rule::ArgumentValue, "expected [8, 3]", |d| {
        d.bind_kind("lstm", "weight_ih", &floats(&[8, 4]));
    }),
    in_fixture("recurrent_ios15", "a bias for each matrix", Rule::ArgumentValue, "argument bias", |d| {
        d.bind_kind("gru", "bias", &floats(&[2, 6]));
    }),
    in_fixture("recurrent_ios15", "a peephole for the cell", Rule::ArgumentValue, "argument peephole", |d| {
        d.bind_kind("lstm", "peephole", &floats(&[8]));
    }),
    in_fixture(
        "recurrent_ios15",
        "a state of another batch",
        Rule::ArgumentValue,
        "argument initial_h",
        |d| {
            d.bind_kind("rnn", "initial_h", &floats(&[3, 2]));
        },
    ),
    in_fixture(
        "recurrent_ios15",
        "a sequence without a batch",
        Rule::ArgumentValue,
        "expected rank 3",
        |d| {
            d.bind_kind("rnn", "x", &floats(&[4, 3]));
        },
    ),
    in_fixture("recurrent_ios15", "an unknown activation", Rule::ArgumentValue, "is \"gelu\"", |d| {
        d.bind_kind("gru", "activation", &Value::string("gelu"));
    }),
    in_fixture("recurrent_ios15", "an unknown direction", Rule::ArgumentValue, "is \"up\"", |d| {
        d.bind_kind("lstm", "direction", &Value::string("up"));
    }),
    in_fixture("recurrent_ios15", "a bidirectional gru", Rule::ArgumentValue, "forward, reverse", |d| {
        d.bind_kind("gru", "direction", &Value::string("bidirectional"));
    }),
    in_fixture(
        "recurrent_ios15",
        "a backward direction without weights",
        Rule::ArgumentMissing,
        "weight_hh_back",
        |d| {
            d.bind_kind("lstm", "direction", &Value::string("bidirectional"));
        },
    ),
    in_fixture("recurrent_ios15", "a negative clip bound", Rule::ArgumentValue, "argument clip is -1", |d| {
        d.bind_kind("lstm", "clip", &Value::fp32(-1.0));
    }),
    in_fixture(
        "recurrent_ios15",
        "a layer of fp16 before iOS 17",
        Rule::ArgumentType,
        "expected fp32",
        |d| {
            d.bind_kind("rnn", "bias", &Value::fp16s([2], &[half::f16::ZERO; 2]));
        },
    ),
    in_fixture("recurrent_ios17", "a second bias before iOS 18", Rule::ArgumentUnknown, "input_bias", |d| {
        d.bind_kind("gru", "input_bias", &Value::fp16s([6], &[half::f16::ZERO; 6]));
    }),
    in_fixture("recurrent_ios15", "weights that are computed", Rule::ArgumentConstant, "weight_hh", |d| {
        d.name_kind("rnn", "weight_hh", "h");
    }),
];

const LISTS: &[Fault] = &[
    in_fixture("lists", "a tensor in the place of a list", Rule::ArgumentType, "expected a list of", |d| {
        d.name_kind("list_read", "ls", "x");
    }),
    in_fixture("lists", "a list in the place of a tensor", Rule::ArgumentType, "is list<", |d| {
        d.name_kind("squeeze", "x", "nowhere");
        let list = d.kind("make_list").outputs[0].name.clone();
        let at = d.block().operations.iter().position(|o| o.r#type == "make_list").unwrap();
        let mut squeeze = d.kind("squeeze").clone();
        squeeze.outputs[0].name = "squeezed_list".into();
        let binding = Some(proto::binding::Binding::Name(list));
        squeeze.inputs.get_mut("x").unwrap().arguments[0].binding = binding;
        d.name_kind("squeeze", "x", "n");
        d.block().operations.insert(at + 1, squeeze);
    }),
    in_fixture("lists", "an element of another shape", Rule::ArgumentsMismatch, "the list holds", |d| {
        d.bind_kind("list_write", "value", &floats(&[4, 1]));
    }),
    in_fixture("lists", "an element of another type", Rule::ArgumentsMismatch, "the list holds", |d| {
        d.bind_kind("list_write", "value", &ints(&[1, 2, 3]));
    }),
    in_fixture("lists", "an index with an axis", Rule::ArgumentValue, "expected a scalar", |d| {
        d.bind_kind("list_read", "index", &ints(&[1]));
    }),
    in_fixture("lists", "indices of two axes", Rule::ArgumentValue, "expected one axis", |d| {
        d.bind_kind("list_gather", "indices", &Value::ints([1, 1], [0]));
    }),
    in_fixture("lists", "a negative length", Rule::ArgumentValue, "init_length is -1", |d| {
        d.bind_kind("make_list", "init_length", &Value::int(-1));
    }),
    in_fixture("lists", "elements of fp64", Rule::ArgumentValue, "dtype is \"fp64\"", |d| {
        d.bind_kind("make_list", "dtype", &Value::string("fp64"));
    }),
    in_fixture("lists", "elements of a negative size", Rule::ArgumentValue, "argument elem_shape", |d| {
        d.bind_kind("make_list", "elem_shape", &Value::int(-3));
    }),
    in_fixture("lists", "elements that are declared otherwise", Rule::DeclaredType, "inferred list<", |d| {
        let ty = d.kind("make_list").outputs[0].r#type.as_mut().unwrap();
        let Some(proto::value_type::Type::List(list)) = ty.r#type.as_mut() else { panic!("no list") };
        tensor(list.r#type.as_mut().unwrap()).data_type = DType::Fp16.mil_number();
    }),
    in_fixture("lists", "a list that leaves the function", Rule::InterfaceType, "return its tensors", |d| {
        let list = d.kind("make_list").outputs[0].name.clone();
        d.block().outputs[0] = list;
    }),
    in_fixture(
        "lists",
        "a body that returns a tensor for a list",
        Rule::ArgumentsMismatch,
        "body returns",
        |d| {
            let body = d.kind("while_loop").blocks.last_mut().unwrap();
            body.outputs[1] = "count".into();
            let count = d.kind("squeeze").outputs[0].name.clone();
            d.kind("while_loop").blocks.last_mut().unwrap().outputs[1] = count;
        },
    ),
];

const DETECTORS: &[Fault] = &[
    in_fixture(
        "detection_ios15",
        "a threshold of iOS 15 that is left out",
        Rule::ArgumentMissing,
        "score_t",
        |d| {
            d.kind("non_maximum_suppression").inputs.remove("score_threshold");
        },
    ),
    in_fixture("detection_ios17", "a threshold of iOS 15 in iOS 17", Rule::ArgumentUnknown, "score_t", |d| {
        d.bind_kind("non_maximum_suppression", "score_threshold", &Value::fp16(0.5));
    }),
    in_fixture("detection_ios15", "boxes of five numbers", Rule::ArgumentsMismatch, "argument boxes", |d| {
        d.bind_kind("non_maximum_suppression", "boxes", &floats(&[1, 6, 5]));
    }),
    in_fixture("detection_ios15", "scores of other boxes", Rule::ArgumentsMismatch, "argument boxes", |d| {
        d.bind_kind("non_maximum_suppression", "scores", &floats(&[1, 7, 3]));
    }),
    in_fixture("detection_ios15", "no box at all", Rule::ArgumentValue, "max_boxes is 0", |d| {
        d.bind_kind("non_maximum_suppression", "max_boxes", &Value::int(0));
    }),
    in_fixture("detection_ios15", "a region of six numbers", Rule::ArgumentValue, "argument roi", |d| {
        d.bind_kind("crop_resize", "roi", &floats(&[3, 1, 6, 1, 1]));
    }),
    in_fixture("detection_ios15", "a padding before iOS 16", Rule::ArgumentUnknown, "pad_value", |d| {
        d.bind_kind("crop_resize", "pad_value", &Value::fp32(0.0));
    }),
    in_fixture("detection_ios17", "a region in iOS 17", Rule::ArgumentUnknown, "argument roi", |d| {
        d.bind_kind("crop_resize", "roi", &floats(&[3, 1, 4, 1, 1]));
    }),
    in_fixture("detection_ios17", "a box in a missing image", Rule::ArgumentValue, "names image 7", |d| {
        d.bind_kind("crop_resize", "box_indices", &ints(&[0, 7]));
    }),
    in_fixture("detection_ios17", "more boxes than images", Rule::ArgumentValue, "x has 2 images", |d| {
        let boxes = Value::fp16s([3, 4], &[half::f16::ZERO; 12]);
        d.bind_kind("crop_resize", "boxes", &boxes);
        d.kind("crop_resize").inputs.remove("box_indices");
    }),
    in_fixture(
        "detection_ios17",
        "normalized integer coordinates",
        Rule::ArgumentValue,
        "fp16 or fp32",
        |d| {
            let boxes = Value::immediate(DType::Uint16, [2, 4], Literal::Ints(vec![0; 8]));
            d.bind_kind("crop_resize", "boxes", &boxes);
            d.bind_kind("crop_resize", "normalized_coordinates", &Value::bool(true));
        },
    ),
    in_fixture("detection_ios15", "an unknown sampling", Rule::ArgumentValue, "sampling_mode", |d| {
        d.bind_kind("crop_resize", "sampling_mode", &Value::string("CUBIC"));
    }),
    in_fixture("detection_ios15", "an unknown order of corners", Rule::ArgumentValue, "is \"XYXY\"", |d| {
        d.bind_kind("crop_resize", "box_coordinate_mode", &Value::string("XYXY"));
    }),
    in_fixture(
        "detection_ios15",
        "a transform of nine numbers",
        Rule::ArgumentValue,
        "transform_matrix",
        |d| {
            d.bind_kind("affine", "transform_matrix", &floats(&[1, 9]));
        },
    ),
    in_fixture(
        "detection_ios15",
        "a transform that repeats the border",
        Rule::ArgumentValue,
        "\"border\"",
        |d| {
            d.bind_kind("affine", "padding_mode", &Value::string("border"));
        },
    ),
    in_fixture(
        "detection_ios15",
        "a transform that pads with one",
        Rule::ArgumentValue,
        "padding_value is 1",
        |d| {
            d.bind_kind("affine", "padding_value", &Value::fp32(1.0));
        },
    ),
    in_fixture(
        "detection_ios15",
        "an unknown mode of random draws",
        Rule::ArgumentValue,
        "logits or probs",
        |d| {
            d.bind_kind("random_categorical", "mode", &Value::string("weights"));
        },
    ),
    in_fixture("detection_ios15", "fewer than one draw", Rule::ArgumentValue, "argument size is 0", |d| {
        d.bind_kind("random_categorical", "size", &Value::int(0));
    }),
];

const CLASSIFIERS: &[Fault] = &[
    in_fixture("classifier", "a class too few", Rule::ArgumentsMismatch, "there are 2 classes", |d| {
        d.classes().pop();
    }),
    in_fixture("classifier", "no classes", Rule::ArgumentValue, "holds 0 values", |d| d.classes().clear()),
    in_fixture("classifier", "classes that are a tensor", Rule::ArgumentType, "expected a list of", |d| {
        d.bind_kind("classify", "classes", &strings(&["ant", "bee", "cat"]));
    }),
    in_fixture("classifier", "probabilities of fp16", Rule::ArgumentType, "expected fp32", |d| {
        d.bind_kind("classify", "probabilities", &Value::fp16s([3], &[half::f16::ZERO; 3]));
    }),
    in_fixture("classifier", "a label that is described as a number", Rule::Description, "classLabel", |d| {
        let label = d.description().output.iter_mut().find(|f| f.name == "classLabel").unwrap();
        let int64 = proto::feature_type::Type::Int64(Vec::new());
        label.r#type.as_mut().unwrap().r#type = Some(int64);
    }),
    in_fixture("classifier", "probabilities by numbers", Rule::Description, "classLabel_probs", |d| {
        let probabilities = d.description().output.iter_mut().find(|f| f.name == "classLabel_probs").unwrap();
        // `int64KeyType` in place of `stringKeyType`.
        let dictionary = proto::feature_type::Type::Dictionary(vec![0x0a, 0x00]);
        probabilities.r#type.as_mut().unwrap().r#type = Some(dictionary);
    }),
];

pub(super) const FAULTS: [&[Fault]; 4] = [RECURRENT, LISTS, DETECTORS, CLASSIFIERS];
