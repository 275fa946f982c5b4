//! The results of each operation, compared with literal values.
//!
//! Values without a comment are exact in fp32 and follow from MIL's definition by hand. The others were
//! computed in double precision and are compared within 2e-6 of the largest, a dozen fp32 roundings.

use std::f32::consts::{E, LN_2};

use ane_runtime::Numerics;
use mlpackage::DType;
use mlpackage::builder::Var;
use mlpackage::mil::{TensorType, Value};

use crate::common::{load, run, tensor};

/// Asserts equality within 2e-6 of the largest expected value; a NaN must match a NaN.
fn assert_close(name: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{name}: {got:?}");
    let largest = expected.iter().filter(|e| e.is_finite()).fold(0.0f32, |m, e| m.max(e.abs()));
    for (g, e) in got.iter().zip(expected) {
        let same = g == e || (g.is_nan() && e.is_nan()) || (g - e).abs() <= 2e-6 * largest;
        assert!(same, "{name}: {got:?}, expected {expected:?}");
    }
}

fn unary(op: &str, x: &[f32], extra: &[(&str, Value)]) -> Vec<f32> {
    let mut results = run(&[(&[x.len()], x)], |f, vars| {
        let op = extra.iter().fold(f.op(op, "r").arg("x", &vars[0]), |op, (n, v)| op.value(n, v.clone()));
        Ok(vec![op.one()?])
    });
    results.remove(0)
}

#[test]
fn unary_operations() {
    const X: [f32; 5] = [-2.0, -0.5, 0.0, 1.0, 3.0];
    let cases: [(&str, [f32; 5]); 6] = [
        ("abs", [2.0, 0.5, 0.0, 1.0, 3.0]),
        ("relu", [0.0, 0.0, 0.0, 1.0, 3.0]),
        ("square", [4.0, 0.25, 0.0, 1.0, 9.0]),
        // exp(x)
        ("exp", [0.135_335_28, 0.606_530_66, 1.0, E, 20.085_537]),
        // 1 / (1 + exp(-x))
        ("sigmoid", [0.119_202_92, 0.377_540_67, 0.5, 0.731_058_6, 0.952_574_13]),
        // x / (1 + exp(-x))
        ("silu", [-0.238_405_84, -0.188_770_33, 0.0, 0.731_058_6, 2.857_722_4]),
    ];
    for (op, expected) in cases {
        assert_close(op, &unary(op, &X, &[]), &expected);
    }
    assert_close(
        "tanh",
        &unary("tanh", &X, &[]),
        &[-0.964_027_6, -0.462_117_16, 0.0, 0.761_594_2, 0.995_054_8],
    );
    assert_close("sqrt", &unary("sqrt", &[0.0, 2.25, -1.0], &[]), &[0.0, 1.5, f32::NAN]);
    assert_close("relu keeps a NaN", &unary("relu", &[f32::NAN, -1.0], &[]), &[f32::NAN, 0.0]);
}

#[test]
fn unary_operations_with_parameters() {
    let epsilon = |v: f32| [("epsilon", Value::fp32(v))];
    assert_close("rsqrt", &unary("rsqrt", &[3.0, 0.0], &epsilon(1.0)), &[0.5, 1.0]);
    assert_close("inverse", &unary("inverse", &[3.0, -5.0], &epsilon(1.0)), &[0.25, -0.25]);
    // MIL's own default for inverse is 1e-4.
    assert_close("inverse by default", &unary("inverse", &[0.0], &[]), &[1e4]);
    assert_close("log", &unary("log", &[1.0, 0.0], &epsilon(1.0)), &[LN_2, 0.0]);
    let bounds = [("alpha", Value::fp32(-1.0)), ("beta", Value::fp32(2.0))];
    assert_close("clip", &unary("clip", &[-3.0, 0.5, 3.0, f32::NAN], &bounds), &[-1.0, 0.5, 2.0, f32::NAN]);
    const X: [f32; 5] = [-2.0, -0.5, 0.0, 1.0, 3.0];
    // 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
    let tanh = [-0.045_402_306, -0.154_286, 0.0, 0.841_192, 2.996_362_7];
    let mode = |mode: &str| [("mode", Value::string(mode))];
    assert_close("gelu, tanh", &unary("gelu", &X, &mode("TANH_APPROXIMATION")), &tanh);
    // x / (1 + exp(-1.702 x))
    let sigmoid = [-0.064_341_38, -0.149_611_56, 0.0, 0.845_795_77, 2.981_928_7];
    assert_close("gelu, sigmoid", &unary("gelu", &X, &mode("SIGMOID_APPROXIMATION")), &sigmoid);
}

#[test]
fn binary_operations_broadcast_both_ways() {
    // [2, 1] with [3]: every pair.
    let inputs: [(&[usize], &[f32]); 2] = [(&[2, 1], &[4.0, -6.0]), (&[3], &[1.0, 2.0, 8.0])];
    let cases: [(&str, [f32; 6]); 13] = [
        ("add", [5.0, 6.0, 12.0, -5.0, -4.0, 2.0]),
        ("sub", [3.0, 2.0, -4.0, -7.0, -8.0, -14.0]),
        ("mul", [4.0, 8.0, 32.0, -6.0, -12.0, -48.0]),
        ("real_div", [4.0, 2.0, 0.5, -6.0, -3.0, -0.75]),
        ("maximum", [4.0, 4.0, 8.0, 1.0, 2.0, 8.0]),
        ("minimum", [1.0, 2.0, 4.0, -6.0, -6.0, -6.0]),
        ("pow", [4.0, 16.0, 65_536.0, -6.0, 36.0, 1_679_616.0]),
        ("equal", [0.0; 6]),
        ("not_equal", [1.0; 6]),
        ("less", [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]),
        ("less_equal", [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]),
        ("greater", [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
        ("greater_equal", [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
    ];
    for (op, expected) in cases {
        let got = run(&inputs, |f, v| Ok(vec![f.op(op, "r").arg("x", &v[0]).arg("y", &v[1]).one()?]));
        assert_close(op, &got[0], &expected);
    }
    let nan: [(&[usize], &[f32]); 2] = [(&[2], &[f32::NAN, 1.0]), (&[2], &[1.0, f32::NAN])];
    for op in ["maximum", "minimum"] {
        let got = run(&nan, |f, v| Ok(vec![f.op(op, "r").arg("x", &v[0]).arg("y", &v[1]).one()?]));
        assert_close(op, &got[0], &[f32::NAN; 2]);
    }
}

/// As in numpy, and the quotient is 0 where numpy warns of a division by zero.
#[test]
fn integer_division_never_fails() {
    let model = load(Numerics::F32, |f| {
        let x = f.input("x", DType::Int32, [4])?;
        let y = f.input("y", DType::Int32, [4])?;
        for op in ["floor_div", "mod", "real_div"] {
            let result = f.op(op, op).arg("x", &x).arg("y", &y).one()?;
            f.output(&result);
        }
        Ok(())
    });
    let (x, y) = ([-7, i32::MIN, 5, 7], [2, -1, 0, -2]);
    let view = |values| ane_runtime::TensorView::new(&[4], values).unwrap();
    let mut state = model.new_state();
    let outputs = model.predict(&[("x", view(&x[..])), ("y", view(&y[..]))], &mut state).unwrap();
    assert_eq!(outputs["floor_div"].as_i32().unwrap(), [-4, i32::MIN, 0, -4]);
    assert_eq!(outputs["mod"].as_i32().unwrap(), [1, 0, 5, -1]);
    assert_eq!(outputs["real_div"].as_i32().unwrap(), [-3, i32::MIN, 0, -3]);
}

/// A window may be far larger than its input, and costs no more than the elements that it covers.
#[test]
fn pooling_with_a_huge_window_takes_what_there_is() {
    let huge = 1 << 30;
    for (op, expected) in [("max_pool", [4.0, 4.0]), ("l2_pool", [30f32.sqrt(), 30f32.sqrt()])] {
        let got = run(&[(&[1, 1, 4], &[1.0, 2.0, 3.0, 4.0])], |f, v| {
            let pool = f.op(op, "r").arg("x", &v[0]).value("kernel_sizes", Value::ints([1], [huge]));
            let pool =
                pool.value("strides", Value::ints([1], [1])).value("pad_type", Value::string("custom"));
            let pool =
                pool.value("pad", Value::ints([2], [huge - 4, 1])).value("ceil_mode", Value::bool(false));
            Ok(vec![pool.one()?])
        });
        assert_eq!(got[0], expected, "{op}");
    }
}

/// Core ML's measured results in issue 2772 and pull request 2844 of apple/coremltools: the overhang of
/// `ceil_mode` counts as padding. PyTorch divides by the part of the window inside the input, which gives 9.5
/// instead of 4.75.
#[test]
fn average_over_the_edge_counts_padding_unless_it_is_excluded() {
    let image: Vec<f32> = (0u8..49).map(f32::from).collect();
    let pool = |dims: &[usize], x: &[f32], stride: i32, exclude: bool| {
        let axes = dims.len() - 2;
        let mut got = run(&[(dims, x)], |f, v| {
            let op = f.op("avg_pool", "r").arg("x", &v[0]).value("pad_type", Value::string("valid"));
            let op = op.value("kernel_sizes", Value::ints([axes], vec![2; axes]));
            let op = op.value("strides", Value::ints([axes], vec![stride; axes]));
            let op = op.value("ceil_mode", Value::bool(true));
            Ok(vec![op.value("exclude_padding_from_average", Value::bool(exclude)).one()?])
        });
        got.remove(0)
    };
    let counted = [4.0, 7.0, 4.75, 25.0, 28.0, 15.25, 21.25, 22.75, 12.0];
    assert_eq!(pool(&[1, 1, 7, 7], &image, 3, false), counted);
    let excluded = [4.0, 7.0, 9.5, 25.0, 28.0, 30.5, 42.5, 45.5, 48.0];
    assert_eq!(pool(&[1, 1, 7, 7], &image, 3, true), excluded);
    assert_eq!(pool(&[1, 1, 7], &image[..7], 3, false), [0.5, 3.5, 3.0]);
    assert_eq!(pool(&[1, 1, 7], &image[..7], 3, true), [0.5, 3.5, 6.0]);
    // The windows are five apart, so the last covers only padding.
    assert_eq!(pool(&[1, 1, 4], &image[..4], 5, false), [0.5, 0.0]);
    // The first window has overhang as well: it covers 6 and one element of padding.
    assert_eq!(pool(&[1, 1, 1], &image[6..7], 2, false), [3.0]);
    assert_eq!(pool(&[1, 1, 1], &image[6..7], 2, true), [6.0]);
}

/// Of equal elements, the first is named. MIL leaves this open, so the conformance suite has no such case.
#[test]
fn argmax_names_the_first_of_equal_ones() {
    let got = run(&[(&[2, 4], &[1.0, 3.0, 3.0, 0.0, 2.0, 2.0, -1.0, 2.0])], |f, v| {
        Ok(vec![f.op("reduce_argmax", "r").arg("x", &v[0]).value("axis", Value::int(-1)).one()?])
    });
    assert_eq!(got[0], [1.0, 0.0]);
}

/// Upsampling by an integer factor repeats elements, even if the ratio is inexact in f32.
#[test]
fn upsampling_by_a_whole_number_repeats() {
    for (from, times) in [(2usize, 41usize), (3, 47), (5, 55), (7, 3)] {
        let x: Vec<f32> = (0..from).map(|i| i as f32).collect();
        let got = run(&[(&[1, 1, 1, from], &x)], |f, v| {
            let op = f.op("upsample_nearest_neighbor", "r").arg("x", &v[0]);
            let op = op.value("scale_factor_height", Value::int(1));
            Ok(vec![op.value("scale_factor_width", Value::int(times as i32)).one()?])
        });
        let expected: Vec<f32> = (0..from * times).map(|i| (i / times) as f32).collect();
        assert_eq!(got[0], expected, "{from} times {times}");
    }
}

#[test]
fn cast_truncates_rounds_and_tests_for_zero() {
    let cast = |x: &[f32], to: &str| unary("cast", x, &[("dtype", Value::string(to))]);
    assert_eq!(cast(&[1.9, -1.9, 0.4], "int32"), [1.0, -1.0, 0.0]);
    assert_eq!(cast(&[0.5, 0.0, -1.0], "bool"), [1.0, 0.0, 1.0]);
    // 1 + 3 / 2048 is a tie between 1 + 1 / 1024 and 1 + 2 / 1024, and rounds to even. A cast rounds even in
    // f32 arithmetic.
    assert_eq!(cast(&[1.0 + 3.0 / 2048.0, 65_520.0], "fp16"), [1.0 + 2.0 / 1024.0, f32::INFINITY]);
}

#[test]
fn select_takes_a_where_the_condition_holds() {
    let inputs: [(&[usize], &[f32]); 3] =
        [(&[3], &[1.0, 0.0, 1.0]), (&[2, 1], &[10.0, 20.0]), (&[1], &[-1.0])];
    let got = run(&inputs, |f, v| {
        let cond = f.op("cast", "cond").arg("x", &v[0]).value("dtype", Value::string("bool")).one()?;
        Ok(vec![f.op("select", "r").arg("cond", &cond).arg("a", &v[1]).arg("b", &v[2]).one()?])
    });
    assert_eq!(got[0], [10.0, -1.0, 10.0, 20.0, -1.0, 20.0]);
}

#[test]
fn reductions() {
    let x: (&[usize], &[f32]) = (&[2, 1, 3], &[1.0, -2.0, 4.0, 3.0, 0.0, -6.0]);
    let reduce = |op: &str, axes: &[i32], keep: bool| {
        let mut got = run(&[x], |f, v| {
            let op = f.op(op, "r").arg("x", &v[0]).value("axes", Value::ints([axes.len()], axes));
            let result = op.value("keep_dims", Value::bool(keep)).one()?;
            assert_eq!(result.dims().rank(), if keep { 3 } else { 3 - axes.len() });
            Ok(vec![result])
        });
        got.remove(0)
    };
    assert_eq!(reduce("reduce_sum", &[-1], true), [3.0, -3.0]);
    assert_eq!(reduce("reduce_mean", &[2], false), [1.0, -1.0]);
    assert_eq!(reduce("reduce_max", &[2], true), [4.0, 3.0]);
    assert_eq!(reduce("reduce_min", &[2], true), [-2.0, -6.0]);
    assert_eq!(reduce("reduce_sum_square", &[0], false), [10.0, 4.0, 52.0]);
    assert_close("reduce_l2_norm", &reduce("reduce_l2_norm", &[0, 2], false), &[66f32.sqrt()]);
}

#[test]
fn softmax_is_safe_from_overflow() {
    let softmax = |dims: &[usize], x: &[f32], axis: i32| {
        let mut got = run(&[(dims, x)], |f, v| {
            Ok(vec![f.op("softmax", "r").arg("x", &v[0]).value("axis", Value::int(axis)).one()?])
        });
        got.remove(0)
    };
    // exp of 1, 2, 3 over their sum; adding 1e4 to all changes nothing.
    let expected = [0.090_030_57, 0.244_728_47, 0.665_240_94];
    assert_close("last axis", &softmax(&[3], &[1.0, 2.0, 3.0], -1), &expected);
    assert_close("large", &softmax(&[3], &[10_001.0, 10_002.0, 10_003.0], -1), &expected);
    // Over the first axis, each column is separate.
    let columns = softmax(&[3, 2], &[1.0, 3.0, 2.0, 2.0, 3.0, 1.0], 0);
    let [a, b, c] = expected;
    assert_close("first axis", &columns, &[a, c, b, b, c, a]);
}

#[test]
fn layer_norm_scales_and_shifts() {
    let got = run(&[(&[1, 4], &[1.0, 2.0, 3.0, 6.0])], |f, v| {
        let vector = |values: [f32; 4]| Value::fp32s([4], values);
        let op = f.op("layer_norm", "r").arg("x", &v[0]).value("axes", Value::ints([1], [1]));
        let op = op.value("gamma", vector([1.0, 2.0, 1.0, 2.0])).value("beta", vector([0.0, 0.0, 1.0, 1.0]));
        Ok(vec![op.value("epsilon", Value::fp32(1e-5)).one()?])
    });
    // Mean 3, variance 3.5.
    assert_close("layer_norm", &got[0], &[-1.069_043_4, -1.069_043_4, 1.0, 4.207_130_4]);
}

#[test]
fn matmul_transposes_and_broadcasts() {
    // x is [[1, 2, 3], [4, 5, 6]], y has two matrices [3, 2].
    let x: (&[usize], &[f32]) = (&[1, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let y = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 0.0, 0.0, 2.0, 0.0, 0.0];
    let expected = [4.0, 5.0, 10.0, 11.0, 2.0, 4.0, 8.0, 10.0];
    let matmul = |x: (&[usize], &[f32]), y: (&[usize], &[f32]), tx: bool, ty: bool| {
        let mut got = run(&[x, y], |f, v| {
            let op = f.op("matmul", "r").arg("x", &v[0]).arg("y", &v[1]);
            Ok(vec![op.value("transpose_x", Value::bool(tx)).value("transpose_y", Value::bool(ty)).one()?])
        });
        got.remove(0)
    };
    assert_eq!(matmul(x, (&[2, 3, 2], &y), false, false), expected);
    let x_t: (&[usize], &[f32]) = (&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let y_t = [1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 2.0, 0.0, 0.0, 0.0, 2.0, 0.0];
    assert_eq!(matmul(x_t, (&[2, 2, 3], &y_t), true, true), expected);
}

/// A vector is a row on the left and a column on the right, and its axis is dropped from the result.
#[test]
fn matmul_takes_vectors() {
    let row: (&[usize], &[f32]) = (&[2], &[1.0, 10.0]);
    let matrix: (&[usize], &[f32]) = (&[2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let product = |inputs: &[(&[usize], &[f32])]| {
        run(inputs, |f, v| Ok(vec![f.op("matmul", "r").arg("x", &v[0]).arg("y", &v[1]).one()?])).remove(0)
    };
    assert_eq!(product(&[row, matrix]), [31.0, 42.0, 75.0, 86.0]);
    assert_eq!(product(&[matrix, row]), [21.0, 43.0, 65.0, 87.0]);
    assert_eq!(product(&[row, (&[2], &[3.0, 4.0])]), [43.0]);
}

#[test]
fn linear_has_a_bias() {
    let got = run(&[(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])], |f, v| {
        let weight = floats(f, "w", &[2, 3], &[1.0, 0.0, -1.0, 0.5, 0.5, 0.5])?;
        let bias = floats(f, "b", &[2], &[10.0, 20.0])?;
        Ok(vec![f.op("linear", "r").arg("x", &v[0]).arg("weight", &weight).arg("bias", &bias).one()?])
    });
    assert_eq!(got[0], [8.0, 23.0, 8.0, 27.5]);
}

fn floats(
    f: &mut mlpackage::builder::FunctionBuilder<'_>,
    name: &str,
    dims: &[usize],
    values: &[f32],
) -> mlpackage::Result<Var> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    f.weight(name, TensorType::new(DType::Fp32, dims), &bytes)
}

fn conv(x: (&[usize], &[f32]), w: (&[usize], &[f32]), params: &[(&str, Value)]) -> Vec<f32> {
    let mut got = run(&[x], |f, v| {
        let weight = floats(f, "w", w.0, w.1)?;
        let op = f.op("conv", "r").arg("x", &v[0]).arg("weight", &weight);
        let op = params.iter().fold(op, |op, (name, value)| op.value(name, value.clone()));
        Ok(vec![op.one()?])
    });
    got.remove(0)
}

/// `x` is 1 to 9 in a square, the kernel is [[1, 2], [3, 4]].
#[test]
fn conv_pads_strides_and_dilates() {
    let nine: Vec<f32> = (1..=9).map(|v| v as f32).collect();
    let x: (&[usize], &[f32]) = (&[1, 1, 3, 3], &nine);
    let w: (&[usize], &[f32]) = (&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(conv(x, w, &[]), [37.0, 47.0, 67.0, 77.0]);
    let custom = [("pad_type", Value::string("custom")), ("pad", Value::ints([4], [1, 1, 1, 1]))];
    let padded =
        [4.0, 11.0, 18.0, 9.0, 18.0, 37.0, 47.0, 21.0, 36.0, 67.0, 77.0, 33.0, 14.0, 23.0, 26.0, 9.0];
    assert_eq!(conv(x, w, &custom), padded);
    // `same` puts the odd padding at the end, `same_lower` at the beginning.
    let same = [37.0, 47.0, 21.0, 67.0, 77.0, 33.0, 23.0, 26.0, 9.0];
    assert_eq!(conv(x, w, &[("pad_type", Value::string("same"))]), same);
    let same_lower = [4.0, 11.0, 18.0, 18.0, 37.0, 47.0, 36.0, 67.0, 77.0];
    assert_eq!(conv(x, w, &[("pad_type", Value::string("same_lower"))]), same_lower);
    // Taps two apart reach the corners: 1 + 2 * 3 + 3 * 7 + 4 * 9.
    assert_eq!(conv(x, w, &[("dilations", Value::ints([2], [2, 2]))]), [64.0]);
    let strided = [("strides", Value::ints([2], [2, 2])), ("pad_type", Value::string("custom"))];
    let strided = [&strided[..], &[("pad", Value::ints([4], [1, 0, 1, 0]))]].concat();
    assert_eq!(conv(x, w, &strided), [4.0, 18.0, 36.0, 77.0]);
}

#[test]
fn conv_in_groups_and_over_one_axis() {
    // Two channels, each a group with two filters of one tap.
    let x: (&[usize], &[f32]) = (&[1, 2, 2], &[1.0, 2.0, 10.0, 20.0]);
    let w: (&[usize], &[f32]) = (&[4, 1, 1], &[1.0, 2.0, 3.0, 4.0]);
    let groups = [("groups", Value::int(2))];
    assert_eq!(conv(x, w, &groups), [1.0, 2.0, 2.0, 4.0, 30.0, 60.0, 40.0, 80.0]);
}

/// The decode graph consists of this shape, which takes a shortcut; the result must be the same.
#[test]
fn pointwise_conv_is_a_matrix_times_a_vector() {
    let x: Vec<f32> = (0..20).map(|v| v as f32).collect();
    let w: Vec<f32> = (0..60).map(|v| (v % 7) as f32 - 3.0).collect();
    let expected: Vec<f32> = (0..3).map(|o| (0..20).map(|i| w[o * 20 + i] * x[i]).sum()).collect();
    let got = conv((&[1, 20, 1, 1], &x), (&[3, 20, 1, 1], &w), &[]);
    assert_eq!(got, expected); // small integers: exact in any order
}

#[test]
fn movement() {
    let x: Vec<f32> = (0..6).map(|v| v as f32).collect();
    let one = |op: &str, dims: &[usize], params: &[(&str, Value)], shape: &[usize]| {
        let mut got = run(&[(dims, &x)], |f, v| {
            let op = params.iter().fold(f.op(op, "r").arg("x", &v[0]), |op, (n, v)| op.value(n, v.clone()));
            let result = op.one()?;
            assert_eq!(*result.dims(), *shape);
            Ok(vec![result])
        });
        got.remove(0)
    };
    let ints = |values: &[i32]| Value::ints([values.len()], values);
    assert_eq!(one("identity", &[2, 3], &[], &[2, 3]), x);
    assert_eq!(one("reshape", &[2, 3], &[("shape", ints(&[3, -1]))], &[3, 2]), x);
    // A 0 copies the size of the corresponding axis, counted from the right.
    assert_eq!(one("reshape", &[2, 3], &[("shape", ints(&[1, 2, 0]))], &[1, 2, 3]), x);
    assert_eq!(one("expand_dims", &[2, 3], &[("axes", ints(&[0, -1]))], &[1, 2, 3, 1]), x);
    assert_eq!(one("squeeze", &[1, 6, 1], &[("axes", ints(&[-1]))], &[1, 6]), x);
    assert_eq!(one("squeeze", &[1, 6, 1], &[], &[6]), x);
    let transposed = one("transpose", &[1, 2, 3], &[("perm", ints(&[2, 0, 1]))], &[3, 1, 2]);
    assert_eq!(transposed, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    let slice = |params: &[(&str, Value)], shape: &[usize]| one("slice_by_index", &[2, 3], params, shape);
    assert_eq!(slice(&[("begin", ints(&[0, 1])), ("end", ints(&[2, 3]))], &[2, 2]), [1.0, 2.0, 4.0, 5.0]);
    // Backward, with an open end.
    let reversed = [
        ("begin", ints(&[1, -1])),
        ("end", ints(&[2, 0])),
        ("stride", ints(&[1, -1])),
        ("end_mask", Value::bools([false, true])),
        ("squeeze_mask", Value::bools([true, false])),
    ];
    assert_eq!(slice(&reversed, &[3]), [5.0, 4.0, 3.0]);
}

#[test]
fn split_and_concat_undo_each_other() {
    let x: Vec<f32> = (0..12).map(|v| v as f32).collect();
    let got = run(&[(&[2, 6], &x)], |f, v| {
        let op = f.op("split", "parts").arg("x", &v[0]).value("axis", Value::int(1));
        let parts = op.value("split_sizes", Value::ints([3], [1, 2, 3])).many(&["a", "b", "c"])?;
        let [a, b, c] = [&parts[0], &parts[1], &parts[2]];
        let joined =
            f.op("concat", "joined").args("values", &[a, b, c]).value("axis", Value::int(-1)).one()?;
        Ok(vec![a.clone(), b.clone(), c.clone(), joined])
    });
    assert_eq!(got[0], [0.0, 6.0]);
    assert_eq!(got[1], [1.0, 2.0, 7.0, 8.0]);
    assert_eq!(got[2], [3.0, 4.0, 5.0, 9.0, 10.0, 11.0]);
    assert_eq!(got[3], x);
}

/// In f16 every fp16 result is rounded, and nothing else: 2048 + 1 is not an fp16 value.
#[test]
fn numerics_round_fp16_results_and_nothing_else() {
    let sum = |numerics: Numerics, dtype: DType| {
        let model = load(numerics, |f| {
            let x = f.input("x", dtype, [2])?;
            let y = f.op("add", "y").arg("x", &x).arg("y", &x).one()?;
            let y = f.op("add", "z").arg("x", &y).arg("y", &x).one()?;
            f.output(&y);
            Ok(())
        });
        let x = tensor(&[2], &[683.0, 30_000.0]);
        let mut state = model.new_state();
        let outputs = model.predict(&[("x", x.view())], &mut state).unwrap();
        outputs["z"].as_f32().unwrap().to_vec()
    };
    assert_eq!(sum(Numerics::F32, DType::Fp16), [2049.0, 90_000.0]);
    assert_eq!(sum(Numerics::F16, DType::Fp16), [2048.0, f32::INFINITY]);
    assert_eq!(sum(Numerics::F16, DType::Fp32), [2049.0, 90_000.0]);
}
