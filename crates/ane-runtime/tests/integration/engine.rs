//! The engine's guarantees around the operations: refusals, inputs, states.

use std::path::Path;

use ane_runtime::{Data, Engine as _, Error, Limits, LoadOptions, MilCpu, Model, Numerics, Tensor};
use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Dim, Opset, Program};
use mlpackage::{AllowedShapes, DType, Description, DimRange, Package, PackageWriter};

use crate::common::{self, load, package, tensor};

/// Everything that is missing is named at load, each thing once.
#[test]
fn what_the_engine_lacks_is_refused_at_load() {
    let dir = tempfile::tempdir().unwrap();
    let large = common::package(&dir.path().join("large.mlpackage"), |f| {
        let [x, y] = ["x", "y"].map(|name| f.input(name, DType::Fp16, [1 << 20, 1 << 12]));
        let z = f.op("add", "z").arg("x", &x?).arg("y", &y?).one()?;
        f.output(&z);
        Ok(())
    });
    for numerics in [Numerics::F32, Numerics::F16] {
        let error = MilCpu::new(numerics).load(&large, &LoadOptions::default()).err().unwrap();
        let Error::Unsupported { operations, .. } = &error else { panic!("{error}") };
        let named = |what: &str| operations.iter().filter(|o| o.contains(what)).count();
        assert_eq!(["input x", "input y"].map(named), [1, 1], "{operations:?}");
        assert!(error.to_string().contains("large.mlpackage"), "{error}");
    }
}

/// A call stays within its limits: memory of a plan, memory that is only known during the call, and endless
/// loops.
#[test]
fn what_goes_beyond_the_limits_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let doubled = |interpreted: bool| {
        common::package(&dir.path().join(format!("{interpreted}.mlpackage")), |f| {
            let x = f.input("x", DType::Fp16, [1024])?;
            let y = f.op("add", "y").arg("x", &x).arg("y", &x).one()?;
            f.output(&y);
            if interpreted {
                let result = f.op("non_zero", "places").arg("x", &y).one()?;
                f.output(&result);
            }
            Ok(())
        })
    };
    let limited = |workspace| LoadOptions::default().with_limits(Limits::default().with_workspace(workspace));
    let engine = MilCpu::new(Numerics::F32);
    // Planned: two buffers and one result of 4 KiB each.
    let package = doubled(false);
    assert!(engine.load(&package, &limited(12_288)).is_ok());
    let error = engine.load(&package, &limited(12_287)).err().unwrap();
    assert!(
        error.to_string().ends_with(
            "it has no room for 12288 B of workspace, 12287 B at most: give inputs of smaller shapes, or raise the workspace limit"
        ),
        "{error}"
    );
    // Interpreted: 4 KiB for y, and 4 B for the index of each of its two nonzero elements.
    let package = doubled(true);
    let mut values = vec![0.0; 1024];
    values[7..9].fill(1.0);
    let call = |workspace| {
        let model = engine.load(&package, &limited(workspace)).unwrap();
        let x = tensor(&[1024], &values);
        model
            .predict(&[("x", x.view())], &mut model.new_state())
            .map(|outputs| outputs["places"].as_i32().unwrap().to_vec())
    };
    assert_eq!(call(4096 + 8).unwrap(), [7, 8]);
    let error = call(4096 + 7).unwrap_err().to_string();
    assert_eq!(
        error,
        "non_zero -> %places: it needs 8 B of workspace besides the 4096 B in use, 4103 B at most: give inputs of smaller \
         shapes, or raise the workspace limit"
    );

    // The loop of this fixture runs `n` times.
    let package = fixture("control_flow");
    let options = LoadOptions::default().with_limits(Limits::default().with_iterations(5));
    let model = engine.load(&package, &options).unwrap();
    let x = tensor(&[2, 3], &[1.0; 6]);
    let call = |n: i32| {
        let n = [n];
        let n = ane_runtime::TensorView::new(&[1], &n[..]).unwrap();
        model.predict(&[("x", x.view()), ("n", n)], &mut model.new_state()).map(drop)
    };
    assert!(call(5).is_ok());
    let error = call(6).unwrap_err().to_string();
    assert!(error.contains("while_loop -> "), "{error}");
    assert!(error.ends_with("it exceeds the limit of 5 iterations of all loops"), "{error}");
    assert_eq!(
        model.default_function().plan(),
        "interpreted: shapes or control flow of cond -> %chosen depend on values\n"
    );
}

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

/// Results are named, so a value that a function returns twice appears once.
#[test]
fn a_value_that_is_returned_twice_is_one_result() {
    let model = load(Numerics::F32, |f| {
        let x = f.input("x", DType::Fp32, [2])?;
        let y = f.op("square", "y").arg("x", &x).one()?;
        let z = f.op("add", "z").arg("x", &y).arg("y", &y).one()?;
        [&y, &z, &y].into_iter().for_each(|result| f.output(result));
        Ok(())
    });
    let mut state = model.new_state();
    let outputs = model.predict(&[("x", tensor(&[2], &[2.0, 3.0]).view())], &mut state).unwrap();
    assert_eq!(outputs.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["y", "z"]);
    assert_eq!(outputs["z"].as_f32(), Some(&[8.0, 18.0][..]));
}

/// The box that computed bounds describe must have the shape of the update, not only its number of elements.
#[test]
fn a_box_of_another_shape_is_refused() {
    let model = load(Numerics::F32, |f| {
        let x = f.input("x", DType::Fp32, [4, 4])?;
        let update = f.input("update", DType::Fp32, [2, 1])?;
        let begin = f.input("begin", DType::Int32, [2])?;
        let end = f.input("end", DType::Int32, [2])?;
        let stride = mlpackage::mil::Value::ints([2], [1, 1]);
        let written = f.op("slice_update", "written").arg("x", &x).arg("update", &update);
        let written = written.arg("begin", &begin).arg("end", &end).value("stride", stride).one()?;
        f.output(&written);
        Ok(())
    });
    let (x, update) = (Tensor::zeros([4, 4]), tensor(&[2, 1], &[1.0, 2.0]));
    let call = |end: [i32; 2]| {
        let bounds = [[0, 0], end];
        let view = |i: usize| ane_runtime::TensorView::new(&[2], &bounds[i][..]).unwrap();
        let inputs = [("x", x.view()), ("update", update.view()), ("begin", view(0)), ("end", view(1))];
        let outputs =
            model.predict(&inputs, &mut model.new_state()).map(|o| o["written"].as_f32().unwrap().to_vec());
        outputs.map_err(|e| e.to_string())
    };
    assert_eq!(call([2, 1]).unwrap()[..8], [1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]);
    let error = "slice_update -> %written: begin and end name a box of [1, 2], expected [2, 1]";
    assert_eq!(call([1, 2]).unwrap_err(), error);
}

/// 2^28 elements are allowed; more are refused before any memory is allocated.
#[test]
fn a_value_beyond_memory_is_refused_at_load() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(&dir.path().join("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp16, [1 << 15, 1])?;
        let y = f.input("y", DType::Fp16, [1, 1 << 15])?;
        let z = f.op("add", "z").arg("x", &x).arg("y", &y).one()?;
        f.output(&z);
        Ok(())
    });
    let error = MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).err().unwrap();
    let expected =
        "it has no room for %z, fp16 [32768, 32768]: 1073741824 elements, at most 268435456 in one value";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let model = load(Numerics::F32, |f| {
        let x = f.input("x", DType::Fp16, [2, 3])?;
        let y = f.op("relu", "y").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    let (good, transposed) = (Tensor::zeros([2, 3]), Tensor::zeros([3, 2]));
    let refused = |inputs: &[(&str, &Tensor)]| {
        let inputs: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.view())).collect();
        let mut state = model.new_state();
        let error = model.predict(&inputs, &mut state).unwrap_err();
        assert!(matches!(error, Error::Input { .. }), "{error}");
        error.to_string()
    };
    assert_eq!(refused(&[]), "input x: missing, expected tensor<fp16, [2, 3]>");
    assert_eq!(refused(&[("x", &transposed)]), "input x: shape [3, 2], expected [2, 3]");
    assert_eq!(refused(&[("x", &good), ("x", &good)]), "input x: given twice");
    assert_eq!(refused(&[("x", &good), ("z", &good)]), "input z: the function takes x");
    assert!(model.predict(&[("x", good.view())], &mut model.new_state()).is_ok());
    assert!(matches!(Tensor::new([2, 3], vec![0.0; 5]), Err(Error::TensorSize { elements: 5, .. })));
}

/// Returns a model whose state accumulates its input.
fn accumulator(numerics: Numerics) -> Box<dyn Model> {
    load(numerics, |f| {
        let x = f.input("x", DType::Fp16, [2])?;
        let total = f.state("total", DType::Fp16, [2])?;
        let before = f.read_state("before", &total)?;
        let after = f.op("add", "after").arg("x", &before).arg("y", &x).one()?;
        f.write_state(&total, &after)?;
        f.output(&after);
        Ok(())
    })
}

/// A state keeps what was written to it; each sequence has its own; a state of another model is refused.
#[test]
fn states_belong_to_a_model_and_a_sequence() {
    let (model, other) = (accumulator(Numerics::F16), accumulator(Numerics::F16));
    let x = tensor(&[2], &[1.0, -2.0]);
    let (mut a, mut b) = (model.new_state(), model.new_state());
    let step = |state: &mut _| {
        let outputs = model.predict(&[("x", x.view())], state).unwrap();
        outputs["after"].as_f32().unwrap().to_vec()
    };
    assert_eq!(step(&mut a), [1.0, -2.0]);
    assert_eq!(step(&mut a), [2.0, -4.0]);
    assert_eq!(step(&mut b), [1.0, -2.0]);
    assert_eq!(step(&mut a), [3.0, -6.0]);
    assert!(matches!(other.predict(&[("x", x.view())], &mut a), Err(Error::ForeignState)));
    // A refused call leaves the state unchanged.
    let error = model.predict(&[], &mut a).unwrap_err();
    assert!(matches!(&error, Error::Input { name, .. } if name == "x"), "{error}");
    let outputs = model.predict(&[("x", x.view())], &mut a).unwrap();
    assert_eq!(outputs["after"].as_f32().unwrap(), [4.0, -8.0]);
}

/// A state that is reset is like a new one, even if another model created it.
#[test]
fn a_state_can_be_reset() {
    for numerics in [Numerics::F32, Numerics::Fast] {
        let (model, other) = (accumulator(numerics), accumulator(numerics));
        let x = tensor(&[2], &[1.0, -2.0]);
        let mut foreign = other.new_state();
        other.predict(&[("x", x.view())], &mut foreign).unwrap();
        for mut state in [model.new_state(), foreign] {
            for _ in 0..2 {
                model.reset(&mut state);
                assert!(state.outputs().is_empty());
                for expected in [[1.0, -2.0], [2.0, -4.0]] {
                    let outputs = model.predict(&[("x", x.view())], &mut state).unwrap();
                    assert_eq!(outputs["after"].as_f32().unwrap(), expected);
                }
            }
        }
    }
}

/// A value that was read from a state does not change when the state is written.
#[test]
fn a_state_that_was_read_keeps_its_value_when_the_state_is_written() {
    for numerics in [Numerics::F32, Numerics::F16] {
        let model = load(numerics, |f| {
            let x = f.input("x", DType::Fp16, [2])?;
            let last = f.state("last", DType::Fp16, [2])?;
            let before = f.read_state("before", &last)?;
            f.write_state(&last, &x)?;
            let after = f.read_state("after", &last)?;
            let step = f.op("sub", "step").arg("x", &after).arg("y", &before).one()?;
            f.output(&step);
            let old = f.op("identity", "old").arg("x", &before).one()?;
            f.output(&old);
            Ok(())
        });
        let mut state = model.new_state();
        for (x, before) in [([1.0, 2.0], [0.0, 0.0]), ([5.0, -3.0], [1.0, 2.0]), ([0.5, 0.5], [5.0, -3.0])] {
            let outputs = model.predict(&[("x", tensor(&[2], &x).view())], &mut state).unwrap();
            assert_eq!(outputs["old"].as_f32().unwrap(), before);
            assert_eq!(outputs["step"].as_f32().unwrap(), [x[0] - before[0], x[1] - before[1]]);
        }
    }
}

fn fixture(name: &str) -> Package {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mlpackage/tests/fixtures");
    Package::open(folder.join(format!("{name}.mlpackage"))).unwrap()
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

/// Errors that depend on values are found during the call: an index out of range, a box outside a tensor. The
/// state is then unchanged, even if the call had already written to it.
#[test]
fn a_call_that_fails_leaves_the_state_as_it_was() {
    let model = load(Numerics::F32, |f| {
        let index = f.input("index", DType::Int32, [1])?;
        let last = f.state("last", DType::Fp16, [1])?;
        let before = f.read_state("before", &last)?;
        let one = f.value("one", mlpackage::mil::Value::fp16(1.0))?;
        let after = f.op("add", "after").arg("x", &before).arg("y", &one).one()?;
        f.write_state(&last, &after)?;
        let table =
            f.value("table", mlpackage::mil::Value::fp16s([3], &[1.0, 2.0, 3.0].map(half::f16::from_f32)))?;
        let found = f.op("gather", "found").arg("x", &table).arg("indices", &index).one()?;
        let sum = f.op("add", "sum").arg("x", &found).arg("y", &before).one()?;
        f.output(&sum);
        Ok(())
    });
    let mut state = model.new_state();
    let mut call = |index: i32| {
        let index = [index];
        let view = ane_runtime::TensorView::new(&[1], &index[..]).unwrap();
        model.predict(&[("index", view)], &mut state).map(|o| o["sum"].as_f32().unwrap()[0])
    };
    assert_eq!(call(2).unwrap(), 3.0);
    assert_eq!(call(-1).unwrap(), 4.0);
    for bad in [3, -4, i32::MAX, i32::MIN] {
        let error = call(bad).unwrap_err();
        let expected = format!("gather -> %found: index {bad} is outside of an axis of 3");
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(call(0).unwrap(), 3.0);
}

/// NaN and infinities are passed on; elements of the wrong type are refused.
#[test]
fn nan_and_infinities_are_passed_on() {
    let model = load(Numerics::F16, |f| {
        let x = f.input("x", DType::Fp16, [4])?;
        let y = f.op("relu", "y").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    let x = tensor(&[4], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e6]);
    let mut state = model.new_state();
    let y = model.predict(&[("x", x.view())], &mut state).unwrap()["y"].as_f32().unwrap().to_vec();
    assert!(y[0].is_nan());
    // 1e6 is beyond fp16's range, and is rounded to infinity as a host would round it.
    assert_eq!(y[1..], [f32::INFINITY, 0.0, f32::INFINITY]);
    let integers = ane_runtime::TensorView::new(&[4], &[1, 2, 3, 4][..]).unwrap();
    let error = model.predict(&[("x", integers)], &mut state).unwrap_err();
    assert_eq!(error.to_string(), "input x: its elements are int32, expected fp16");
}

/// A cache that the host holds is as exact as a state: f32 does not round its own results. A host's own
/// values are rounded to the input's type in every arithmetic, and f16 also rounds results of other engines.
#[test]
fn a_result_that_is_given_back_is_what_it_was() {
    let third = 1.0f32 / 3.0;
    let half = half::f16::from_f32(third).to_f32();
    assert_ne!(third, half);
    for (numerics, given_back) in [(Numerics::F32, third), (Numerics::Fast, third), (Numerics::F16, half)] {
        let model = load(numerics, |f| {
            let x = f.input("x", DType::Fp16, [1])?;
            let y = f.op("relu", "y").arg("x", &x).one()?;
            f.output(&y);
            Ok(())
        });
        let mut state = model.new_state();
        let mut run =
            |x: &Tensor| -> Tensor { model.predict(&[("x", x.view())], &mut state).unwrap()["y"].clone() };
        assert_eq!(run(&tensor(&[1], &[third])).as_f32(), Some(&[half][..]), "{numerics:?}");
        let result = Tensor::with_dtype(DType::Fp16, [1], Data::F32(vec![third])).unwrap();
        let y = run(&result);
        assert_eq!((y.dtype(), y.as_f32()), (DType::Fp16, Some(&[given_back][..])), "{numerics:?}");
    }
}

/// The first operation whose result fp16 cannot hold is named, once for each kind of hazard, with its
/// operands: both if the function is planned, and if it is interpreted because the shape of a result depends
/// on values.
#[test]
fn hazards_name_the_operation_and_its_operands() {
    for interpreted in [false, true] {
        hazards_are_named(interpreted);
    }
}

fn hazards_are_named(interpreted: bool) {
    let dir = tempfile::tempdir().unwrap();
    let package = common::package(&dir.path().join("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp16, [2])?;
        let tiny = f.value("tiny", mlpackage::mil::Value::fp16(1e-4))?;
        let vanished = f.op("mul", "vanished").arg("x", &x).arg("y", &tiny).one()?;
        let squared = f.op("square", "squared").arg("x", &x).one()?;
        let lost = f.op("sub", "lost").arg("x", &squared).arg("y", &squared).one()?;
        let all = f
            .op("concat", "all")
            .args("values", &[&lost, &vanished])
            .value("axis", mlpackage::mil::Value::int(0));
        let all = all.value("interleave", mlpackage::mil::Value::bool(false)).one()?;
        f.output(&all);
        if interpreted {
            let result = f.op("non_zero", "places").arg("x", &all).one()?;
            f.output(&result);
        }
        Ok(())
    });
    let options = LoadOptions::default().with_hazards(true);
    let model = MilCpu::new(Numerics::F16).load(&package, &options).unwrap();
    assert_eq!(model.default_function().memory().is_none(), interpreted);
    let mut state = model.new_state();
    let mut after = |x: [f32; 2]| {
        model.predict(&[("x", tensor(&[2], &x).view())], &mut state).unwrap();
        state.hazards().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(after([1.0, 2.0]).is_empty());
    let found = after([1e-4, 2e-4]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("mul -> %vanished rounded a nonzero constant"), "{found:?}");
    assert!(found[0].contains("in call 1: x in [0.0001"), "{found:?}");
    let found = after([300.0, 2.0]);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(
        found[1],
        "square -> %squared produced an infinity from finite operands in call 2: x in [2, 300]"
    );
    // The NaN results from infinities; it is still the first NaN.
    assert_eq!(found[2], "sub -> %lost produced a NaN in call 2: x in [4, inf], y in [4, inf]");
}

/// Constants that vanish when they are folded, and epsilons that fp16 cannot hold. An operation's own default
/// is not reported.
#[test]
fn constants_that_vanish_before_anything_runs_are_hazards() {
    let watched = |build: &dyn Fn(&mut mlpackage::builder::FunctionBuilder<'_>) -> mlpackage::Result<()>| {
        let dir = tempfile::tempdir().unwrap();
        let package = common::package(&dir.path().join("p.mlpackage"), |f| build(f));
        let options = LoadOptions::default().with_hazards(true);
        let model = MilCpu::new(Numerics::F16).load(&package, &options).unwrap();
        let mut state = model.new_state();
        model.predict(&[("x", tensor(&[2], &[1.0, 2.0]).view())], &mut state).unwrap();
        state.hazards().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let folded = watched(&|f| {
        let x = f.input("x", DType::Fp16, [2])?;
        let tiny = f.value("tiny", mlpackage::mil::Value::fp16(1e-4))?;
        let small = f.op("mul", "small").arg("x", &tiny).arg("y", &tiny).one()?;
        let y = f.op("add", "y").arg("x", &x).arg("y", &small).one()?;
        f.output(&y);
        Ok(())
    });
    assert_eq!(folded.len(), 1, "{folded:?}");
    assert!(folded[0].starts_with("mul -> %small rounded a nonzero constant to zero in call 0"));
    let epsilon = |value: f32| {
        watched(&move |f| {
            let x = f.input("x", DType::Fp16, [2])?;
            let y =
                f.op("rsqrt", "y").arg("x", &x).value("epsilon", mlpackage::mil::Value::fp32(value)).one()?;
            f.output(&y);
            Ok(())
        })
    };
    assert_eq!(
        epsilon(1e-8),
        ["rsqrt -> %y rounded a nonzero constant to zero in call 0: epsilon in [0.00000001, 0.00000001]"]
    );
    assert!(epsilon(1e-12).is_empty(), "MIL's own default");
    assert!(epsilon(1e-5).is_empty());
}

/// A mask with more bits set than there are values; found by flipping bits of a weight file.
#[test]
fn a_mask_that_does_not_fit_its_values_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("p.mlpackage");
    let sound =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/model_gpt2_fp16_sparse_int8.mlpackage");
    let mut flipped = 0;
    Package::open(&sound)
        .unwrap()
        .edit()
        .save_with(&damaged, |_, blob| {
            let one_bit = blob.dtype == DType::Uint1 && flipped == 0;
            flipped += usize::from(one_bit);
            one_bit.then(|| [&[!blob.data[0]], &blob.data[1..]].concat())
        })
        .unwrap();
    assert_eq!(flipped, 1);
    let package = Package::open(&damaged).unwrap();
    let error = MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).err().unwrap().to_string();
    assert!(error.contains("bits of the mask are set, there are"), "{error}");
}

/// The maximum of no elements is refused at load, when it would be folded.
#[test]
fn tensors_without_elements_are_refused_at_load() {
    let dir = tempfile::tempdir().unwrap();
    let package = common::package(&dir.path().join("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [3])?;
        let none = f.value("none", mlpackage::mil::Value::fp32s([0, 3], []))?;
        let largest = f
            .op("reduce_max", "largest")
            .arg("x", &none)
            .value("axes", mlpackage::mil::Value::ints([1], [0]));
        let largest = largest.value("keep_dims", mlpackage::mil::Value::bool(false)).one()?;
        let y = f.op("add", "y").arg("x", &x).arg("y", &largest).one()?;
        f.output(&y);
        Ok(())
    });
    let error = MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).err().unwrap().to_string();
    assert!(error.contains("way to compute reduce_max of x tensor<fp32, [0, 3]>"), "{error}");
}
