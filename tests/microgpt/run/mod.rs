//! `microgpt run` on packages that are not trained models.

mod files;
mod functions;
mod images;
mod limits;
mod reports;

use std::fs;
use std::path::Path;

use image::RgbImage;
use microgpt_ane::mlpackage::builder::FunctionBuilder;
use microgpt_ane::mlpackage::mil::{Dim, Opset, Program, Value};
use microgpt_ane::mlpackage::{
    ColorSpace, DType, Description, FeatureType, ImageSize, ImageSizes, ImageType, Metadata, PackageWriter,
};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Writes a package with one function.
fn package(path: &Path, build: impl FnOnce(&mut FunctionBuilder<'_>) -> microgpt_ane::mlpackage::Result<()>) {
    let mut writer = PackageWriter::create(path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    build(&mut f).unwrap();
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();
}

/// Writes tensors of floats.
fn write(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// Reads a tensor of floats.
fn read(path: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}; there are {:?}", file.names()));
    assert_eq!(tensor.dtype(), Dtype::F32);
    (tensor.shape().to_vec(), tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// Writes a package that computes `negative = 255 - photo`, both images.
fn negative(path: &Path, input: &ImageType, output: &ImageType) {
    let mut writer = PackageWriter::create(path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    let size = input.sizes.default_size();
    let known = |extent| match input.sizes {
        ImageSizes::Fixed(_) => Dim::Known(extent),
        _ => Dim::Unknown,
    };
    let channels = Dim::Known(input.color_space.channels());
    let x = f
        .input("photo", DType::Fp32, [Dim::Known(1), channels, known(size.height), known(size.width)])
        .unwrap();
    let white = if input.color_space == ColorSpace::GrayscaleFloat16 { 1.0 } else { 255.0 };
    let y = f.op("sub", "negative").value("x", Value::fp32(white)).arg("y", &x).one().unwrap();
    f.output(&y);
    let program = Program::new([("main", f.finish())]);
    let mut description = Description::of(&program);
    let interface = description.interface_mut("main").unwrap();
    interface.inputs[0].ty = FeatureType::from(input);
    interface.outputs[0].ty = FeatureType::from(output);
    writer.finish_with(&program, &description).unwrap();
}

fn image_type(color_space: ColorSpace, width: usize, height: usize) -> ImageType {
    ImageType::new(color_space, ImageSize::new(width, height))
}

/// Returns two pixels, orange and dark blue, over white and black.
fn photo() -> RgbImage {
    RgbImage::from_vec(2, 2, vec![255, 128, 0, 1, 2, 90, 255, 255, 255, 0, 0, 0]).unwrap()
}
