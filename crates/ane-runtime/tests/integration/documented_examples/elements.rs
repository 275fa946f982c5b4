//! Elementwise operations, and operations that create tensors.

use super::*;

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
    gives(ALL, "prelu", &channels, std::slice::from_ref(&slopes), &[(&[1, 2, 2], &[-0.5, 1.0, -0.25, 1.0])]);
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
    // The last axis by default.
    let rows = [("x", &[2, 2][..], F(&[0.0, 3f32.ln(), 0.0, 0.0]))];
    gives(ALL, "softmax", &rows, &[], &[(&[2, 2], &[0.25, 0.75, 0.5, 0.5])]);
    gives(ALL, "softmax", &rows, &[("axis", Value::int(0))], &[(&[2, 2], &[0.5, 0.75, 0.5, 0.25])]);
    // Since iOS 17, a parameter may have another type than x.
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
    // "0.5 is rounded to 0": ties round to even.
    gives(ALL, "round", &x, &[], &[(&[4], &[-2.0, 0.0, 0.0, 2.0])]);
    gives(ALL, "square", &x, &[], &[(&[4], &[2.25, 0.25, 0.25, 6.25])]);
    // "Either -1 or 1, or zero if the input x is zero."
    gives(ALL, "sign", &[("x", &[3], I(&[-5, 0, 5]))], &[], &[(&[3], &[-1.0, 0.0, 1.0])]);
    gives(ALL, "threshold", &x, &[("alpha", Value::fp32(0.0))], &[(&[4], &[0.0, 0.0, 0.5, 2.5])]);
    let clip = |low: f32, high: f32| [("alpha", Value::fp32(low)), ("beta", Value::fp32(high))];
    gives(ALL, "clip", &x, &clip(-1.0, 1.0), &[(&[4], &[-1.0, -0.5, 0.5, 1.0])]);
    // If the bounds are not in order, which is allowed up to iOS 16, the upper bound is applied last.
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
    // Rounds toward zero; a value outside the range of the new type becomes its nearest bound.
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
        // "Rounded towards negative infinity"; the remainder has the sign of y.
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
    // "on_value 1, off_value 0, axis -1"; an index outside the vector sets nothing.
    let indices = [("indices", &[3][..], I(&[1, 0, 5]))];
    let size = ("one_hot_vector_size", Value::int(2));
    gives(
        ALL,
        "one_hot",
        &indices,
        std::slice::from_ref(&size),
        &[(&[3, 2], &[0.0, 1.0, 1.0, 0.0, 0.0, 0.0])],
    );
    let values =
        [size, ("axis", Value::int(0)), ("on_value", Value::fp32(2.5)), ("off_value", Value::fp32(-1.0))];
    gives(ALL, "one_hot", &indices, &values, &[(&[2, 3], &[-1.0, 2.5, -1.0, 2.5, -1.0, -1.0])]);
    // As in numpy, the end is exclusive.
    let range = |start: i32, end: i32, step: i32| {
        [("start", Value::int(start)), ("end", Value::int(end)), ("step", Value::int(step))]
    };
    gives(ALL, "range_1d", &[], &range(1, 6, 2), &[(&[3], &[1.0, 3.0, 5.0])]);
    gives(ALL, "range_1d", &[], &range(3, -2, -2), &[(&[3], &[3.0, 1.0, -1.0])]);
    let given = [("start", &[][..], F(&[0.0])), ("end", &[], F(&[1.0])), ("step", &[], F(&[0.25]))];
    gives(ALL, "range_1d", &given, &[], &[(&[4], &[0.0, 0.25, 0.5, 0.75])]);
    gives(ALL, "shape", &[("x", &[1, 2], F(&[5.0, 6.0]))], &[], &[(&[2], &[1.0, 2.0])]);
}

/// "Samples are uniformly distributed over the half-open interval [low, high)", and a seed produces the same
/// samples in every call.
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
    // 1 + u rounds to 2 in fp16 for one u in four thousand, unless the result is kept below the bound.
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
