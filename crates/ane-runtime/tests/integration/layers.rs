//! Recurrent layers, lists, detectors and classifiers: literal values, refusals, and behaviour that depends on
//! values.
//!
//! Values "from coremltools" are those that its own tests compare with Core ML (`mil/ops/tests` in its
//! repository).

use std::path::Path;

use ane_runtime::{Data, Engine as _, Labels, Limits, LoadOptions, MilCpu, Numerics, Tensor, TensorView};
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::{Literal, Opset, Program, Value};
use mlpackage::{DType, Metadata, Package, PackageWriter};

use crate::common::{load, run, tensor};

fn assert_close(name: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{name}: {got:?}");
    let close = got.iter().zip(expected).all(|(g, e)| (g - e).abs() <= tolerance);
    assert!(close, "{name}: {got:?}, expected {expected:?}");
}

/// Creates a package of one function in `opset`.
fn package(
    folder: &Path,
    opset: Opset,
    build: impl FnOnce(&mut FunctionBuilder<'_>) -> mlpackage::Result<()>,
) -> Package {
    let path = folder.join("p.mlpackage");
    let mut writer = PackageWriter::create(&path).unwrap();
    let mut f = FunctionBuilder::new("main", opset, writer.weights());
    build(&mut f).unwrap();
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();
    let package = Package::open(&path).unwrap();
    assert_eq!(package.check(), []);
    package
}

/// From coremltools' `TestCropResize` for iOS 14: five crops of a 4x4 image of 1 to 16, one of them enlarged,
/// one reduced to a single pixel, and one with reversed corners.
#[test]
fn crop_resize_as_core_ml_has_it() {
    let x: Vec<f32> = (1..=16).map(|v| v as f32).collect();
    let crop = |box_: &[f32], size: i32, normalized: bool| {
        let dir = tempfile::tempdir().unwrap();
        let package = package(dir.path(), Opset::CoreML5, |f| {
            let x = f.input("x", DType::Fp32, [1, 1, 4, 4])?;
            let roi = Value::fp32s([1, 1, box_.len(), 1, 1], box_.to_vec());
            let crop = f.op("crop_resize", "r").arg("x", &x).value("roi", roi);
            let crop = crop.value("target_height", Value::int(size)).value("target_width", Value::int(size));
            let crop = crop.value("normalized_coordinates", Value::bool(normalized));
            let crop = crop.value("sampling_mode", Value::string("ALIGN_CORNERS")).one()?;
            f.output(&crop);
            Ok(())
        });
        let model = MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).unwrap();
        let mut state = model.new_state();
        let x = tensor(&[1, 1, 4, 4], &x);
        model.predict(&[("x", x.view())], &mut state).unwrap()["r"].as_f32().unwrap().to_vec()
    };
    let inner = [1.0, 1.0, 2.0, 2.0];
    assert_eq!(crop(&inner, 2, false), [6.0, 7.0, 10.0, 11.0]);
    let third = |k: i32| 6.0 + k as f32 / 3.0;
    let finer: Vec<f32> =
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].map(third).into_iter().collect();
    assert_close("finer", &crop(&inner, 4, false), &finer, 1e-5);
    assert_eq!(crop(&inner, 1, false), [8.5]);
    assert_close(
        "normalized",
        &crop(&[0.0, 0.0, 0.0, 1.0 / 3.0, 1.0 / 3.0], 2, true),
        &[1.0, 2.0, 5.0, 6.0],
        1e-6,
    );
    assert_eq!(crop(&[2.0, 2.0, 1.0, 1.0], 2, false), [11.0, 10.0, 7.0, 6.0]);
}

/// From coremltools' `TestCropResize` for iOS 17: three boxes that exceed the image, padded with 10.
#[test]
fn crop_resize_pads_as_core_ml_does() {
    let x: Vec<f32> = (1..=16).map(|v| v as f32).collect();
    let got = run(&[(&[1, 1, 4, 4], &x)], |f, v| {
        let boxes = Value::fp32s([3, 4], [0.1, 0.3, 1.3, 1.0, 0.5, 1.8, 1.0, 0.3, 0.0, 0.4, 0.6, 0.7]);
        let crop = f.op("crop_resize", "r").arg("x", &v[0]).value("boxes", boxes);
        let crop =
            crop.value("box_indices", Value::ints([3], [0, 0, 0])).value("pad_value", Value::fp32(10.0));
        let crop = crop.value("target_height", Value::int(2)).value("target_width", Value::int(2));
        let crop = crop.value("normalized_coordinates", Value::bool(true));
        Ok(vec![crop.value("sampling_mode", Value::string("ALIGN_CORNERS")).one()?])
    });
    let expected = [3.1, 5.2, 10.0, 10.0, 10.0, 7.9, 10.0, 13.9, 2.2, 3.1, 9.4, 10.3];
    assert_close("crop_resize", &got[0], &expected, 1e-5);
}

/// A box of an image that does not exist is refused by name during the call.
#[test]
fn crop_resize_of_no_image_is_refused() {
    let model = load(Numerics::F32, |f| {
        let x = f.input("x", DType::Fp32, [2, 1, 2, 2])?;
        let at = f.input("at", DType::Int32, [1])?;
        let boxes = Value::fp32s([1, 4], [0.0, 0.0, 1.0, 1.0]);
        let crop = f.op("crop_resize", "r").arg("x", &x).value("boxes", boxes).arg("box_indices", &at);
        let crop = crop.one()?;
        f.output(&crop);
        Ok(())
    });
    let x = tensor(&[2, 1, 2, 2], &[1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]);
    let call = |at: i32| {
        let at = [at];
        let at = TensorView::new(&[1], &at[..]).unwrap();
        let mut state = model.new_state();
        let outputs = model.predict(&[("x", x.view()), ("at", at)], &mut state);
        outputs.map(|o| o["r"].as_f32().unwrap().to_vec()).map_err(|e| e.to_string())
    };
    assert_eq!(call(1).unwrap(), [2.0]);
    for at in [-1, 2] {
        let error = call(at).unwrap_err();
        assert!(error.ends_with(&format!("box 0 is in image {at}, x has 2")), "{error}");
    }
}

/// From coremltools' `TestAffine` for iOS 15.
#[test]
fn affine_as_core_ml_has_it() {
    let x: (&[usize], &[f32]) = (&[1, 1, 2, 2], &[11.0, 22.0, 33.0, 44.0]);
    let moved = |height: i32, width: i32| {
        let mut got = run(&[x], |f, v| {
            let matrix = Value::fp32s([1, 6], [-1.0, -2.0, -3.7, -1.0, 3.5, 1.2]);
            let op = f.op("affine", "r").arg("x", &v[0]).value("transform_matrix", matrix);
            let op = op.value("output_height", Value::int(height)).value("output_width", Value::int(width));
            let op = op.value("sampling_mode", Value::string("bilinear"));
            let op =
                op.value("padding_mode", Value::string("constant")).value("padding_value", Value::fp32(0.0));
            let op = op.value("coordinates_mode", Value::string("normalized_minus_one_to_one"));
            Ok(vec![op.value("align_corners", Value::bool(true)).one()?])
        });
        got.remove(0)
    };
    let square = [10.752_501, 2.5025, 0.0, 1.979_999_7, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert_close("square", &moved(3, 3), &square, 2e-5);
    let wide = [10.752_501, 5.94, 2.5025, 0.440_000_06, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert_close("wide", &moved(2, 5), &wide, 2e-5);
}

/// Runs `x [S, 1, 1]` through a layer of width 1 whose weights are all 1, and returns its results.
fn layer(op: &str, x: &[f32], states: &[&str], params: &[(&str, Value)]) -> Vec<Vec<f32>> {
    let gates = match op {
        "rnn" => 1,
        "gru" => 3,
        _ => 4,
    };
    run(&[(&[x.len(), 1, 1], x)], |f, v| {
        let ones = || Value::fp32s([gates, 1], vec![1.0; gates]);
        let mut layer = f.op(op, "r").arg("x", &v[0]).value("weight_ih", ones()).value("weight_hh", ones());
        for state in states {
            layer = layer.value(state, Value::fp32s([1, 1], [0.5]));
        }
        let layer = params.iter().fold(layer, |op, (name, value)| op.value(name, value.clone()));
        layer.many(&["r", "last", "cell"][..=states.len()])
    })
}

/// By hand: `h = x + h`, starting from 0.5. A reverse layer processes the last element first and returns its
/// result first.
#[test]
fn a_linear_rnn_adds_up() {
    let linear = |direction: &str, whole: bool| {
        let params = [
            ("activation", Value::string("linear")),
            ("direction", Value::string(direction)),
            ("output_sequence", Value::bool(whole)),
        ];
        layer("rnn", &[1.0, 2.0, 4.0], &["initial_h"], &params)
    };
    assert_eq!(linear("forward", true), [vec![1.5, 3.5, 7.5], vec![7.5]]);
    assert_eq!(linear("forward", false), [vec![7.5], vec![7.5]]);
    assert_eq!(linear("reverse", true), [vec![4.5, 6.5, 7.5], vec![7.5]]);
}

/// By hand, with linear activations: `i = f = o = x + h`, `z = x + h`. For h = c = 0.5 and x = 0.5 every sum
/// is 1, so c = 1 * 0.5 + 1 * 1 = 1.5, clipped to 1.25, and h = 1 * 1.25.
#[test]
fn an_lstm_clips_its_cell_before_it_gives_it() {
    let linear = |clip: f32| {
        let names = ["recurrent_activation", "cell_activation", "activation"];
        let mut params: Vec<_> = names.map(|name| (name, Value::string("LINEAR"))).into();
        params.push(("clip", Value::fp32(clip)));
        layer("lstm", &[0.5], &["initial_h", "initial_c"], &params)
    };
    assert_eq!(linear(1.25), [[1.25], [1.25], [1.25]]);
    assert_eq!(linear(2.0), [[1.5], [1.5], [1.5]]);
    // A peephole reads the old cell for the first two gates, and the new cell for the third.
    let names = ["recurrent_activation", "cell_activation", "activation"];
    let mut params: Vec<_> = names.map(|name| (name, Value::string("linear"))).into();
    params.push(("peephole", Value::fp32s([3], [2.0, 0.0, 1.0])));
    // i = 1 + 2 * 0.5, f = 1, z = 1: c = 0.5 + 2 = 2.5; o = 1 + 2.5; h = 3.5 * 2.5.
    assert_eq!(layer("lstm", &[0.5], &["initial_h", "initial_c"], &params), [[8.75], [8.75], [2.5]]);
}

/// By hand, with linear activations. For h = 0.5 and x = 1.5, r = z = 2. If the reset gate comes before the
/// product, o = 1.5 + 2 * 0.5, plus a bias of 1; if it comes after, the bias is multiplied as well.
#[test]
fn a_gru_resets_before_the_product_or_after_it() {
    let linear = |after: bool| {
        let mut params =
            vec![("recurrent_activation", Value::string("linear")), ("activation", Value::string("linear"))];
        params.push(("bias", Value::fp32s([3], [0.0, 1.0, 0.0])));
        params.push(("reset_after", Value::bool(after)));
        layer("gru", &[1.5], &["initial_h"], &params)
    };
    // o = 1.5 + 1 + 1 = 3.5; h = (1 - 2) * 3.5 + 2 * 0.5.
    assert_eq!(linear(false), [[-2.5], [-2.5]]);
    // o = 1.5 + 2 * (0.5 + 1) = 4.5; h = -4.5 + 1.
    assert_eq!(linear(true), [[-3.5], [-3.5]]);
}

/// A batch of sequences produces the same results as each sequence alone.
#[test]
fn a_layer_runs_several_sequences_at_once() {
    let model = load(Numerics::Fast, |f| {
        let x = f.input("x", DType::Fp32, [2, 1, 2])?;
        let layer = f.op("rnn", "r").arg("x", &x).value("initial_h", Value::fp32s([1, 2], [0.25, -0.5]));
        let layer = layer.value("weight_ih", Value::fp32s([2, 2], [0.5, -1.0, 2.0, 0.25]));
        let results =
            layer.value("weight_hh", Value::fp32s([2, 2], [1.0, 0.5, -0.5, 0.25])).many(&["r", "h"])?;
        results.iter().for_each(|result| f.output(result));
        Ok(())
    });
    let inputs = [[0.1, 0.2, 0.3, 0.4], [-1.0, 2.0, 0.5, -0.25]].map(|values| tensor(&[2, 1, 2], &values));
    let single: Vec<Tensor> = inputs
        .iter()
        .map(|x| model.predict(&[("x", x.view())], &mut model.new_state()).unwrap()["h"].clone())
        .collect();
    let given: Vec<_> = inputs.iter().map(|x| [("x", x.view())]).collect();
    let given: Vec<&[_]> = given.iter().map(|g| &g[..]).collect();
    let (mut a, mut b) = (model.new_state(), model.new_state());
    model.default_function().predict_batch(&given, &mut [&mut a, &mut b]).unwrap();
    assert_eq!([a.outputs()["h"].clone(), b.outputs()["h"].clone()], single[..]);
    assert_ne!(single[0], single[1]);
}

fn chosen(boxes: &[f32], scores: &[f32], most: i32, least: f32) -> (Vec<i32>, Vec<i32>, Vec<f32>) {
    let number = boxes.len() / 4;
    let dir = tempfile::tempdir().unwrap();
    let package = package(dir.path(), Opset::CoreML6, |f| {
        let boxes = f.input("boxes", DType::Fp32, [1, number, 4])?;
        let scores = f.input("scores", DType::Fp32, [1, number, scores.len() / number])?;
        let op = f.op("non_maximum_suppression", "b").arg("boxes", &boxes).arg("scores", &scores);
        let op = op.value("iou_threshold", Value::fp32(0.2)).value("score_threshold", Value::fp32(least));
        let results = op.value("max_boxes", Value::int(most)).many(&["b", "s", "indices", "count"])?;
        results.iter().for_each(|result| f.output(result));
        Ok(())
    });
    let model = MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).unwrap();
    let (boxes, scores) =
        (tensor(&[1, number, 4], boxes), tensor(&[1, number, scores.len() / number], scores));
    let mut state = model.new_state();
    let outputs = model.predict(&[("boxes", boxes.view()), ("scores", scores.view())], &mut state).unwrap();
    let ints = |name: &str| outputs[name].as_i32().unwrap().to_vec();
    (ints("indices"), ints("count"), outputs["s"].as_f32().unwrap().to_vec())
}

/// From coremltools' `TestNonMaximumSuppression` for iOS 14, with its result for a batch in which no box
/// reaches the score.
#[test]
fn suppression_as_core_ml_has_it() {
    let boxes: Vec<f32> = [0.0, 1.0, 2.0, 3.0].iter().flat_map(|&v| [v; 4]).collect();
    let scores = [-3.5, 9.4, 2.3, 0.7];
    assert_eq!(chosen(&boxes, &scores, 2, 0.4), (vec![1, 2], vec![2], vec![9.4, 2.3]));
    assert_eq!(chosen(&boxes, &scores, 3, 10.0), (vec![1, -1, -1], vec![1], vec![9.4, 0.0, 0.0]));
}

/// A box with a NaN score is never chosen if there is another; of equal scores the first is chosen; a box
/// without area suppresses nothing.
#[test]
fn suppression_of_odd_boxes() {
    let same = [5.0, 5.0, 4.0, 4.0];
    let boxes = [same, same, [50.0, 5.0, 4.0, 4.0]].concat();
    let (indices, count, _) = chosen(&boxes, &[f32::NAN, 1.0, 1.0], 3, 0.0);
    assert_eq!((indices, count), (vec![1, 2, -1], vec![2]));
    assert_eq!(chosen(&boxes, &[1.0, 1.0, 2.0], 3, 0.0).0, [2, 0, -1]);
    assert_eq!(chosen(&boxes, &[f32::NAN; 3], 1, 0.0).0, [0]);
    let flat = [[5.0, 5.0, 0.0, 4.0], [5.0, 5.0, 0.0, 4.0]].concat();
    assert_eq!(chosen(&flat, &[1.0, 2.0], 2, 0.0).0, [1, 0]);
}

fn draw(x: &[f32], dims: &[usize], size: i32, mode: &str, seed: i32) -> Vec<f32> {
    let mut got = run(&[(dims, x)], |f, v| {
        let op = f.op("random_categorical", "r").arg("x", &v[0]).value("size", Value::int(size));
        Ok(vec![op.value("mode", Value::string(mode)).value("seed", Value::int(seed)).one()?])
    });
    got.remove(0)
}

/// A seed produces the same draws in every call, and no seed produces different ones. Each class is drawn as
/// often as its probability says.
#[test]
fn random_categorical_draws_by_shares() {
    let probabilities = [0.1f32, 0.6, 0.0, 0.3];
    let logits = probabilities.map(f32::ln);
    let n = 20_000;
    for (x, mode) in [(probabilities, "probs"), (logits, "logits")] {
        let draws = draw(&x, &[4], n, mode, 3);
        assert_eq!(draws, draw(&x, &[4], n, mode, 3), "{mode}");
        for (class, share) in probabilities.iter().enumerate() {
            let found = draws.iter().filter(|d| **d == class as f32).count() as f32 / n as f32;
            // Five standard deviations of 20,000 draws with probability one half.
            assert!((found - share).abs() < 0.018, "{mode}: class {class} {found}, expected {share}");
            assert!(*share > 0.0 || found == 0.0, "{mode}: class {class}");
        }
    }
    assert_ne!(draw(&probabilities, &[4], 64, "probs", -1), draw(&probabilities, &[4], 64, "probs", -1));
    // A row for each distribution, and distributions without any probability.
    assert_eq!(draw(&[0.0, 1.0, 5.0, 0.0], &[2, 2], 2, "probs", 1), [1.0, 1.0, 0.0, 0.0]);
    assert_eq!(draw(&[0.0, 0.0], &[2], 1, "probs", 1), [0.0]);
    assert_eq!(draw(&[f32::NEG_INFINITY; 2], &[2], 1, "logits", 1), [0.0]);
}

/// Builds a list of `[2]` elements that is read, gathered or written at `at`; the workspace of a call is
/// limited.
fn with_list(
    length: i32,
    grows: bool,
    build: impl FnOnce(&mut FunctionBuilder<'_>, &Var, &Var) -> mlpackage::Result<Var>,
) -> impl Fn(i32) -> Result<Tensor, String> {
    let dir = tempfile::tempdir().unwrap();
    let package = package(dir.path(), Opset::CoreML8, |f| {
        let x = f.input("x", DType::Fp32, [2])?;
        let at = f.input("at", DType::Int32, [1])?;
        let at = f.op("squeeze", "one").arg("x", &at).one()?;
        let extent = f.value("extent", Value::int(2))?;
        let list =
            f.op("make_list", "ls").args("elem_shape", &[&extent]).value("init_length", Value::int(length));
        let list = list.value("dynamic_length", Value::bool(grows)).one()?;
        let list = f.op("list_write", "written").arg("ls", &list).arg("value", &x);
        let list = list.value("index", Value::int(0)).one()?;
        let result = build(f, &list, &at)?;
        f.output(&result);
        Ok(())
    });
    let limits = Limits::default().with_workspace(4096);
    let options = LoadOptions::default().with_limits(limits);
    let model = MilCpu::new(Numerics::F32).load(&package, &options).unwrap();
    move |at| {
        let x = tensor(&[2], &[3.0, 4.0]);
        let at = [at];
        let at = TensorView::new(&[1], &at[..]).unwrap();
        let mut state = model.new_state();
        let outputs = model.predict(&[("x", x.view()), ("at", at)], &mut state);
        outputs.map(|o| o.iter().next().unwrap().1.clone()).map_err(|e| e.to_string())
    }
}

#[test]
fn a_list_has_no_element_outside_of_it() {
    let read = with_list(2, true, |f, ls, at| f.op("list_read", "r").arg("ls", ls).arg("index", at).one());
    assert_eq!(read(0).unwrap().as_f32().unwrap(), [3.0, 4.0]);
    assert_eq!(read(1).unwrap().as_f32().unwrap(), [0.0, 0.0]);
    for at in [-1, 2, i32::MAX, i32::MIN] {
        let error = read(at).unwrap_err();
        let expected = format!("list_read -> %r: index {at} is outside of a list of 2 elements");
        assert!(error.ends_with(&expected), "{error}");
    }
    let write = |f: &mut FunctionBuilder<'_>, ls: &Var, at: &Var| {
        let value = f.value("value", Value::fp32s([2], [1.0, 1.0]))?;
        let ls = f.op("list_write", "w").arg("ls", ls).arg("index", at).arg("value", &value).one()?;
        f.op("list_length", "n").arg("ls", &ls).one()
    };
    let fixed = with_list(2, false, write);
    assert_eq!(fixed(1).unwrap().as_i32().unwrap(), [2]);
    assert!(fixed(2).unwrap_err().ends_with("list_write -> %w: index 2 is outside of a list of 2 elements"));
    // A list grows as far as the workspace limit allows.
    let growing = with_list(2, true, write);
    assert_eq!(growing(9).unwrap().as_i32().unwrap(), [10]);
    for at in [4000, i32::MAX] {
        let error = growing(at).unwrap_err();
        assert!(
            error.contains("list_write -> %w: a list of") && error.contains("takes more than"),
            "{error}"
        );
    }
    assert!(growing(-1).unwrap_err().contains("index -1 is outside"));
}

/// A list that a program only declares allocates nothing.
#[test]
fn a_list_of_absurd_length_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(dir.path(), Opset::CoreML8, |f| {
        let x = f.input("x", DType::Int32, [1])?;
        let length = f.op("squeeze", "length").arg("x", &x).one()?;
        let extents = [1 << 20, 1 << 10].map(Value::int).map(|v| f.value("extent", v));
        let extents = extents.into_iter().collect::<mlpackage::Result<Vec<_>>>()?;
        let list = f.op("make_list", "ls").args("elem_shape", &extents.iter().collect::<Vec<_>>());
        let list = list.arg("init_length", &length).one()?;
        let n = f.op("list_length", "n").arg("ls", &list).one()?;
        f.output(&n);
        Ok(())
    });
    let model = MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).unwrap();
    let call = |length: i32| {
        let length = [length];
        let x = TensorView::new(&[1], &length[..]).unwrap();
        let mut state = model.new_state();
        let outputs = model.predict(&[("x", x)], &mut state);
        outputs.map(|o| o["n"].as_i32().unwrap().to_vec()).map_err(|e| e.to_string())
    };
    assert_eq!(call(0).unwrap(), [0]);
    for length in [1, i32::MAX] {
        assert!(call(length).unwrap_err().contains("takes more than 4294967296 B"));
    }
    assert!(call(-5).unwrap_err().contains("-5"));
}

/// Reading fails if the shape of an element is only known after the first write.
#[test]
fn an_element_of_unknown_shape_is_not_read() {
    let read = with_list(2, true, |f, _, at| {
        let name =
            Value::immediate(DType::String, mlpackage::Shape::default(), Literal::Strings(vec!["n".into()]));
        let extent = f.value("open", name)?;
        let list = f.op("make_list", "open_ls").args("elem_shape", &[&extent]).one()?;
        f.op("list_read", "r").arg("ls", &list).arg("index", at).one()
    });
    assert!(read(0).unwrap_err().ends_with("no element has been written that fixes their shape"));
}

/// The label is returned as its index, for equal probabilities the first; the function has the labels.
#[test]
fn a_classifier_gives_the_index_of_its_label() {
    for (dtype, labels) in [
        (DType::String, ["ant", "bee", "cat"].map(Value::string).to_vec()),
        (
            DType::Int64,
            [7, -3, 5_000_000_000]
                .map(|v| {
                    Value::immediate(DType::Int64, mlpackage::Shape::default(), Literal::LongInts(vec![v]))
                })
                .to_vec(),
        ),
    ] {
        for (numerics, interpreted) in
            [(Numerics::F32, false), (Numerics::F16, false), (Numerics::Fast, false), (Numerics::F32, true)]
        {
            let dir = tempfile::tempdir().unwrap();
            let package = package(dir.path(), Opset::CoreML5, |f| {
                let x = f.input("x", DType::Fp32, [1, 3])?;
                if interpreted {
                    let places = f.op("non_zero", "places").arg("x", &x).one()?;
                    f.output(&places);
                }
                let classes = Value::list(dtype, labels.clone());
                let op = f.op("classify", "label").arg("probabilities", &x).inline("classes", classes);
                op.many(&["label", "chances"])?.iter().for_each(|result| f.output(result));
                Ok(())
            });
            let model = MilCpu::new(numerics).load(&package, &LoadOptions::default()).unwrap();
            let classes = model.default_function().classes().unwrap();
            assert_eq!((classes.label_output(), classes.probabilities_output()), ("label", "chances"));
            match dtype {
                DType::String => assert!(matches!(classes.labels(), Labels::Strings(l) if l.len() == 3)),
                _ => assert_eq!(*classes.labels(), Labels::Ints(vec![7, -3, 5_000_000_000])),
            }
            let x = tensor(&[1, 3], &[0.2, 0.4, 0.4]);
            let mut state = model.new_state();
            let outputs = model.predict(&[("x", x.view())], &mut state).unwrap();
            assert_eq!(*outputs["label"].data(), Data::I32(vec![1]));
            assert_eq!(outputs["chances"].as_f32().unwrap(), [0.2, 0.4, 0.4]);
            let label = if dtype == DType::String { "bee" } else { "-3" };
            assert_eq!(classes.chosen(outputs).as_deref(), Some(label));
        }
    }
}
