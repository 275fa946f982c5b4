//! Rules from coremltools 9.0's documentation about arguments and result types, by opset. Comments in quotes
//! cite it. `docs/operations.md` lists the rules by operation; `ane-runtime/tests/integration/documented_examples` tests
//! computed values.

use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Dim, Dims, Opset, Value};
use mlpackage::{BlobWriter, DType};

use mlpackage::DType::{Bool, Fp16, Fp32, Int8, Int16, Int32, Uint8};

const ALL: &[Opset] = &Opset::ALL;
const IOS15: &[Opset] = &[Opset::CoreML5];
const UP_TO_IOS16: &[Opset] = &[Opset::CoreML5, Opset::CoreML6];
const SINCE_IOS16: &[Opset] = &[Opset::CoreML6, Opset::CoreML7, Opset::CoreML8, Opset::CoreML9];
const SINCE_IOS17: &[Opset] = &[Opset::CoreML7, Opset::CoreML8, Opset::CoreML9];
const SINCE_IOS18: &[Opset] = &[Opset::CoreML8, Opset::CoreML9];

/// An input: the parameter to which it is bound, its element type, and its dimensions; -1 is unknown.
type Input<'a> = (&'a str, DType, &'a [i32]);

/// A use of an operation: computed inputs, and constants.
struct Use<'a> {
    op: &'a str,
    inputs: &'a [Input<'a>],
    constants: &'a [(&'a str, Value)],
}

const fn used<'a>(op: &'a str, inputs: &'a [Input<'a>], constants: &'a [(&'a str, Value)]) -> Use<'a> {
    Use { op, inputs, constants }
}

impl Use<'_> {
    /// Infers the types of the results, of which there are `count`.
    fn infer(&self, opset: Opset, count: usize) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let mut weights = BlobWriter::create(dir.path().join("weight.bin")).unwrap();
        let mut f = FunctionBuilder::new("main", opset, &mut weights);
        let mut bound: Vec<(&str, Vec<_>)> = Vec::new();
        for (i, (param, dtype, dims)) in self.inputs.iter().enumerate() {
            let dims: Dims =
                dims.iter().map(|&d| usize::try_from(d).map_or(Dim::Unknown, Dim::Known)).collect();
            let var = f.input(&format!("in_{i}"), *dtype, dims).unwrap();
            match bound.iter_mut().find(|(name, _)| name == param) {
                Some((_, vars)) => vars.push(var),
                None => bound.push((param, vec![var])),
            }
        }
        let mut op = f.op(self.op, "r0");
        for (param, vars) in &bound {
            op = op.args(param, &vars.iter().collect::<Vec<_>>());
        }
        for (param, value) in self.constants {
            op = op.value(param, value.clone());
        }
        let names: Vec<String> = (0..count).map(|i| format!("r{i}")).collect();
        let results = op.many(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let results = results.map_err(|error| error.to_string())?;
        Ok(results.iter().map(|var| var.ty().to_string()).collect())
    }

    /// Checks that the results have these types in each opset.
    #[track_caller]
    fn gives(&self, opsets: &[Opset], expected: &[&str]) {
        for &opset in opsets {
            let found = self.infer(opset, expected.len()).unwrap_or_else(|e| panic!("{opset}: {e}"));
            assert_eq!(found, expected, "{} in {opset}", self.op);
        }
    }

    /// Checks that each opset refuses the use with an error that contains `words`.
    #[track_caller]
    fn is_refused(&self, opsets: &[Opset], words: &str) {
        for &opset in opsets {
            let error = self.infer(opset, 1).expect_err(&format!("{} in {opset}", self.op));
            assert!(error.contains(words), "{opset}: {error}");
        }
    }
}

fn ints(values: &[i32]) -> Value {
    Value::ints([values.len()], values)
}

fn floats(values: &[f32]) -> Value {
    Value::fp32s([values.len()], values)
}

#[test]
fn zeros_of_reshape() {
    let to = |x: &[i32], shape: &[i32], opsets: &[Opset], expected: Result<&str, &str>| {
        let (inputs, constants) = ([("x", Fp32, x)], [("shape", ints(shape))]);
        let reshape = used("reshape", &inputs, &constants);
        match expected {
            Ok(shape) => reshape.gives(opsets, &[&format!("tensor<fp32, {shape}>")]),
            Err(words) => reshape.is_refused(opsets, words),
        }
    };
    // "If K == rank(x) then 0 means inheriting from the corresponding dimension in x.shape."
    to(&[2, 3, 4], &[0, -1, 2], ALL, Ok("[2, 6, 2]"));
    to(&[4, 6], &[0, 0], ALL, Ok("[4, 6]"));
    // "When x.shape is [2, 50] and shape is [1, 0, -1, 0], it will error out in iOS 15 or iOS 16 ... In iOS 17, the result will
    // have shape [1, 1, 2, 50]."
    to(&[2, 50], &[1, 0, -1, 0], UP_TO_IOS16, Err("needs one entry for each axis"));
    to(&[2, 50], &[1, 0, -1, 0], SINCE_IOS17, Ok("[1, 1, 2, 50]"));
    to(&[3, 8], &[1, 0, -1, 0], SINCE_IOS17, Ok("[1, 1, 3, 8]"));
    // "shape[i] matches input[j] if length(shape)-i == rank(input)-j."
    to(&[2, 3, 4], &[-1, 0], SINCE_IOS17, Ok("[6, 4]"));
    to(&[2, 3, 4], &[-1, 0], UP_TO_IOS16, Err("needs one entry for each axis"));
    to(&[2, 3], &[0, 0, 0, 0], SINCE_IOS17, Ok("[1, 1, 2, 3]"));
    to(&[-1, 8], &[1, 0, -1, 0], SINCE_IOS17, Ok("[1, 1, ?, 8]"));
    // "shape must have the same volume as x"; only one -1.
    to(&[2, 3], &[4, 2], ALL, Err("cannot be reshaped"));
    to(&[2, 3], &[-1, -1], ALL, Err("cannot be reshaped"));
    to(&[], &[1, 1], ALL, Ok("[1, 1]"));
    // With a shape of unknown length, the rank of the result is unknown as well.
    let open = [("x", Fp32, &[2, 3][..]), ("shape", Int32, &[-1])];
    used("reshape", &open, &[]).gives(ALL, &["tensor<fp32, [..]>"]);
    used("fill", &[("shape", Int32, &[-1])], &[]).gives(ALL, &["tensor<fp32, [..]>"]);
    let small = [("x", Uint8, &[2, 3][..]), ("shape", Int16, &[2])];
    used("reshape", &small, &[]).gives(SINCE_IOS17, &["tensor<uint8, [?, ?]>"]);
    used("reshape", &small, &[]).is_refused(UP_TO_IOS16, "argument shape is");
}

#[test]
fn squeeze_ignores_axes_that_are_not_one() {
    let squeeze = |x: &[i32], axes: Option<&[i32]>, expected: &str| {
        let constants: Vec<_> = axes.iter().map(|axes| ("axes", ints(axes))).collect();
        used("squeeze", &[("x", Fp32, x)], &constants).gives(ALL, &[&format!("tensor<fp32, {expected}>")]);
    };
    // "If x has shape (2, 3, 4) and axes is [0, 1], the output will be a tensor with shape (2, 3, 4)."
    squeeze(&[2, 3, 4], Some(&[0, 1]), "[2, 3, 4]");
    squeeze(&[2, 1, 4], Some(&[0, -2]), "[2, 4]");
    // "Default to remove all single-dimensions"; an unknown dimension is assumed not to be 1.
    squeeze(&[1, 2, 1], None, "[2]");
    squeeze(&[1, -1, 1], None, "[?]");
    squeeze(&[1, -1, 3], Some(&[0, 1]), "[?, 3]");
    squeeze(&[1, 1], None, "[]");
    used("squeeze", &[("x", Fp32, &[1, 2])], &[("axes", ints(&[2]))]).is_refused(ALL, "outside of [1, 2]");
}

#[test]
fn axes_that_are_added_and_flattened() {
    let expand = |axes: &[i32], expected: &str| {
        let constants = [("axes", ints(axes))];
        used("expand_dims", &[("x", Fp32, &[2, 3])], &constants).gives(ALL, &[expected]);
    };
    // "-d-1 <= axis <= d where d is the rank of x."
    expand(&[-3], "tensor<fp32, [1, 2, 3]>");
    expand(&[2], "tensor<fp32, [2, 3, 1]>");
    expand(&[0, -1], "tensor<fp32, [1, 2, 3, 1]>");
    used("expand_dims", &[("x", Fp32, &[2, 3])], &[("axes", ints(&[3]))]).is_refused(ALL, "axis 3");
    // The five examples of flatten2d.
    let examples: [(&[i32], i32, &str); 5] = [
        (&[3], -1, "[1, 3]"),
        (&[3], 1, "[3, 1]"),
        (&[4, 3], -1, "[4, 3]"),
        (&[2, 3, 2], -1, "[6, 2]"),
        (&[5, 5, 2], 1, "[5, 10]"),
    ];
    for (x, axis, expected) in examples {
        let flatten = [("axis", Value::int(axis))];
        used("flatten2d", &[("x", Fp32, x)], &flatten).gives(ALL, &[&format!("tensor<fp32, {expected}>")]);
    }
    let perm = |perm: &[i32]| [("perm", ints(perm))];
    used("transpose", &[("x", Bool, &[2, 3, 4])], &perm(&[-1, 0, 1]))
        .gives(ALL, &["tensor<bool, [4, 2, 3]>"]);
    used("transpose", &[("x", Int8, &[2, 3])], &perm(&[1, 0])).gives(SINCE_IOS17, &["tensor<int8, [3, 2]>"]);
    used("transpose", &[("x", Fp32, &[2, 3])], &perm(&[0])).is_refused(ALL, "not a permutation");
    used("transpose", &[("x", Int8, &[2, 3])], &perm(&[1, 0])).is_refused(UP_TO_IOS16, "argument x is");
}

#[test]
fn reshape_like_slices_as_python_does() {
    let like = |begins: [i32; 2], ends: [i32; 2], masks: [bool; 2], x: &[i32]| {
        let dir = tempfile::tempdir().unwrap();
        let mut weights = BlobWriter::create(dir.path().join("weight.bin")).unwrap();
        let mut f = FunctionBuilder::new("main", Opset::CoreML6, &mut weights);
        let x: Vec<usize> = x.iter().map(|&d| d as usize).collect();
        let x = f.input("x", Fp32, x.as_slice()).unwrap();
        let a = f.input("a", Fp32, [2, 3, 4]).unwrap();
        let b = f.input("b", Int32, [1, 5, 6]).unwrap();
        let mut constant = |name: &str, value: Value| f.value(name, value).unwrap();
        let begins = begins.map(|v| constant("begin", Value::int(v)));
        let ends = ends.map(|v| constant("end", Value::int(v)));
        let masks = masks.map(|v| constant("mask", Value::bool(v)));
        let op = f.op("reshape_like", "y").arg("x", &x).args("ref_tensors", &[&a, &b]);
        let op = op.args("begins", &[&begins[0], &begins[1]]).args("ends", &[&ends[0], &ends[1]]);
        let y = op.args("end_masks", &[&masks[0], &masks[1]]).one();
        y.map(|y| y.ty().shape.to_string()).map_err(|e| e.to_string())
    };
    // The documented example: "The output shape would be (2, 3, 5, 6)."
    assert_eq!(like([0, 1], [2, 0], [false, true], &[180]).unwrap(), "[2, 3, 5, 6]");
    assert_eq!(like([-2, 0], [9, 0], [false, false], &[4, 3]).unwrap(), "[3, 4]");
    assert!(
        like([0, 1], [2, 0], [false, true], &[181])
            .unwrap_err()
            .contains("cannot be reshaped to [2, 3, 5, 6]")
    );
}

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
fn bounds_and_types_of_elementwise_operations() {
    let clip = |alpha: f32, beta: f32| [("alpha", Value::fp32(alpha)), ("beta", Value::fp32(beta))];
    // Since iOS 17: "it uses strict validation to ensure that alpha < beta".
    used("clip", &[("x", Fp32, &[2])], &clip(-1.0, 1.0)).gives(ALL, &["tensor<fp32, [2]>"]);
    used("clip", &[("x", Fp32, &[2])], &clip(1.0, 1.0)).gives(UP_TO_IOS16, &["tensor<fp32, [2]>"]);
    used("clip", &[("x", Fp32, &[2])], &clip(1.0, 1.0)).is_refused(SINCE_IOS17, "expected less than beta");
    // Casts to int8, uint8, int16 and uint16 exist since iOS 17.
    let to = |dtype: &str| [("dtype", Value::string(dtype))];
    used("cast", &[("x", Bool, &[2])], &to("fp16")).gives(ALL, &["tensor<fp16, [2]>"]);
    used("cast", &[("x", Fp32, &[2])], &to("uint8")).gives(SINCE_IOS17, &["tensor<uint8, [2]>"]);
    used("cast", &[("x", Fp32, &[2])], &to("uint8"))
        .is_refused(UP_TO_IOS16, "expected fp16, fp32, int32, bool");
    used("cast", &[("x", Fp32, &[2])], &to("int64")).is_refused(ALL, "dtype is");
    // "The shape of cond, a, and b must be broadcastable."
    let select = [("cond", Bool, &[2, 1][..]), ("a", Fp32, &[3]), ("b", Fp32, &[1])];
    used("select", &select, &[]).gives(ALL, &["tensor<fp32, [2, 3]>"]);
    // An epsilon may have another type than x since iOS 17.
    let half = [("epsilon", Value::fp16(1e-3))];
    used("rsqrt", &[("x", Fp32, &[2])], &half).gives(SINCE_IOS17, &["tensor<fp32, [2]>"]);
    used("rsqrt", &[("x", Fp32, &[2])], &half).is_refused(UP_TO_IOS16, "expected one type");
    // A norm's other parameters have one type; coremltools writes the default epsilon as fp32 even if they
    // are fp16.
    let half = Value::fp16s([2], &[half::f16::ONE; 2]);
    let norm = |gamma: Value| [("gamma", gamma), ("beta", half.clone()), ("epsilon", Value::fp32(1e-5))];
    let image = [("x", Fp32, &[1, 2, 3][..])];
    used("instance_norm", &image, &norm(half.clone())).gives(SINCE_IOS17, &["tensor<fp32, [1, 2, 3]>"]);
    used("instance_norm", &image, &norm(floats(&[1.0; 2]))).is_refused(SINCE_IOS17, "expected one type");
    used("instance_norm", &image, &norm(half.clone())).is_refused(UP_TO_IOS16, "expected one type");
    let xor = [("x", Bool, &[2][..]), ("y", Bool, &[2])];
    used("logical_xor", &xor, &[]).gives(ALL, &["tensor<bool, [2]>"]);
    let add = [("x", Int32, &[2, 1][..]), ("y", Int32, &[3])];
    used("add", &add, &[]).gives(ALL, &["tensor<int32, [2, 3]>"]);
    used("less", &add, &[]).gives(ALL, &["tensor<bool, [2, 3]>"]);
}

#[test]
fn scales_and_zero_points() {
    let quantize = |constants: &[(&'static str, Value)], expected: Result<(), &str>| {
        let mut all = vec![("output_dtype", Value::string("int8"))];
        all.extend_from_slice(constants);
        let inputs = [("input", Fp32, &[2, 3, 4, 5][..])];
        let quantize = used("quantize", &inputs, &all);
        match expected {
            Ok(()) => quantize.gives(SINCE_IOS17, &["tensor<int8, [2, 3, 4, 5]>"]),
            Err(words) => quantize.is_refused(SINCE_IOS17, words),
        }
    };
    let int8 = |values: Vec<i8>, dims: &[usize]| {
        let bytes: Vec<u8> = values.into_iter().map(|v| v as u8).collect();
        Value::immediate(Int8, dims, mlpackage::mil::Literal::Bytes(bytes))
    };
    let (axis, vector) = (("axis", Value::int(1)), ("scale", floats(&[1.0, 2.0, 3.0])));
    let scalar = ("scale", Value::fp32(0.5));
    // "If scale is a vector, then scale.size needs to be equal to input.shape[axis]; that is, equal to 3."
    quantize(&[vector.clone(), axis.clone()], Ok(()));
    quantize(&[("scale", floats(&[1.0, 2.0])), axis.clone()], Err("one element for each index of axis"));
    quantize(std::slice::from_ref(&vector), Err("axis is missing"));
    quantize(std::slice::from_ref(&scalar), Ok(()));
    quantize(&[scalar.clone(), axis.clone()], Err("axis is bound, but scale is a scalar"));
    // "The zero_point follows similar broadcasting rules and size constraints as scale"; output_dtype matches it.
    quantize(&[vector.clone(), axis.clone(), ("zero_point", int8(vec![1, 2, 3], &[3]))], Ok(()));
    quantize(&[vector, axis, ("zero_point", int8(vec![1], &[]))], Err("expected a vector, like scale"));
    quantize(&[scalar.clone(), ("zero_point", int8(vec![1], &[1]))], Err("expected a scalar, like scale"));
    let uint8 = Value::immediate(Uint8, [0usize; 0], mlpackage::mil::Literal::Bytes(vec![1]));
    quantize(&[scalar, ("zero_point", uint8)], Err("zero_point is uint8, expected int8"));
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
}
