//! Operations that select elements by index.

use mlpackage::DType::{Fp32, Int8, Int16, Int32, Uint8};
use mlpackage::mil::{Opset, Value};

use super::{ALL, IOS15, SINCE_IOS16, SINCE_IOS17, UP_TO_IOS16, ints, used};

/// Updates of `scatter`, `scatter_along_axis` and `scatter_nd` have the shape that the indices select.
#[test]
fn updates_have_the_shape_of_what_indices_name() {
    let scatter = |op: &str, indices: &[i32], updates: &[i32], more: &[(&'static str, Value)], ok: bool| {
        let inputs = [("data", Fp32, &[4, 3][..]), ("indices", Int32, indices), ("updates", Fp32, updates)];
        let scatter = used(op, &inputs, more);
        match ok {
            true => scatter.gives(ALL, &["tensor<fp32, [4, 3]>"]),
            false => scatter.is_refused(ALL, "argument updates is"),
        }
    };
    let axis = |axis: i32| [("axis", Value::int(axis))];
    // "K = data.shape[:axis] + [len(indices)] + data.shape[axis+1:]."
    scatter("scatter", &[2], &[2, 3], &[], true);
    scatter("scatter", &[2], &[4, 2], &axis(-1), true);
    scatter("scatter", &[2], &[3, 3], &[], false);
    scatter("scatter", &[2], &[2, 3], &axis(1), false);
    // "Must be the same shape as indices."
    scatter("scatter_along_axis", &[2, 3], &[2, 3], &[], true);
    scatter("scatter_along_axis", &[2, 3], &[3, 3], &[], false);
    // "Must be the shape as indices.shape[:-1] + data.shape[indices.shape[-1]:]."
    scatter("scatter_nd", &[5, 1], &[5, 3], &[], true);
    scatter("scatter_nd", &[5, 2], &[5], &[], true);
    scatter("scatter_nd", &[5, 2], &[5, 3], &[], false);
    let deep = [("data", Fp32, &[4, 3][..]), ("indices", Int32, &[5, 3]), ("updates", Fp32, &[5])];
    used("scatter_nd", &deep, &[]).is_refused(ALL, "refer to more axes");
    let mode = [("data", Fp32, &[4][..]), ("indices", Int32, &[2]), ("updates", Fp32, &[2])];
    used("scatter", &mode, &[("mode", Value::string("replace"))])
        .is_refused(ALL, "expected update, add, sub");
}

#[test]
fn indices_that_are_stated_are_within_the_axis() {
    let gather =
        |op: &str, indices: Value, more: &[(&'static str, Value)], opsets: &[Opset], words: Option<&str>| {
            let mut constants = vec![("indices", indices)];
            constants.extend_from_slice(more);
            let inputs = [("x", Fp32, &[4, 3][..])];
            let gather = used(op, &inputs, &constants);
            match words {
                None => assert!(gather.infer(opsets[0], 1).is_ok(), "{op}"),
                Some(words) => gather.is_refused(opsets, words),
            }
        };
    let validated = [("validate_indices", Value::bool(true))];
    // "-D[axis] <= v < D[axis] for v in indices."
    gather("gather", ints(&[-4, 3]), &[], ALL, None);
    gather("gather", ints(&[4]), &[], ALL, Some("holds 4, the axis has 4 elements"));
    gather("gather", ints(&[-5]), &[], ALL, Some("holds -5"));
    // Since iOS 17, with validate_indices: "negative values are considered out-of-bound".
    gather(
        "gather",
        ints(&[-4, 3]),
        &validated,
        SINCE_IOS17,
        Some("validate_indices excludes negative indices"),
    );
    gather("gather", ints(&[3]), &validated, UP_TO_IOS16, Some("validate_indices is unknown"));
    let rows = Value::ints([2, 2], [3, 2, 0, -3]);
    gather("gather_nd", rows.clone(), &[], ALL, None);
    gather("gather_nd", rows, &validated, SINCE_IOS17, Some("holds -3, the axis has 3 elements"));
    gather("gather_nd", Value::ints([1, 2], [2, 3]), &[], ALL, Some("holds 3, the axis has 3 elements"));
    let along = Value::ints([1, 3], [0, -4, 4]);
    gather("gather_along_axis", along, &[], ALL, Some("holds 4"));
    let scatter = [("data", Fp32, &[4][..]), ("updates", Fp32, &[1])];
    used("scatter", &scatter, &[("indices", ints(&[4]))]).is_refused(ALL, "holds 4");
    let validated = [("indices", ints(&[-1])), ("validate_indices", Value::bool(true))];
    used("scatter", &scatter, &validated)
        .is_refused(SINCE_IOS17, "validate_indices excludes negative indices");
}

#[test]
fn shapes_of_what_is_gathered() {
    let gather = |op: &str,
                  x: &[i32],
                  indices: &[i32],
                  more: &[(&'static str, Value)],
                  expected: Result<&str, &str>| {
        let inputs = [("x", Fp32, x), ("indices", Int32, indices)];
        let gather = used(op, &inputs, more);
        match expected {
            Ok(shape) => gather.gives(SINCE_IOS16, &[&format!("tensor<fp32, {shape}>")]),
            Err(words) => gather.is_refused(SINCE_IOS16, words),
        }
    };
    let args = |axis: i32, batch: i32| [("axis", Value::int(axis)), ("batch_dims", Value::int(batch))];
    let batch = |batch: i32| [("batch_dims", Value::int(batch))];
    // "K = D[:axis] + N[batch_dims:] + D[axis+1:]."
    gather("gather", &[2, 3, 4], &[], &args(1, 0), Ok("[2, 4]"));
    gather("gather", &[2, 3, 4], &[5, 6], &args(-1, 0), Ok("[2, 3, 5, 6]"));
    gather("gather", &[2, 3, 4], &[2, 5], &args(1, 1), Ok("[2, 5, 4]"));
    gather("gather", &[2, 3, 4], &[3, 5], &args(1, 1), Err("differ in their first 1 axes"));
    gather("gather", &[2, 3, 4], &[2, 5], &args(0, 1), Err("batch_dims is 1"));
    // "V = K[:-1] + D[batch_dims + K[-1]:]."
    gather("gather_nd", &[2, 3, 4], &[5, 2], &batch(0), Ok("[5, 4]"));
    gather("gather_nd", &[2, 3, 4], &[2, 7, 1], &batch(1), Ok("[2, 7, 4]"));
    gather("gather_nd", &[2, 3, 4], &[2, 3], &batch(1), Err("refer to more axes"));
    gather("gather_nd", &[2, 3, 4], &[3, 7, 1], &batch(1), Err("differ in their first 1 axes"));
    // "rank(indices) == rank(x)"; "Output tensor has the same shape as indices."
    gather("gather_along_axis", &[2, 3], &[2, 7], &[("axis", Value::int(1))], Ok("[2, 7]"));
    gather("gather_along_axis", &[2, 3], &[2], &[], Err("may differ on axis 0 only"));
    used("gather", &[("x", Int8, &[2]), ("indices", Uint8, &[1])], &[])
        .gives(SINCE_IOS17, &["tensor<int8, [1]>"]);
    used("gather", &[("x", Fp32, &[2]), ("indices", Int16, &[1])], &[])
        .gives(SINCE_IOS16, &["tensor<fp32, [1]>"]);
    used("gather", &[("x", Fp32, &[2]), ("indices", Int16, &[1])], &[])
        .is_refused(IOS15, "argument indices is");
}
