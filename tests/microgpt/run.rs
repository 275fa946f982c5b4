//! `microgpt run` on packages that are not trained models: images, several functions on one state, NaN and
//! infinite results, and files of other formats.

use std::fs;
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use microgpt_ane::mlpackage::builder::FunctionBuilder;
use microgpt_ane::mlpackage::mil::{Dim, Opset, Program, Value};
use microgpt_ane::mlpackage::{
    AllowedShapes, ColorSpace, DType, Description, DimRange, FeatureType, ImageSize, ImageSizes, ImageType,
    Metadata, PackageWriter,
};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::common;
use crate::common::command::{microgpt, ok, refused};

/// Writes a package with one function.
fn package(path: &Path, build: impl FnOnce(&mut FunctionBuilder<'_>) -> microgpt_ane::mlpackage::Result<()>) {
    let mut writer = PackageWriter::create(path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    build(&mut f).unwrap();
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();
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

fn image(color_space: ColorSpace, width: usize, height: usize) -> ImageType {
    ImageType::new(color_space, ImageSize::new(width, height))
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

/// Returns two pixels, orange and dark blue, over white and black.
fn photo() -> RgbImage {
    RgbImage::from_vec(2, 2, vec![255, 128, 0, 1, 2, 90, 255, 255, 255, 0, 0, 0]).unwrap()
}

#[test]
fn images_are_read_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    photo().save(at("photo.png")).unwrap();
    let rgb = image(ColorSpace::Rgb, 2, 2);
    negative(&at("p.mlpackage"), &rgb, &rgb);
    let inspected = ok(dir.path(), &["inspect", "p.mlpackage"]);
    assert!(inspected.contains("photo: image<RGB, 2 x 2>"), "{inspected}");
    ok(dir.path(), &["run", "p.mlpackage", "--image", "photo=photo.png", "--out-image", "negative=out.png"]);
    let out = image::open(at("out.png")).unwrap();
    assert_eq!(out.as_rgb8().unwrap().as_raw()[..], [0, 127, 255, 254, 253, 165, 0, 0, 0, 255, 255, 255]);

    // The planes are red, green and blue. With a BGR description their order is reversed, and the output
    // image is the same.
    let run = ["run", "p.mlpackage", "--image", "photo=photo.png", "--out", "y.safetensors"];
    let ran = microgpt(dir.path(), &run);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("output negative is image<RGB, 2 x 2>") && ran.err.contains("--out-image"),
        "{}",
        ran.err
    );
    let red = [0.0, 254.0, 0.0, 255.0, 127.0, 253.0, 0.0, 255.0, 255.0, 165.0, 0.0, 255.0];
    assert_eq!(read(&at("y.safetensors"), "negative"), (vec![1, 3, 2, 2], red.to_vec()));
    let bgr = image(ColorSpace::Bgr, 2, 2);
    negative(&at("bgr.mlpackage"), &bgr, &bgr);
    let run = ["run", "bgr.mlpackage", "--image", "photo=photo.png", "--out", "y.safetensors"];
    ok(dir.path(), &[&run[..], &["--out-image", "negative=bgr.png"]].concat());
    let blue = [&red[8..], &red[4..8], &red[..4]].concat();
    assert_eq!(read(&at("y.safetensors"), "negative").1, blue);
    assert_eq!(image::open(at("bgr.png")).unwrap(), out);

    // The same pixels as a tensor.
    let pixels = [255.0, 1.0, 255.0, 0.0, 128.0, 2.0, 255.0, 0.0, 0.0, 90.0, 255.0, 0.0];
    write(&at("x.safetensors"), &[("photo", &[1, 3, 2, 2], &pixels)]);
    ok(dir.path(), &["run", "p.mlpackage", "--inputs", "x.safetensors", "--out-image", "negative=again.png"]);
    assert_eq!(image::open(at("again.png")).unwrap(), out);
    write(&at("x.safetensors"), &[("photo", &[1, 3, 2, 2], &pixels.map(|v| v / 255.0))]);
    refused(
        dir.path(),
        &["run", "p.mlpackage", "--inputs", "x.safetensors", "--out", "z.safetensors"],
        &["tensor photo: element 1 is 0.0039", "integer from 0 to 255"],
    );
}

/// Converted pixels equal those of Pillow 12: `Image.open(FILE).convert("L")`.
#[test]
fn pixels_are_those_that_pillow_gives() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let grey = image(ColorSpace::Grayscale, 3, 1);
    negative(&at("grey.mlpackage"), &grey, &grey);
    let rgb = image(ColorSpace::Rgb, 3, 1);
    negative(&at("rgb.mlpackage"), &rgb, &rgb);
    let run = |model: &str, file: &str| {
        let image = format!("photo={file}");
        let ran = microgpt(dir.path(), &["run", model, "--image", &image, "--out", "y.safetensors"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let values: Vec<f32> = read(&at("y.safetensors"), "negative").1.iter().map(|v| 255.0 - v).collect();
        (values, ran.err)
    };
    RgbImage::from_vec(3, 1, vec![255, 0, 0, 0, 255, 0, 0, 0, 255]).unwrap().save(at("primary.png")).unwrap();
    assert_eq!(run("grey.mlpackage", "primary.png").0, [76.0, 150.0, 29.0]);
    GrayImage::from_vec(3, 1, vec![0, 100, 255]).unwrap().save(at("grey.png")).unwrap();
    assert_eq!(run("rgb.mlpackage", "grey.png").0, [0.0, 100.0, 255.0].repeat(3));
    let alpha = RgbaImage::from_fn(3, 1, |x, _| Rgba([200, 100, 50, [255, 128, 0][x as usize]]));
    alpha.save(at("alpha.png")).unwrap();
    let (values, said) = run("rgb.mlpackage", "alpha.png");
    assert_eq!(values, [[200.0; 3], [100.0; 3], [50.0; 3]].concat());
    assert!(said.contains("alpha channel is ignored (2 of 3 pixels are not opaque)"), "{said}");
    let deep = image::ImageBuffer::<Luma<u16>, _>::from_vec(3, 1, vec![0, 255, 65_535]).unwrap();
    DynamicImage::ImageLuma16(deep).save(at("deep.png")).unwrap();
    assert_eq!(run("grey.mlpackage", "deep.png").0, [0.0, 0.0, 255.0]);
    let deep = image::ImageBuffer::<Rgb<u16>, _>::from_vec(3, 1, vec![256, 511, 512, 0, 0, 0, 65_535, 0, 0])
        .unwrap();
    DynamicImage::ImageRgb16(deep).save(at("deep.png")).unwrap();
    assert_eq!(run("rgb.mlpackage", "deep.png").0, [1.0, 0.0, 255.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
}

/// fp16 images: white is 1, and 16-bit grey values survive.
#[test]
fn fp16_images_keep_what_16_bits_hold() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let half = image(ColorSpace::GrayscaleFloat16, 2, 1);
    negative(&at("p.mlpackage"), &half, &half);
    let deep = image::ImageBuffer::<Luma<u16>, _>::from_vec(2, 1, vec![65_535, 16_384]).unwrap();
    DynamicImage::ImageLuma16(deep).save(at("deep.png")).unwrap();
    let run = ["run", "p.mlpackage", "--image", "photo=deep.png", "--out", "y.safetensors"];
    ok(dir.path(), &[&run[..], &["--out-image", "negative=out.png"]].concat());
    // 16384 / 65535 is 0.250004, rounded to a quarter in fp16; three quarters of 65535 are 49151.25.
    assert_eq!(read(&at("y.safetensors"), "negative").1, [0.0, 0.75]);
    let out = image::open(at("out.png")).unwrap();
    assert_eq!(out.as_luma16().unwrap().as_raw()[..], [0, 49_151]);
    GrayImage::from_vec(2, 1, vec![0, 255]).unwrap().save(at("grey.png")).unwrap();
    ok(dir.path(), &["run", "p.mlpackage", "--image", "photo=grey.png", "--out", "y.safetensors"]);
    assert_eq!(read(&at("y.safetensors"), "negative").1, [1.0, 0.0]);
}

/// A JPEG image whose EXIF orientation is 6, a quarter turn clockwise.
#[test]
fn photos_are_turned_upright() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut jpeg = std::io::Cursor::new(Vec::new());
    // Left half black, right half white, in blocks of 8, which JPEG preserves exactly.
    let wide = RgbImage::from_fn(16, 8, |x, _| Rgb([if x < 8 { 0 } else { 255 }; 3]));
    wide.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let jpeg = jpeg.into_inner();
    let tiff = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let exif = [b"Exif\0\0".as_slice(), tiff].concat();
    let segment = [&[0xff, 0xe1], &(exif.len() as u16 + 2).to_be_bytes()[..], &exif].concat();
    fs::write(at("photo.jpg"), [&jpeg[..2], &segment, &jpeg[2..]].concat()).unwrap();
    let grey = image(ColorSpace::Grayscale, 8, 16);
    negative(&at("p.mlpackage"), &grey, &grey);
    let run = ["run", "p.mlpackage", "--image", "photo=photo.jpg", "--out", "y.safetensors"];
    let ran = microgpt(dir.path(), &run);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("turned upright") && ran.err.contains("orientation 6"), "{}", ran.err);
    let (_, values) = read(&at("y.safetensors"), "negative");
    assert_eq!((values[0], values[127]), (255.0, 0.0), "black above, white below");
}

#[test]
fn another_size_is_refused_without_resize() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let grey = image(ColorSpace::Grayscale, 4, 2);
    negative(&at("p.mlpackage"), &grey, &grey);
    GrayImage::from_pixel(8, 8, Luma([55])).save(at("photo.png")).unwrap();
    let run = ["run", "p.mlpackage", "--image", "photo=photo.png", "--out-image", "negative=out.png"];
    refused(dir.path(), &run, &["photo.png is 8 x 8", "takes 4 x 2", "--resize"]);
    assert!(!at("out.png").exists());
    let ran = microgpt(dir.path(), &[&run[..], &["--resize"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("scaled from 8 x 8 to 4 x 2, which changes its proportions from 1.00 to 2.00"),
        "{}",
        ran.err
    );
    let out = image::open(at("out.png")).unwrap();
    assert_eq!(out, DynamicImage::ImageLuma8(GrayImage::from_pixel(4, 2, Luma([200]))));

    // With several allowed sizes, an allowed one is kept; another is scaled to the default.
    let default = ImageSize::new(4, 2);
    let range = |lower| DimRange { lower, upper: Some(8) };
    let sizes = ImageSizes::Ranged { default, width: range(2), height: range(2) };
    let several = ImageType { color_space: ColorSpace::Grayscale, sizes };
    negative(&at("p.mlpackage"), &several, &several);
    ok(dir.path(), &run);
    assert_eq!(image::open(at("out.png")).unwrap().width(), 8);
    GrayImage::from_pixel(9, 9, Luma([55])).save(at("photo.png")).unwrap();
    refused(dir.path(), &run, &["photo.png is 9 x 9", "takes 2..8 x 2..8"]);
    ok(dir.path(), &[&run[..], &["--resize"]].concat());
    assert_eq!(image::open(at("out.png")).unwrap().width(), 4);
}

/// Returns the CRC-32 as PNG uses it.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

#[test]
fn deceptive_images_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let rgb = image(ColorSpace::Rgb, 2, 2);
    negative(&at("p.mlpackage"), &rgb, &rgb);
    let refuse = |file: &str, words: &[&str]| {
        let image = format!("photo={file}");
        refused(
            dir.path(),
            &["run", "p.mlpackage", "--image", &image, "--out", "y.safetensors"],
            &[&[file], words].concat(),
        );
        assert!(!at("y.safetensors").exists());
    };
    photo().save(at("photo.png")).unwrap();
    let png = fs::read(at("photo.png")).unwrap();
    // A few bytes that declare ten gigabytes of pixels.
    let mut bomb = png.clone();
    bomb[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    let sum = crc(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&sum.to_be_bytes());
    fs::write(at("bomb.png"), &bomb).unwrap();
    refuse("bomb.png", &["60000 x 60000", "limit of 32768"]);
    bomb[16..20].copy_from_slice(&30_000u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&30_000u32.to_be_bytes());
    let sum = crc(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&sum.to_be_bytes());
    fs::write(at("large.png"), &bomb).unwrap();
    refuse("large.png", &["30000 x 30000", "limit of 536870912"]);
    fs::write(at("short.png"), &png[..png.len() / 2]).unwrap();
    refuse("short.png", &["damaged or cut short"]);
    // The decoder would fill the missing half with grey.
    photo().save(at("photo.jpg")).unwrap();
    let jpeg = fs::read(at("photo.jpg")).unwrap();
    fs::write(at("short.jpg"), &jpeg[..jpeg.len() - 2]).unwrap();
    refuse("short.jpg", &["is cut short"]);
    // The header states the size, so an image of another size is refused undecoded.
    let mut other = png.clone();
    other[19] = 3;
    let sum = crc(&other[12..29]);
    other[29..33].copy_from_slice(&sum.to_be_bytes());
    fs::write(at("other.png"), &other[..other.len() - 20]).unwrap();
    refuse("other.png", &["other.png is 3 x 2, the model takes 2 x 2"]);
    // The frame header of a JPEG image with four components.
    let cmyk = b"\xff\xd8\xff\xc0\0\x14\x08\0\x02\0\x02\x04\x01\x11\0\x02\x11\0\x03\x11\0\x04\x11\0";
    fs::write(at("print.jpg"), cmyk).unwrap();
    refuse("print.jpg", &["CMYK", "convert it to RGB"]);
    fs::write(at("photo.webp"), b"RIFF\x24\0\0\0WEBPVP8 ").unwrap();
    refuse("photo.webp", &["neither a PNG nor a JPEG"]);
    fs::write(at("empty.png"), b"").unwrap();
    refuse("empty.png", &["it is empty"]);
    refuse("nowhere.png", &["No such file"]);
    refuse(".", &["not a regular file"]);
}

#[test]
fn options_for_images_that_make_no_sense_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let rgb = image(ColorSpace::Rgb, 2, 2);
    negative(&at("p.mlpackage"), &rgb, &rgb);
    package(&at("t.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [2])?;
        let y = f.op("relu", "y").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    photo().save(at("photo.png")).unwrap();
    let refuse =
        |arguments: &[&str], words: &[&str]| refused(dir.path(), &[&["run"], arguments].concat(), words);
    let out = ["--out", "y.safetensors"];
    refuse(&[&["p.mlpackage", "--image", "photo.png"], &out[..]].concat(), &["expected NAME=FILE"]);
    refuse(
        &[&["p.mlpackage", "--image", "picture=photo.png"], &out[..]].concat(),
        &["--image picture", "photo, image<RGB, 2 x 2>"],
    );
    refuse(
        &[&["t.mlpackage", "--image", "x=photo.png"], &out[..]].concat(),
        &["--image x", "tensor<fp32, [2]>, not an image", "--inputs"],
    );
    refuse(
        &["p.mlpackage", "--inputs", "photo.png", "--out", "y.safetensors"],
        &["a PNG image", "--image photo=photo.png"],
    );
    refuse(
        &["p.mlpackage", "--out", "y.safetensors"],
        &["input photo of main is missing", "--image photo=FILE"],
    );
    refuse(&["p.mlpackage", "--image", "photo=photo.png"], &["--out FILE", "--out-image"]);
    let image = ["p.mlpackage", "--image", "photo=photo.png"];
    refuse(&[&image[..], &["--out-image", "negative=out.jpg"]].concat(), &["out.jpg", ".png"]);
    refuse(
        &[&image[..], &["--out-image", "positive=out.png"]].concat(),
        &["--out-image positive", "the only output is negative"],
    );
    refuse(
        &[&image[..], &["--out-image", "negative=p.mlpackage/out.png"]].concat(),
        &["it is inside", "a .mlpackage"],
    );
    refuse(
        &[&image[..], &["--image", "photo=photo.png"], &out[..]].concat(),
        &["--image photo: it is given twice"],
    );
    write(&at("x.safetensors"), &[("x", &[2], &[1.0, 2.0])]);
    refuse(
        &["t.mlpackage", "--inputs", "x.safetensors", "--out-image", "y=out.png"],
        &["tensor<fp32, [2]>, not an image"],
    );
    assert!(!at("y.safetensors").exists() && !at("out.png").exists());
}

/// Values that a pixel cannot hold are clamped, and a note reports this.
#[test]
fn values_beyond_the_range_of_pixels_are_clamped_with_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut writer = PackageWriter::create(at("p.mlpackage")).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    let x = f.input("x", DType::Fp32, [1, 1, 1, 5]).unwrap();
    let y = f.op("identity", "y").arg("x", &x).one().unwrap();
    f.output(&y);
    let program = Program::new([("main", f.finish())]);
    let mut description = Description::of(&program);
    description.interface_mut("main").unwrap().outputs[0].ty =
        FeatureType::from(&image(ColorSpace::Grayscale, 5, 1));
    writer.finish_with(&program, &description).unwrap();
    let run = |values: [f32; 5]| {
        write(&at("x.safetensors"), &[("x", &[1, 1, 1, 5], &values)]);
        let ran = microgpt(
            dir.path(),
            &["run", "p.mlpackage", "--inputs", "x.safetensors", "--out-image", "y=y.png"],
        );
        assert_eq!(ran.code, 0, "{}", ran.err);
        (image::open(at("y.png")).unwrap().as_luma8().unwrap().as_raw().clone(), ran.err)
    };
    let (pixels, said) = run([-3.0, 0.4, 0.6, 254.5, 300.0]);
    assert_eq!(pixels, [0, 0, 1, 255, 255]);
    assert!(said.contains("2 of 5 values lie outside 0 to 255") && said.contains("from -3 to 300"), "{said}");
    let (pixels, said) = run([f32::NAN, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(pixels, [0, 1, 2, 3, 4]);
    assert!(said.contains("1 of 5 values are NaN, written as 0"), "{said}");
    let (_, said) = run([0.0, 0.25, 0.5, 0.75, 1.0]);
    assert!(said.contains("all but black"), "{said}");
    assert!(run([0.0, 1.0, 2.0, 3.0, 255.0]).1.is_empty());
}

/// Writes two functions: `prefill` adds the rows of `x [3, 2]` to a total, `decode` adds `gain * x [2]`; both
/// return the total.
fn two_functions(path: &Path) {
    let mut writer = PackageWriter::create(path).unwrap();
    let mut functions = Vec::new();
    for name in ["decode", "prefill"] {
        let mut f = FunctionBuilder::new(name, Opset::CoreML8, writer.weights());
        let rows = name == "prefill";
        let x =
            if rows { f.input("x", DType::Fp16, [3, 2]) } else { f.input("x", DType::Fp16, [2]) }.unwrap();
        let total = f.state("total", DType::Fp16, [2]).unwrap();
        let before = f.read_state("before", &total).unwrap();
        let added = if rows {
            let sum = f.op("reduce_sum", "added").arg("x", &x).value("axes", Value::ints([1], [0]));
            sum.value("keep_dims", Value::bool(false)).one()
        } else {
            let gain = f.input("gain", DType::Fp16, [1]).unwrap();
            f.op("mul", "added").arg("x", &x).arg("y", &gain).one()
        };
        let after = f.op("add", "after").arg("x", &before).arg("y", &added.unwrap()).one().unwrap();
        f.write_state(&total, &after).unwrap();
        let sum = f.op("identity", "sum").arg("x", &after).one().unwrap();
        f.output(&sum);
        functions.push((name, f.finish()));
    }
    let program = Program::new(functions);
    let mut description = Description::of(&program);
    description.set_default_function("decode");
    writer.finish_with(&program, &description).unwrap();
}

#[test]
fn several_functions_run_on_one_state() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    two_functions(&at("p.mlpackage"));
    let prefill: (&str, &[usize], &[f32]) = ("prefill/x", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let decode: (&str, &[usize], &[f32]) = ("decode/x", &[2, 2], &[1.0, 1.0, 2.0, 2.0]);
    // Only decode has a gain.
    let gain: (&str, &[usize], &[f32]) = ("gain", &[2, 1], &[1.0, 10.0]);
    write(&at("x.safetensors"), &[prefill, decode, gain]);
    let run = ["run", "p.mlpackage", "--inputs", "x.safetensors", "--out", "y.safetensors"];
    let printed = ok(dir.path(), &[&run[..], &["--function", "prefill,decode=2"]].concat());
    for words in ["prefill: 1 call,", "decode: 2 calls,", "prefill/sum: ", "decode/sum: "] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    assert_eq!(read(&at("y.safetensors"), "prefill/sum"), (vec![2], vec![9.0, 12.0]));
    assert_eq!(read(&at("y.safetensors"), "decode/sum"), (vec![2, 2], vec![10.0, 13.0, 30.0, 33.0]));
    // In the other order, prefill continues from decode's state.
    ok(dir.path(), &[&run[..], &["--function", "decode=2", "--function", "prefill"]].concat());
    assert_eq!(read(&at("y.safetensors"), "decode/sum").1, [1.0, 1.0, 21.0, 21.0]);
    assert_eq!(read(&at("y.safetensors"), "prefill/sum").1, [30.0, 33.0]);
    // A single function keeps its plain names, however its steps are given.
    write(&at("x.safetensors"), &[("x", decode.1, decode.2), gain]);
    for arguments in
        [&["--steps", "2"][..], &["--function", "decode=2"], &["--function", "decode", "--steps", "2"]]
    {
        ok(dir.path(), &[&run[..], arguments].concat());
        assert_eq!(read(&at("y.safetensors"), "sum").1, [1.0, 1.0, 21.0, 21.0]);
    }
    let plan = ok(dir.path(), &["run", "p.mlpackage", "--function", "prefill,decode", "--plan"]);
    assert!(plan.contains("function prefill\n") && plan.contains("function decode\n"), "{plan}");
}

/// A decoder written by coremltools with two functions that share a cache reproduces PyTorch's results for
/// the prompt and the following tokens, within the 2e-3 of the largest value that its conformance case allows
/// with fp16 rounding.
#[test]
fn a_decoder_of_two_functions_runs_as_its_engine_does() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let case = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("crates/ane-runtime/tests/conformance/model_llama_fp16_plain.safetensors");
    let bytes = fs::read(&case).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut stacked: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for name in ["token", "position", "mask"] {
        let of = |step: usize| file.tensor(&format!("{step}.in.{name}")).unwrap();
        let first = of(0);
        stacked.push((
            format!("prefill/{name}"),
            first.dtype(),
            first.shape().to_vec(),
            first.data().to_vec(),
        ));
        let shape = [&[6], of(1).shape()].concat();
        let data = (1..7).flat_map(|step| of(step).data().to_vec()).collect();
        stacked.push((format!("decode/{name}"), first.dtype(), shape, data));
    }
    let views = stacked.iter().map(|(name, dtype, shape, data)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize_to_file(views, None, &at("x.safetensors")).unwrap();
    let package = case.with_extension("mlpackage");
    let run = ["run", package.to_str().unwrap(), "--inputs", "x.safetensors", "--out", "y.safetensors"];
    ok(dir.path(), &[&run[..], &["--function", "prefill,decode=6", "--numerics", "f16"]].concat());
    let expected = |step: usize| -> Vec<f32> {
        let tensor = file.tensor(&format!("{step}.out.result")).unwrap();
        tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let close = |found: &[f32], expected: &[f32]| {
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
        found.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() <= 2e-3 * largest, "{a} {b}"));
    };
    close(&read(&at("y.safetensors"), "prefill/result").1, &expected(0));
    let (shape, decoded) = read(&at("y.safetensors"), "decode/result");
    assert_eq!(shape, [6, 1, 1, 24]);
    close(&decoded, &(1..7).flat_map(expected).collect::<Vec<f32>>());
}

#[test]
fn errors_of_several_functions_name_the_function() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    two_functions(&at("p.mlpackage"));
    let rows: (&str, &[usize], &[f32]) = ("prefill/x", &[3, 2], &[0.0; 6]);
    let x: (&str, &[usize], &[f32]) = ("decode/x", &[2], &[0.0; 2]);
    let gain: (&str, &[usize], &[f32]) = ("decode/gain", &[1], &[0.0; 1]);
    let refuse = |functions: &str, tensors: &[(&str, &[usize], &[f32])], words: &[&str]| {
        write(&at("x.safetensors"), tensors);
        let run = [
            "run",
            "p.mlpackage",
            "--inputs",
            "x.safetensors",
            "--out",
            "y.safetensors",
            "--function",
            functions,
        ];
        refused(dir.path(), &run, words);
        assert!(!at("y.safetensors").exists());
    };
    refuse(
        "prefill,decode",
        &[rows, x],
        &["input gain of decode is missing", "tensor<fp16, [1]>", "decode/gain in x.safetensors"],
    );
    refuse("prefill,decode=4", &[rows, x], &["input gain of decode is missing", "with a leading axis of 4"]);
    refuse("prefill,decode", &[rows, ("x", x.1, x.2), gain], &["tensor x", "prefill/x or decode/x"]);
    refuse("prefill,decode", &[rows, x, gain, ("gain", gain.1, gain.2)], &["input gain of decode", "tensor"]);
    refuse(
        "prefill,decode",
        &[rows, x, gain, ("scale", gain.1, gain.2)],
        &["tensor scale", "prefill/x, tensor<fp16, [3, 2]>"],
    );
    refuse("prefill,decode", &[rows, x, gain, ("encode/x", x.1, x.2)], &["tensor encode/x", "decode/gain"]);
    refuse(
        "prefill,decode",
        &[("prefill/x", &[2, 2], &[0.0; 4]), x, gain],
        &["function prefill", "input x", "[2, 2]", "[3, 2]"],
    );
    refuse(
        "prefill,decode=2",
        &[rows, x, gain],
        &["call 0 of decode", "tensor decode/gain: shape [1]", "leading axis of 2", "tensor<fp16, [1]>"],
    );
    refuse("prefill,encode", &[rows], &["no function \"encode\"", "prefill"]);
    refuse("prefill,prefill", &[rows], &["prefill is given twice"]);
    refuse("prefill,decode=0", &[rows], &["expected a number from 1 on"]);
    refuse("prefill,,decode", &[rows], &["FUNCTION=STEPS"]);
    let run = [
        "run",
        "p.mlpackage",
        "--inputs",
        "x.safetensors",
        "--out",
        "y.safetensors",
        "--function",
        "prefill,decode",
    ];
    refused(
        dir.path(),
        &[&run[..], &["--steps", "2"]].concat(),
        &["--steps 2 is for one function", "--function prefill=2"],
    );
}

/// Uses a package that makes NaN from negative values, in fp32.
#[test]
fn nan_and_infinite_results_are_reported_with_the_way_to_find_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    package(&at("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [2])?;
        let root = f.op("sqrt", "root").arg("x", &x).one()?;
        let twice = f.op("add", "twice").arg("x", &root).arg("y", &root).one()?;
        f.output(&twice);
        let same = f.op("identity", "same").arg("x", &x).one()?;
        f.output(&same);
        Ok(())
    });
    let run = |values: [f32; 2], arguments: &[&str]| {
        write(&at("x.safetensors"), &[("x", &[2], &values)]);
        let run = ["run", "p.mlpackage", "--inputs", "x.safetensors", "--out", "y.safetensors"];
        microgpt(dir.path(), &[&run[..], arguments].concat())
    };
    let ran = run([-1.0, -4.0], &[]);
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("warning: output twice is NaN everywhere"), "{}", ran.err);
    assert!(!ran.err.contains("output same"), "{}", ran.err);
    assert!(ran.err.contains("--hazards") && ran.err.contains("--numerics f16"), "{}", ran.err);
    for numerics in ["f32", "f16", "fast"] {
        let ran = run([-1.0, -4.0], &["--hazards", "--numerics", numerics]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.out.contains("hazard: sqrt -> %root produced a NaN in call 0"), "{}", ran.out);
        assert!(ran.err.contains("output twice is NaN everywhere"), "{}", ran.err);
    }
    let ran = run([-1.0, 4.0], &[]);
    assert!(ran.err.contains("output twice is NaN in 1 of 2 elements"), "{}", ran.err);
    let ran = run([f32::INFINITY, f32::INFINITY], &["--hazards"]);
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert!(ran.err.contains("output twice is infinite everywhere"), "{}", ran.err);
    assert!(ran.err.contains("input x had NaN or infinite elements already"), "{}", ran.err);
    let ran = run([1.0, 4.0], &["--hazards"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.contains("no hazards in fp32"), "{}", ran.out);
}

/// A batch of 7 needs seven times the memory of one.
#[test]
fn plan_and_memory_are_those_of_the_shapes_that_are_run() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut writer = PackageWriter::create(at("p.mlpackage")).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    let x = f.input("x", DType::Fp32, [Dim::Unknown, Dim::Known(10)]).unwrap();
    let y = f.op("square", "y").arg("x", &x).one().unwrap();
    f.output(&y);
    let program = Program::new([("main", f.finish())]);
    let mut description = Description::of(&program);
    let ranges = vec![DimRange { lower: 1, upper: Some(100) }, DimRange::fixed(10)];
    let shapes = AllowedShapes::Ranged { default: [1, 10].into(), ranges };
    description.interface_mut("main").unwrap().input_mut("x").unwrap().allow(shapes);
    writer.finish_with(&program, &description).unwrap();
    let workspace = |batch: usize| {
        write(&at("x.safetensors"), &[("x", &[batch, 10], &vec![1.0; batch * 10])]);
        let run = ["run", "p.mlpackage", "--inputs", "x.safetensors", "--out", "y.safetensors", "--plan"];
        let out = ok(dir.path(), &run);
        let memory = out.lines().find(|line| line.starts_with("memory:")).unwrap().to_owned();
        let bytes = memory.split(", ").last().unwrap().split(' ').next().unwrap().parse::<usize>().unwrap();
        (bytes, out)
    };
    let (one, plan) = workspace(1);
    assert!(plan.contains("1 step, "), "{plan}");
    let (seven, plan_of_seven) = workspace(7);
    assert_eq!(seven, 7 * one);
    let plan = |out: &str| out.split("main: ").next().unwrap().to_owned();
    assert_ne!(plan(&plan_of_seven), ok(dir.path(), &["run", "p.mlpackage", "--plan"]));
    // Without a destination, only the plan for the inputs is printed.
    let shown = ok(dir.path(), &["run", "p.mlpackage", "--inputs", "x.safetensors", "--plan"]);
    assert_eq!(shown, plan(&plan_of_seven));
}

/// Files of other formats passed to `--inputs` are named, with the expected format.
#[test]
fn files_of_another_format_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    package(&at("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [2])?;
        let y = f.op("relu", "y").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    let zip =
        |name: &str| [b"PK\x03\x04", &[0; 22][..], &[name.len() as u8, 0, 0, 0], name.as_bytes()].concat();
    let files: [(&str, Vec<u8>, &[&str]); 11] = [
        ("x.npz", zip("x.npy"), &["a NumPy archive (.npz)", "save_file"]),
        ("x.npy", b"\x93NUMPY\x01\0".to_vec(), &["a NumPy array (.npy)", "save_file"]),
        ("x.pt", zip("x/data.pkl"), &["a PyTorch checkpoint", "save_file"]),
        ("x.pkl", b"\x80\x04K\x01.".to_vec(), &["a Python pickle"]),
        ("x.onnx", b"\x08\x08\x12\x00\x3a\x01\x00".to_vec(), &["an ONNX model"]),
        ("x.gguf", b"GGUF\x03\0\0\0".to_vec(), &["a GGUF file"]),
        ("x.zip", zip("x.txt"), &["a zip archive"]),
        ("x.json", b"{\"x\": [1, 2]}".to_vec(), &["a JSON file", "the only input is x, tensor<fp32, [2]>"]),
        ("x.jpg", b"\xff\xd8\xff\xe0".to_vec(), &["a JPEG image", "no input is an image"]),
        (
            "x.lfs",
            b"version https://git-lfs.github.com/spec/v1\nsize 7\n".to_vec(),
            &["Git LFS pointer", "git lfs pull"],
        ),
        (
            "x.html",
            b"<!DOCTYPE html><title>404</title>".to_vec(),
            &["an HTML page", "download the file again"],
        ),
    ];
    for (name, bytes, words) in files {
        fs::write(at(name), bytes).unwrap();
        refused(
            dir.path(),
            &["run", "p.mlpackage", "--inputs", name, "--out", "y.safetensors"],
            &[words, &[name, "expected a safetensors file"]].concat(),
        );
    }
    refused(
        dir.path(),
        &["run", "p.mlpackage", "--inputs", "no", "--out", "y.safetensors"],
        &["--inputs no: no such file"],
    );
    refused(
        dir.path(),
        &["run", "p.mlpackage", "--inputs", "p.mlpackage", "--out", "y.safetensors"],
        &["a .mlpackage"],
    );
    fs::write(at("short"), "{}").unwrap();
    fs::write(at("empty"), "").unwrap();
    refused(
        dir.path(),
        &["run", "p.mlpackage", "--inputs", "empty", "--out", "y.safetensors"],
        &["empty", "safetensors"],
    );
    assert!(!at("y.safetensors").exists());
}

/// Git LFS pointers in packages and models are named.
#[test]
fn git_lfs_pointers_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let rgb = image(ColorSpace::Rgb, 2, 2);
    let model = "Data/com.apple.CoreML/model.mlmodel";
    negative(&at("p.mlpackage"), &rgb, &rgb);
    fs::write(at("p.mlpackage").join(model), "version https://git-lfs.github.com/spec/v1\nsize 12345\n")
        .unwrap();
    let commands: [&[&str]; 3] = [
        &["run", "p.mlpackage", "--plan"],
        &["inspect", "p.mlpackage"],
        &["inspect", "--check", "p.mlpackage"],
    ];
    for command in commands {
        refused(dir.path(), command, &["model.mlmodel", "12345 bytes", "git lfs pull"]);
    }
    let workspace = common::command::workspace();
    for file in ["decoder-00.mlpackage/Data/com.apple.CoreML/weights/weight.bin", "embeddings.safetensors"] {
        fs::write(
            workspace.path().join("bundle").join(file),
            "version https://git-lfs.github.com/spec/v1\nsize 9\n",
        )
        .unwrap();
        let name = file.rsplit('/').next().unwrap();
        refused(workspace.path(), &["generate", "bundle"], &[name, "git lfs pull"]);
        ok(workspace.path(), &["export", "ckpt", "--out", "bundle", "--no-verify"]);
    }
    fs::write(
        workspace.path().join("ckpt/model.safetensors"),
        "version https://git-lfs.github.com/spec/v1\nsize 9\n",
    )
    .unwrap();
    refused(workspace.path(), &["export", "ckpt", "--out", "other"], &["model.safetensors", "git lfs pull"]);
}

/// Counts of one use the singular.
#[test]
fn one_of_something_is_singular() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    package(&at("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [1])?;
        let y = f.op("relu", "y").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    write(&at("x.safetensors"), &[("x", &[1], &[1.0])]);
    let run = ["run", "p.mlpackage", "--inputs", "x.safetensors", "--out", "y.safetensors", "--plan"];
    let out = ok(dir.path(), &run);
    assert!(out.contains("main: 1 call,") && out.contains("1 step,"), "{out}");
    assert!(!out.contains("1 calls") && !out.contains("1 steps") && !out.contains("1 buffers"), "{out}");
}

/// The product with each of 2^20 elements needs 4 MiB, which `fill` creates from a few bytes.
#[test]
fn the_workspace_of_a_call_has_a_limit_that_can_be_raised() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    package(&at("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [Dim::Known(1)])?;
        let many = f.op("fill", "many").value("shape", Value::ints([1], vec![1 << 20]));
        let many = many.value("value", Value::fp32(2.0)).one()?;
        let y = f.op("mul", "y").arg("x", &many).arg("y", &x).one()?;
        let sum = f.op("reduce_sum", "sum").arg("x", &y).value("axes", Value::ints([1], vec![0])).one()?;
        f.output(&sum);
        Ok(())
    });
    write(&at("x.safetensors"), &[("x", &[1], &[0.5])]);
    let run = ["run", "p.mlpackage", "--inputs", "x.safetensors", "--out", "y.safetensors", "--workspace"];
    let words = ["B of workspace, 1048576 B at most", "raise the workspace limit"];
    refused(dir.path(), &[&run[..], &["1"]].concat(), &words);
    assert!(!at("y.safetensors").exists());
    ok(dir.path(), &[&run[..], &["16"]].concat());
    assert_eq!(read(&at("y.safetensors"), "sum").1, [1_048_576.0]);
    assert!(microgpt(dir.path(), &[&run[..], &["0"]].concat()).code == 2);
}

/// The first call shows the size of all outputs. Without the limit, this run would take 4 PiB.
#[test]
fn the_outputs_of_all_calls_have_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let grey = image(ColorSpace::Grayscale, 64, 64);
    negative(&at("p.mlpackage"), &grey, &grey);
    GrayImage::from_pixel(64, 64, Luma([55])).save(at("photo.png")).unwrap();
    let run = |steps: &str, more: &[&str]| {
        let run =
            ["run", "p.mlpackage", "--image", "photo=photo.png", "--out", "y.safetensors", "--steps", steps];
        microgpt(dir.path(), &[&run[..], more].concat())
    };
    let ran = run("274877906944", &[]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("274877906944 calls take 4503599627370496 bytes"), "{}", ran.err);
    assert!(ran.err.contains("--workspace"), "{}", ran.err);
    // 64 x 64 floats are 16 KiB, so 64 calls return 1 MiB.
    assert_eq!(run("64", &["--workspace", "1"]).code, 0);
    assert!(run("65", &["--workspace", "1"]).err.contains("limit of 1048576 bytes"));
}

#[test]
fn hazards_are_searched_for_without_an_output() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    package(&at("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [1])?;
        let y = f.op("exp", "y").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    for (value, code, words) in [(1.0, 0, "no hazards in fp32"), (1000.0, 1, "hazard: ")] {
        write(&at("x.safetensors"), &[("x", &[1], &[value])]);
        let ran = microgpt(dir.path(), &["run", "p.mlpackage", "--inputs", "x.safetensors", "--hazards"]);
        assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
        assert!(ran.out.contains(words), "{}", ran.out);
    }
}

/// No option that writes a file replaces one that the same command reads.
#[test]
fn an_input_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let rgb = image(ColorSpace::Rgb, 2, 2);
    negative(&at("p.mlpackage"), &rgb, &rgb);
    photo().save(at("photo.png")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    write(&at("x.safetensors"), &[("photo", &[1, 3, 2, 2], &[0.0; 12])]);
    let before = ["photo.png", "x.safetensors"].map(|name| fs::read(at(name)).unwrap());
    let image = ["run", "p.mlpackage", "--image", "photo=photo.png"];
    let tensors = ["run", "p.mlpackage", "--inputs", "x.safetensors"];
    let refuse =
        |run: &[&str], out: &[&str], words: &[&str]| refused(dir.path(), &[run, out].concat(), words);
    refuse(
        &image,
        &["--out-image", "negative=photo.png"],
        &["photo.png: --image photo names this file, too"],
    );
    refuse(&image, &["--out", "folder/../photo.png"], &["--image photo names this file"]);
    refuse(&tensors, &["--out", "x.safetensors"], &["--inputs names this file"]);
    refuse(
        &tensors,
        &["--out", "y.png", "--out-image", "negative=y.png"],
        &["--out-image negative y.png: --out names this file"],
    );
    let manifest = "p.mlpackage/Manifest.json";
    refuse(&tensors, &["--out", manifest], &["it is inside", "p.mlpackage, a .mlpackage"]);
    assert_eq!(["photo.png", "x.safetensors"].map(|name| fs::read(at(name)).unwrap()), before);
}

/// The outputs of a classifier are described in words, by `inspect` and by `run`.
#[test]
fn the_outputs_of_a_classifier_are_described() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    package(&at("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [1, 2])?;
        let classes = Value::list(DType::String, ["cat", "dog"].map(Value::string).to_vec());
        let op = f.op("classify", "animal").arg("probabilities", &x).inline("classes", classes);
        op.many(&["animal", "chances"])?.iter().for_each(|result| f.output(result));
        Ok(())
    });
    let out = ok(dir.path(), &["inspect", "p.mlpackage"]);
    assert!(out.contains("animal: the label, one of 2 classes (string)"), "{out}");
    assert!(out.contains("chances: the probabilities of 2 classes (dictionary)"), "{out}");
    write(&at("x.safetensors"), &[("x", &[1, 2], &[0.25, 0.75])]);
    let out = ok(dir.path(), &["run", "p.mlpackage", "--inputs", "x.safetensors", "--out", "y.safetensors"]);
    assert!(out.contains("animal: the label, one of 2 classes, "), "{out}");
    assert!(out.contains("chances: the probabilities of 2 classes, "), "{out}");
    assert!(out.contains("label: dog"), "{out}");
}
