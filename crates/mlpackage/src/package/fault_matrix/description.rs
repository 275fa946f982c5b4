//! Faults in the package's description of its functions.

use super::draft::{Draft, tensor};
use super::fault::{Fault, fault, in_fixture};
use crate::finding::Rule;
use crate::mil::Opset;
use crate::proto;

pub(super) const FAULTS: &[Fault] = &[
    fault("an input that is not described", Rule::Description, "input steps is not described", |d| {
        d.description().input.pop();
    }),
    fault("an output that is not described", Rule::Description, "output wide is not described", |d| {
        d.description().output.pop();
    }),
    fault("a state that is not described", Rule::Description, "state cache is not described", |d| {
        d.description().state.clear();
    }),
    fault("a state described as an input", Rule::Description, "input cache is described", |d| {
        let mut state = d.description().input[0].clone();
        state.name = "cache".into();
        d.description().input.push(state);
    }),
    fault("an input of another name", Rule::Description, "input y is described", |d| {
        d.description().input[0].name = "y".into();
    }),
    fault("an input of another type", Rule::Description, "input x is described as", |d| {
        Draft::array(&mut d.description().input[0]).data_type = 65568;
    }),
    fault("an input of another shape", Rule::Description, "input x is described as", |d| {
        Draft::array(&mut d.description().input[0]).shape[3] = 9;
    }),
    fault("an output of another shape", Rule::Description, "output wide is described as", |d| {
        Draft::array(&mut d.description().output[3]).shape[0] = 9;
    }),
    fault("an input described twice", Rule::Description, "input x is described twice", |d| {
        let x = d.description().input[0].clone();
        d.description().input.push(x);
    }),
    fault("an array of unknown type", Rule::Description, "unknown array data type 7", |d| {
        Draft::array(&mut d.description().input[0]).data_type = 7;
    }),
    fault("a feature without a type", Rule::Description, "it has no type", |d| {
        d.description().input[0].r#type = None;
    }),
    fault("a negative dimension", Rule::Description, "dimension -1", |d| {
        Draft::array(&mut d.description().input[0]).shape[0] = -1;
    }),
    fault("an input of bools", Rule::InterfaceType, "bool cannot be an input", |d| {
        tensor(d.function().inputs[1].r#type.as_mut().unwrap()).data_type = 1;
    }),
    fault("an input of int8 before iOS 26", Rule::InterfaceType, "int8 since opset CoreML9", |d| {
        tensor(d.function().inputs[1].r#type.as_mut().unwrap()).data_type = 21;
    }),
    in_fixture("opset_ios16", "an input of fp16 before iOS 16", Rule::InterfaceType, "fp16 since", |d| {
        tensor(d.function().inputs[0].r#type.as_mut().unwrap()).data_type = 10;
        d.set_opset(Opset::CoreML5);
    }),
    in_fixture(
        "flexible_enumerated",
        "a default shape that is not allowed",
        Rule::Description,
        "not among its enumerated shapes",
        |d| Draft::array(&mut d.description().input[0]).shape[1] = 9,
    ),
    in_fixture("flexible_ranged", "a range from high to low", Rule::Description, "from low to high", |d| {
        let array = Draft::array(&mut d.description().input[0]);
        let Some(proto::array_feature_type::ShapeFlexibility::Range(range)) = &mut array.shape_flexibility
        else {
            panic!("ranged")
        };
        range.size_ranges[1].upper_bound = 0;
    }),
    in_fixture(
        "flexible_ranged",
        "a range of a fixed dimension",
        Rule::Description,
        "input x is described",
        |d| {
            let array = Draft::array(&mut d.description().input[0]);
            let Some(proto::array_feature_type::ShapeFlexibility::Range(range)) =
                &mut array.shape_flexibility
            else {
                panic!("ranged")
            };
            range.size_ranges[2].upper_bound = 9;
        },
    ),
    in_fixture(
        "flexible_ranged",
        "a default out of its range",
        Rule::Description,
        "input x is described",
        |d| Draft::array(&mut d.description().input[0]).shape[1] = 65,
    ),
    in_fixture(
        "optional_input",
        "a default of another type",
        Rule::Description,
        "input y is described",
        |d| {
            let value = proto::array_feature_type::DefaultOptionalValue::Int(3);
            Draft::array(&mut d.description().input[1]).default_optional_value = Some(value);
        },
    ),
    in_fixture(
        "classifier",
        "a label that is not an output",
        Rule::Description,
        "label of the classifier",
        |d| {
            d.description().predicted_feature_name = "nope".into();
        },
    ),
    in_fixture("classifier", "an image of another width", Rule::Description, "input image", |d| {
        d.image(|image| image.width += 1);
    }),
    in_fixture("classifier", "an image of other channels", Rule::Description, "input image", |d| {
        let other = |space| match space {
            proto::ImageFeatureType::RGB => proto::ImageFeatureType::GRAYSCALE,
            _ => proto::ImageFeatureType::RGB,
        };
        d.image(|image| image.color_space = other(image.color_space));
    }),
    in_fixture(
        "multifunction",
        "a default that is not a function",
        Rule::FunctionDescription,
        "\"main\"",
        |d| {
            d.description().default_function_name = "main".into();
        },
    ),
    in_fixture(
        "multifunction",
        "a description of a missing function",
        Rule::FunctionDescription,
        "no such",
        |d| {
            d.description().functions[0].name = "triple".into();
        },
    ),
    in_fixture(
        "multifunction",
        "a function not described",
        Rule::FunctionDescription,
        "not described",
        |d| {
            d.description().functions.pop();
        },
    ),
    in_fixture(
        "multifunction",
        "features in no function",
        Rule::Description,
        "in none of the listed functions",
        |d| {
            let x = d.description().functions[0].input[0].clone();
            d.description().input.push(x);
        },
    ),
    in_fixture(
        "multifunction",
        "functions before iOS 18",
        Rule::SpecificationVersion,
        "list of functions",
        |d| {
            d.model.specification_version = 8;
        },
    ),
    in_fixture(
        "multifunction",
        "functions described as one",
        Rule::FunctionDescription,
        "as one model",
        |d| {
            let first = d.description().functions.remove(0);
            d.description().functions.clear();
            d.description().input = first.input;
            d.description().output = first.output;
        },
    ),
];
