//! Slices, and updates of slices.

use mlpackage::DType::{Fp32, Int32};
use mlpackage::mil::{Dim, Dims, Value};

use super::{ALL, SINCE_IOS18, ints, used};

#[test]
fn bounds_of_slices_are_numpys() {
    let slice = |x: &[i32], more: &[(&'static str, Value)], expected: Result<&str, &str>| {
        let inputs = [("x", Fp32, x)];
        let slice = used("slice_by_index", &inputs, more);
        match expected {
            Ok(shape) => slice.gives(ALL, &[&format!("tensor<fp32, {shape}>")]),
            Err(words) => slice.is_refused(ALL, words),
        }
    };
    let range = |begin: i32, end: i32, stride: i32| {
        vec![("begin", ints(&[begin])), ("end", ints(&[end])), ("stride", ints(&[stride]))]
    };
    // Expected lengths as in numpy 2.4: len(range(5)[begin:end:stride]).
    let cases = [
        ((-8, 5, 1), 5),
        ((-8, -2, 1), 3),
        ((2, 9, 1), 3),
        ((0, 5, 3), 2),
        ((-1, 5, 1), 1),
        ((100, 0, -1), 4),
        ((-1, -9, -1), 5),
        ((-1, -9, -2), 3),
        ((1, -2, 1), 2),
        ((3, 3, 1), 0),
        ((0, -8, 1), 0),
        ((-8, -8, 1), 0),
        ((1, 3, -1), 0),
    ];
    for ((begin, end, stride), expected) in cases {
        slice(&[5], &range(begin, end, stride), Ok(&format!("[{expected}]")));
        slice(&[-1], &range(begin, end, stride), Ok("[?]"));
    }
    // A begin beyond the end of the axis selects nothing.
    slice(&[5], &range(7, 9, 1), Err("[7:9] by 1 is outside of axis 0 of 5"));
    slice(&[5], &range(0, 5, 0), Err("is 0 on axis 0"));
    // "If begin_mask[i] == True, ignores begin[i]; if end_mask[i] == True, ignores end[i]." A negative stride
    // begins at the last element.
    let masked = |begin: bool, end: bool, stride: i32| {
        let mut all = range(3, 2, stride);
        all.extend([("begin_mask", Value::bools([begin])), ("end_mask", Value::bools([end]))]);
        all
    };
    slice(&[5], &masked(true, true, 2), Ok("[3]"));
    slice(&[5], &masked(true, false, 1), Ok("[2]"));
    slice(&[5], &masked(false, true, 1), Ok("[2]"));
    slice(&[5], &masked(true, true, -1), Ok("[5]"));
    slice(&[5], &masked(true, false, -1), Ok("[2]"));
    slice(&[5], &masked(false, true, -1), Ok("[4]"));
    // "If squeeze_mask[i] == True, ignores end[i], and do the pure index at begin[i]", which must be in
    // range.
    let index =
        |at: i32| vec![("begin", ints(&[at])), ("end", ints(&[0])), ("squeeze_mask", Value::bools([true]))];
    slice(&[5], &index(-5), Ok("[]"));
    slice(&[5], &index(5), Err("index 5 is outside of axis 0 of 5"));
    slice(&[5], &index(-6), Err("index -6 is outside of axis 0 of 5"));
    slice(&[-1], &index(-1), Ok("[]"));
}

#[test]
fn sizes_of_slices() {
    let slice = |x: &[i32], begin: i32, size: i32, expected: Result<&str, &str>| {
        let (inputs, constants) = ([("x", Fp32, x)], [("begin", ints(&[begin])), ("size", ints(&[size]))]);
        let slice = used("slice_by_size", &inputs, &constants);
        match expected {
            Ok(shape) => slice.gives(ALL, &[&format!("tensor<fp32, {shape}>")]),
            Err(words) => slice.is_refused(ALL, words),
        }
    };
    slice(&[5], 1, 3, Ok("[3]"));
    // "If size is -1, all the remaining elements starting with begin are sliced."
    slice(&[5], 2, -1, Ok("[3]"));
    slice(&[-1], 2, -1, Ok("[?]"));
    slice(&[5], -2, -1, Ok("[2]"));
    slice(&[-1], -2, -1, Ok("[2]"));
    slice(&[5], -2, 2, Ok("[2]"));
    slice(&[5], 3, 3, Err("size 3 from begin 3 is outside"));
    slice(&[5], -6, 1, Err("size 1 from begin -6 is outside"));
    slice(&[5], 0, -2, Err("size -2"));
    let computed = [("x", Fp32, &[5][..]), ("begin", Int32, &[1])];
    used("slice_by_size", &computed, &[("size", ints(&[4]))]).gives(ALL, &["tensor<fp32, [4]>"]);
    used("slice_by_size", &computed, &[("size", ints(&[6]))])
        .is_refused(ALL, "size 6 from begin ? is outside");
}

/// "The shape of the update tensor must match the slicing result of the input data. Rank-0 update is not supported."
#[test]
fn an_update_has_the_shape_of_the_slice() {
    let update = |x: &[i32], update: &[i32], bounds: &[(&'static str, Value)], expected: Result<(), &str>| {
        let inputs = [("x", Fp32, x), ("update", Fp32, update)];
        let slice = used("slice_update", &inputs, bounds);
        let dims: Dims = x.iter().map(|&d| usize::try_from(d).map_or(Dim::Unknown, Dim::Known)).collect();
        match expected {
            Ok(()) => slice.gives(SINCE_IOS18, &[&format!("tensor<fp32, {dims}>")]),
            Err(words) => slice.is_refused(SINCE_IOS18, words),
        }
    };
    let range = |begin: i32, end: i32, stride: i32| {
        vec![
            ("begin", ints(&[0, begin])),
            ("end", ints(&[0, end])),
            ("stride", ints(&[1, stride])),
            ("begin_mask", Value::bools([true, false])),
            ("end_mask", Value::bools([true, false])),
        ]
    };
    update(&[2, 5], &[2, 3], &range(1, 4, 1), Ok(()));
    update(&[2, 5], &[2, 5], &range(-8, 9, 1), Ok(()));
    update(&[2, 5], &[2, 2], &range(1, 4, 1), Err("the bounds specify a box of [2, 3]"));
    update(&[2, 5], &[3], &range(1, 4, 1), Err("the bounds specify a box of [2, 3]"));
    update(&[2, 5], &[], &range(1, 4, 1), Err("the bounds specify a box"));
    // On an axis of unknown size, the bounds are all that is known, and they suffice.
    update(&[2, -1], &[2, 3], &range(1, 4, 1), Ok(()));
    update(&[2, -1], &[2, 4], &range(1, 4, 1), Err("at most 3 elements on axis 1"));
    update(&[2, -1], &[2, 9], &range(-8, -1, 1), Err("at most 7 elements on axis 1"));
    update(&[2, -1], &[2, 4], &range(-3, 8, 1), Err("at most 3 elements on axis 1"));
    update(&[2, -1], &[2, 4], &range(4, -9, -2), Err("at most 3 elements on axis 1"));
    update(&[2, -1], &[2, 3], &range(5, 1, -2), Err("at most 2 elements on axis 1"));
    update(&[2, -1], &[2, 9], &range(1, -1, 1), Ok(()));
    // With computed bounds, the size of the axis is the limit; the masks determine where the slice begins or
    // ends.
    let computed = |x: &[i32], update: &[i32], more: &[(&'static str, Value)], expected: Result<(), &str>| {
        let inputs = [("x", Fp32, x), ("update", Fp32, update), ("begin", Int32, &[2]), ("end", Int32, &[2])];
        let slice = used("slice_update", &inputs, more);
        match expected {
            Ok(()) => slice.gives(SINCE_IOS18, &["tensor<fp32, [2, 5]>"]),
            Err(words) => slice.is_refused(SINCE_IOS18, words),
        }
    };
    computed(&[2, 5], &[2, 5], &[], Ok(()));
    computed(&[2, 5], &[2, 6], &[], Err("at most 5 elements on axis 1"));
    computed(&[2, 5], &[1], &[("squeeze_mask", Value::bools([false, true]))], Ok(()));
    computed(
        &[2, 5],
        &[3],
        &[("squeeze_mask", Value::bools([false, true]))],
        Err("at most 2 elements on axis 0"),
    );
    computed(&[2, 5], &[2, 3], &[("stride", ints(&[1, 2]))], Ok(()));
    computed(&[2, 5], &[2, 4], &[("stride", ints(&[1, -2]))], Err("at most 3 elements on axis 1"));
    computed(&[2, 5], &[2, 2, 1], &[], Err("the bounds specify a box"));
}
