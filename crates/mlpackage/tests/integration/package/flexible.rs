//! Inputs of flexible shape.

use std::path::Path;

use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Dim, Opset, Program};
use mlpackage::{AllowedShapes, DType, Description, DimRange, Package, PackageWriter, Shape};

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
