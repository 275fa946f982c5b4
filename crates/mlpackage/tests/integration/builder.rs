//! Rules of MIL that the builder enforces, each violated once.

use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::{Literal, Opset, Program, TensorType, Value, ValueData};
use mlpackage::{BlobWriter, DType, Metadata, Package, PackageWriter};

fn with_builder<T>(opset: Opset, test: impl FnOnce(&mut FunctionBuilder<'_>) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let mut weights = BlobWriter::create(dir.path().join("weight.bin")).unwrap();
    test(&mut FunctionBuilder::new("main", opset, &mut weights))
}

/// Returns the error of `test`, which receives a builder with inputs `x` fp16 `[1, 4, 1, 2]` and `n` fp32
/// `[2]`.
fn refused(test: impl FnOnce(&mut FunctionBuilder<'_>, &Var, &Var) -> mlpackage::Result<Var>) -> String {
    with_builder(Opset::CoreML8, |f| {
        let x = f.input("x", DType::Fp16, [1, 4, 1, 2]).unwrap();
        let n = f.input("n", DType::Fp32, [2]).unwrap();
        test(f, &x, &n).unwrap_err().to_string()
    })
}

#[track_caller]
fn says(error: &str, what: &str) {
    assert!(error.contains(what), "{error}");
    assert!(error.contains("main"), "names the function: {error}");
}

/// coremltools stores values of fewer than ten elements in the program.
#[test]
fn arrays_of_ten_elements_are_stored_in_the_weight_file() {
    with_builder(Opset::CoreML8, |f| {
        for (elements, is_in_file) in [(9, false), (10, true)] {
            let value = f.fp16_array([elements], &vec![half::f16::ONE; elements]).unwrap();
            assert_eq!(matches!(value.data, ValueData::Blob(_)), is_in_file, "{elements} elements");
        }
    });
}

#[test]
fn arguments_must_be_those_of_the_operation() {
    says(
        &refused(|f, x, _| f.op("conv2d", "y").arg("x", x).one()),
        "unknown operation `conv2d`; did you mean `conv`?",
    );
    says(&refused(|f, _, _| f.op("relu", "y").one()), "argument x is missing");
    says(
        &refused(|f, x, _| f.op("relu", "y").arg("x", x).arg("alpha", x).one()),
        "argument alpha is unknown",
    );
    says(&refused(|f, x, _| f.op("relu", "y").args("x", &[x, x]).one()), "argument x has 2 bindings");
    says(&refused(|f, x, n| f.op("add", "y").arg("x", x).arg("y", n).one()), "expected one type");
    says(
        &refused(|f, x, n| f.op("reshape", "y").arg("x", x).arg("shape", n).one()),
        "argument shape is tensor<fp32, [2]>, expected int8, int16 or int32",
    );
    says(&refused(|f, x, _| f.op("linear", "y").arg("x", x).arg("weight", x).one()), "must be a constant");
}

#[test]
fn shapes_must_match() {
    let ints = |values: &[i32]| Value::ints([values.len()], values);
    says(
        &refused(|f, x, _| {
            let w = f.weight("w", TensorType::new(DType::Fp16, [8, 3, 1, 1]), &[0; 48])?;
            f.op("conv", "y").arg("x", x).arg("weight", &w).one()
        }),
        "x has 4 channels",
    );
    says(&refused(|f, x, _| f.op("matmul", "y").arg("x", x).arg("y", x).one()), "do not match: 2 against 1");
    says(
        &refused(|f, x, _| f.op("reshape", "y").arg("x", x).value("shape", ints(&[3, -1])).one()),
        "cannot be reshaped",
    );
    says(
        &refused(|f, x, _| f.op("transpose", "y").arg("x", x).value("perm", ints(&[0, 0, 1, 2])).one()),
        "not a permutation",
    );
    says(&refused(|f, x, _| f.op("squeeze", "y").arg("x", x).value("axes", ints(&[4])).one()), "axis 4");
    says(&refused(|f, x, _| f.op("softmax", "y").arg("x", x).value("axis", Value::int(4)).one()), "axis");
    says(
        &refused(|f, x, _| {
            f.op("split", "y")
                .arg("x", x)
                .value("axis", Value::int(1))
                .value("num_splits", Value::int(3))
                .one()
        }),
        "cannot be split into 3",
    );
    says(
        &refused(|f, x, _| {
            let op = f.op("slice_by_index", "y").arg("x", x).value("begin", ints(&[0, 5, 0, 0]));
            op.value("end", ints(&[1, 6, 1, 2])).one()
        }),
        "outside of axis 1",
    );
    says(
        &refused(|f, x, _| {
            f.op("split", "y")
                .arg("x", x)
                .value("axis", Value::int(1))
                .value("num_splits", Value::int(2))
                .one()
        }),
        "2 results, 1 names given",
    );
}

#[test]
fn names_are_identifiers_and_unique() {
    says(&refused(|f, x, _| f.op("relu", "x").arg("x", x).one()), "%x is defined twice");
    says(&refused(|f, x, _| f.op("relu", "a-b").arg("x", x).one()), "not an identifier");
    says(&refused(|f, x, _| f.op("relu", "0").arg("x", x).one()), "not an identifier");
}

#[test]
fn operations_belong_to_opsets() {
    let error = with_builder(Opset::CoreML7, |f| {
        let error = f.state("cache", DType::Fp16, [1]).unwrap_err().to_string();
        says(&error, "from opset CoreML8 on");
        let data = Value::ints([1], [0]);
        f.op("constexpr_blockwise_shift_scale", "w").inline("data", data).one().unwrap_err().to_string()
    });
    says(&error, "requires opset CoreML8, the function has CoreML7");
    with_builder(Opset::CoreML8, |f| {
        let error = f.state("cache", DType::Fp32, [1]).unwrap_err().to_string();
        says(&error, "states are fp16");
    });
}

/// Equal constants are shared, and results may have a name that was the hint of a constant.
#[test]
fn constants_are_shared_and_never_clash_with_results() {
    with_builder(Opset::CoreML8, |f| {
        let x = f.input("x", DType::Fp16, [2]).unwrap();
        let a = f.value("y", Value::fp16(0.5)).unwrap();
        let b = f.value("z", Value::fp16(0.5)).unwrap();
        assert_eq!(a.name(), b.name());
        let y = f.op("mul", "y").arg("x", &x).arg("y", &a).one().unwrap();
        let z = f.op("add", "z").arg("x", &y).arg("y", &b).one().unwrap();
        assert_eq!((y.name(), z.name()), ("y", "z"));
        assert_eq!(*z.dims(), [2]);
    });
}

#[test]
fn bytes_must_match_the_size_of_the_type() {
    let error = refused(|f, _, _| f.weight("w", TensorType::new(DType::Fp16, [3]), &[0; 5]));
    assert!(error.contains("%w is tensor<fp16, [3]> and needs 6 B, 5 B given"), "{error}");
}

/// A list is passed between operations, and a classifier's results appear in the package's description.
#[test]
fn lists_and_classifiers_are_built() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.mlpackage");
    let mut writer = PackageWriter::create(&path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML7, writer.weights());
    let x = f.input("x", DType::Fp32, [3]).unwrap();
    let extent = f.value("extent", Value::int(3)).unwrap();
    let rows = f.op("make_list", "rows").args("elem_shape", &[&extent]).one().unwrap();
    assert_eq!(rows.value_type().to_string(), "list<tensor<fp32, [3]>, 1>");
    let rows = f.op("list_write", "written").arg("ls", &rows).arg("value", &x);
    let rows = rows.value("index", Value::int(4)).one().unwrap();
    let row = f.op("list_read", "row").arg("ls", &rows).value("index", Value::int(4)).one().unwrap();
    assert_eq!(*row.ty(), TensorType::new(DType::Fp32, [3]));
    let labels = ["ant", "bee", "cat"].map(Value::string);
    let classes = Value::list(DType::String, labels.to_vec());
    let classify = f.op("classify", "label").arg("probabilities", &row).inline("classes", classes);
    let results = classify.many(&["label", "chances"]).unwrap();
    let types: Vec<String> = results.iter().map(|var| var.value_type().to_string()).collect();
    assert_eq!(types, ["tensor<string, []>", "dict<tensor<string, []>, tensor<fp64, []>>"]);
    results.iter().for_each(|var| f.output(var));
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();

    let package = Package::open(&path).unwrap();
    assert_eq!(package.check(), []);
    assert_eq!(*package.program(), program);
    let interface = package.interface("main").unwrap();
    let outputs: Vec<String> = interface.outputs.iter().map(|f| format!("{}: {}", f.name, f.ty)).collect();
    assert_eq!(outputs, ["label: string", "chances: dictionary"]);
    assert_eq!(
        (interface.predicted_feature.as_str(), interface.predicted_probabilities.as_str()),
        ("label", "chances")
    );
}

/// An element of the wrong type, and a list in place of a tensor.
#[test]
fn lists_are_checked_as_they_are_built() {
    let list = |f: &mut FunctionBuilder<'_>| {
        let extent = f.value("extent", Value::int(2))?;
        f.op("make_list", "ls").args("elem_shape", &[&extent]).one()
    };
    says(
        &refused(|f, x, _| {
            let ls = list(f)?;
            f.op("list_write", "y").arg("ls", &ls).arg("value", x).value("index", Value::int(0)).one()
        }),
        "argument value is tensor<fp16, [1, 4, 1, 2]>, the list holds tensor<fp32, [2]>",
    );
    says(
        &refused(|f, _, _| {
            let ls = list(f)?;
            f.op("relu", "y").arg("x", &ls).one()
        }),
        "argument x is list<tensor<fp32, [2]>, 1>, expected fp16 or fp32",
    );
    says(&refused(|f, x, _| f.op("list_length", "y").arg("ls", x).one()), "expected a list of bool");
}

/// Core ML names operations, and two of one function must not share a name.
#[test]
fn each_write_of_a_state_has_its_own_name() {
    with_builder(Opset::CoreML8, |f| {
        let x = f.input("x", DType::Fp16, [1, 2]).unwrap();
        let s = f.state("s", DType::Fp16, [1, 2]).unwrap();
        f.write_state(&s, &x).unwrap();
        f.write_state(&s, &x).unwrap();
        // The names are also taken for results.
        assert!(f.op("relu", "s_write_2").arg("x", &x).one().is_err());
    });
}

/// `lut [groups.., 2^bits, vector]` matches indices of as many bits, which its groups divide.
#[test]
fn tables_match_their_indices() {
    let infer = |indices: DType, shape: [usize; 2], lut: &[usize]| {
        with_builder(Opset::CoreML8, |f| {
            let bytes = vec![0; indices.packed_bytes(shape.iter().product()).unwrap()];
            let indices = Value::immediate(indices, shape, Literal::Bytes(bytes));
            let table = Value::fp16s(lut.to_vec(), &vec![half::f16::ONE; lut.iter().product()]);
            let op = f.op("constexpr_lut_to_dense", "w").inline("indices", indices).inline("lut", table);
            op.one().map(|var| var.ty().to_string()).map_err(|error| error.to_string())
        })
    };
    assert_eq!(infer(DType::Uint4, [4, 6], &[1, 1, 16, 1]).unwrap(), "tensor<fp16, [4, 6]>");
    assert_eq!(infer(DType::Uint2, [4, 6], &[2, 3, 4, 1]).unwrap(), "tensor<fp16, [4, 6]>");
    for (indices, lut, words) in [
        (DType::Uint4, &[1, 1, 8, 1][..], "8 entries, indices of uint4"),
        (DType::Uint3, &[1, 1, 7, 1], "7 entries, indices of uint3"),
        (DType::Int4, &[1, 1, 16, 1], "indices is tensor<int4, [4, 6]>, expected uint1"),
        (DType::Uint4, &[1, 16, 1], "expected rank 4"),
        (DType::Uint4, &[1, 1, 1, 16, 1], "expected rank 4"),
        (DType::Uint4, &[3, 1, 16, 1], "groups [3, 1] do not divide it"),
        (DType::Uint4, &[1, 4, 16, 1], "groups [1, 4] do not divide it"),
    ] {
        let error = infer(indices, [4, 6], lut).unwrap_err();
        assert!(error.contains(words), "{indices} {lut:?}: {error}");
    }
}

/// `scale` and `zero_point` are scalars or have one element for each index of the axis.
#[test]
fn scales_match_their_axis() {
    let infer = |scale: &[usize]| {
        with_builder(Opset::CoreML6, |f| {
            let bytes = |dtype, shape: &[usize]| {
                Value::immediate(dtype, shape.to_vec(), Literal::Bytes(vec![0; shape.iter().product()]))
            };
            let scale = Value::fp16s(scale.to_vec(), &vec![half::f16::ONE; scale.iter().product()]);
            let op = f
                .op("constexpr_affine_dequantize", "w")
                .inline("quantized_data", bytes(DType::Int8, &[4, 6]))
                .inline("scale", scale)
                .inline("zero_point", bytes(DType::Int8, &[]))
                .inline("axis", Value::int(0));
            op.one().map(|var| var.ty().to_string()).map_err(|error| error.to_string())
        })
    };
    assert_eq!(infer(&[]).unwrap(), "tensor<fp16, [4, 6]>");
    assert_eq!(infer(&[4]).unwrap(), "tensor<fp16, [4, 6]>");
    for scale in [&[6][..], &[1, 4]] {
        let error = infer(scale).unwrap_err();
        assert!(error.contains("expected a scalar or a vector of 4"), "{scale:?}: {error}");
    }
}
