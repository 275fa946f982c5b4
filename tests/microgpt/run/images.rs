//! Images as inputs and outputs of a package.

use std::fs;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use microgpt_ane::mlpackage::builder::FunctionBuilder;
use microgpt_ane::mlpackage::mil::{Opset, Program};
use microgpt_ane::mlpackage::{
    ColorSpace, DType, Description, DimRange, FeatureType, ImageSize, ImageSizes, ImageType, PackageWriter,
};

use super::{image_type, negative, package, photo, read, write};
use crate::common::command::{microgpt, ok, refused};

#[test]
fn images_are_read_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    photo().save(at("photo.png")).unwrap();
    let rgb = image_type(ColorSpace::Rgb, 2, 2);
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
    let bgr = image_type(ColorSpace::Bgr, 2, 2);
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
    let grey = image_type(ColorSpace::Grayscale, 3, 1);
    negative(&at("grey.mlpackage"), &grey, &grey);
    let rgb = image_type(ColorSpace::Rgb, 3, 1);
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
    let half = image_type(ColorSpace::GrayscaleFloat16, 2, 1);
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
    let grey = image_type(ColorSpace::Grayscale, 8, 16);
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
    let grey = image_type(ColorSpace::Grayscale, 4, 2);
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
    let rgb = image_type(ColorSpace::Rgb, 2, 2);
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
    let rgb = image_type(ColorSpace::Rgb, 2, 2);
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
        FeatureType::from(&image_type(ColorSpace::Grayscale, 5, 1));
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
