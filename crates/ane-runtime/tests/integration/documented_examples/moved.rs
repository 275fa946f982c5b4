//! Operations that join, split, move, gather and scatter elements.

use super::*;

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
    // PyTorch's and TensorFlow's orders agree if there is one channel: [[1 3 2 4], [5 7 6 8]].
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
    // "If True, it raises a runtime exception for out-of-bound values", which then includes negative indices.
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
    // Every mode on one element.
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

/// Every kind of numpy bound: negative, beyond the axis, with steps, with masks, and single indices; constant
/// and computed.
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
        // The same with computed bounds.
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

/// Builds a function of an fp32 input whose first axis has any size up to 20, and 3 by default.
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

/// Returns the output of a function of one input, whose elements are 0, 1, ... in the shape `[len, rest..]`.
fn of_length(model: &dyn Model, len: usize, rest: &[usize]) -> Output {
    let dims: Vec<usize> = std::iter::once(len).chain(rest.iter().copied()).collect();
    let x: Vec<f32> = (0..dims.iter().product::<usize>()).map(|v| v as f32).collect();
    predict(model, &[("x".into(), &dims, F(&x))]).unwrap().remove(0)
}

/// `x[-8:]` returns all of a shorter axis. `x[:-2]` may return no elements, which can still be concatenated.
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

/// An open axis is assumed to differ from 1, and `squeeze` keeps it even if it is 1 in a call.
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

/// "N is the number of non-zero elements", which may be 0: the operations after it then have nothing to
/// compute.
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
