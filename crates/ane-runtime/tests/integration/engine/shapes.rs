//! Shapes and inputs that the caller may choose.

use ane_runtime::{Engine as _, LoadOptions, MilCpu, Numerics, Tensor};
use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Dim, Opset, Program, Value};
use mlpackage::{AllowedShapes, DType, Description, DimRange, Package, PackageWriter};

use super::fixture;
use crate::common::{load, tensor};

/// Default shapes need not match each other: a package whose default shapes are never used together loads,
/// and runs with other shapes.
#[test]
fn default_shapes_that_do_not_go_together_are_no_reason_to_refuse() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.mlpackage");
    let mut writer = PackageWriter::create(&path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    let open = [Dim::Unknown, Dim::Known(4)];
    let [x, y] = ["x", "y"].map(|name| f.input(name, DType::Fp32, open).unwrap());
    let z = f.op("add", "z").arg("x", &x).arg("y", &y).one().unwrap();
    f.output(&z);
    let program = Program::new([("main", f.finish())]);
    let mut description = Description::of(&program);
    for (name, default) in [("x", 2), ("y", 3)] {
        let ranges = vec![DimRange { lower: 1, upper: Some(9) }, DimRange::fixed(4)];
        let shapes = AllowedShapes::Ranged { default: [default, 4].into(), ranges };
        description.interface_mut("main").unwrap().input_mut(name).unwrap().allow(shapes);
    }
    writer.finish_with(&program, &description).unwrap();

    let package = Package::open(&path).unwrap();
    let model = MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).unwrap();
    let plan = model.default_function().plan();
    assert!(plan.starts_with("interpreted: the default shapes of its inputs are incompatible"), "{plan}");
    let mut state = model.new_state();
    let mut call = |x: usize, y: usize| {
        let (x, y) = (tensor(&[x, 4], &vec![1.0; 4 * x]), tensor(&[y, 4], &vec![2.0; 4 * y]));
        let outputs = model.predict(&[("x", x.view()), ("y", y.view())], &mut state);
        outputs.map(|o| o["z"].shape().dims().to_vec()).map_err(|e| e.to_string())
    };
    assert_eq!(call(3, 3).unwrap(), [3, 4]);
    assert_eq!(call(1, 3).unwrap(), [3, 4]);
    for (x, y) in [(2, 3), (4, 3)] {
        let error = call(x, y).unwrap_err();
        assert!(error.contains(&format!("[{x}, 4]")) && error.contains("add -> %z"), "{error}");
    }
}

/// The caller chooses among the shapes that the package allows; each is planned when it first occurs. From `x
/// [1, n, 4]`, the packages compute a softmax over a product with `[4, 6]`, the product as `[n, 2, 3]`, and
/// `x` concatenated with itself.
#[test]
fn flexible_shapes_are_those_that_the_package_allows() {
    let lengths: Vec<usize> = (1..=64).chain([3, 64, 1]).collect();
    let cases = [
        (
            "flexible_enumerated",
            vec![16, 8, 32, 8],
            "shape [1, 9, 4], expected one of [1, 16, 4], [1, 8, 4], [1, 32, 4]",
        ),
        ("flexible_ranged", lengths, "axis 1 of shape [1, 65, 4] is 65, expected 1 to 64"),
    ];
    for (name, lengths, refused) in cases {
        let model = MilCpu::new(Numerics::F32).load(&fixture(name), &LoadOptions::default()).unwrap();
        let outputs: Vec<String> = model.describe().outputs.iter().map(|f| f.name.clone()).collect();
        let mut state = model.new_state();
        for n in lengths {
            let values: Vec<f32> = (0..4 * n).map(|i| (i % 7) as f32 * 0.25 - 0.5).collect();
            let x = tensor(&[1, n, 4], &values);
            let found = model.predict(&[("x", x.view())], &mut state).unwrap();
            let [softmax, product, twice] = [0, 1, 2].map(|i| &found[outputs[i].as_str()]);
            assert_eq!(softmax.shape().dims(), [1, n, 6], "{name}");
            assert_eq!(product.shape().dims(), [n, 2, 3], "{name}");
            assert_eq!(twice.shape().dims(), [1, 2 * n, 4], "{name}");
            for (p, y) in softmax.as_f32().unwrap().chunks(6).zip(product.as_f32().unwrap().chunks(6)) {
                let total: f32 = y.iter().map(|y| y.exp()).sum();
                // The exponents are within 2 of each other, so only a few roundings differ.
                p.iter().zip(y).for_each(|(p, y)| assert!((p - y.exp() / total).abs() < 1e-6, "{name} {n}"));
            }
            assert_eq!(twice.as_f32().unwrap(), [values.as_slice(), &values].concat());
        }
        let wrong = if name == "flexible_ranged" { 65 } else { 9 };
        let x = Tensor::zeros([1, wrong, 4]);
        let error = model.predict(&[("x", x.view())], &mut state).unwrap_err();
        assert_eq!(error.to_string(), format!("input x: {refused}"));
        let x = Tensor::zeros([1, 8]);
        let error = model.predict(&[("x", x.view())], &mut state).unwrap_err();
        assert_eq!(error.to_string(), "input x: shape [1, 8], expected [1, ?, 4]");
    }
}

/// An omitted optional input has the default value of the package.
#[test]
fn an_optional_input_has_its_default() {
    let model = MilCpu::new(Numerics::F32).load(&fixture("optional_input"), &LoadOptions::default()).unwrap();
    let default = model.describe().inputs.iter().find(|f| f.optional).unwrap();
    let mlpackage::DefaultValue::Float(value) = default.array().unwrap().default_value.unwrap() else {
        panic!()
    };
    let needed = model.describe().inputs.iter().find(|f| !f.optional).unwrap().name.clone();
    let x = tensor(&[1, 4], &[1.0, 2.0, 3.0, 4.0]);
    let mut state = model.new_state();
    let outputs = model.predict(&[(needed.as_str(), x.view())], &mut state).unwrap();
    assert_eq!(outputs["sum"].as_f32().unwrap(), [1.0, 2.0, 3.0, 4.0].map(|x| x + value));
    let error = model.predict(&[], &mut state).unwrap_err();
    assert_eq!(error.to_string(), format!("input {needed}: missing, expected tensor<fp32, [1, 4]>"));
}

/// Operations may walk along more axes than their results have: `tile` along two for each axis of its operand.
#[test]
fn as_many_axes_are_walked_as_an_operation_needs() {
    // Element `i` of the result is the element of `x` at the parities of the nine indices, of two bits each.
    let folded = |i: usize| (0..9).map(|axis| (i >> (2 * axis) & 1) << axis).sum::<usize>() as f32;
    let expected: Vec<f32> = (0..1 << 18).map(folded).collect();
    let x = tensor(&[2; 9], &(0..1 << 9).map(|i| i as f32).collect::<Vec<_>>());
    for numerics in [Numerics::F32, Numerics::F16, Numerics::Fast] {
        let model = load(numerics, |f| {
            let x = f.input("x", DType::Fp16, vec![2; 9])?;
            let total = f.state("calls", DType::Fp16, [1])?;
            let before = f.read_state("before", &total)?;
            let after = f.op("add", "after").arg("x", &before).value("y", Value::fp16(1.0)).one()?;
            f.write_state(&total, &after)?;
            let reps = Value::ints([9], [2; 9]);
            let tiled = f.op("tile", "tiled").arg("x", &x).value("reps", reps).one()?;
            f.output(&tiled);
            f.output(&after);
            Ok(())
        });
        let mut state = model.new_state();
        for calls in [1.0, 2.0] {
            let outputs = model.predict(&[("x", x.view())], &mut state).unwrap();
            assert!(outputs["tiled"].as_f32().unwrap() == expected, "{numerics:?}");
            assert_eq!(outputs["after"].as_f32(), Some(&[calls][..]), "{numerics:?}");
        }
    }
}

/// At the largest rank that a result may have, broadcasting, transposing and joining walk along every axis.
#[test]
fn results_of_sixteen_axes_are_computed() {
    let even: Vec<usize> = (0..16).map(|axis| 2 - axis % 2).collect();
    let odd: Vec<usize> = (0..16).map(|axis| 1 + axis % 2).collect();
    let values: Vec<f32> = (0..256).map(|i| i as f32).collect();
    let (x, y) = (tensor(&even, &values), tensor(&odd, &values));
    let gather =
        |i: usize, first: usize| (0..8).map(|b| (i >> (2 * b + first) & 1) << b).sum::<usize>() as f32;
    // The last axis is one of y, so the even bits of an index are those of y.
    let sums: Vec<f32> = (0..1 << 16).map(|i| 1000.0 * gather(i, 1) + gather(i, 0)).collect();
    let reversed = |i: usize| (i as u16).reverse_bits() as usize;
    let transposed: Vec<f32> = (0..1 << 16).map(|i| sums[reversed(i)]).collect();
    for numerics in [Numerics::F32, Numerics::Fast] {
        let model = load(numerics, |f| {
            let x = f.input("x", DType::Fp32, even.clone())?;
            let y = f.input("y", DType::Fp32, odd.clone())?;
            let x = f.op("mul", "scaled").arg("x", &x).value("y", Value::fp32(1000.0)).one()?;
            let sums = f.op("add", "sums").arg("x", &x).arg("y", &y).one()?;
            let perm = Value::ints([16], [15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
            let transposed = f.op("transpose", "transposed").arg("x", &sums).value("perm", perm).one()?;
            let joined = f.op("concat", "joined").args("values", &[&sums, &transposed]);
            let joined = joined.value("axis", Value::int(0)).value("interleave", Value::bool(false)).one()?;
            f.output(&joined);
            Ok(())
        });
        let mut state = model.new_state();
        let outputs = model.predict(&[("x", x.view()), ("y", y.view())], &mut state).unwrap();
        assert!(outputs["joined"].as_f32().unwrap() == [&sums[..], &transposed].concat(), "{numerics:?}");
    }
}
