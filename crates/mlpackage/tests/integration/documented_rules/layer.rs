//! Layers: products, convolutions, pools, activations, resized images, attention and norms.

use mlpackage::DType;
use mlpackage::DType::{Bool, Fp16, Fp32};
use mlpackage::mil::{Opset, Value};

use super::{ALL, IOS15, SINCE_IOS16, SINCE_IOS17, SINCE_IOS18, UP_TO_IOS16, floats, ints, used};

#[test]
fn types_of_products() {
    let matmul = |x: &[i32], y: &[i32], flags: (bool, bool), expected: Result<&str, &str>| {
        let inputs = [("x", Fp32, x), ("y", Fp32, y)];
        let constants = [("transpose_x", Value::bool(flags.0)), ("transpose_y", Value::bool(flags.1))];
        let matmul = used("matmul", &inputs, &constants);
        match expected {
            Ok(shape) => matmul.gives(ALL, &[&format!("tensor<fp32, {shape}>")]),
            Err(words) => matmul.is_refused(ALL, words),
        }
    };
    let plain = (false, false);
    // The documented examples, in order.
    matmul(&[4], &[4], plain, Ok("[]"));
    matmul(&[10, 4, 3], &[5, 10, 3, 2], plain, Ok("[5, 10, 4, 2]"));
    matmul(&[4, 3], &[3, 2], plain, Ok("[4, 2]"));
    matmul(&[4], &[10, 4, 3], plain, Ok("[10, 3]"));
    matmul(&[10, 3, 4], &[4], plain, Ok("[10, 3]"));
    matmul(&[3, 4], &[2, 3], (true, true), Ok("[4, 2]"));
    // "It has no effect when x is 1-D."
    matmul(&[4], &[4, 3], (true, false), Ok("[3]"));
    matmul(&[3, 4], &[4], (false, true), Ok("[3]"));
    matmul(&[3, 4], &[3, 2], plain, Err("do not match: 4 against 3"));
    matmul(&[], &[3], plain, Err("expected rank 1 or more"));
    // "When one of x and y is const, the output dtype should be the same as the non-const one", since iOS 17.
    let half = Value::fp16s([4, 2], &[half::f16::ONE; 8]);
    let left = [("x", Fp32, &[3, 4][..])];
    used("matmul", &left, &[("y", half.clone())]).gives(SINCE_IOS17, &["tensor<fp32, [3, 2]>"]);
    used("matmul", &left, &[("y", half.clone())]).is_refused(UP_TO_IOS16, "expected one type");
    let right = [("y", Fp32, &[2, 3][..])];
    used("matmul", &right, &[("x", half)]).gives(SINCE_IOS17, &["tensor<fp32, [4, 3]>"]);
    let both = [("x", Fp16, &[3, 4][..]), ("y", Fp32, &[4, 2])];
    used("matmul", &both, &[]).is_refused(ALL, "expected one type");
    // "nchw,nwhu->nchu" and "chw,whr->chr" and their equivalents, in which n and h are broadcast.
    let einsum = |a: &[i32], b: &[i32], equation: &str, expected: Result<&str, &str>| {
        let inputs = [("values", Fp32, a), ("values", Fp32, b)];
        let constants = [("equation", Value::string(equation))];
        let einsum = used("einsum", &inputs, &constants);
        match expected {
            Ok(shape) => einsum.gives(ALL, &[&format!("tensor<fp32, {shape}>")]),
            Err(words) => einsum.is_refused(ALL, words),
        }
    };
    einsum(&[2, 3, 4, 5], &[2, 5, 4, 6], "nchw,nwhu->nchu", Ok("[2, 3, 4, 6]"));
    einsum(&[1, 3, 4, 5], &[2, 5, 1, 6], "abcd,adce->abce", Ok("[2, 3, 4, 6]"));
    einsum(&[3, 1, 5], &[5, 4, 6], "chw,whr->chr", Ok("[3, 4, 6]"));
    einsum(&[3, 4, 5], &[5, 4, 6], "chw,whr->crh", Err("expected the form of"));
}

#[test]
fn channels_and_groups_of_convolutions() {
    let conv = |weight: [usize; 4], groups: i32, expected: Result<&str, &str>| {
        let elements = weight.iter().product();
        let constants =
            [("weight", Value::fp32s(weight, vec![1.0; elements])), ("groups", Value::int(groups))];
        let inputs = [("x", Fp32, &[1, 16, 6, 6][..])];
        let conv = used("conv", &inputs, &constants);
        match expected {
            Ok(shape) => conv.gives(ALL, &[&format!("tensor<fp32, {shape}>")]),
            Err(words) => conv.is_refused(ALL, words),
        }
    };
    // "For examples (assuming C_in = 16, C_out = 32)."
    conv([32, 16, 3, 3], 1, Ok("[1, 32, 4, 4]"));
    conv([32, 8, 3, 3], 2, Ok("[1, 32, 4, 4]"));
    conv([32, 1, 3, 3], 16, Ok("[1, 32, 4, 4]"));
    // "C_in must be divisible by groups."
    conv([32, 5, 3, 3], 3, Err("does not divide the 32 output channels"));
    conv([31, 8, 3, 3], 2, Err("does not divide the 31 output channels"));
    conv([32, 5, 3, 3], 2, Err("has 16 channels, expected 10"));
    let transposed = |weight: [usize; 3], more: &[(&'static str, Value)], expected: Result<&str, &str>| {
        let mut constants = vec![("weight", Value::fp32s(weight, vec![1.0; weight.iter().product()]))];
        constants.extend_from_slice(more);
        let inputs = [("x", Fp32, &[1, 4, 5][..])];
        let conv = used("conv_transpose", &inputs, &constants);
        match expected {
            Ok(shape) => conv.gives(ALL, &[&format!("tensor<fp32, {shape}>")]),
            Err(words) => conv.is_refused(ALL, words),
        }
    };
    let groups = |n: i32| ("groups", Value::int(n));
    let kind = |kind: &str| ("pad_type", Value::string(kind));
    let strides = ("strides", ints(&[2]));
    // The documented formulas of Dout for valid, custom and same.
    transposed([4, 3, 3], &[strides.clone(), groups(2)], Ok("[1, 6, 11]"));
    transposed([4, 3, 3], &[strides.clone(), kind("custom"), ("pad", ints(&[1, 2]))], Ok("[1, 3, 8]"));
    transposed([4, 3, 3], &[strides.clone(), kind("same")], Ok("[1, 3, 10]"));
    transposed([4, 3, 3], &[strides, ("output_shape", ints(&[1, 3, 12]))], Ok("[1, 3, 12]"));
    transposed([4, 3, 3], &[("output_shape", ints(&[1, 4, 12]))], Err("output_shape"));
    // "C_in and C_out must be divisible by the number of groups"; "One of same, valid, or custom."
    transposed([4, 3, 3], &[groups(3)], Err("does not divide the 4 channels"));
    transposed([4, 3, 3], &[groups(8)], Err("does not divide the 4 channels"));
    transposed([4, 3, 3], &[kind("same_lower")], Err("expected valid, custom or same"));
}

#[test]
fn ranks_of_pooling_and_activations() {
    let pool =
        |op: &str, x: &[i32], kind: &str, ceil: bool, opsets: &[Opset], expected: Result<&str, &str>| {
            let spatial = x.len() - 2;
            let constants = [
                ("kernel_sizes", ints(&vec![2; spatial])),
                ("strides", ints(&vec![2; spatial])),
                ("pad_type", Value::string(kind)),
                ("ceil_mode", Value::bool(ceil)),
            ];
            let inputs = [("x", Fp32, x)];
            let pool = used(op, &inputs, &constants);
            match expected {
                Ok(shape) => pool.gives(opsets, &[&format!("tensor<fp32, {shape}>")]),
                Err(words) => pool.is_refused(opsets, words),
            }
        };
    pool("max_pool", &[1, 2, 5, 5, 5], "valid", false, ALL, Ok("[1, 2, 2, 2, 2]"));
    // l2_pool: "Only support 1d and 2d pooling."
    pool("l2_pool", &[1, 2, 5], "valid", false, ALL, Ok("[1, 2, 2]"));
    pool("l2_pool", &[1, 2, 5, 5, 5], "valid", false, ALL, Err("expected rank 3 or 4"));
    // "D_out[i] = ceil[...] + 1"; "Only applicable when pad_type is valid or custom."
    pool("avg_pool", &[1, 2, 5], "valid", true, ALL, Ok("[1, 2, 3]"));
    // The numerator is 1 - 2 + 2 - 1 = 0, so a window larger than its axis has one output position; without
    // `ceil_mode` it has none.
    pool("max_pool", &[1, 2, 1], "valid", true, ALL, Ok("[1, 2, 1]"));
    pool("max_pool", &[1, 2, 1], "valid", false, ALL, Err("does not fit into 1"));
    pool("avg_pool", &[1, 2, 5], "same", true, ALL, Err("ceil_mode cannot be used with"));
    // same_lower exists since iOS 16.
    pool("avg_pool", &[1, 2, 5], "same_lower", false, SINCE_IOS16, Ok("[1, 2, 3]"));
    pool("avg_pool", &[1, 2, 5], "same_lower", false, IOS15, Err("pad_type is"));
    let prelu = |x: &[i32], expected: Result<(), &str>| {
        let (inputs, constants) = ([("x", Fp32, x)], [("alpha", floats(&[0.5, 0.5]))]);
        let prelu = used("prelu", &inputs, &constants);
        match expected {
            Ok(()) => assert!(prelu.infer(Opset::CoreML5, 1).is_ok()),
            Err(words) => prelu.is_refused(ALL, words),
        }
    };
    // "x must have rank 4, rank 3, or rank 5"; "The length of alpha must match the second dimension of x."
    prelu(&[1, 2, 3], Ok(()));
    prelu(&[1, 2, 3, 4, 5], Ok(()));
    prelu(&[1, 2], Err("expected rank 3 to 5"));
    prelu(&[1, 2, 3, 4, 5, 6], Err("expected rank 3 to 5"));
    prelu(&[1, 3, 3], Err("expected [3], one for each channel"));
    used("gelu", &[("x", Fp32, &[2])], &[("mode", Value::string("FAST"))]).is_refused(ALL, "expected EXACT");
}

#[test]
fn shapes_of_resized_images() {
    let resize = |x: &[i32], shape: &[i32], dims: u32, expected: Result<&str, &str>| {
        let dims = mlpackage::mil::Literal::Bytes(dims.to_le_bytes().to_vec());
        let dims = Value::immediate(DType::Uint32, [0usize; 0], dims);
        let (inputs, constants) = ([("x", Fp32, x)], [("shape", ints(shape)), ("resized_dims", dims)]);
        let resize = used("resize", &inputs, &constants);
        match expected {
            Ok(shape) => resize.gives(SINCE_IOS17, &[&format!("tensor<fp32, {shape}>")]),
            Err(words) => resize.is_refused(SINCE_IOS17, words),
        }
    };
    // The documented examples #1 and #2.
    resize(&[1, 2, 3, 4], &[1, 6, 8], 2, Ok("[1, 2, 6, 8]"));
    resize(&[1, 2, 3, -1], &[1, 0, 0], 2, Ok("[1, 2, 3, ?]"));
    // "size(shape) <= rank(x)"; "resized_dims <= size(shape)".
    resize(&[1, 2, 3], &[1, 1, 6, 8], 2, Err("expected 2 to 3 sizes"));
    resize(&[1, 2, 3, 4], &[8], 2, Err("expected 2 to 4 sizes"));
    let upsample = |factor: Value, expected: &str| {
        let constants = [("scale_factor_height", factor.clone()), ("scale_factor_width", factor)];
        let inputs = [("x", Fp32, &[1, 1, 3, 5][..])];
        used("upsample_nearest_neighbor", &inputs, &constants).gives(ALL, &[expected]);
    };
    // "H2 = floor(H1 * scale_factor_height). Can be either an integer or fractional."
    upsample(Value::int(2), "tensor<fp32, [1, 1, 6, 10]>");
    upsample(Value::fp32(1.3), "tensor<fp32, [1, 1, 3, 6]>");
    used("upsample_bilinear", &[("x", Fp32, &[3, 5])], &[]).is_refused(ALL, "expected rank 3 or more");
    let crop = [("crop_height", ints(&[1, 2])), ("crop_width", ints(&[0, 1]))];
    used("crop", &[("x", Fp32, &[1, 5, 6])], &crop).gives(ALL, &["tensor<fp32, [1, 2, 5]>"]);
    used("crop", &[("x", Fp32, &[1, 3, 6])], &crop).is_refused(ALL, "removes all of");
}

#[test]
fn shapes_of_attention_and_norms() {
    let attend = |mask: Option<(DType, &[i32])>, expected: Result<(), &str>| {
        let mut inputs = vec![
            ("query", Fp32, &[1, 2, 3, 8][..]),
            ("key", Fp32, &[1, 2, 5, 8]),
            ("value", Fp32, &[1, 2, 5, 4]),
        ];
        inputs.extend(mask.map(|(dtype, dims)| ("attn_mask", dtype, dims)));
        let attend = used("scaled_dot_product_attention", &inputs, &[]);
        match expected {
            Ok(()) => attend.gives(SINCE_IOS18, &["tensor<fp32, [1, 2, 3, 4]>"]),
            Err(words) => attend.is_refused(SINCE_IOS18, words),
        }
    };
    attend(None, Ok(()));
    // "query: tensor<[B, *?, L, E], T>", "key: tensor<[B, *?, S, E], T>", "value: tensor<[B, *?, S, EV], T>".
    for (query, key, value) in [
        (&[1, 2, 3, 8][..], &[1, 2, 5, 7][..], &[1, 2, 5, 4][..]),
        (&[1, 2, 3, 8], &[1, 2, 5, 8], &[1, 2, 6, 4]),
        (&[1, 2, 3, 8], &[1, 3, 5, 8], &[1, 2, 5, 4]),
        (&[1, 2, 3, 8], &[1, 2, 5, 8], &[1, 3, 5, 4]),
        (&[2, 2, 3, 8], &[1, 2, 5, 8], &[1, 2, 5, 4]),
    ] {
        let inputs = [("query", Fp32, query), ("key", Fp32, key), ("value", Fp32, value)];
        used("scaled_dot_product_attention", &inputs, &[]).is_refused(SINCE_IOS18, "do not match");
    }
    let matrices = [("query", Fp32, &[3, 8][..]), ("key", Fp32, &[5, 8]), ("value", Fp32, &[5, 4])];
    used("scaled_dot_product_attention", &matrices, &[])
        .is_refused(SINCE_IOS18, "expected one rank of 3 or more");
    // "attn_mask: tensor<[*?, S], M>", "broadcastable to [B, *?, L, S]", "bool or float matching query, key, or value".
    attend(Some((Bool, &[5])), Ok(()));
    attend(Some((Fp32, &[3, 5])), Ok(()));
    attend(Some((Bool, &[1, 1, 3, 5])), Ok(()));
    attend(Some((Fp16, &[3, 5])), Err("attn_mask is"));
    attend(Some((Bool, &[4, 5])), Err("attn_mask is"));
    attend(Some((Bool, &[7, 1, 2, 3, 5])), Err("attn_mask is"));
    let norm = |axes: Option<&[i32]>, gamma: &[usize], expected: Result<(), &str>| {
        let mut constants = vec![("gamma", Value::fp32s(gamma, vec![1.0; gamma.iter().product()]))];
        constants.extend(axes.map(|axes| ("axes", ints(axes))));
        let inputs = [("x", Fp32, &[3, 4, 5, 6][..])];
        let norm = used("layer_norm", &inputs, &constants);
        match expected {
            Ok(()) => norm.gives(ALL, &["tensor<fp32, [3, 4, 5, 6]>"]),
            Err(words) => norm.is_refused(ALL, words),
        }
    };
    // "If input x with shape (3,4,5,6) and axes = [2,3], gamma must have shape (5,6)"; "Default is None (all dimensions)."
    norm(Some(&[2, 3]), &[5, 6], Ok(()));
    norm(Some(&[2, 3]), &[4, 5], Err("expected [5, 6]"));
    norm(None, &[3, 4, 5, 6], Ok(()));
    norm(None, &[5, 6], Err("expected [3, 4, 5, 6]"));
    let batch = |mean: Value, expected: Result<(), &str>| {
        let constants = [("mean", mean), ("variance", floats(&[1.0; 3]))];
        let batch = used("batch_norm", &[("x", Fp32, &[2, 3, 4, 5])], &constants);
        match expected {
            Ok(()) => batch.gives(ALL, &["tensor<fp32, [2, 3, 4, 5]>"]),
            Err(words) => batch.is_refused(ALL, words),
        }
    };
    // "mean: const tensor<[C], T>".
    batch(floats(&[0.0; 3]), Ok(()));
    batch(floats(&[0.0; 4]), Err("mean is [4], expected [3]"));
    batch(Value::fp32s([3, 1], vec![0.0; 3]), Err("mean is [3, 1], expected [3]"));
}

#[test]
fn shapes_of_transposed_convolutions() {
    let weight = Value::fp32s([2, 3, 4], vec![0.0; 24]);
    let constants = |bias: usize| {
        let spread =
            [("strides", ints(&[3])), ("dilations", ints(&[2])), ("pad_type", Value::string("custom"))];
        let given = [("weight", weight.clone()), ("bias", floats(&vec![0.0; bias])), ("pad", ints(&[1, 2]))];
        spread.into_iter().chain(given).collect::<Vec<_>>()
    };
    let x = [("x", Fp32, &[1, 2, 5][..])];
    // (5 - 1) * 3 + (4 - 1) * 2 + 1 - 1 - 2 = 16.
    used("conv_transpose", &x, &constants(3)).gives(ALL, &["tensor<fp32, [1, 3, 16]>"]);
    used("conv_transpose", &x, &constants(2)).is_refused(ALL, "bias is [2], expected [3]");
}
