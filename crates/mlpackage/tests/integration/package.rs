//! Packages that are written, read again, and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Dim, Opset, Program, TensorType, Value, ValueData, ValueType};
use mlpackage::{
    AllowedShapes, BlobFile, BlobWriter, DType, Description, DimRange, Error, Metadata, Package,
    PackageWriter, Rule, Shape,
};
use proptest::prelude::*;

const MODEL: &str = "Data/com.apple.CoreML/model.mlmodel";
const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

/// Builds a program with a weight in the file, a state and constants: `logits = relu(conv(embedding, w) +
/// cache)`.
fn build(f: &mut FunctionBuilder<'_>) -> mlpackage::Result<()> {
    let x = f.input("embedding", DType::Fp16, [1, 16, 1, 1])?;
    let cache = f.state("cache", DType::Fp16, [1, 3, 1, 1])?;
    let data: Vec<u8> = (0..96).collect();
    let weight = f.weight("w", TensorType::new(DType::Fp16, [3, 16, 1, 1]), &data)?;
    let y = f.op("conv", "projected").arg("x", &x).arg("weight", &weight).one()?;
    let before = f.read_state("before", &cache)?;
    let sum = f.op("add", "sum").arg("x", &y).arg("y", &before).one()?;
    f.write_state(&cache, &sum)?;
    let logits = f.op("relu", "logits").arg("x", &sum).one()?;
    f.output(&logits);
    Ok(())
}

fn metadata() -> Metadata {
    Metadata {
        short_description: "a test".into(),
        author: "nobody".into(),
        user_defined: [("key".to_owned(), "value".to_owned())].into(),
        ..Metadata::default()
    }
}

fn write(path: &Path) -> Program {
    let mut writer = PackageWriter::create(path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    build(&mut f).unwrap();
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &metadata()).unwrap();
    program
}

fn written() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.mlpackage");
    write(&path);
    (dir, path)
}

#[test]
fn reads_back_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.mlpackage");
    let program = write(&path);
    let package = Package::open(&path).unwrap();
    assert_eq!(*package.program(), program);
    assert_eq!(*package.metadata(), metadata());
    assert_eq!((package.specification_version(), package.default_function()), (9, "main"));
    assert!(package.check().is_empty(), "{:?}", package.check());
    // 64 bytes of file header, 64 of the blob's record, 96 of data.
    assert_eq!(package.weight_bytes(), 64 + 64 + 96);
    let constant =
        program.functions["main"].block.operations.iter().find(|o| o.outputs[0].name == "w").unwrap();
    let value = &constant.attributes["val"];
    // Bytes 0, 1 are the fp16 0x0100: 2^-24 * 256.
    assert_eq!(package.floats(value).unwrap()[0], 256.0 * 2f32.powi(-24));
}

/// Attributes, and constants that are no tensors.
#[test]
fn attributes_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.mlpackage");
    let mut writer = PackageWriter::create(&path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    build(&mut f).unwrap();
    let mut function = f.finish();
    let pair = vec![Value::int(1), Value::bool(true)];
    let types = pair.iter().map(|value| value.ty.clone()).collect();
    let pair = Value { ty: ValueType::Tuple(types), data: ValueData::Tuple(pair) };
    function.attributes.insert("pair".into(), pair.clone());
    function.block.attributes.insert("name".into(), Value::string("body"));
    let mut program = Program::new([("main", function)]);
    program.attributes.insert("version".into(), Value::int(7));
    writer.finish(&program, &Metadata::default()).unwrap();
    let package = Package::open(&path).unwrap();
    assert_eq!(*package.program(), program);
    assert_eq!(package.program().functions["main"].attributes["pair"], pair);
}

#[test]
fn resolution_returns_every_operation() {
    let (_dir, path) = written();
    let package = Package::open(&path).unwrap();
    let function = package.function("main").unwrap();
    let ints = package.blob_ints();
    let resolved = mlpackage::check::resolve("main", function, &ints).unwrap();
    assert_eq!(resolved.len(), function.block.operations.len());
    assert!(resolved.iter().zip(&function.block.operations).all(|(r, o)| r.operation == o));
}

/// A blob that is taken out of the package keeps its file mapped.
#[test]
fn a_stored_blob_outlives_the_package() {
    let (_dir, path) = written();
    let package = Package::open(&path).unwrap();
    let operations = &package.function("main").unwrap().block.operations;
    let value = operations.iter().find(|o| o.outputs[0].name == "w").unwrap().attributes["val"].clone();
    let blob = package.stored_blob_of(&value).unwrap().unwrap();
    assert!(package.stored_blob_of(&Value::int(1)).unwrap().is_none());
    let (_, file) = package.weight_files().next().unwrap();
    assert_eq!(file.as_bytes(), fs::read(path.join(WEIGHTS)).unwrap());
    drop(package);
    // Bytes 0 to 95, after a header and a record of 64 bytes each.
    assert_eq!(blob.blob().data, &fs::read(path.join(WEIGHTS)).unwrap()[128..]);
}

#[test]
fn the_same_program_gives_the_same_bytes() {
    let (_a, first) = written();
    let (_b, second) = written();
    for file in [MODEL, WEIGHTS, "Manifest.json"] {
        assert_eq!(fs::read(first.join(file)).unwrap(), fs::read(second.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn a_program_that_breaks_a_rule_is_not_written() {
    let (_dir, path) = written();
    let before = fs::read(path.join(MODEL)).unwrap();
    let mut writer = PackageWriter::create(&path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    build(&mut f).unwrap();
    let mut function = f.finish();
    function.block.outputs = vec!["nothing".into()];
    let program = Program::new([("main", function)]);
    let error = writer.finish(&program, &Metadata::default()).unwrap_err();
    assert!(error.to_string().contains("returns %nothing"), "{error}");
    assert_eq!(fs::read(path.join(MODEL)).unwrap(), before);
}

/// Replaces the first occurrence of `from` in the model file. The description precedes the program.
fn edit(path: &Path, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len(), "lengths are part of the encoding");
    let file = path.join(MODEL);
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    fs::write(file, bytes).unwrap();
}

#[track_caller]
fn check_reports(path: &Path, what: &str) {
    let package = Package::open(path).unwrap();
    let errors: Vec<String> = package.check().iter().map(ToString::to_string).collect();
    assert!(errors.iter().any(|e| e.contains(what)), "{errors:?}");
}

#[test]
fn a_description_that_differs_from_the_program_is_found() {
    for name in ["embedding", "logits", "cache"] {
        let (_dir, path) = written();
        edit(&path, name.as_bytes(), name.to_uppercase().as_bytes());
        check_reports(&path, "description differs");
    }
}

#[test]
fn an_unknown_operation_is_found() {
    let (_dir, path) = written();
    edit(&path, b"\x0a\x04relu", b"\x0a\x04rely");
    check_reports(&path, "rely -> %logits: unknown operation `rely`; did you mean `relu`?");
}

#[test]
fn a_reference_to_nothing_is_found() {
    let (_dir, path) = written();
    // The last mention of the convolution's result is its use by the sum.
    let file = path.join(MODEL);
    let mut bytes = fs::read(&file).unwrap();
    let mentions: Vec<usize> =
        bytes.windows(9).enumerate().filter(|(_, w)| w == b"projected").map(|(i, _)| i).collect();
    let last = *mentions.last().unwrap();
    bytes[last..last + 9].copy_from_slice(b"forgotten");
    fs::write(file, bytes).unwrap();
    check_reports(&path, "%forgotten, which is not defined");
}

#[test]
fn damaged_weights_are_found() {
    // Shorter than the program's blob requires.
    let (_dir, path) = written();
    let bytes = fs::read(path.join(WEIGHTS)).unwrap();
    fs::write(path.join(WEIGHTS), &bytes[..200]).unwrap();
    check_reports(&path, "weight.bin");
    // A record of another type: the element type at offset 64 + 4 is 1 for fp16, 2 for fp32.
    let (_dir, path) = written();
    let mut bytes = fs::read(path.join(WEIGHTS)).unwrap();
    assert_eq!(bytes[68], 1);
    bytes[68] = 2;
    fs::write(path.join(WEIGHTS), bytes).unwrap();
    check_reports(&path, "24 elements of fp32, the program declares tensor<fp16, [3, 16, 1, 1]>");
}

#[test]
fn what_is_missing_is_named() {
    for (file, what) in
        [(MODEL, "model.mlmodel"), (WEIGHTS, "weight.bin"), ("Manifest.json", "Manifest.json")]
    {
        let (_dir, path) = written();
        fs::remove_file(path.join(file)).unwrap();
        let error = Package::open(&path).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let error = Package::open(Path::new("/nowhere/p.mlpackage")).unwrap_err().to_string();
    assert!(error.contains("/nowhere/p.mlpackage"), "{error}");
}

/// A neural network is field 500 of `Model`, where an ML Program is 502.
#[test]
fn a_model_of_another_kind_is_refused() {
    let (_dir, path) = written();
    fs::write(path.join(MODEL), [0x08, 0x04, 0xa2, 0x1f, 0x00]).unwrap();
    let error = Package::open(&path).unwrap_err().to_string();
    assert!(error.contains("not an ML Program"), "{error}");
}

/// Opening a pipe would block forever.
#[cfg(target_os = "linux")]
#[test]
fn a_pipe_is_not_a_file() {
    for file in [MODEL, WEIGHTS, "Manifest.json"] {
        let (_dir, path) = written();
        let file = path.join(file);
        fs::remove_file(&file).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let error = Package::open(&path).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }
}

#[test]
fn a_folder_of_another_kind_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
    let error = PackageWriter::create(dir.path()).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Output(_)), "{error}");
}

/// A package with arbitrary damage is either refused, or read, checked and printed, without panic or endless
/// work.
#[test]
fn damage_never_panics() {
    // Written once, because writing a package waits for the disk.
    let (_dir, path) = written();
    let [model, weights] = [MODEL, WEIGHTS].map(|file| fs::read(path.join(file)).unwrap());
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let cut = prop::option::of(any::<prop::sample::Index>());
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) };
    proptest!(config, |(changes in changes, cut in cut, in_weights in any::<bool>())| {
        let (file, mut bytes) = if in_weights { (WEIGHTS, weights.clone()) } else { (MODEL, model.clone()) };
        for (at, to) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *to;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(path.join(MODEL), &model).unwrap();
        fs::write(path.join(WEIGHTS), &weights).unwrap();
        fs::write(path.join(file), bytes).unwrap();
        if let Ok(package) = Package::open(&path) {
            let errors = package.check();
            let _ = package.program().to_string();
            for function in package.program().functions.values() {
                for value in function.block.operations.iter().flat_map(|o| o.attributes.values()) {
                    let floats = package.floats(value);
                    if errors.is_empty() {
                        let strings = matches!(value.dtype(), Some(DType::String | DType::Bool));
                        prop_assert!(floats.is_ok() || strings, "{:?}", floats);
                    }
                }
            }
        }
    });
}

/// The builder refuses elements that do not match their type.
#[test]
fn a_literal_must_fit_its_type() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = PackageWriter::create(dir.path().join("p.mlpackage")).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    let error = f.value("v", Value::ints([3], [1, 2])).unwrap_err();
    assert!(error.to_string().contains("constant v"), "{error}");
}

/// Builds a function with one unknown dimension: `y = x + x`.
fn open_dimension(f: &mut FunctionBuilder<'_>) -> mlpackage::Result<()> {
    let x = f.input("x", DType::Fp16, [Dim::Known(1), Dim::Unknown, Dim::Known(4)])?;
    let y = f.op("add", "y").arg("x", &x).arg("y", &x).one()?;
    f.output(&y);
    Ok(())
}

/// Writes [`open_dimension`]; `x` may have any of `shapes`.
fn write_flexible(path: &Path, shapes: Option<AllowedShapes>) -> mlpackage::Result<()> {
    let mut writer = PackageWriter::create(path)?;
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    open_dimension(&mut f)?;
    let program = Program::new([("main", f.finish())]);
    let mut description = Description::of(&program);
    if let Some(shapes) = shapes {
        description.interface_mut("main").unwrap().input_mut("x").unwrap().allow(shapes);
    }
    writer.finish_with(&program, &description)
}

#[test]
fn flexible_shapes_are_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.mlpackage");
    let shape = |n: usize| Shape::from([1, n, 4]);
    let enumerated = AllowedShapes::Enumerated { default: shape(8), shapes: vec![shape(8), shape(16)] };
    let ranges = vec![DimRange::fixed(1), DimRange { lower: 1, upper: None }, DimRange::fixed(4)];
    let ranged = AllowedShapes::Ranged { default: shape(8), ranges };
    for shapes in [enumerated, ranged] {
        write_flexible(&path, Some(shapes.clone())).unwrap();
        let package = Package::open(&path).unwrap();
        assert_eq!(package.check(), []);
        let x = &package.interface("main").unwrap().inputs[0];
        assert_eq!(x.array().unwrap().shapes, shapes);
        assert_eq!(x.default_shape(), Some(shape(8)));
    }
}

#[test]
fn flexible_shapes_that_contradict_the_program_or_themselves_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.mlpackage");
    let shape = |n: usize| Shape::from([1, n, 4]);
    let refused = |shapes: Option<AllowedShapes>, words: &str| {
        let error = write_flexible(&path, shapes).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!path.exists());
    };
    refused(None, "state the allowed shapes");
    refused(Some(AllowedShapes::Enumerated { default: shape(9), shapes: vec![shape(8)] }), "default shape");
    let other = Shape::from([1, 8, 5]);
    refused(
        Some(AllowedShapes::Enumerated { default: other.clone(), shapes: vec![other] }),
        "is described as",
    );
}

/// Two functions that share a weight. The first of them is the default.
#[test]
fn several_functions_are_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.mlpackage");
    let mut writer = PackageWriter::create(&path).unwrap();
    let ty = TensorType::new(DType::Fp16, [3, 4, 1, 1]);
    let mut shared: Option<Value> = None;
    let mut function = |name: &str, width: usize| {
        let mut f = FunctionBuilder::new(name, Opset::CoreML8, writer.weights());
        let x = f.input("x", DType::Fp16, [1, 4, 1, width]).unwrap();
        let value = shared.get_or_insert_with(|| f.blob(ty.clone(), &[0; 24]).unwrap()).clone();
        let w = f.value("w", value).unwrap();
        let y = f.op("conv", "y").arg("x", &x).arg("weight", &w).one().unwrap();
        f.output(&y);
        f.finish()
    };
    let program = Program::new([("decode", function("decode", 1)), ("prefill", function("prefill", 8))]);
    let mut description = Description::of(&program);
    description.set_default_function("decode");
    writer.finish_with(&program, &description).unwrap();
    let package = Package::open(&path).unwrap();
    assert_eq!(package.check(), []);
    assert_eq!(package.default_function(), "decode");
    assert_eq!(package.interface("prefill").unwrap().outputs[0].default_shape(), Some([1, 3, 1, 8].into()));
    let (_, weights) = package.weight_files().next().unwrap();
    assert_eq!(weights.count(), 1, "the weight is stored once");

    // A default that is not a function is refused.
    let mut writer = PackageWriter::create(dir.path().join("q.mlpackage")).unwrap();
    writer.weights().write(DType::Fp16, 12, &[0; 24]).unwrap();
    description.set_default_function("main");
    let error = writer.finish_with(&program, &description).unwrap_err();
    assert!(error.to_string().contains("\"main\" does not exist"), "{error}");
}

/// Every element type that a weight file can hold, with a number of elements that causes padding in sub-byte
/// types.
#[test]
fn every_dtype_is_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weight.bin");
    let stored: Vec<DType> = DType::ALL.iter().copied().filter(|d| d.blob_number().is_some()).collect();
    assert_eq!(stored.len(), 17, "BlobDataType of MIL blob storage has 17 members");
    let mut writer = BlobWriter::create(&path).unwrap();
    let data = |dtype: DType| {
        // All bits of the elements are set, and no padding bit.
        let bits = 5 * dtype.bits();
        let mut bytes = vec![0xff; dtype.packed_bytes(5).unwrap()];
        if !bits.is_multiple_of(8) {
            *bytes.last_mut().unwrap() = (1 << (bits % 8)) - 1;
        }
        bytes
    };
    for &dtype in &stored {
        writer.write(dtype, 5, &data(dtype)).unwrap();
    }
    writer.finish().unwrap();
    let file = BlobFile::open(&path).unwrap();
    let read: Vec<(DType, usize, Vec<u8>)> =
        file.blobs().unwrap().into_iter().map(|(_, b)| (b.dtype, b.elements, b.data.to_vec())).collect();
    let expected: Vec<(DType, usize, Vec<u8>)> = stored.iter().map(|&d| (d, 5, data(d))).collect();
    assert_eq!(read, expected);
}

/// The sizes of a split into eleven parts are stored in the weight file. They determine shapes, which are
/// checked.
#[test]
fn integers_in_a_weight_file_decide_shapes() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/blob_integers.mlpackage");
    let package = Package::open(&fixture).unwrap();
    let operations = &package.function("main").unwrap().block.operations;
    let sizes = operations.iter().find(|o| o.outputs[0].name.contains("split_sizes")).unwrap();
    let ValueData::Blob(at) = &sizes.attributes["val"].data else { panic!("{}", sizes.attributes["val"]) };
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.mlpackage");
    let bytes = |sizes: [i32; 11]| sizes.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>();
    let mut edit = package.edit();
    // The first two are 1 and 2.
    edit.replace_blob(at, bytes([2, 1, 3, 1, 2, 3, 1, 2, 3, 2, 2])).unwrap();
    let error = edit.save(&copy).unwrap_err().to_string();
    assert!(
        error.contains("%y_part_0 is declared tensor<fp16, [1, 2]>, inferred tensor<fp16, [2, 2]>"),
        "{error}"
    );
    let mut edit = package.edit();
    edit.replace_blob(at, bytes([1, 2, 3, 1, 2, 3, 1, 2, 3, 2, 2])).unwrap();
    edit.save(&copy).unwrap();

    // A file that contradicts the program is found when it is read.
    let weights = copy.join(WEIGHTS);
    let mut file = fs::read(&weights).unwrap();
    let start = at.offset as usize + 64;
    file[start..start + 4].copy_from_slice(&9i32.to_le_bytes());
    fs::write(&weights, file).unwrap();
    let found = Package::open(&copy).unwrap().check();
    assert_eq!(found.iter().map(|f| f.rule).collect::<Vec<_>>(), [Rule::ArgumentsMismatch], "{found:?}");
}

/// A copy with other values in one blob; all other bytes are the same.
#[test]
fn weights_are_swapped() {
    let (dir, path) = written();
    let package = Package::open(&path).unwrap();
    let constant =
        package.function("main").unwrap().block.operations.iter().find(|o| o.outputs[0].name == "w");
    let value = &constant.unwrap().attributes["val"];
    let ValueData::Blob(at) = &value.data else { panic!("{value}") };
    let copy = dir.path().join("copy.mlpackage");

    let mut edit = package.edit();
    let error = edit.replace_blob(at, vec![0; 95]).unwrap_err().to_string();
    assert!(error.contains("95 bytes given, it has 96"), "{error}");
    edit.replace_blob(at, vec![0x3c; 96]).unwrap();
    edit.description_mut().metadata.author = "somebody".into();
    edit.save(&copy).unwrap();

    let edited = Package::open(&copy).unwrap();
    assert_eq!(edited.check(), []);
    assert_eq!(edited.metadata().author, "somebody");
    assert_eq!(edited.blob_of(value).unwrap().unwrap().data, [0x3c; 96]);
    let bytes = |root: &Path| fs::read(root.join(WEIGHTS)).unwrap();
    assert_eq!(bytes(&copy)[..128], bytes(&path)[..128], "header and record");

    // An edited package can replace itself; an edit that breaks a rule changes nothing.
    let mut edit = edited.edit();
    edit.program_mut().functions.get_mut("main").unwrap().block.outputs.clear();
    assert!(edit.save(&copy).unwrap_err().to_string().contains("returns no outputs"));
    let mut edit = edited.edit();
    edit.description_mut().metadata.version = "2".into();
    edit.save(&copy).unwrap();
    assert_eq!(Package::open(&copy).unwrap().metadata().version, "2");
}

/// A constant must refer to a blob that the package has, and of its type; otherwise nothing is written.
#[test]
fn a_reference_to_another_blob_is_not_saved() {
    let (dir, path) = written();
    let package = Package::open(&path).unwrap();
    let refused = |change: &dyn Fn(&mut mlpackage::mil::BlobRef)| {
        let mut edit = package.edit();
        let operations = &mut edit.program_mut().functions.get_mut("main").unwrap().block.operations;
        let constant = operations.iter_mut().find(|o| o.outputs[0].name == "w").unwrap();
        let ValueData::Blob(at) = &mut constant.attributes.get_mut("val").unwrap().data else { panic!() };
        change(at);
        let copy = dir.path().join("refused.mlpackage");
        let error = edit.save(&copy).unwrap_err().to_string();
        assert!(!copy.exists(), "{error}");
        error
    };
    let error = refused(&|at| at.file = "@model_path/weights/other.bin".into());
    let expected = "is in the weight file \"@model_path/weights/other.bin\", the package has \
                    @model_path/weights/weight.bin";
    assert!(error.contains(expected), "{error}");
    let error = refused(&|at| at.file = "/etc/passwd".into());
    assert!(error.contains("is in the weight file \"/etc/passwd\""), "{error}");
    let error = refused(&|at| at.offset += 64);
    assert!(error.contains("is in a blob that is damaged"), "{error}");
}

/// A program whose weights another writer holds.
#[test]
fn weights_of_another_package_are_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = PackageWriter::create(dir.path().join("other.mlpackage")).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, other.weights());
    let x = f.input("x", DType::Fp16, [1, 2]).unwrap();
    let w = f.weight("w", TensorType::new(DType::Fp16, [1, 2]), &[0; 4]).unwrap();
    let y = f.op("add", "y").arg("x", &x).arg("y", &w).one().unwrap();
    f.output(&y);
    let program = Program::new([("main", f.finish())]);
    let path = dir.path().join("own.mlpackage");
    let writer = PackageWriter::create(&path).unwrap();
    let error = writer.finish(&program, &Metadata::default()).unwrap_err().to_string();
    assert!(error.contains("blob at offset 64, where this package's writer wrote none"), "{error}");
    assert!(!path.exists());
}

/// Saving into the package would make the copy part of the original.
#[test]
fn a_package_is_not_saved_into_itself() {
    let (_dir, path) = written();
    let package = Package::open(&path).unwrap();
    let error = package.save(path.join("Data/copy.mlpackage")).unwrap_err().to_string();
    assert!(error.contains("it is inside the package that is copied"), "{error}");
    assert_eq!(package.check(), []);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_whose_name_is_not_utf_8_is_named() {
    use std::os::unix::ffi::OsStrExt as _;
    let (dir, path) = written();
    fs::write(path.join("Data").join(std::ffi::OsStr::from_bytes(b"n\xff")), "").unwrap();
    let error =
        Package::open(&path).unwrap().save(dir.path().join("copy.mlpackage")).unwrap_err().to_string();
    assert!(error.contains("Data/n\u{fffd}: its name is not UTF-8"), "{error}");
}

/// Git without LFS leaves a short text in place of any large file.
#[test]
fn a_git_lfs_pointer_is_named_with_the_way_out() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 528451584\n";
    for file in ["Manifest.json", MODEL, WEIGHTS] {
        let (_dir, path) = written();
        fs::write(path.join(file), pointer).unwrap();
        let opened = Package::open(&path).unwrap_err();
        for error in [opened, Package::check_path(&path).unwrap_err()] {
            assert!(matches!(error, Error::GitLfsPointer { .. }), "{error:?}");
            let text = error.to_string();
            let name = file.rsplit('/').next().unwrap();
            for word in [name, "528451584 bytes were not downloaded", "`git lfs pull`"] {
                assert!(text.contains(word), "{text}");
            }
        }
    }
}

#[test]
fn what_is_given_in_place_of_a_package_is_named() {
    let (dir, path) = written();
    let refused = |path: &Path, words: &str| {
        for error in [Package::open(path).unwrap_err(), Package::check_path(path).unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains(words) && text.contains(&path.display().to_string()), "{text}");
        }
    };
    refused(&path.join(MODEL), "the model file of a package, expected the folder of a .mlpackage");
    // A specification version, then an empty message in field 500.
    let network = dir.path().join("old.mlmodel");
    fs::write(&network, [0x08, 0x04, 0xa2, 0x1f, 0x00]).unwrap();
    refused(&network, "a single-file model (.mlmodel): it is a neural network, not an ML Program");
    let compiled = dir.path().join("p.mlmodelc");
    fs::create_dir(&compiled).unwrap();
    fs::write(compiled.join("coremldata.bin"), "").unwrap();
    refused(&compiled, "a compiled model (.mlmodelc)");
    fs::write(dir.path().join("notes.txt"), "text").unwrap();
    refused(&dir.path().join("notes.txt"), "expected the folder of a .mlpackage");
    refused(&dir.path().join("nowhere"), "no such folder");
}
