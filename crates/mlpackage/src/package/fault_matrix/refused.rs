//! Faults that the format allows but Core ML is reported to refuse.

use super::base::Base;
use super::describe;
use super::draft::{Draft, fixed, ints, tensor};
use super::fault::{Expected, Fault, in_fixture};
use crate::finding::Rule;
use crate::mil::Value;
use crate::package::Package;
use crate::proto;

const fn refusal(name: &'static str, rule: Rule, words: &'static str, plant: fn(&mut Draft)) -> Fault {
    (Base::Refusable, name, Expected::Finding(rule, words), plant)
}

/// Sets the padding of the operation called `mode`, and adjusts the shape of its result.
fn pad(d: &mut Draft, mode: &str, pad: [i32; 8]) {
    d.bind(mode, "pad", ints(&pad));
    for (axis, extent) in [1, 10, 4, 6].into_iter().enumerate() {
        let extent = extent + pad[2 * axis] + pad[2 * axis + 1];
        d.result_type(mode).dimensions[axis] = fixed(extent as u64);
        let place = usize::from(mode == "replicate");
        Draft::array(&mut d.description().output[place]).shape[axis] = i64::from(extent);
    }
}

fn scales(first: f32) -> Value {
    let mut scales = [half::f16::ONE; 10];
    scales[0] = half::f16::from_f32(first);
    Value::fp16s([10], &scales)
}

/// Allows ranges for an input, each of which contains only the axis's size.
fn ranged(feature: &mut proto::FeatureDescription) {
    let array = Draft::array(feature);
    let range = |n: &i64| proto::SizeRange { lower_bound: *n as u64, upper_bound: *n };
    let size_ranges = array.shape.iter().map(range).collect();
    array.shape_flexibility =
        Some(proto::array_feature_type::ShapeFlexibility::Range(proto::ShapeRange { size_ranges }));
}

fn enumerated(feature: &mut proto::FeatureDescription) {
    let array = Draft::array(feature);
    let shapes = vec![proto::ArrayShape { shape: array.shape.clone() }];
    array.shape_flexibility =
        Some(proto::array_feature_type::ShapeFlexibility::Enumerated(proto::EnumeratedShapes { shapes }));
}

fn optional(feature: &mut proto::FeatureDescription) {
    feature.r#type.as_mut().unwrap().is_optional = true;
}

/// Renames the only function.
fn rename(d: &mut Draft, name: &str) {
    let function = std::mem::take(&mut d.program().functions).into_values().next().unwrap();
    d.program().functions.insert(name.into(), function);
}

pub(super) const FAULTS: &[Fault] = &[
    refusal("a result of six axes", Rule::RefusedRank, "%same has 6 axes", |d| {
        d.bind("same", "shape", ints(&[1, 10, 4, 2, 1, 1]));
        d.result_type("same").dimensions.push(fixed(1));
        d.result_type("same").rank = 6;
        Draft::array(&mut d.description().output[2]).shape.push(1);
    }),
    refusal(
        "reflection before the last two axes",
        Rule::RefusedPadding,
        "pads axis 1 of 4 with mode reflect",
        |d| {
            pad(d, "reflect", [0, 0, 1, 0, 0, 0, 0, 0]);
        },
    ),
    refusal(
        "replication before the last two axes",
        Rule::RefusedPadding,
        "pads axis 0 of 4 with mode repl",
        |d| {
            pad(d, "replicate", [0, 1, 0, 0, 0, 0, 1, 1]);
        },
    ),
    refusal("reflection as wide as the axis", Rule::RefusedPadding, "is 4 on axis 2 of size 4", |d| {
        pad(d, "reflect", [0, 0, 0, 0, 4, 0, 0, 0]);
    }),
    refusal("replication wider than the axis", Rule::RefusedPadding, "is 7 on axis 3 of size 6", |d| {
        pad(d, "replicate", [0, 0, 0, 0, 0, 0, 0, 7]);
    }),
    refusal("a negative scale in the weight file", Rule::RefusedScale, "scale holds -1 at 9", |d| {
        let last = d.weights.len() - 2;
        d.patch(last, &half::f16::NEG_ONE.to_le_bytes());
    }),
    refusal("a negative scale in the program", Rule::RefusedScale, "scale holds -0.5,", |d| {
        d.bind("back", "scale", Value::fp16(-0.5));
    }),
    refusal("a scale of zero", Rule::RefusedScale, "scale holds 0 at 0", |d| {
        d.bind("back", "scale", scales(0.0));
        d.bind("back", "axis", Value::int(1));
    }),
    refusal("a scale that is NaN", Rule::RefusedScale, "scale holds NaN at 0", |d| {
        d.bind("back", "scale", scales(f32::NAN));
        d.bind("back", "axis", Value::int(1));
    }),
    refusal("a convolution without pad", Rule::RefusedDefault, "argument pad is not bound", |d| {
        d.op("conv").inputs.remove("pad");
    }),
    refusal(
        "a convolution without dilations",
        Rule::RefusedDefault,
        "argument dilations is not bound",
        |d| {
            d.op("conv").inputs.remove("dilations");
        },
    ),
    refusal(
        "indices without validate_indices",
        Rule::RefusedDefault,
        "argument validate_indices is not",
        |d| {
            d.op("picked").inputs.remove("validate_indices");
        },
    ),
    refusal("an enumerated and a ranged input", Rule::RefusedShapes, "input x has enumerated shapes", |d| {
        enumerated(&mut d.description().input[0]);
        ranged(&mut d.description().input[1]);
    }),
    in_fixture(
        "classifier",
        "an image without a colour space",
        Rule::RefusedImage,
        "of colorSpace 0, expected 10",
        |d| {
            d.image(|image| image.color_space = 0);
        },
    ),
    in_fixture(
        "classifier",
        "an image of an unknown colour space",
        Rule::RefusedImage,
        "of colorSpace 25",
        |d| {
            d.image(|image| image.color_space = 25);
        },
    ),
    in_fixture("classifier", "an image of integers", Rule::RefusedImage, "expected four axes of fp16", |d| {
        tensor(d.function().inputs[0].r#type.as_mut().unwrap()).data_type = 23;
    }),
    refusal("an optional output", Rule::RefusedOptional, "output same is optional", |d| {
        optional(&mut d.description().output[2]);
    }),
    refusal("nothing but optional inputs", Rule::RefusedOptional, "all of its inputs are optional", |d| {
        d.description().input.iter_mut().for_each(optional);
    }),
    (Base::Control, "an optional state", Expected::Finding(Rule::RefusedOptional, "state cache is"), |d| {
        optional(&mut d.description().state[0]);
    }),
    refusal("a function of another name", Rule::RefusedFunctionName, "function decode", |d| {
        rename(d, "decode")
    }),
    refusal("a default without functions", Rule::RefusedDefaultFunction, "no functions are listed", |d| {
        d.description().default_function_name = "main".into();
    }),
    in_fixture(
        "multifunction",
        "functions without a default",
        Rule::RefusedDefaultFunction,
        "no default",
        |d| {
            d.description().default_function_name.clear();
            let function = d.program().functions.values().next().unwrap().clone();
            d.program().functions.insert("main".into(), function);
            let mut described = d.description().functions[0].clone();
            described.name = "main".into();
            d.description().functions.push(described);
        },
    ),
    refusal("a scalar input", Rule::RefusedScalar, "input steps is a tensor without axes", |d| {
        let ty = tensor(d.function().inputs[1].r#type.as_mut().unwrap());
        ty.dimensions.clear();
        ty.rank = 0;
        Draft::array(&mut d.description().input[1]).shape.clear();
        d.result_type("picked").dimensions.pop();
        d.result_type("picked").rank = 3;
        d.bind("same", "shape", ints(&[1, 10, 4, 1, 1]));
        d.result_type("same").dimensions[3] = fixed(1);
        Draft::array(&mut d.description().output[2]).shape[3] = 1;
    }),
    in_fixture("opset_ios17", "a function without inputs", Rule::RefusedNoInputs, "it has no inputs", |d| {
        d.description().input.clear();
        d.function().inputs.clear();
        let kept = d.block().operations.iter().find(|o| o.r#type == "const").unwrap().clone();
        let output = kept.outputs[0].name.clone();
        d.block().operations = vec![kept];
        d.block().outputs = vec![output.clone()];
        d.description().output.truncate(1);
        d.description().output[0].name = output;
    }),
];

/// Reported refusals neither prevent opening the package nor count as errors.
#[test]
fn reported_refusals_are_not_errors() {
    for &(base, name, _, change) in FAULTS {
        let dir = tempfile::tempdir().unwrap();
        let path = base.write(dir.path());
        let mut draft = Draft::open(&path);
        change(&mut draft);
        draft.save();
        if name == "a function without inputs" || name == "an image of integers" {
            continue; // These programs are damaged beyond the refusal, and have errors as well.
        }
        let package = Package::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(package.require_sound().is_ok(), "{name}: {}", describe(&package.check()));
    }
}

/// Limit cases that Core ML is not reported to refuse.
#[test]
fn limit_cases_that_core_ml_accepts_are_not_reported() {
    type Change = fn(&mut Draft);
    let allowed: [(&str, Change); 6] = [
        ("the widest padding", |d| {
            pad(d, "reflect", [0, 0, 0, 0, 3, 3, 5, 5]);
            pad(d, "replicate", [0, 0, 0, 0, 4, 4, 6, 6]);
        }),
        ("constant padding of any axis", |d| {
            pad(d, "reflect", [1, 0, 2, 0, 9, 0, 9, 0]);
            d.bind("reflect", "mode", Value::string("constant"));
        }),
        ("two ranged inputs", |d| d.description().input.iter_mut().for_each(ranged)),
        ("two enumerated inputs", |d| d.description().input.iter_mut().for_each(enumerated)),
        ("one optional input", |d| optional(&mut d.description().input[0])),
        ("five axes", |_| ()),
    ];
    for (name, change) in allowed {
        let dir = tempfile::tempdir().unwrap();
        let path = Base::Refusable.write(dir.path());
        let mut draft = Draft::open(&path);
        change(&mut draft);
        draft.save();
        let findings = Package::check_path(&path).unwrap();
        assert_eq!(findings, [], "{name}:\n{}", describe(&findings));
    }
}
