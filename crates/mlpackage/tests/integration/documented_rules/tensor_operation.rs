//! Operations that join, divide, pad, sort and reverse tensors.

use mlpackage::DType::{Fp32, Int8, Int32};
use mlpackage::mil::{Opset, Value};

use super::{ALL, IOS15, SINCE_IOS16, SINCE_IOS17, UP_TO_IOS16, ints, used};

#[test]
fn parts_and_joints() {
    let split = |more: &[(&'static str, Value)], expected: Result<&[&str], &str>| {
        let mut constants = vec![("axis", Value::int(1))];
        constants.extend_from_slice(more);
        let inputs = [("x", Fp32, &[2, 6][..])];
        let split = used("split", &inputs, &constants);
        match expected {
            Ok(shapes) => {
                let types: Vec<String> = shapes.iter().map(|s| format!("tensor<fp32, {s}>")).collect();
                split.gives(ALL, &types.iter().map(String::as_str).collect::<Vec<_>>());
            }
            Err(words) => split.is_refused(ALL, words),
        }
    };
    let count = |n: i32| ("num_splits", Value::int(n));
    let sizes = |sizes: &[i32]| ("split_sizes", ints(sizes));
    // "If split_sizes is defined, num_splits == S, and the output sizes may be uneven."
    split(&[count(3), sizes(&[1, 2, 3])], Ok(&["[2, 1]", "[2, 2]", "[2, 3]"]));
    split(&[count(2), sizes(&[1, 2, 3])], Err("num_splits must be 3"));
    // "If split_sizes is not defined, value.shape[axis] must be divisible by num_splits."
    split(&[count(2)], Ok(&["[2, 3]", "[2, 3]"]));
    split(&[count(4)], Err("cannot be split into 4"));
    // "At least one of num_splits or split_sizes must be provided. The sum of split_sizes must equal to value.shape[axis]."
    split(&[], Err("num_splits or split_sizes must be given"));
    split(&[sizes(&[1, 2])], Err("do not add up to 6"));
    let concat = |a: &[i32], b: &[i32], interleave: bool, expected: Result<&str, &str>| {
        let inputs = [("values", Fp32, a), ("values", Fp32, b)];
        let constants = [("axis", Value::int(-1)), ("interleave", Value::bool(interleave))];
        let concat = used("concat", &inputs, &constants);
        match expected {
            Ok(shape) => concat.gives(ALL, &[&format!("tensor<fp32, {shape}>")]),
            Err(words) => concat.is_refused(ALL, words),
        }
    };
    // "All dimensions except axis must be equal. If interleave, all the inputs must have the exact same shape."
    concat(&[2, 3], &[2, 4], false, Ok("[2, 7]"));
    concat(&[2, 3], &[3, 3], false, Err("cannot be joined on axis 1"));
    concat(&[2, 3], &[2, 3], true, Ok("[2, 6]"));
    concat(&[2, 3], &[2, 4], true, Err("cannot be joined on axis 1"));
    concat(&[2, 3], &[2], false, Err("differ in rank"));
    let mixed = [("values", Fp32, &[2][..]), ("values", Int32, &[2])];
    used("concat", &mixed, &[("axis", Value::int(0))]).is_refused(ALL, "expected one type");
    // "All tensors must have identical shape."
    let stack = [("values", Fp32, &[2, 3][..]), ("values", Fp32, &[2, 3])];
    used("stack", &stack, &[("axis", Value::int(-1))]).gives(ALL, &["tensor<fp32, [2, 3, 2]>"]);
    used("stack", &stack[..1], &[("axis", Value::int(3))]).is_refused(ALL, "outside");
    // "A 1-D tensor with length rank(x)"; every entry greater than 0.
    let tile = [("x", Fp32, &[2, 3][..])];
    used("tile", &tile, &[("reps", ints(&[2, 1]))]).gives(ALL, &["tensor<fp32, [4, 3]>"]);
    used("tile", &tile, &[("reps", ints(&[2]))]).is_refused(ALL, "expected 2 positive integers");
    used("tile", &tile, &[("reps", ints(&[0, 1]))]).is_refused(ALL, "expected 2 positive integers");
    used("tile", &[("x", Fp32, &[])], &[("reps", ints(&[]))]).is_refused(ALL, "positive integers");
    // The documented size is "d_axis - size // stride + 1", in "tensor<[*d0, d_axis - size // stride + 1,
    // size, *dn], T>"; (d_axis - size) // stride + 1 is correct.
    let windows = [("axis", Value::int(-2)), ("size", Value::int(3)), ("stride", Value::int(2))];
    used("sliding_windows", &[("x", Fp32, &[6, 4])], &windows).gives(ALL, &["tensor<fp32, [2, 3, 4]>"]);
    used("sliding_windows", &[("x", Fp32, &[2, 4])], &windows).is_refused(ALL, "do not fit");
}

#[test]
fn borders_of_pad() {
    let pad = |x: &[i32], pad: &[i32], mode: &str, expected: Result<&str, &str>| {
        let inputs = [("x", Fp32, x)];
        let constants = [("pad", ints(pad)), ("mode", Value::string(mode))];
        let pad = used("pad", &inputs, &constants);
        match expected {
            Ok(shape) => pad.gives(ALL, &[&format!("tensor<fp32, {shape}>")]),
            Err(words) => pad.is_refused(ALL, words),
        }
    };
    // "Last N dimensions of x are padded."
    pad(&[2, 3, 4], &[1, 0, 2, 3], "constant", Ok("[2, 4, 9]"));
    // "If mode is reflect then pad[2*i] and pad[2*i+1] can be at most D[i]-1."
    pad(&[2, 4], &[3, 3], "reflect", Ok("[2, 10]"));
    // coremltools accepts more; the rule `refused-padding` reports it, but not as an error.
    pad(&[2, 4], &[0, 4], "reflect", Ok("[2, 8]"));
    pad(&[2, 1], &[0, 0], "reflect", Ok("[2, 1]"));
    pad(&[2, -1], &[3, 3], "reflect", Ok("[2, ?]"));
    pad(&[2, 4], &[1], "constant", Err("two non-negative integers"));
    pad(&[2, 4], &[-1, 0], "constant", Err("non-negative"));
    pad(&[4], &[1, 1, 1, 1], "constant", Err("for each of the last axes"));
    pad(&[4], &[1, 1], "wrap", Err("expected constant, reflect or replicate"));
    // "If pad is not a constant, it must be a vector of length 2 * rank(x)."
    let computed =
        |len: i32| [("x", Fp32, &[2, 3][..]), ("pad", Int32, if len == 4 { &[4][..] } else { &[2] })];
    used("pad", &computed(4), &[]).gives(ALL, &["tensor<fp32, [?, ?]>"]);
    used("pad", &computed(2), &[]).is_refused(ALL, "expected [4], two integers for each axis");
}

#[test]
fn the_first_of_topk() {
    let topk = |opsets: &[Opset], constants: &[(&'static str, Value)], expected: Result<&[&str], &str>| {
        let inputs = [("x", Fp32, &[2, 5][..])];
        let topk = used("topk", &inputs, constants);
        match expected {
            Ok(types) => topk.gives(opsets, types),
            Err(words) => topk.is_refused(opsets, words),
        }
    };
    let k = |k: i32| ("k", Value::int(k));
    topk(ALL, &[], Ok(&["tensor<fp32, [2, 1]>", "tensor<int32, [2, 1]>"]));
    topk(ALL, &[k(3), ("axis", Value::int(0))], Err("axis 0 of x [2, 5] has fewer"));
    // "Set to -1 to select all elements", since iOS 17.
    topk(SINCE_IOS17, &[k(-1)], Ok(&["tensor<fp32, [2, 5]>", "tensor<int32, [2, 5]>"]));
    topk(UP_TO_IOS16, &[k(-1)], Err("k is -1, expected 0 or more"));
    // "Only returned when return_indices = True"; output_indices_dtype "can only be set when return_indices is True".
    let values = ("return_indices", Value::bool(false));
    topk(SINCE_IOS16, &[k(2), values.clone()], Ok(&["tensor<fp32, [2, 2]>"]));
    topk(IOS15, &[k(2), values.clone()], Err("return_indices is unknown"));
    let short = ("output_indices_dtype", Value::string("uint16"));
    topk(SINCE_IOS17, &[k(2), values, short.clone()], Err("return_indices is false"));
    topk(SINCE_IOS17, &[k(2), short], Ok(&["tensor<fp32, [2, 2]>", "tensor<uint16, [2, 2]>"]));
    let other = ("output_indices_dtype", Value::string("int16"));
    topk(SINCE_IOS17, &[other], Err("expected int32 or uint16"));
    let small = [("x", Int8, &[4][..])];
    used("topk", &small, &[]).gives(SINCE_IOS17, &["tensor<int8, [1]>", "tensor<int32, [1]>"]);
}

#[test]
fn lengths_of_sequences_to_reverse() {
    let reverse = |lengths: &[i32], expected: Result<(), &str>| {
        let constants =
            [("lengths", ints(lengths)), ("seq_axis", Value::int(1)), ("batch_axis", Value::int(0))];
        let inputs = [("x", Fp32, &[3, 4, 2][..])];
        let reverse = used("reverse_sequence", &inputs, &constants);
        match expected {
            Ok(()) => reverse.gives(ALL, &["tensor<fp32, [3, 4, 2]>"]),
            Err(words) => reverse.is_refused(ALL, words),
        }
    };
    // "1-dimensional tensor of length x.shape[batch_axis]. Values must be in range [0, x.shape[seq_axis]]."
    reverse(&[0, 4, 2], Ok(()));
    reverse(&[0, 4], Err("lengths is [2], expected [3]"));
    reverse(&[0, 5, 2], Err("lengths holds 5, the axis has 4"));
    reverse(&[0, -1, 2], Err("lengths holds -1"));
    let axes: [(&str, Value); 1] = [("axes", ints(&[3]))];
    used("reverse", &[("x", Fp32, &[3, 4, 2])], &axes).is_refused(ALL, "axis 3");
}
