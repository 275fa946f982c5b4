//! Inputs and outputs of image type: to the engine they are tensors, whose shapes must be those of an allowed
//! image.

use std::path::Path;

use ane_runtime::tensor_file::{Slice, TensorFile};
use ane_runtime::{Engine as _, LoadOptions, MilCpu, Model, Numerics, Tensor};
use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Dim, Opset, Program, Value};
use mlpackage::{
    ColorSpace, DType, Description, DimRange, FeatureType, ImageSize, ImageSizes, ImageType, Package,
    PackageWriter,
};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// Computes `negative = 255 - photo`, both images of that type. A size that is open in the description is
/// open in the program.
fn negative(path: &Path, image: &ImageType) -> Package {
    let mut writer = PackageWriter::create(path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    let extent = |extent: usize| match image.sizes {
        ImageSizes::Fixed(_) => Dim::Known(extent),
        _ => Dim::Unknown,
    };
    let size = image.sizes.default_size();
    let channels = image.color_space.channels();
    let dims = [Dim::Known(1), Dim::Known(channels), extent(size.height), extent(size.width)];
    let x = f.input("photo", DType::Fp32, dims).unwrap();
    let y = f.op("sub", "negative").value("x", Value::fp32(255.0)).arg("y", &x).one().unwrap();
    f.output(&y);
    let program = Program::new([("main", f.finish())]);
    let mut description = Description::of(&program);
    let interface = description.interface_mut("main").unwrap();
    interface.inputs[0].ty = FeatureType::from(image);
    interface.outputs[0].ty = FeatureType::from(image);
    writer.finish_with(&program, &description).unwrap();
    Package::open(path).unwrap()
}

fn load(image: &ImageType) -> Box<dyn Model> {
    let dir = tempfile::tempdir().unwrap();
    let package = negative(&dir.path().join("p.mlpackage"), image);
    assert_eq!(package.check().iter().filter(|finding| finding.is_error()).count(), 0);
    MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).unwrap()
}

fn call(model: &dyn Model, shape: &[usize]) -> Result<f32, String> {
    let photo = Tensor::new(shape, vec![55.0; shape.iter().product()]).unwrap();
    let mut state = model.new_state();
    let outputs = model.predict(&[("photo", photo.view())], &mut state).map_err(|e| e.to_string())?;
    assert_eq!(outputs["negative"].shape().dims(), shape);
    Ok(outputs["negative"].as_f32().unwrap()[0])
}

#[test]
fn an_image_is_a_tensor_of_an_allowed_size() {
    let default = ImageSize::new(4, 3);
    let model = load(&ImageType::new(ColorSpace::Rgb, default));
    assert_eq!(model.describe().inputs[0].ty.to_string(), "image<RGB, 4 x 3>");
    assert_eq!(call(&*model, &[1, 3, 3, 4]), Ok(200.0));
    assert!(call(&*model, &[1, 3, 4, 3]).unwrap_err().contains("[1, 3, 4, 3]"));

    let sizes = vec![default, ImageSize::new(8, 2)];
    let model =
        load(&ImageType { color_space: ColorSpace::Bgr, sizes: ImageSizes::Enumerated { default, sizes } });
    assert_eq!(call(&*model, &[1, 3, 3, 4]), Ok(200.0));
    assert_eq!(call(&*model, &[1, 3, 2, 8]), Ok(200.0));
    let error = call(&*model, &[1, 3, 8, 2]).unwrap_err();
    assert!(error.contains("expected [1, 3, height, width] of image<BGR, one of 4 x 3, 8 x 2>"), "{error}");

    let range = |lower, upper| DimRange { lower, upper };
    let sizes = ImageSizes::Ranged { default, width: range(2, Some(5)), height: range(3, None) };
    let model = load(&ImageType { color_space: ColorSpace::Grayscale, sizes });
    assert_eq!(call(&*model, &[1, 1, 100, 5]), Ok(200.0));
    for shape in [[1, 1, 100, 6], [1, 1, 2, 5], [1, 3, 3, 4], [2, 1, 3, 4]] {
        let error = call(&*model, &shape).unwrap_err();
        assert!(error.contains(&format!("{shape:?}")), "{error}");
    }
}

/// Plans and memory are those of the given shapes.
#[test]
fn memory_follows_the_shapes_of_a_call() {
    let range = DimRange { lower: 1, upper: Some(64) };
    let sizes = ImageSizes::Ranged { default: ImageSize::new(4, 4), width: range, height: range };
    let model = load(&ImageType { color_space: ColorSpace::Grayscale, sizes });
    let function = model.default_function();
    let asked = |side: usize| {
        let photo = Tensor::zeros([1, 1, side, side]);
        let inputs = [("photo", photo.view())];
        (function.memory_for(&inputs).unwrap().unwrap().workspace, function.plan_for(&inputs).unwrap())
    };
    let (small, plan) = asked(4);
    assert_eq!((Some(small), &plan), (function.memory().map(|m| m.workspace), &function.plan()));
    let (large, plan) = asked(40);
    assert_eq!(large, 100 * small);
    assert!(plan.contains("1600") && !function.plan().contains("1600"), "{plan}");
    let wrong = Tensor::zeros([1, 1, 65, 4]);
    let error = function.memory_for(&[("photo", wrong.view())]).unwrap_err().to_string();
    assert!(error.contains("[1, 1, 65, 4]"), "{error}");
}

#[test]
fn pixels_from_a_file_of_tensors_are_whole_numbers_of_8_bits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let input = |color_space, dtype, bytes: &[u8], shape: &[usize], call: Option<Slice>| {
        let view = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        safetensors::serialize_to_file([("photo", view)], None, &path).unwrap();
        let mut feature = mlpackage::Feature::new("photo", mlpackage::mil::TensorType::new(DType::Fp32, [1]));
        feature.ty = FeatureType::from(&ImageType::new(color_space, ImageSize::new(2, 1)));
        TensorFile::open(&path).unwrap().input("photo", &feature, call).map_err(|e| e.to_string())
    };
    let floats = |values: [f32; 2]| values.map(f32::to_le_bytes).concat();
    let grey = ColorSpace::Grayscale;
    let shape = [1, 1, 1, 2];
    let read = input(grey, Dtype::U8, &[0, 255], &shape, None).unwrap();
    assert_eq!((read.dtype(), read.as_f32().unwrap()), (DType::Fp32, &[0.0, 255.0][..]));
    assert!(input(grey, Dtype::F32, &floats([0.0, 255.0]), &shape, None).is_ok());
    for (wrong, named) in [
        (256.0, "element 1 is 256"),
        (-1.0, "element 1 is -1"),
        (0.5, "element 1 is 0.5"),
        (f32::NAN, "element 1 is NaN"),
    ] {
        let error = input(grey, Dtype::F32, &floats([7.0, wrong]), &shape, None).unwrap_err();
        assert!(error.contains(named) && error.contains("integer from 0 to 255"), "{error}");
    }
    // Core ML passes on half-precision images unchanged.
    let deep = input(ColorSpace::GrayscaleFloat16, Dtype::F32, &floats([0.5, -300.0]), &shape, None).unwrap();
    assert_eq!((deep.dtype(), deep.as_f32().unwrap()), (DType::Fp16, &[0.5, -300.0][..]));
    let second = Some(Slice { step: 1, steps: 2 });
    let read = input(grey, Dtype::U8, &[1, 2, 3, 4], &[2, 1, 1, 1, 2], second).unwrap();
    assert_eq!(read.as_f32().unwrap(), [3.0, 4.0]);
}

#[test]
fn a_pointer_of_git_lfs_is_no_file_of_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
        .unwrap();
    let error = TensorFile::open(&path).unwrap_err().to_string();
    assert!(error.contains("x.safetensors") && error.contains("`git lfs pull`"), "{error}");
}
