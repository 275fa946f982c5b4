//! The examples of coremltools 9.0's documentation of MIL's operations (`mil/ops/defs`), and small ones for its formulas, computed
//! opset by opset. The numbers are those of the documentation, or follow from its formulas by hand. `docs/operations.md` lists
//! them by operation; which arguments are accepted is in `mlpackage/tests/documented_rules.rs`.
#![allow(clippy::unwrap_used)]

use ane_runtime::{Data, Elements, Engine as _, LoadOptions, MilCpu, Model, Numerics, TensorView};
use half::f16;
use mlpackage::DType::{self, Fp32, Int8, Int32, Uint1, Uint2, Uint8, Uint32};
use mlpackage::mil::builder::{FunctionBuilder, Var};
use mlpackage::mil::{Dim, Dims, Literal, Opset, Program, Value};
use mlpackage::{AllowedShapes, Description, DimRange, Metadata, Package, PackageWriter};

/// Those in which forms of operations differ.
const ALL: &[Opset] = &[Opset::CoreML5, Opset::CoreML6, Opset::CoreML7, Opset::CoreML8];
const UP_TO_IOS16: &[Opset] = &[Opset::CoreML5, Opset::CoreML6];
const SINCE_IOS16: &[Opset] = &[Opset::CoreML6, Opset::CoreML7, Opset::CoreML8];
const SINCE_IOS17: &[Opset] = &[Opset::CoreML7, Opset::CoreML8, Opset::CoreML9];
const IOS16_AND_17: &[Opset] = &[Opset::CoreML6, Opset::CoreML7];
const SINCE_IOS18: &[Opset] = &[Opset::CoreML8, Opset::CoreML9];

/// Numbers that a caller hands over.
#[derive(Clone, Copy)]
enum Numbers<'a> {
    F(&'a [f32]),
    I(&'a [i32]),
}

use Numbers::{F, I};

/// A tensor with the parameter that it is bound to.
type Input<'a> = (&'a str, &'a [usize], Numbers<'a>);

/// The extents and elements of a result; whole numbers and bools are given as floats.
type Output = (Vec<usize>, Vec<f32>);

/// A package of one function in `opset`.
fn model(
    opset: Opset,
    numerics: Numerics,
    build: impl FnOnce(&mut FunctionBuilder<'_>) -> mlpackage::Result<()>,
) -> Box<dyn Model> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.mlpackage");
    let mut writer = PackageWriter::create(&path).unwrap();
    let mut f = FunctionBuilder::new("main", opset, writer.weights());
    build(&mut f).unwrap();
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();
    let package = Package::open(&path).unwrap();
    MilCpu::new(numerics).load(&package, &LoadOptions::default()).unwrap()
}

fn predict(model: &dyn Model, inputs: &[(String, &[usize], Numbers<'_>)]) -> Result<Vec<Output>, String> {
    let views: Vec<(&str, TensorView<'_>)> = inputs
        .iter()
        .map(|(name, dims, numbers)| {
            let elements = match numbers {
                F(v) => Elements::F32(v),
                I(v) => Elements::I32(v),
            };
            (name.as_str(), TensorView::new(dims, elements).unwrap())
        })
        .collect();
    let mut state = model.new_state();
    let outputs = model.predict(&views, &mut state).map_err(|error| error.to_string())?;
    let mut results: Vec<(String, Output)> = outputs
        .iter()
        .map(|(name, tensor)| {
            let numbers = match tensor.data() {
                Data::F32(v) => v.clone(),
                Data::I32(v) => v.iter().map(|v| *v as f32).collect(),
                Data::Bool(v) => v.iter().map(|v| f32::from(u8::from(*v))).collect(),
            };
            (name.to_owned(), (tensor.shape().dims().to_vec(), numbers))
        })
        .collect();
    results.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(results.into_iter().map(|(_, output)| output).collect())
}

/// Passes results on as outputs of types that cross a function's border.
fn give(f: &mut FunctionBuilder<'_>, results: Vec<Var>) -> mlpackage::Result<()> {
    for (i, var) in results.into_iter().enumerate() {
        let to = if var.ty().dtype.is_float() { "fp32" } else { "int32" };
        let output =
            f.op("cast", &format!("out_{i}")).arg("x", &var).value("dtype", Value::string(to)).one()?;
        f.output(&output);
    }
    Ok(())
}

/// What an operation gives in `opset`: its `count` results.
fn compute(
    opset: Opset,
    numerics: Numerics,
    op: &str,
    inputs: &[Input<'_>],
    constants: &[(&str, Value)],
    count: usize,
) -> Result<Vec<Output>, String> {
    let model = model(opset, numerics, |f| {
        let mut bound: Vec<(&str, Vec<Var>)> = Vec::new();
        for (i, (param, dims, numbers)) in inputs.iter().enumerate() {
            let dtype = if matches!(numbers, F(_)) { Fp32 } else { Int32 };
            let var = f.input(&format!("in_{i}"), dtype, *dims)?;
            // A condition, or a mask of what may be seen.
            let var = if ["cond", "attn_mask"].contains(param) && dtype == Int32 {
                let cast = f.op("cast", &format!("bool_{i}")).arg("x", &var);
                cast.value("dtype", Value::string("bool")).one()?
            } else {
                var
            };
            match bound.iter_mut().find(|(name, _)| name == param) {
                Some((_, vars)) => vars.push(var),
                None => bound.push((param, vec![var])),
            }
        }
        if inputs.is_empty() {
            f.input("unused", Fp32, [1])?;
        }
        let mut op = f.op(op, "r0");
        for (param, vars) in &bound {
            op = op.args(param, &vars.iter().collect::<Vec<_>>());
        }
        for (param, value) in constants {
            op = op.value(param, value.clone());
        }
        let names: Vec<String> = (0..count).map(|i| format!("r{i}")).collect();
        let results = op.many(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        give(f, results)
    });
    let mut given: Vec<(String, &[usize], Numbers<'_>)> = inputs
        .iter()
        .enumerate()
        .map(|(i, (_, dims, numbers))| (format!("in_{i}"), *dims, *numbers))
        .collect();
    if inputs.is_empty() {
        given.push(("unused".into(), &[1], F(&[0.0])));
    }
    predict(&*model, &given)
}

fn assert_close(what: &str, found: &[Output], expected: &[(&[usize], &[f32])]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for ((dims, numbers), (expected_dims, expected)) in found.iter().zip(expected) {
        assert_eq!(dims, expected_dims, "{what}: {numbers:?}");
        // A few roundings of fp32.
        let close = |(a, e): (&f32, &f32)| {
            a == e || (a.is_nan() && e.is_nan()) || (a - e).abs() <= 2e-6 * (1.0 + e.abs())
        };
        assert!(numbers.iter().zip(*expected).all(close), "{what}: {numbers:?}, expected {expected:?}");
    }
}

/// The operation gives this in each opset, and in the last of them in the fast arithmetic, too.
#[track_caller]
fn gives(
    opsets: &[Opset],
    op: &str,
    inputs: &[Input<'_>],
    constants: &[(&str, Value)],
    expected: &[(&[usize], &[f32])],
) {
    for &opset in opsets {
        let found = compute(opset, Numerics::F32, op, inputs, constants, expected.len());
        assert_close(&format!("{op} in {opset}"), &found.unwrap(), expected);
    }
    let opset = opsets[opsets.len() - 1];
    let found = compute(opset, Numerics::Fast, op, inputs, constants, expected.len());
    assert_close(&format!("{op} in {opset}, fast"), &found.unwrap(), expected);
}

/// The operation ends with an error that holds the words.
#[track_caller]
fn fails(opsets: &[Opset], op: &str, inputs: &[Input<'_>], constants: &[(&str, Value)], words: &str) {
    for &opset in opsets {
        let error = compute(opset, Numerics::F32, op, inputs, constants, 1).unwrap_err();
        assert!(error.contains(words), "{op} in {opset}: {error}");
    }
}

fn ints(values: &[i32]) -> Value {
    Value::ints([values.len()], values)
}

fn floats(values: &[f32]) -> Value {
    Value::fp32s([values.len()], values)
}

fn text(value: &str) -> Value {
    Value::string(value)
}

fn yes(value: bool) -> Value {
    Value::bool(value)
}

/// Integers of a byte each, of that type and shape.
fn bytes(dtype: DType, dims: &[usize], values: &[u8]) -> Value {
    Value::immediate(dtype, dims, Literal::Bytes(values.to_vec().into()))
}

#[test]
fn joined_with_and_without_interleaving() {
    let inputs = [
        ("values", &[3, 2][..], F(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        ("values", &[3, 2], F(&[7.0, 8.0, 9.0, 10.0, 11.0, 12.0])),
    ];
    let joined: Vec<f32> = (1..=12).map(|v| v as f32).collect();
    let how = |interleave: bool| [("axis", Value::int(0)), ("interleave", yes(interleave))];
    gives(ALL, "concat", &inputs, &how(false), &[(&[6, 2], &joined)]);
    let interleaved = [1.0, 2.0, 7.0, 8.0, 3.0, 4.0, 9.0, 10.0, 5.0, 6.0, 11.0, 12.0];
    gives(ALL, "concat", &inputs, &how(true), &[(&[6, 2], &interleaved)]);
    gives(
        ALL,
        "concat",
        &[("values", &[], F(&[3.0])), ("values", &[], F(&[4.0]))],
        &[("axis", Value::int(0))],
        &[(&[2], &[3.0, 4.0])],
    );
    let stacked = [1.0, 3.0, 2.0, 4.0];
    let pair = [("values", &[2][..], F(&[1.0, 2.0])), ("values", &[2], F(&[3.0, 4.0]))];
    gives(ALL, "stack", &pair, &[("axis", Value::int(-1))], &[(&[2, 2], &stacked)]);
    let split = [("axis", Value::int(0)), ("num_splits", Value::int(2)), ("split_sizes", ints(&[1, 2]))];
    gives(ALL, "split", &[("x", &[3], F(&[1.0, 2.0, 3.0]))], &split, &[(&[1], &[1.0]), (&[2], &[2.0, 3.0])]);
    let tiled = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0];
    gives(ALL, "tile", &[("x", &[1, 2], F(&[1.0, 2.0]))], &[("reps", ints(&[2, 2]))], &[(&[2, 4], &tiled)]);
    let windows = [("axis", Value::int(0)), ("size", Value::int(2)), ("stride", Value::int(2))];
    let x = ("x", &[5][..], F(&[1.0, 2.0, 3.0, 4.0, 5.0]));
    gives(ALL, "sliding_windows", &[x], &windows, &[(&[2, 2], &[1.0, 2.0, 3.0, 4.0])]);
}

#[test]
fn elements_put_in_other_places() {
    let x: Vec<f32> = (1..=8).map(|v| v as f32).collect();
    let image = [("x", &[1, 4, 1, 2][..], F(&x))];
    // PyTorch's order, and TensorFlow's: [[1 3 2 4], [5 7 6 8]] for both where there is one channel.
    let shuffled = [1.0, 3.0, 2.0, 4.0, 5.0, 7.0, 6.0, 8.0];
    gives(ALL, "pixel_shuffle", &image, &[("upscale_factor", Value::int(2))], &[(&[1, 1, 2, 4], &shuffled)]);
    gives(ALL, "depth_to_space", &image, &[("block_size", Value::int(2))], &[(&[1, 1, 2, 4], &shuffled)]);
    let back = [("x", &[1, 1, 2, 4][..], F(&shuffled))];
    gives(ALL, "space_to_depth", &back, &[("block_size", Value::int(2))], &[(&[1, 4, 1, 2], &x)]);
    let factor = bytes(Uint32, &[], &2u32.to_le_bytes());
    gives(SINCE_IOS16, "pixel_unshuffle", &back, &[("downscale_factor", factor)], &[(&[1, 4, 1, 2], &x)]);
    // "new_n = n * block_shape[0] * block_shape[1]", "new_W = (W + paddings[1][0] + padding[1][1])/block_shape[1]".
    let blocks = [("block_shape", ints(&[1, 2])), ("paddings", Value::ints([2, 2], [0, 0, 1, 0]))];
    let row = [("x", &[1, 1, 1, 3][..], F(&[1.0, 2.0, 3.0]))];
    gives(ALL, "space_to_batch", &row, &blocks, &[(&[2, 1, 1, 2], &[0.0, 2.0, 1.0, 3.0])]);
    let blocks = [("block_shape", ints(&[1, 2])), ("crops", Value::ints([2, 2], [0, 0, 1, 0]))];
    let batch = [("x", &[2, 1, 1, 2][..], F(&[0.0, 2.0, 1.0, 3.0]))];
    gives(ALL, "batch_to_space", &batch, &blocks, &[(&[1, 1, 1, 3], &[1.0, 2.0, 3.0])]);
    let square = [("x", &[2, 2][..], F(&[1.0, 2.0, 3.0, 4.0]))];
    gives(ALL, "transpose", &square, &[("perm", ints(&[-1, 0]))], &[(&[2, 2], &[1.0, 3.0, 2.0, 4.0])]);
    // "Defaults to None (reverse on all dimensions)."
    gives(ALL, "reverse", &square, &[], &[(&[2, 2], &[4.0, 3.0, 2.0, 1.0])]);
    gives(ALL, "reverse", &square, &[("axes", ints(&[-1]))], &[(&[2, 2], &[2.0, 1.0, 4.0, 3.0])]);
    let sequences = [("x", &[2, 3][..], F(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])), ("lengths", &[2], I(&[2, 3]))];
    let axes = [("seq_axis", Value::int(1)), ("batch_axis", Value::int(0))];
    gives(ALL, "reverse_sequence", &sequences, &axes, &[(&[2, 3], &[2.0, 1.0, 3.0, 6.0, 5.0, 4.0])]);
    let long = [sequences[0], ("lengths", &[2][..], I(&[2, 4]))];
    fails(ALL, "reverse_sequence", &long, &axes, "lengths has 4, the axis has 3");
    gives(
        ALL,
        "squeeze",
        &[("x", &[2, 1, 1], F(&[1.0, 2.0]))],
        &[("axes", ints(&[0, 1]))],
        &[(&[2, 1], &[1.0, 2.0])],
    );
    let zeros = [("shape", ints(&[1, 0, -1, 0]))];
    let x: Vec<f32> = (0..24).map(|v| v as f32).collect();
    gives(SINCE_IOS17, "reshape", &[("x", &[3, 8], F(&x))], &zeros, &[(&[1, 1, 3, 8], &x)]);
}

/// "band_part(x, 0, -1) returns upper triangular part, (x, -1, 0) lower triangular part, (x, 0, 0) diagonal."
#[test]
fn bands_around_the_diagonal() {
    let x = [("x", &[2, 3][..], F(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))];
    let bands = [
        ((0, -1), [1.0, 2.0, 3.0, 0.0, 5.0, 6.0]),
        ((-1, 0), [1.0, 0.0, 0.0, 4.0, 5.0, 0.0]),
        ((0, 0), [1.0, 0.0, 0.0, 0.0, 5.0, 0.0]),
        ((-1, -1), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ((1, 1), [1.0, 2.0, 0.0, 4.0, 5.0, 6.0]),
    ];
    for ((lower, upper), expected) in bands {
        let band = [("lower", Value::int(lower)), ("upper", Value::int(upper))];
        gives(ALL, "band_part", &x, &band, &[(&[2, 3], &expected)]);
    }
}

#[test]
fn sums_along_an_axis() {
    let x = [("x", &[2, 2][..], F(&[1.0, 2.0, 3.0, 4.0]))];
    let how = |exclusive: bool, reverse: bool| {
        [("axis", Value::int(-1)), ("exclusive", yes(exclusive)), ("reverse", yes(reverse))]
    };
    // "The first element of the output is identical to the first element in the input."
    gives(ALL, "cumsum", &x, &how(false, false), &[(&[2, 2], &[1.0, 3.0, 3.0, 7.0])]);
    // "Makes the first element of output to 0."
    gives(ALL, "cumsum", &x, &how(true, false), &[(&[2, 2], &[0.0, 1.0, 0.0, 3.0])]);
    gives(ALL, "cumsum", &x, &how(false, true), &[(&[2, 2], &[3.0, 2.0, 7.0, 4.0])]);
    gives(ALL, "cumsum", &x, &how(true, true), &[(&[2, 2], &[2.0, 0.0, 4.0, 0.0])]);
    // "Defaults to 0", the axis.
    gives(ALL, "cumsum", &x, &[], &[(&[2, 2], &[1.0, 2.0, 4.0, 6.0])]);
}

#[test]
fn indices_in_order() {
    let x = [("x", &[2, 3][..], F(&[2.0, 3.0, 1.0, 5.0, 4.0, 6.0]))];
    // "Defaults to False, sort in descending order", along the last axis.
    gives(ALL, "argsort", &x, &[], &[(&[2, 3], &[1.0, 0.0, 2.0, 2.0, 0.0, 1.0])]);
    gives(
        ALL,
        "argsort",
        &x,
        &[("ascending", yes(true)), ("axis", Value::int(0))],
        &[(&[2, 3], &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0])],
    );
    gives(ALL, "topk", &x, &[], &[(&[2, 1], &[3.0, 6.0]), (&[2, 1], &[1.0, 2.0])]);
    let lowest = [("k", Value::int(2)), ("ascending", yes(true))];
    gives(ALL, "topk", &x, &lowest, &[(&[2, 2], &[1.0, 2.0, 4.0, 5.0]), (&[2, 2], &[2.0, 0.0, 1.0, 0.0])]);
    let all = [("k", Value::int(-1)), ("output_indices_dtype", text("uint16"))];
    let sorted = [3.0, 2.0, 1.0, 6.0, 5.0, 4.0];
    gives(SINCE_IOS17, "topk", &x, &all, &[(&[2, 3], &sorted), (&[2, 3], &[1.0, 0.0, 2.0, 2.0, 0.0, 1.0])]);
    let values = [("k", Value::int(1)), ("return_indices", yes(false))];
    gives(SINCE_IOS16, "topk", &x, &values, &[(&[2, 1], &[3.0, 6.0])]);
    gives(ALL, "reduce_argmax", &x, &[], &[(&[2], &[1.0, 2.0])]);
    gives(
        ALL,
        "reduce_argmin",
        &x,
        &[("axis", Value::int(0)), ("keep_dims", yes(true))],
        &[(&[1, 3], &[0.0, 0.0, 0.0])],
    );
    gives(SINCE_IOS17, "reduce_argmax", &x, &[("output_dtype", text("uint16"))], &[(&[2], &[1.0, 2.0])]);
}

#[test]
fn what_is_folded() {
    let x = [("x", &[2, 2][..], F(&[1.0, -2.0, 3.0, 4.0]))];
    let axes = [("axes", ints(&[-1]))];
    let e = |values: [f32; 2]| (values[0].exp() + values[1].exp()).ln();
    let folds: [(&str, [f32; 2]); 9] = [
        ("reduce_l1_norm", [3.0, 7.0]),
        ("reduce_l2_norm", [5f32.sqrt(), 5.0]),
        ("reduce_log_sum_exp", [e([1.0, -2.0]), e([3.0, 4.0])]),
        ("reduce_max", [1.0, 4.0]),
        ("reduce_mean", [-0.5, 3.5]),
        ("reduce_min", [-2.0, 3.0]),
        ("reduce_prod", [-2.0, 12.0]),
        ("reduce_sum", [-1.0, 7.0]),
        ("reduce_sum_square", [5.0, 25.0]),
    ];
    for (op, expected) in folds {
        gives(ALL, op, &x, &axes, &[(&[2], &expected)]);
        gives(ALL, op, &x, &[("axes", ints(&[1])), ("keep_dims", yes(true))], &[(&[2, 1], &expected)]);
    }
    // "reduce on all axes."
    gives(ALL, "reduce_sum", &x, &[], &[(&[], &[6.0])]);
    gives(ALL, "reduce_log_sum", &x, &[], &[(&[], &[6f32.ln()])]);
    let whole = [("x", &[2, 2][..], I(&[1, -2, 3, 4]))];
    gives(ALL, "reduce_sum", &whole, &axes, &[(&[2], &[-1.0, 7.0])]);
    gives(ALL, "reduce_max", &whole, &[("keep_dims", yes(true))], &[(&[1, 1], &[4.0])]);
}

#[test]
fn gathered_and_scattered() {
    let x: Vec<f32> = (0..6).map(|v| v as f32).collect();
    let x = ("x", &[3, 2][..], F(&x));
    gives(ALL, "gather", &[x, ("indices", &[2], I(&[2, -3]))], &[], &[(&[2, 2], &[4.0, 5.0, 0.0, 1.0])]);
    gives(
        ALL,
        "gather",
        &[x, ("indices", &[], I(&[1]))],
        &[("axis", Value::int(-1))],
        &[(&[3], &[1.0, 3.0, 5.0])],
    );
    let batched = [("batch_dims", Value::int(1)), ("axis", Value::int(1))];
    let rows = ("indices", &[3, 1][..], I(&[1, 0, 1]));
    gives(SINCE_IOS16, "gather", &[x, rows], &batched, &[(&[3, 1], &[1.0, 2.0, 5.0])]);
    gives(SINCE_IOS16, "gather_nd", &[x, rows], &batched[..1], &[(&[3], &[1.0, 2.0, 5.0])]);
    let pairs = ("indices", &[2, 2][..], I(&[2, 1, 0, -1]));
    gives(ALL, "gather_nd", &[x, pairs], &[], &[(&[2], &[5.0, 1.0])]);
    let along = ("indices", &[1, 2][..], I(&[2, 0]));
    gives(ALL, "gather_along_axis", &[x, along], &[], &[(&[1, 2], &[4.0, 1.0])]);
    // "If True, it raises a runtime exception for out-of-bound values", which negative ones then are.
    let validate = [("validate_indices", yes(true))];
    fails(SINCE_IOS17, "gather", &[x, ("indices", &[1], I(&[-1]))], &validate, "index -1 is outside");
    fails(ALL, "gather", &[x, ("indices", &[1], I(&[3]))], &[], "index 3 is outside of an axis of 3");
    fails(SINCE_IOS17, "gather_nd", &[x, pairs], &validate, "index -1 is outside of an axis of 2");
    // The example of scatter: "produces [[9, 11, 13], [9, 11, 13]]".
    let data = ("data", &[2, 3][..], F(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let updates = ("updates", &[2, 3][..], F(&[5.0, 6.0, 7.0, 8.0, 9.0, 10.0]));
    let scatter = [data, ("indices", &[2], I(&[1, 0])), updates];
    let add = [("axis", Value::int(0)), ("mode", text("add"))];
    gives(ALL, "scatter", &scatter, &add, &[(&[2, 3], &[9.0, 11.0, 13.0, 9.0, 11.0, 13.0])]);
    // Every mode, on one element.
    let modes = [
        ("update", 2.0),
        ("add", 8.0),
        ("sub", 4.0),
        ("mul", 12.0),
        ("div", 3.0),
        ("max", 6.0),
        ("min", 2.0),
    ];
    for (mode, expected) in modes {
        let one =
            [("data", &[2][..], F(&[6.0, 7.0])), ("indices", &[1], I(&[0])), ("updates", &[1], F(&[2.0]))];
        gives(ALL, "scatter", &one, &[("mode", text(mode))], &[(&[2], &[expected, 7.0])]);
        gives(ALL, "scatter_along_axis", &one, &[("mode", text(mode))], &[(&[2], &[expected, 7.0])]);
        let row = [one[0], ("indices", &[1, 1][..], I(&[0])), one[2]];
        gives(ALL, "scatter_nd", &row, &[("mode", text(mode))], &[(&[2], &[expected, 7.0])]);
    }
    fails(
        SINCE_IOS17,
        "scatter",
        &[data, ("indices", &[2], I(&[1, -2])), updates],
        &validate,
        "index -2 is outside",
    );
}

/// Every bound of numpy's: negative ones, those beyond the axis, steps, masks, single indices; of a fixed axis and an open one.
#[test]
fn slices_are_numpys() {
    let cases: [(i32, i32, i32, &[f32]); 10] = [
        (-8, 5, 1, &[0.0, 1.0, 2.0, 3.0, 4.0]),
        (-8, -2, 1, &[0.0, 1.0, 2.0]),
        (2, 9, 1, &[2.0, 3.0, 4.0]),
        (0, 5, 3, &[0.0, 3.0]),
        (-1, 9, 1, &[4.0]),
        (100, 0, -1, &[4.0, 3.0, 2.0, 1.0]),
        (-1, -9, -2, &[4.0, 2.0, 0.0]),
        (1, -2, 1, &[1.0, 2.0]),
        (3, 3, 1, &[]),
        (0, -8, 1, &[]),
    ];
    let x: [f32; 5] = [0.0, 1.0, 2.0, 3.0, 4.0];
    for (begin, end, stride, expected) in cases {
        let bounds = [("begin", ints(&[begin])), ("end", ints(&[end])), ("stride", ints(&[stride]))];
        gives(ALL, "slice_by_index", &[("x", &[5], F(&x))], &bounds, &[(&[expected.len()], expected)]);
        // The same with bounds that are computed.
        let given = [("x", &[5][..], F(&x)), ("begin", &[1], I(&[begin])), ("end", &[1], I(&[end]))];
        gives(ALL, "slice_by_index", &given, &bounds[2..], &[(&[expected.len()], expected)]);
    }
    let index = [("begin", ints(&[-5])), ("end", ints(&[0])), ("squeeze_mask", Value::bools([true]))];
    gives(ALL, "slice_by_index", &[("x", &[5], F(&x))], &index, &[(&[], &[0.0])]);
    let outside = [("x", &[5][..], F(&x)), ("begin", &[1], I(&[5])), ("end", &[1], I(&[0]))];
    fails(ALL, "slice_by_index", &outside, &index[2..], "index 5 is outside of axis 0 of 5");
    let size = [("begin", ints(&[-2])), ("size", ints(&[-1]))];
    gives(ALL, "slice_by_size", &[("x", &[5], F(&x))], &size, &[(&[2], &[3.0, 4.0])]);
    let computed = [("x", &[5][..], F(&x)), ("begin", &[1], I(&[-3]))];
    gives(ALL, "slice_by_size", &computed, &[("size", ints(&[2]))], &[(&[2], &[2.0, 3.0])]);
    fails(ALL, "slice_by_size", &computed, &[("size", ints(&[4]))], "begin [-3] with size [4] is outside");
    // "x[begin[0]: end[0]: stride[0], ...] = value".
    let update = ("update", &[2][..], F(&[8.0, 9.0]));
    let bounds = [("begin", ints(&[-1])), ("end", ints(&[-9])), ("stride", ints(&[-3]))];
    let updated = [0.0, 9.0, 2.0, 3.0, 8.0];
    gives(SINCE_IOS18, "slice_update", &[("x", &[5], F(&x)), update], &bounds, &[(&[5], &updated)]);
    let given = [("x", &[5][..], F(&x)), update, ("begin", &[1], I(&[-1])), ("end", &[1], I(&[-9]))];
    gives(SINCE_IOS18, "slice_update", &given, &bounds[2..], &[(&[5], &updated)]);
    let short = [given[0], update, given[2], ("end", &[1][..], I(&[-2]))];
    fails(SINCE_IOS18, "slice_update", &short, &bounds[2..], "name a box of [1], expected [2]");
}

/// A function of an fp32 input whose first axis has any extent up to 20, and is 3 when nobody says otherwise.
fn flexible(
    opset: Opset,
    rest: &[usize],
    build: impl FnOnce(&mut FunctionBuilder<'_>, &Var) -> mlpackage::Result<Var>,
) -> Box<dyn Model> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.mlpackage");
    let mut writer = PackageWriter::create(&path).unwrap();
    let mut f = FunctionBuilder::new("main", opset, writer.weights());
    let dims: Dims = std::iter::once(Dim::Unknown).chain(rest.iter().map(|&d| Dim::Known(d))).collect();
    let x = f.input("x", Fp32, dims).unwrap();
    let y = build(&mut f, &x).unwrap();
    f.output(&y);
    let program = Program::new([("main", f.finish())]);
    let mut description = Description::of(&program);
    let mut ranges = vec![DimRange { lower: 1, upper: Some(20) }];
    ranges.extend(rest.iter().map(|&d| DimRange::fixed(d)));
    let default: Vec<usize> = std::iter::once(3).chain(rest.iter().copied()).collect();
    let shapes = AllowedShapes::Ranged { default: default.into(), ranges };
    description.interface_mut("main").unwrap().input_mut("x").unwrap().allow(shapes);
    writer.finish_with(&program, &description).unwrap();
    let package = Package::open(&path).unwrap();
    assert_eq!(package.check().iter().filter(|finding| finding.is_error()).count(), 0);
    MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).unwrap()
}

/// What a function of one input gives for `len` numbers 0, 1, ... along the first axis of `[len, rest..]`.
fn of_length(model: &dyn Model, len: usize, rest: &[usize]) -> Output {
    let dims: Vec<usize> = std::iter::once(len).chain(rest.iter().copied()).collect();
    let x: Vec<f32> = (0..dims.iter().product::<usize>()).map(|v| v as f32).collect();
    predict(model, &[("x".into(), &dims, F(&x))]).unwrap().remove(0)
}

/// `x[-8:]` takes all of an axis that is shorter, `x[:-2]` may leave nothing, which can be joined with something.
#[test]
fn slices_of_open_axes() {
    for &opset in ALL {
        let range = |begin: Option<i32>, end: Option<i32>| {
            flexible(opset, &[], |f, x| {
                let op = f.op("slice_by_index", "y").arg("x", x);
                let op =
                    op.value("begin", ints(&[begin.unwrap_or(0)])).value("end", ints(&[end.unwrap_or(0)]));
                let op = op.value("begin_mask", Value::bools([begin.is_none()]));
                op.value("end_mask", Value::bools([end.is_none()])).one()
            })
        };
        let last = range(Some(-8), None);
        assert_eq!(of_length(&*last, 5, &[]).1, [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(of_length(&*last, 9, &[]).1, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let rest = range(None, Some(-2));
        assert_eq!(of_length(&*rest, 3, &[]), (vec![1], vec![0.0]));
        assert_eq!(of_length(&*rest, 1, &[]), (vec![0], vec![]));
        let joined = flexible(opset, &[], |f, x| {
            let op = f
                .op("slice_by_index", "part")
                .arg("x", x)
                .value("begin", ints(&[0]))
                .value("end", ints(&[-2]));
            let part = op.one()?;
            f.op("concat", "y").args("values", &[&part, x]).value("axis", Value::int(0)).one()
        });
        assert_eq!(of_length(&*joined, 2, &[]), (vec![2], vec![0.0, 1.0]));
        assert_eq!(of_length(&*joined, 3, &[]), (vec![4], vec![0.0, 0.0, 1.0, 2.0]));
    }
}

/// An open axis is taken to be other than 1, and stays where `squeeze` drops ones, even if it is 1 in a call.
#[test]
fn squeezed_and_reshaped_open_axes() {
    for &opset in ALL {
        for axes in [None, Some([0, 1])] {
            let squeeze = flexible(opset, &[1, 2], |f, x| {
                let mut op = f.op("squeeze", "squeezed").arg("x", x);
                if let Some(axes) = axes {
                    op = op.value("axes", ints(&axes));
                }
                let squeezed = op.one()?;
                f.op("abs", "y").arg("x", &squeezed).one()
            });
            assert_eq!(of_length(&*squeeze, 3, &[1, 2]).0, [3, 2]);
            assert_eq!(of_length(&*squeeze, 1, &[1, 2]).0, [1, 2]);
        }
    }
    for &opset in SINCE_IOS17 {
        let reshape = flexible(opset, &[8], |f, x| {
            f.op("reshape", "y").arg("x", x).value("shape", ints(&[1, 0, -1, 0])).one()
        });
        assert_eq!(of_length(&*reshape, 3, &[8]).0, [1, 1, 3, 8]);
        assert_eq!(of_length(&*reshape, 1, &[8]).0, [1, 1, 1, 8]);
    }
}

/// "N is the number of non-zero elements", which may be none: what follows has nothing to compute.
#[test]
fn nothing_that_is_not_zero() {
    for &opset in ALL {
        let model = flexible(opset, &[2], |f, x| {
            let places = f.op("non_zero", "places").arg("x", x).one()?;
            let values = f.op("gather_nd", "values").arg("x", x).arg("indices", &places).one()?;
            f.op("add", "y").arg("x", &values).arg("y", &values).one()
        });
        let call = |x: [f32; 2]| predict(&*model, &[("x".into(), &[1, 2], F(&x))]).unwrap().remove(0);
        assert_eq!(call([0.0, 3.0]), (vec![1], vec![6.0]));
        assert_eq!(call([0.0, -0.0]), (vec![0], vec![]));
    }
    let x = [("x", &[2, 2][..], F(&[0.0, 2.0, 0.0, -1.0]))];
    gives(ALL, "non_zero", &x, &[], &[(&[2, 2], &[0.0, 1.0, 1.0, 1.0])]);
    let nothing = [("data", &[3][..], F(&[1.0, 2.0, 3.0]))];
    let none = [("indices", Value::ints([0], [])), ("updates", Value::fp32s([0], []))];
    gives(ALL, "scatter", &nothing, &none, &[(&[3], &[1.0, 2.0, 3.0])]);
}

/// A row of two pixels, 0 and 1: sampled points are the values themselves.
const RAMP: Input<'static> = ("x", &[1, 1, 1, 2], F(&[0.0, 1.0]));

/// The grid points of `upsample_bilinear`, for 5 and 6 pixels.
#[test]
fn grids_of_upsampling() {
    let up = |factor: f32, more: &[(&str, Value)], opsets: &[Opset], expected: &[f32]| {
        let mut constants =
            vec![("scale_factor_width", Value::fp32(factor)), ("scale_factor_height", Value::fp32(1.0))];
        constants.extend_from_slice(more);
        gives(opsets, "upsample_bilinear", &[RAMP], &constants, &[(&[1, 1, 1, expected.len()], expected)]);
    };
    let align = |align: bool| ("align_corners", yes(align));
    up(2.5, &[align(false)], ALL, &[0.0, 0.1, 0.5, 0.9, 1.0]);
    up(2.5, &[align(true)], ALL, &[0.0, 0.25, 0.5, 0.75, 1.0]);
    let third = 1.0 / 3.0;
    up(3.0, &[align(false)], ALL, &[0.0, 0.0, third, 2.0 * third, 1.0, 1.0]);
    up(3.0, &[], ALL, &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
    // "Defaults to !align_corners if not provided"; without both the grid begins at the first pixel.
    let half = |half: bool| ("half_pixel_centers", yes(half));
    up(2.5, &[align(false), half(true)], SINCE_IOS16, &[0.0, 0.1, 0.5, 0.9, 1.0]);
    up(2.5, &[align(false), half(false)], SINCE_IOS16, &[0.0, 0.4, 0.8, 1.0, 1.0]);
    let x = [("x", &[1, 1, 1, 3][..], F(&[1.5, -2.5, 3.5]))];
    let nearest = [("scale_factor_width", Value::int(2)), ("scale_factor_height", Value::int(1))];
    let doubled = [1.5, 1.5, -2.5, -2.5, 3.5, 3.5];
    gives(ALL, "upsample_nearest_neighbor", &x, &nearest, &[(&[1, 1, 1, 6], &doubled)]);
    // A pixel of 41 begins where it begins: 41 * (1 / 41) is below 1 in fp32.
    let nearest = [("scale_factor_width", Value::int(41)), ("scale_factor_height", Value::int(1))];
    let wide: Vec<f32> = [0.0f32, 1.0].iter().flat_map(|v| [*v; 41]).collect();
    gives(ALL, "upsample_nearest_neighbor", &[RAMP], &nearest, &[(&[1, 1, 1, 82], &wide)]);
}

/// The grid points of `resize_bilinear`, which are those of `resize`, too.
#[test]
fn grids_of_resizing() {
    let third = 1.0 / 3.0;
    let grids: [(&str, &[f32]); 10] = [
        ("UNALIGN_CORNERS", &[0.0, 0.1, 0.5, 0.9, 1.0]),
        ("STRICT_ALIGN_CORNERS", &[0.0, 0.25, 0.5, 0.75, 1.0]),
        ("ALIGN_CORNERS", &[0.0, 0.25, 0.5, 0.75, 1.0]),
        ("DEFAULT", &[0.0, 0.4, 0.8, 1.0, 1.0]),
        ("OFFSET_CORNERS", &[0.1, 0.3, 0.5, 0.7, 0.9]),
        ("UNALIGN_CORNERS", &[0.0, 0.0, third, 2.0 * third, 1.0, 1.0]),
        ("STRICT_ALIGN_CORNERS", &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ("DEFAULT", &[0.0, third, 2.0 * third, 1.0, 1.0, 1.0]),
        // "Same as STRICT_ALIGN_CORNERS unless Xout=1, in which case grid_point[0] = (Xin-1) / 2".
        ("ALIGN_CORNERS", &[0.5]),
        ("STRICT_ALIGN_CORNERS", &[0.0]),
    ];
    for (mode, expected) in grids {
        let width = expected.len();
        let sizes = [
            ("target_size_height", Value::int(1)),
            ("target_size_width", Value::int(width as i32)),
            ("sampling_mode", text(mode)),
        ];
        gives(ALL, "resize_bilinear", &[RAMP], &sizes, &[(&[1, 1, 1, width], expected)]);
        let sizes = [
            ("shape", ints(&[0, width as i32])),
            ("resized_dims", bytes(Uint32, &[], &2u32.to_le_bytes())),
            ("sampling_mode", text(mode)),
        ];
        gives(SINCE_IOS17, "resize", &[RAMP], &sizes, &[(&[1, 1, 1, width], expected)]);
    }
    // "Target spatial size" is 1 by default.
    gives(ALL, "resize_bilinear", &[RAMP], &[], &[(&[1, 1, 1, 1], &[0.0])]);
    let nearest = [("target_size_height", Value::int(2)), ("target_size_width", Value::int(4))];
    let expected = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0];
    gives(ALL, "resize_nearest_neighbor", &[RAMP], &nearest, &[(&[1, 1, 2, 4], &expected)]);
    let crop = [("crop_height", ints(&[0, 1])), ("crop_width", ints(&[1, 0]))];
    let image = [("x", &[1, 2, 2][..], F(&[1.0, 2.0, 3.0, 4.0]))];
    gives(ALL, "crop", &image, &crop, &[(&[1, 1, 1], &[2.0])]);
}

/// The pixels `|1, 2, 3|` and what each padding mode shows around them.
#[test]
fn what_stands_outside_of_an_image() {
    let pixels = ("x", &[1, 1, 1, 3][..], F(&[1.0, 2.0, 3.0]));
    let at: Vec<f32> = (-3..6).flat_map(|x| [x as f32, 0.0]).collect();
    let coordinates = ("coordinates", &[1, 1, 9, 2][..], F(&at));
    let modes = [
        ("constant", [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0]),
        ("border", [1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0]),
        ("reflection", [2.0, 3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0, 2.0]),
        ("symmetric", [3.0, 2.0, 1.0, 1.0, 2.0, 3.0, 3.0, 2.0, 1.0]),
    ];
    let how = |mode: &str, sampling: &str, coordinates: &str, align: bool| {
        [
            ("padding_mode", text(mode)),
            ("sampling_mode", text(sampling)),
            ("coordinates_mode", text(coordinates)),
            ("padding_value", Value::fp32(0.0)),
            ("align_corners", yes(align)),
        ]
    };
    for (mode, expected) in modes {
        for sampling in ["nearest", "bilinear"] {
            let how = how(mode, sampling, "unnormalized", true);
            gives(ALL, "resample", &[pixels, coordinates], &how, &[(&[1, 1, 1, 9], &expected)]);
        }
    }
    // "Coordinates are provided in the order (x, y)": the corners of [[1, 2], [3, 4]].
    let image = ("x", &[1, 1, 2, 2][..], F(&[1.0, 2.0, 3.0, 4.0]));
    let corners = |low: f32, high: f32| [low, low, high, low, low, high, high, high];
    for (mode, low) in [("normalized_minus_one_to_one", -1.0), ("normalized_zero_to_one", 0.0)] {
        let coordinates = corners(low, 1.0);
        let coordinates = ("coordinates", &[1, 1, 4, 2][..], F(&coordinates));
        let aligned = how("border", "bilinear", mode, true);
        gives(ALL, "resample", &[image, coordinates], &aligned, &[(&[1, 1, 1, 4], &[1.0, 2.0, 3.0, 4.0])]);
    }
    // "If align_corners == False, the extrema coordinates correspond to the edge": the middle of the pixel is at 1/4.
    let quarters = corners(0.25, 0.75);
    let quarters = ("coordinates", &[1, 1, 4, 2][..], F(&quarters));
    let edges = how("constant", "bilinear", "normalized_zero_to_one", false);
    gives(ALL, "resample", &[image, quarters], &edges, &[(&[1, 1, 1, 4], &[1.0, 2.0, 3.0, 4.0])]);
}

#[test]
fn padded() {
    let x = [("x", &[1, 3][..], F(&[1.0, 2.0, 3.0]))];
    let pad = |mode: &str| [("pad", ints(&[2, 1])), ("mode", text(mode)), ("constant_val", Value::fp32(9.0))];
    gives(ALL, "pad", &x, &pad("constant"), &[(&[1, 6], &[9.0, 9.0, 1.0, 2.0, 3.0, 9.0])]);
    gives(ALL, "pad", &x, &pad("reflect"), &[(&[1, 6], &[3.0, 2.0, 1.0, 2.0, 3.0, 2.0])]);
    gives(ALL, "pad", &x, &pad("replicate"), &[(&[1, 6], &[1.0, 1.0, 1.0, 2.0, 3.0, 3.0])]);
    gives(ALL, "pad", &x, &[("pad", ints(&[0, 1, 0, 0]))], &[(&[2, 3], &[1.0, 2.0, 3.0, 0.0, 0.0, 0.0])]);
    let computed = [x[0], ("pad", &[4][..], I(&[0, 0, 1, 0]))];
    gives(ALL, "pad", &computed, &[], &[(&[1, 4], &[0.0, 1.0, 2.0, 3.0])]);
}

#[test]
fn products() {
    let x = ("x", &[2, 2][..], F(&[1.0, 2.0, 3.0, 4.0]));
    // "If both x, y are 1-D, return the scalar from the dot product"; flags have "no effect when x is 1-D".
    let flags = [("transpose_x", yes(true)), ("transpose_y", yes(true))];
    let vector = ("y", &[2][..], F(&[5.0, 6.0]));
    gives(ALL, "matmul", &[("x", &[2], F(&[3.0, 4.0])), vector], &flags, &[(&[], &[39.0])]);
    gives(ALL, "matmul", &[x, vector], &flags, &[(&[2], &[23.0, 34.0])]);
    gives(
        ALL,
        "matmul",
        &[("x", &[2], F(&[3.0, 4.0])), ("y", &[2, 1], F(&[5.0, 6.0]))],
        &flags[..1],
        &[(&[1], &[39.0])],
    );
    let whole = [("x", &[2][..], I(&[3, 4])), ("y", &[2, 2], I(&[1, 2, 3, 4]))];
    gives(ALL, "matmul", &whole, &flags[1..], &[(&[2], &[11.0, 25.0])]);
    // A constant of another type than x, since iOS 17.
    let half = [("y", Value::fp16s([2, 1], &[f16::from_f32(0.5), f16::ONE]))];
    gives(SINCE_IOS17, "matmul", &[x], &half, &[(&[2, 1], &[2.5, 5.5])]);
    // "x * weight.T + bias".
    let linear = [("weight", Value::fp32s([1, 2], [5.0, 6.0])), ("bias", floats(&[1.0]))];
    gives(ALL, "linear", &[x], &linear, &[(&[2, 1], &[18.0, 40.0])]);
    let whole = [("weight", Value::ints([1, 2], [5, 6])), ("bias", ints(&[1]))];
    gives(ALL, "linear", &[("x", &[1, 2], I(&[1, 2]))], &whole, &[(&[1, 1], &[18.0])]);
    // "[C, H, W1] x [W1, H, W2]", in which H is broadcast.
    let einsum =
        [("values", &[1, 2, 2][..], F(&[1.0, 2.0, 3.0, 4.0])), ("values", &[2, 1, 1], F(&[5.0, 6.0]))];
    gives(ALL, "einsum", &einsum, &[("equation", text("chw,whr->chr"))], &[(&[1, 2, 1], &[17.0, 39.0])]);
    // Two groups: the first channel of the result from the first of x, the second from the second.
    let groups = [
        ("weight", Value::fp32s([2, 1, 1], [10.0, 100.0])),
        ("groups", Value::int(2)),
        ("bias", floats(&[1.0, 2.0])),
    ];
    let channels = ("x", &[1, 2, 2][..], F(&[1.0, 2.0, 3.0, 4.0]));
    gives(ALL, "conv", &[channels], &groups, &[(&[1, 2, 2], &[11.0, 21.0, 302.0, 402.0])]);
    // One padding more before than behind, where it is odd: same puts it behind, same_lower before.
    let ones = ("weight", Value::fp32s([1, 1, 2], [1.0, 10.0]));
    let row = [("x", &[1, 1, 3][..], F(&[1.0, 2.0, 3.0]))];
    gives(
        ALL,
        "conv",
        &row,
        &[ones.clone(), ("pad_type", text("same"))],
        &[(&[1, 1, 3], &[21.0, 32.0, 3.0])],
    );
    gives(
        SINCE_IOS16,
        "conv",
        &row,
        &[ones.clone(), ("pad_type", text("same_lower"))],
        &[(&[1, 1, 3], &[10.0, 21.0, 32.0])],
    );
    let spread = [ones, ("strides", ints(&[2]))];
    gives(ALL, "conv_transpose", &row, &spread, &[(&[1, 1, 6], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0])]);
}

#[test]
fn attention() {
    // One query, two keys: the scores are 1 and 0 over sqrt(1).
    let inputs = |mask: Option<Input<'static>>| {
        let mut inputs = vec![
            ("query", &[1, 1, 1][..], F(&[1.0])),
            ("key", &[1, 2, 1], F(&[1.0, 0.0])),
            ("value", &[1, 2, 1], F(&[10.0, 20.0])),
        ];
        inputs.extend(mask);
        inputs
    };
    let e = 1f32.exp();
    let op = "scaled_dot_product_attention";
    gives(SINCE_IOS18, op, &inputs(None), &[], &[(&[1, 1, 1], &[(10.0 * e + 20.0) / (e + 1.0)])]);
    // "For bool, it indicates whether the element should take part. Floats are added to the attention score."
    let seen = ("attn_mask", &[2][..], I(&[0, 1]));
    gives(SINCE_IOS18, op, &inputs(Some(seen)), &[], &[(&[1, 1, 1], &[20.0])]);
    let added = ("attn_mask", &[1, 2][..], F(&[-1.0, 0.0]));
    gives(SINCE_IOS18, op, &inputs(Some(added)), &[], &[(&[1, 1, 1], &[15.0])]);
}

#[test]
fn quantized() {
    // "clip(round(input / scale) + zero_point)", ties to even, and "scale * (input - zero_point)".
    let x = [("input", &[2, 3][..], F(&[0.5, 1.5, -100.0, 2.5, 1000.0, 0.0]))];
    let eighth = |dtype: &str, zero: Value| {
        [("scale", Value::fp32(1.0)), ("output_dtype", text(dtype)), ("zero_point", zero)]
    };
    let signed = [1.0, 3.0, -99.0, 3.0, 127.0, 1.0];
    gives(SINCE_IOS17, "quantize", &x, &eighth("int8", bytes(Int8, &[], &[1])), &[(&[2, 3], &signed)]);
    let unsigned = [1.0, 3.0, 0.0, 3.0, 255.0, 1.0];
    gives(SINCE_IOS17, "quantize", &x, &eighth("uint8", bytes(Uint8, &[], &[1])), &[(&[2, 3], &unsigned)]);
    let vectors = [
        ("input", bytes(Uint8, &[2, 3], &[1, 2, 3, 4, 5, 6])),
        ("scale", floats(&[0.5, 2.0, 4.0])),
        ("zero_point", bytes(Uint8, &[3], &[0, 1, 2])),
        ("axis", Value::int(-1)),
    ];
    gives(SINCE_IOS17, "dequantize", &[], &vectors, &[(&[2, 3], &[0.5, 2.0, 4.0, 2.0, 8.0, 16.0])]);
}

/// Fills in what the documentation says of `constexpr` operations: they are bound directly, and their results given back.
fn weights(
    opsets: &[Opset],
    expected: &[(&[usize], &[f32])],
    build: impl Fn(&mut FunctionBuilder<'_>) -> mlpackage::Result<Vec<Var>>,
) {
    for &opset in opsets {
        let model = model(opset, Numerics::F32, |f| {
            f.input("unused", Fp32, [1])?;
            let results = build(f)?;
            give(f, results)
        });
        let found = predict(&*model, &[("unused".into(), &[1], F(&[0.0]))]).unwrap();
        assert_close(&format!("{opset}"), &found, expected);
    }
}

#[test]
fn affine_weights() {
    // Scales along axis 1; the zero point may be of fp32, "ZeroPointT: uint8, int8, fp32".
    for zero in [bytes(Uint8, &[], &[1]), Value::fp32(1.0)] {
        weights(SINCE_IOS16, &[(&[1, 3], &[0.0, 2.0, 8.0])], |f| {
            let op = f.op("constexpr_affine_dequantize", "w");
            let op = op
                .inline("quantized_data", bytes(Uint8, &[1, 3], &[1, 2, 3]))
                .inline("zero_point", zero.clone());
            let op = op.inline("scale", floats(&[1.0, 2.0, 4.0])).inline("axis", Value::int(1));
            Ok(vec![op.one()?])
        });
    }
    weights(SINCE_IOS16, &[(&[2], &[1.5, -2.0])], |f| {
        let half = Value::fp16s([2], &[f16::from_f32(1.5), f16::from_f32(-2.0)]);
        let op = f.op("constexpr_cast", "w").inline("source_val", half).inline("output_dtype", text("fp32"));
        Ok(vec![op.one()?])
    });
    // "output = scale * (data - offset)", with as many blocks on each axis as there are scales; an offset of data's type, or
    // any float.
    for offset in [
        bytes(Int8, &[1, 2], &[1, 2]),
        Value::fp32s([1, 2], [1.0, 2.0]),
        Value::fp16s([1, 2], &[f16::ONE, f16::from_f32(2.0)]),
    ] {
        weights(SINCE_IOS18, &[(&[1, 4], &[0.0, 1.0, 10.0, 20.0])], |f| {
            let op = f
                .op("constexpr_blockwise_shift_scale", "w")
                .inline("data", bytes(Int8, &[1, 4], &[1, 2, 3, 4]));
            let op = op.inline("scale", Value::fp32s([1, 2], [1.0, 10.0])).inline("offset", offset.clone());
            Ok(vec![op.one()?])
        });
    }
}

#[test]
fn weights_from_tables() {
    // n_bits = 2, shape = (5,): "11 is i4, 01 10 11 00 are i3 to i0".
    weights(IOS16_AND_17, &[(&[5], &[10.0, 13.0, 12.0, 11.0, 13.0])], |f| {
        let op =
            f.op("constexpr_lut_to_dense", "w").inline("indices", bytes(Uint8, &[2], &[0b0110_1100, 0b11]));
        let op = op.inline("lut", floats(&[10.0, 11.0, 12.0, 13.0]));
        Ok(vec![op.inline("shape", bytes(Uint32, &[1], &5u32.to_le_bytes())).one()?])
    });
    // Case 1: per-group scalar palettization.
    let lut = Value::fp16s([2, 1, 4, 1], &[1.0, 5.0, 9.0, 13.0, 2.0, 10.0, 18.0, 26.0].map(f16::from_f32));
    let expected = [9.0, 13.0, 13.0, 1.0, 5.0, 1.0, 26.0, 2.0, 18.0, 10.0, 2.0, 26.0];
    weights(SINCE_IOS18, &[(&[6, 2], &expected)], |f| {
        let indices = packed(Uint2, &[6, 2], &[2, 3, 3, 0, 1, 0, 3, 0, 2, 1, 0, 3]);
        Ok(vec![
            f.op("constexpr_lut_to_dense", "w")
                .inline("indices", indices)
                .inline("lut", lut.clone())
                .one()?,
        ])
    });
    // Case 2: vectors [1, 2, 3] and [4, 5, 6], along axis 1 and along axis 2.
    let vectors = |axis: i32, dims: &[usize], expected: &[f32]| {
        weights(SINCE_IOS18, &[(dims, expected)], |f| {
            let indices = packed(Uint1, &[2, 2, 2], &[0, 0, 1, 0, 1, 1, 0, 0]);
            let lut = bytes(Int8, &[1, 1, 1, 2, 3], &[1, 2, 3, 4, 5, 6]);
            let op = f.op("constexpr_lut_to_dense", "w").inline("indices", indices).inline("lut", lut);
            Ok(vec![op.inline("vector_axis", Value::int(axis)).one()?])
        });
    };
    let along_1 = [
        1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, //
        4.0, 4.0, 5.0, 5.0, 6.0, 6.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0,
    ];
    vectors(1, &[2, 6, 2], &along_1);
    let along_2 = [
        1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0, //
        4.0, 5.0, 6.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0,
    ];
    vectors(2, &[2, 2, 6], &along_2);
}

/// Elements of less than a byte each, the first in the lowest bits.
fn packed(dtype: DType, dims: &[usize], values: &[u8]) -> Value {
    let bits = dtype.bits();
    let mut packed = vec![0u8; (values.len() * bits).div_ceil(8)];
    for (i, value) in values.iter().enumerate() {
        packed[i * bits / 8] |= value << (i * bits % 8);
    }
    bytes(dtype, dims, &packed)
}

#[test]
fn sparse_weights() {
    // "x x x 0 1 1 0 0": elements 2 and 3 of five.
    weights(IOS16_AND_17, &[(&[5], &[0.0, 0.0, 7.0, 8.0, 0.0])], |f| {
        let op = f.op("constexpr_sparse_to_dense", "w").inline("nonzero_data", floats(&[7.0, 8.0]));
        let op = op.inline("mask", bytes(Uint8, &[1], &[0b0000_1100]));
        Ok(vec![op.inline("shape", bytes(Uint32, &[1], &5u32.to_le_bytes())).one()?])
    });
    let dense = |f: &mut FunctionBuilder<'_>, pair: Vec<Var>| {
        let op =
            f.op("constexpr_sparse_to_dense", "dense").arg("mask", &pair[0]).arg("nonzero_data", &pair[1]);
        Ok(vec![op.one()?])
    };
    let mask = || {
        let rows = [[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]];
        packed(Uint1, &[4, 6], rows.as_flattened())
    };
    let indices = || packed(Uint1, &[9], &[0, 1, 1, 0, 1, 1, 0, 0, 1]);
    let rows: [[f32; 6]; 4] = [
        [2.0, 3.0, 0.0, 0.0, 0.0, 0.0],
        [3.0, 2.0, 0.0, 0.0, 0.0, 3.0],
        [0.0, 3.0, 2.0, 0.0, 2.0, 0.0],
        [0.0, 0.0, 0.0, 3.0, 0.0, 0.0],
    ];
    // "Scalar Palettization".
    weights(SINCE_IOS18, &[(&[4, 6], rows.as_flattened())], |f| {
        let op = f.op("constexpr_lut_to_sparse", "m").inline("indices_mask", mask());
        let op = op.inline("indices_nonzero_data", indices());
        let lut = Value::fp16s([1, 1, 2, 1], &[2.0, 3.0].map(f16::from_f32));
        let pair = op.inline("lut", lut).many(&["m", "v"])?;
        dense(f, pair)
    });
    // "Vector Palettization", along axis 0: every row twice; the second component is ten times the first here.
    let both: Vec<[f32; 6]> = rows.iter().flat_map(|row| [*row, row.map(|v| 10.0 * v)]).collect();
    weights(SINCE_IOS18, &[(&[8, 6], both.as_flattened())], |f| {
        let op = f.op("constexpr_lut_to_sparse", "m").inline("indices_mask", mask());
        let op = op.inline("indices_nonzero_data", indices()).inline("vector_axis", Value::int(0));
        let lut = Value::fp16s([1, 1, 2, 2], &[2.0, 20.0, 3.0, 30.0].map(f16::from_f32));
        let pair = op.inline("lut", lut).many(&["m", "v"])?;
        dense(f, pair)
    });
    // The example of constexpr_sparse_blockwise_shift_scale: "[0.9, 1.8, 0.2, 0.4, 0.6, 0.9, 1.2, 0.7, 1.4]".
    let rows: [[f32; 4]; 4] =
        [[0.9, 1.8, 0.0, 0.0], [0.2, 0.4, 0.6, 0.0], [0.0, 0.0, 0.9, 1.2], [0.7, 1.4, 0.0, 0.0]];
    weights(SINCE_IOS18, &[(&[4, 4], rows.as_flattened())], |f| {
        let bits = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]];
        let op = f.op("constexpr_sparse_blockwise_shift_scale", "m");
        let op = op.inline("data_mask", packed(Uint1, &[4, 4], bits.as_flattened()));
        let op = op.inline("nonzero_data", bytes(Int8, &[9], &[10, 11, 3, 4, 5, 6, 7, 8, 9]));
        let op = op.inline("scale", Value::fp32s([1, 4], [0.1, 0.2, 0.3, 0.4]));
        let pair = op.inline("offset", bytes(Int8, &[1, 4], &[1, 2, 3, 4])).many(&["m", "v"])?;
        dense(f, pair)
    });
}

#[test]
fn activations() {
    let x = [("x", &[5][..], F(&[-2.0, -0.5, 0.0, 0.5, 7.0]))];
    let alpha = |alpha: f32| ("alpha", Value::fp32(alpha));
    let both = |a: f32, b: f32| [alpha(a), ("beta", Value::fp32(b))];
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let each = |f: &dyn Fn(f32) -> f32| [-2.0, -0.5, 0.0, 0.5, 7.0].map(f);
    // "If x >= 0 return min(beta, x), otherwise return min(beta, alpha * x)."
    gives(ALL, "clamped_relu", &x, &both(2.0, 1.0), &[(&[5], &[-4.0, -1.0, 0.0, 0.5, 1.0])]);
    gives(ALL, "clamped_relu", &x, &both(-2.0, 1.5), &[(&[5], &[1.5, 1.0, 0.0, 0.5, 1.5])]);
    gives(
        ALL,
        "elu",
        &x,
        &[alpha(2.0)],
        &[(&[5], &each(&|x| if x > 0.0 { x } else { 2.0 * (x.exp() - 1.0) }))],
    );
    gives(ALL, "leaky_relu", &x, &[alpha(0.5)], &[(&[5], &[-1.0, -0.25, 0.0, 0.5, 7.0])]);
    gives(ALL, "linear_activation", &x, &both(2.0, 1.0), &[(&[5], &[-3.0, 0.0, 1.0, 2.0, 15.0])]);
    gives(ALL, "relu", &x, &[], &[(&[5], &[0.0, 0.0, 0.0, 0.5, 7.0])]);
    gives(ALL, "relu6", &x, &[], &[(&[5], &[0.0, 0.0, 0.0, 0.5, 6.0])]);
    gives(ALL, "scaled_tanh", &x, &both(2.0, 0.5), &[(&[5], &each(&|x| 2.0 * (0.5 * x).tanh()))]);
    gives(ALL, "sigmoid", &x, &[], &[(&[5], &each(&sigmoid))]);
    gives(ALL, "sigmoid_hard", &x, &both(0.5, 0.5), &[(&[5], &[0.0, 0.25, 0.5, 0.75, 1.0])]);
    gives(ALL, "silu", &x, &[], &[(&[5], &each(&|x| x * sigmoid(x)))]);
    gives(ALL, "softplus", &x, &[], &[(&[5], &each(&|x| (1.0 + x.exp()).ln()))]);
    gives(ALL, "softsign", &x, &[], &[(&[5], &each(&|x| x / (1.0 + x.abs())))]);
    // "Return x if x >= alpha, otherwise return 0."
    gives(ALL, "thresholded_relu", &x, &[alpha(0.5)], &[(&[5], &[0.0, 0.0, 0.0, 0.5, 7.0])]);
    let channels = [("x", &[1, 2, 2][..], F(&[-1.0, 1.0, -1.0, 1.0]))];
    let slopes = ("alpha", floats(&[0.5, 0.25]));
    gives(ALL, "prelu", &channels, &[slopes.clone()], &[(&[1, 2, 2], &[-0.5, 1.0, -0.25, 1.0])]);
    let soft = |a: f32, b: f32, x: f32| a * (1.0 + (b * x).exp()).ln();
    let expected = [soft(0.5, 1.0, -1.0), soft(0.5, 1.0, 1.0), soft(0.25, 2.0, -1.0), soft(0.25, 2.0, 1.0)];
    let parameters = [slopes, ("beta", floats(&[1.0, 2.0]))];
    gives(ALL, "softplus_parametric", &channels, &parameters, &[(&[1, 2, 2], &expected)]);
    let exact = each(&|x| 0.5 * x * (1.0 + libm::erff(x / 2f32.sqrt())));
    gives(ALL, "gelu", &x, &[], &[(&[5], &exact)]);
    gives(
        ALL,
        "gelu",
        &x,
        &[("mode", text("SIGMOID_APPROXIMATION"))],
        &[(&[5], &each(&|x| x * sigmoid(1.702 * x)))],
    );
    let tanh =
        |x: f32| 0.5 * x * (1.0 + ((2.0 / std::f32::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
    gives(ALL, "gelu", &x, &[("mode", text("TANH_APPROXIMATION"))], &[(&[5], &each(&tanh))]);
    // Along the last axis by default.
    let rows = [("x", &[2, 2][..], F(&[0.0, 3f32.ln(), 0.0, 0.0]))];
    gives(ALL, "softmax", &rows, &[], &[(&[2, 2], &[0.25, 0.75, 0.5, 0.5])]);
    gives(ALL, "softmax", &rows, &[("axis", Value::int(0))], &[(&[2, 2], &[0.5, 0.75, 0.5, 0.25])]);
    // A parameter of another type than x, since iOS 17.
    gives(
        SINCE_IOS17,
        "leaky_relu",
        &x,
        &[("alpha", Value::fp16(0.5))],
        &[(&[5], &[-1.0, -0.25, 0.0, 0.5, 7.0])],
    );
}

#[test]
fn each_element_by_itself() {
    let x = [("x", &[4][..], F(&[-1.5, -0.5, 0.5, 2.5]))];
    let each = |f: &dyn Fn(f32) -> f32| [-1.5, -0.5, 0.5, 2.5].map(f);
    let functions: [(&str, &dyn Fn(f32) -> f32); 17] = [
        ("abs", &f32::abs),
        ("acos", &f32::acos),
        ("asin", &f32::asin),
        ("atan", &f32::atan),
        ("atanh", &f32::atanh),
        ("ceil", &f32::ceil),
        ("cos", &f32::cos),
        ("cosh", &f32::cosh),
        ("erf", &libm::erff),
        ("exp", &f32::exp),
        ("exp2", &f32::exp2),
        ("floor", &f32::floor),
        ("sin", &f32::sin),
        ("sinh", &f32::sinh),
        ("sqrt", &f32::sqrt),
        ("tan", &f32::tan),
        ("tanh", &f32::tanh),
    ];
    for (op, function) in functions {
        gives(ALL, op, &x, &[], &[(&[4], &each(function))]);
    }
    // "0.5 is rounded to 0": to the nearest even number.
    gives(ALL, "round", &x, &[], &[(&[4], &[-2.0, 0.0, 0.0, 2.0])]);
    gives(ALL, "square", &x, &[], &[(&[4], &[2.25, 0.25, 0.25, 6.25])]);
    // "Either -1 or 1, or zero if the input x is zero."
    gives(ALL, "sign", &[("x", &[3], I(&[-5, 0, 5]))], &[], &[(&[3], &[-1.0, 0.0, 1.0])]);
    gives(ALL, "threshold", &x, &[("alpha", Value::fp32(0.0))], &[(&[4], &[0.0, 0.0, 0.5, 2.5])]);
    let clip = |low: f32, high: f32| [("alpha", Value::fp32(low)), ("beta", Value::fp32(high))];
    gives(ALL, "clip", &x, &clip(-1.0, 1.0), &[(&[4], &[-1.0, -0.5, 0.5, 1.0])]);
    // Where the bounds are not in order, which is allowed up to iOS 16, the upper one is applied last.
    gives(UP_TO_IOS16, "clip", &x, &clip(2.0, 1.0), &[(&[4], &[1.0; 4])]);
    // "y = 1 / (x + epsilon)", 1e-4 by default; "1 / sqrt(x + epsilon)", 1e-12; "log(x + epsilon)", 1e-45.
    let zero = [("x", &[1][..], F(&[0.0]))];
    gives(ALL, "inverse", &zero, &[], &[(&[1], &[1e4])]);
    gives(ALL, "inverse", &zero, &[("epsilon", Value::fp32(0.25))], &[(&[1], &[4.0])]);
    gives(ALL, "rsqrt", &zero, &[], &[(&[1], &[1e6])]);
    gives(ALL, "rsqrt", &zero, &[("epsilon", Value::fp32(0.25))], &[(&[1], &[2.0])]);
    gives(ALL, "log", &zero, &[], &[(&[1], &[f32::from_bits(1).ln()])]);
    gives(SINCE_IOS17, "log", &zero, &[("epsilon", Value::fp16(0.5))], &[(&[1], &[0.5f32.ln()])]);
    gives(ALL, "identity", &x, &[], &[(&[4], &[-1.5, -0.5, 0.5, 2.5])]);
    // Towards zero; what is no number of the new type becomes its nearest bound.
    gives(ALL, "cast", &x, &[("dtype", text("int32"))], &[(&[4], &[-1.0, 0.0, 0.0, 2.0])]);
    gives(ALL, "cast", &x, &[("dtype", text("bool"))], &[(&[4], &[1.0; 4])]);
    let wide = [("x", &[3][..], F(&[-1.0, 300.0, 77.9]))];
    gives(SINCE_IOS17, "cast", &wide, &[("dtype", text("uint8"))], &[(&[3], &[0.0, 255.0, 77.0])]);
    gives(SINCE_IOS17, "cast", &wide, &[("dtype", text("int8"))], &[(&[3], &[-1.0, 127.0, 77.0])]);
}

#[test]
fn pairs_of_elements() {
    let pair = [("x", &[2, 1][..], F(&[-7.0, 7.0])), ("y", &[2], F(&[2.0, -2.0]))];
    let results: [(&str, [f32; 4]); 15] = [
        ("add", [-5.0, -9.0, 9.0, 5.0]),
        ("sub", [-9.0, -5.0, 5.0, 9.0]),
        ("mul", [-14.0, 14.0, 14.0, -14.0]),
        ("real_div", [-3.5, 3.5, 3.5, -3.5]),
        // "Rounded towards negative infinity"; the rest has the sign of y.
        ("floor_div", [-4.0, 3.0, 3.0, -4.0]),
        ("mod", [1.0, -1.0, 1.0, -1.0]),
        ("maximum", [2.0, -2.0, 7.0, 7.0]),
        ("minimum", [-7.0, -7.0, 2.0, -2.0]),
        ("pow", [49.0, 1.0 / 49.0, 49.0, 1.0 / 49.0]),
        ("equal", [0.0; 4]),
        ("not_equal", [1.0; 4]),
        ("less", [1.0, 1.0, 0.0, 0.0]),
        ("less_equal", [1.0, 1.0, 0.0, 0.0]),
        ("greater", [0.0, 0.0, 1.0, 1.0]),
        ("greater_equal", [0.0, 0.0, 1.0, 1.0]),
    ];
    for (op, expected) in results {
        gives(ALL, op, &pair, &[], &[(&[2, 2], &expected)]);
        let whole = [("x", &[2, 1][..], I(&[-7, 7])), ("y", &[2], I(&[2, -2]))];
        if !["real_div", "pow"].contains(&op) {
            gives(ALL, op, &whole, &[], &[(&[2, 2], &expected)]);
        }
    }
    let choice = [("cond", &[2, 1][..], I(&[1, 0])), ("a", &[2], F(&[1.0, 2.0])), ("b", &[1], F(&[9.0]))];
    gives(ALL, "select", &choice, &[], &[(&[2, 2], &[1.0, 2.0, 9.0, 9.0])]);
    let truth: [(&str, [f32; 4]); 3] = [
        ("logical_and", [0.0, 0.0, 0.0, 1.0]),
        ("logical_or", [0.0, 1.0, 1.0, 1.0]),
        ("logical_xor", [0.0, 1.0, 1.0, 0.0]),
    ];
    for (op, expected) in truth {
        let constants = [
            ("x", Value::bools([false, false, true, true])),
            ("y", Value::bools([false, true, false, true])),
        ];
        gives(ALL, op, &[], &constants, &[(&[4], &expected)]);
    }
    gives(ALL, "logical_not", &[], &[("x", Value::bools([false, true]))], &[(&[2], &[1.0, 0.0])]);
}

#[test]
fn made_of_numbers() {
    gives(ALL, "fill", &[], &[("shape", ints(&[1, 2]))], &[(&[1, 2], &[0.0, 0.0])]);
    gives(
        ALL,
        "fill",
        &[("shape", &[2], I(&[2, 1]))],
        &[("value", Value::int(7))],
        &[(&[2, 1], &[7.0, 7.0])],
    );
    let like = [("ref_tensor", &[2][..], I(&[5, 6]))];
    gives(SINCE_IOS16, "fill_like", &like, &[("value", Value::fp32(1.5))], &[(&[2], &[1.5, 1.5])]);
    // "on_value 1, off_value 0, axis -1"; an index that is no place of the vector names nothing.
    let indices = [("indices", &[3][..], I(&[1, 0, 5]))];
    let size = ("one_hot_vector_size", Value::int(2));
    gives(ALL, "one_hot", &indices, &[size.clone()], &[(&[3, 2], &[0.0, 1.0, 1.0, 0.0, 0.0, 0.0])]);
    let values =
        [size, ("axis", Value::int(0)), ("on_value", Value::fp32(2.5)), ("off_value", Value::fp32(-1.0))];
    gives(ALL, "one_hot", &indices, &values, &[(&[2, 3], &[-1.0, 2.5, -1.0, 2.5, -1.0, -1.0])]);
    // "Numpy-like", the end is exclusive.
    let range = |start: i32, end: i32, step: i32| {
        [("start", Value::int(start)), ("end", Value::int(end)), ("step", Value::int(step))]
    };
    gives(ALL, "range_1d", &[], &range(1, 6, 2), &[(&[3], &[1.0, 3.0, 5.0])]);
    gives(ALL, "range_1d", &[], &range(3, -2, -2), &[(&[3], &[3.0, 1.0, -1.0])]);
    let given = [("start", &[][..], F(&[0.0])), ("end", &[], F(&[1.0])), ("step", &[], F(&[0.25]))];
    gives(ALL, "range_1d", &given, &[], &[(&[4], &[0.0, 0.25, 0.5, 0.75])]);
    gives(ALL, "shape", &[("x", &[1, 2], F(&[5.0, 6.0]))], &[], &[(&[2], &[1.0, 2.0])]);
}

/// "Samples are uniformly distributed over the half-open interval [low, high)", and the same for a seed in every call.
#[test]
fn random_numbers() {
    let draw = |op: &str, constants: &[(&str, Value)]| {
        let mut all = vec![("shape", ints(&[2000])), ("seed", Value::int(3))];
        all.extend_from_slice(constants);
        let first = compute(Opset::CoreML8, Numerics::F16, op, &[], &all, 1).unwrap();
        assert_eq!(first, compute(Opset::CoreML8, Numerics::F16, op, &[], &all, 1).unwrap());
        assert_eq!(first[0].0, [2000]);
        first[0].1.clone()
    };
    // 1 + u in fp16 is 2 for one u in four thousand, unless it is kept below.
    for bounds in [
        [("low", Value::fp16(1.0)), ("high", Value::fp16(2.0))],
        [("low", Value::fp32(1.0)), ("high", Value::fp32(2.0))],
    ] {
        let numbers = draw("random_uniform", &bounds);
        assert!(numbers.iter().all(|v| (1.0..2.0).contains(v)));
        assert!(numbers.iter().any(|v| *v > 1.99) && numbers.iter().any(|v| *v < 1.01));
    }
    // "When high == low, values of low will be returned."
    let one = draw("random_uniform", &[("low", Value::fp32(3.0)), ("high", Value::fp32(3.0))]);
    assert!(one.iter().all(|v| *v == 3.0));
    let coins = draw("random_bernoulli", &[("prob", Value::fp32(0.25))]);
    assert!(coins.iter().all(|v| *v == 0.0 || *v == 1.0));
    // Five standard deviations of a mean of 2000: 0.048, and 0.22.
    let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
    assert!((mean(&coins) - 0.25).abs() < 0.048);
    let bell = draw("random_normal", &[("mean", Value::fp32(5.0)), ("stddev", Value::fp32(2.0))]);
    assert!((mean(&bell) - 5.0).abs() < 0.22);
}

#[test]
fn norms_and_pools() {
    let x = [("x", &[1, 2, 2][..], F(&[1.0, 3.0, 2.0, 6.0]))];
    let e = |v: f32| ("epsilon", Value::fp32(v));
    // gamma (x - mean) / sqrt(variance + epsilon) + beta: variance + epsilon is 4 and 16.
    let batch = [
        ("mean", floats(&[1.0, 2.0])),
        ("variance", floats(&[3.0, 15.0])),
        ("gamma", floats(&[2.0, 4.0])),
        ("beta", floats(&[0.5, 1.0])),
        e(1.0),
    ];
    gives(ALL, "batch_norm", &x, &batch, &[(&[1, 2, 2], &[0.5, 2.5, 1.0, 5.0])]);
    // Each channel by itself: mean 2 and 4, variance 1 and 4.
    gives(
        ALL,
        "instance_norm",
        &x,
        &[e(0.0), ("gamma", floats(&[1.0, 3.0]))],
        &[(&[1, 2, 2], &[-1.0, 1.0, -3.0, 3.0])],
    );
    gives(ALL, "layer_norm", &x, &[("axes", ints(&[-1])), e(0.0)], &[(&[1, 2, 2], &[-1.0, 1.0, -1.0, 1.0])]);
    // All dimensions by default: mean 3, variance 3.5.
    let all = [1.0, 3.0, 2.0, 6.0].map(|v: f32| (v - 3.0) / 3.5f32.sqrt());
    gives(ALL, "layer_norm", &x, &[e(0.0)], &[(&[1, 2, 2], &all)]);
    let length = [1.0, 3.0, 2.0, 6.0].map(|v: f32| v / (50f32 + 14.0).sqrt());
    gives(ALL, "l2_norm", &x, &[e(14.0)], &[(&[1, 2, 2], &length)]);
    // x / (k + alpha / size * sum of squares of the channels around)^beta.
    let local = [
        ("size", Value::int(3)),
        ("alpha", Value::fp32(3.0)),
        ("beta", Value::fp32(1.0)),
        ("k", Value::fp32(5.0)),
    ];
    gives(ALL, "local_response_norm", &x, &local, &[(&[1, 2, 2], &[0.1, 3.0 / 50.0, 0.2, 6.0 / 50.0])]);
    let pool = |more: &[(&'static str, Value)]| {
        let mut all = vec![("kernel_sizes", ints(&[2])), ("strides", ints(&[1]))];
        all.extend_from_slice(more);
        all
    };
    let valid = ("pad_type", text("valid"));
    gives(ALL, "max_pool", &x, &pool(&[valid.clone()]), &[(&[1, 2, 1], &[3.0, 6.0])]);
    gives(ALL, "l2_pool", &x, &pool(&[valid.clone()]), &[(&[1, 2, 1], &[10f32.sqrt(), 40f32.sqrt()])]);
    gives(ALL, "avg_pool", &x, &pool(&[valid]), &[(&[1, 2, 1], &[2.0, 4.0])]);
    let custom = [("pad_type", text("custom")), ("pad", ints(&[1, 0]))];
    gives(ALL, "avg_pool", &x, &pool(&custom), &[(&[1, 2, 2], &[0.5, 2.0, 1.0, 4.0])]);
    // "If True, padded values are excluded from the denominator count."
    let mut excluded = pool(&custom);
    excluded.push(("exclude_padding_from_average", yes(true)));
    gives(ALL, "avg_pool", &x, &excluded, &[(&[1, 2, 2], &[1.0, 2.0, 2.0, 4.0])]);
}
