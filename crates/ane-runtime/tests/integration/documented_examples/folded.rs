//! Sums, products, norms, and searches along an axis.

use super::*;

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
    // The axis "defaults to 0".
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
    // "If False, no particular ordering is guaranteed"; coremltools' tests expect this one.
    let unsorted = [("k", Value::int(2)), ("sort", yes(false))];
    let largest = [3.0, 2.0, 6.0, 5.0];
    gives(SINCE_IOS16, "topk", &x, &unsorted, &[(&[2, 2], &largest), (&[2, 2], &[1.0, 0.0, 2.0, 0.0])]);
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
    // Since iOS 17, a constant may have another type than x.
    let half = [("y", Value::fp16s([2, 1], &[f16::from_f32(0.5), f16::ONE]))];
    gives(SINCE_IOS17, "matmul", &[x], &half, &[(&[2, 1], &[2.5, 5.5])]);
    // "x * weight.T + bias".
    let linear = [("weight", Value::fp32s([1, 2], [5.0, 6.0])), ("bias", floats(&[1.0]))];
    gives(ALL, "linear", &[x], &linear, &[(&[2, 1], &[18.0, 40.0])]);
    let whole = [("weight", Value::ints([1, 2], [5, 6])), ("bias", ints(&[1]))];
    gives(ALL, "linear", &[("x", &[1, 2], I(&[1, 2]))], &whole, &[(&[1, 1], &[18.0])]);
    // The fast arithmetic must not treat a vector of integers as one of floats; here each fits a row of the
    // weight.
    let rows = [("weight", Value::ints([3, 2], [1, 2, 3, 4, 5, 6])), ("bias", ints(&[0, 0, 1]))];
    gives(ALL, "linear", &[("x", &[2], I(&[7, -8]))], &rows, &[(&[3], &[-9.0, -11.0, -12.0])]);
    // "[C, H, W1] x [W1, H, W2]", in which H is broadcast.
    let einsum =
        [("values", &[1, 2, 2][..], F(&[1.0, 2.0, 3.0, 4.0])), ("values", &[2, 1, 1], F(&[5.0, 6.0]))];
    gives(ALL, "einsum", &einsum, &[("equation", text("chw,whr->chr"))], &[(&[1, 2, 1], &[17.0, 39.0])]);
    // Two groups: the first output channel depends on the first channel of x, the second on the second.
    let groups = [
        ("weight", Value::fp32s([2, 1, 1], [10.0, 100.0])),
        ("groups", Value::int(2)),
        ("bias", floats(&[1.0, 2.0])),
    ];
    let channels = ("x", &[1, 2, 2][..], F(&[1.0, 2.0, 3.0, 4.0]));
    gives(ALL, "conv", &[channels], &groups, &[(&[1, 2, 2], &[11.0, 21.0, 302.0, 402.0])]);
    // If the padding is odd, `same` puts the extra element at the end, and `same_lower` at the beginning.
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
    // Each channel separately: mean 2 and 4, variance 1 and 4.
    gives(
        ALL,
        "instance_norm",
        &x,
        &[e(0.0), ("gamma", floats(&[1.0, 3.0]))],
        &[(&[1, 2, 2], &[-1.0, 1.0, -3.0, 3.0])],
    );
    gives(ALL, "layer_norm", &x, &[("axes", ints(&[-1])), e(0.0)], &[(&[1, 2, 2], &[-1.0, 1.0, -1.0, 1.0])]);
    // All axes by default: mean 3, variance 3.5.
    let all = [1.0, 3.0, 2.0, 6.0].map(|v: f32| (v - 3.0) / 3.5f32.sqrt());
    gives(ALL, "layer_norm", &x, &[e(0.0)], &[(&[1, 2, 2], &all)]);
    let length = [1.0, 3.0, 2.0, 6.0].map(|v: f32| v / (50f32 + 14.0).sqrt());
    gives(ALL, "l2_norm", &x, &[e(14.0)], &[(&[1, 2, 2], &length)]);
    // x / (k + alpha / size * sum of squares of the neighbouring channels)^beta.
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
    gives(ALL, "max_pool", &x, &pool(std::slice::from_ref(&valid)), &[(&[1, 2, 1], &[3.0, 6.0])]);
    gives(
        ALL,
        "l2_pool",
        &x,
        &pool(std::slice::from_ref(&valid)),
        &[(&[1, 2, 1], &[10f32.sqrt(), 40f32.sqrt()])],
    );
    gives(ALL, "avg_pool", &x, &pool(&[valid]), &[(&[1, 2, 1], &[2.0, 4.0])]);
    let custom = [("pad_type", text("custom")), ("pad", ints(&[1, 0]))];
    gives(ALL, "avg_pool", &x, &pool(&custom), &[(&[1, 2, 2], &[0.5, 2.0, 1.0, 4.0])]);
    // "If True, padded values are excluded from the denominator count."
    let mut excluded = pool(&custom);
    excluded.push(("exclude_padding_from_average", yes(true)));
    gives(ALL, "avg_pool", &x, &excluded, &[(&[1, 2, 2], &[1.0, 2.0, 2.0, 4.0])]);
}
