//! Packages that are written and read again.

mod damage;
mod edits;
mod flexible;

use std::fs;
use std::path::{Path, PathBuf};

use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Opset, Program, TensorType, Value, ValueData, ValueType};
use mlpackage::{BlobFile, BlobWriter, DType, Description, Error, Metadata, Package, PackageWriter};

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

#[test]
fn a_folder_of_another_kind_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
    let error = PackageWriter::create(dir.path()).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Output(_)), "{error}");
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
