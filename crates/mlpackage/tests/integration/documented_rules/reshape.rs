//! Operations that change the shape and keep the elements.

use mlpackage::BlobWriter;
use mlpackage::DType::{Bool, Fp32, Int8, Int16, Int32, Uint8};
use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Opset, Value};

use super::{ALL, SINCE_IOS17, UP_TO_IOS16, ints, used};

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
