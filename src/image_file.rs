//! Conversion between image files and tensors, for inputs and outputs of image type: reads PNG and JPEG,
//! writes PNG.
//!
//! Only the command needs image files, so their decoders are a dependency of this package and not of the
//! runtime, for which an image is a tensor.
//!
//! The description's colour space determines the tensor:
//!
//! | colour space | tensor | component |
//! |---|---|---|
//! | RGB, BGR | `[1, 3, H, W]` in that order | 0 to 255 |
//! | GRAYSCALE | `[1, 1, H, W]` | 0 to 255 |
//! | GRAYSCALE_FLOAT16 | `[1, 1, H, W]` | 0 to 1, rounded to fp16 |
//!
//! - **Alpha** is ignored, as Core ML's format specifies for both colour spaces ("RGBA with A channel ignored",
//!   `FeatureTypes.proto`).
//! - **Colour to grey** is luma of ITU-R BT.601 in Pillow's integers, which coremltools' users pass; grey to
//!   colour is three equal channels.
//! - **16 bits** per channel are reduced to their upper 8, as in Pillow; fp16 images keep all 16.
//! - **fp16** buffers hold any half-precision values, and Core ML passes them on as they are
//!   (`CoreMLPythonUtils.mm` of coremltools, for images of mode F). White is 1 there, as Core Image and
//!   vImage scale float buffers and as coremltools' own tests fill them.
//! - **EXIF orientation** is applied, as Core ML does for images on disk ("Orientation is read from Exif",
//!   `MLFeatureValue+MLImageConversion.h`). Pillow's `Image.open` leaves that to `ImageOps.exif_transpose`.
//! - **Colour profiles and gamma** are ignored, as in Pillow: components are used as they are stored.
//! - **CMYK** is refused, because its conversion to RGB depends on its profile.

use std::io::{Cursor, Read as _};
use std::path::Path;

use ane_runtime::Tensor;
use anyhow::{Context as _, Result, bail, ensure};
use half::f16;
use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{
    DynamicImage, GrayImage, ImageBuffer, ImageDecoder as _, ImageFormat, ImageReader, Luma, RgbImage,
};
use mlpackage::{ColorSpace, DType, ImageSize, ImageType, counted};

/// Size limit of a file, checked before it is read.
const FILE_LIMIT: u64 = 256 << 20;
/// Limit of the width and height that a file declares, checked before it is decoded.
const SIDE_LIMIT: u32 = 1 << 15;
/// Size limit of the decoded pixels in memory, in bytes.
const PIXEL_LIMIT: u64 = 1 << 29;

/// How to handle an image whose size the model does not accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// Refuse it.
    #[default]
    Exact,
    /// Scale it to the model's default size, bicubically and without preserving its proportions.
    Resize,
}

/// The result of reading or writing an image, with notes for the user.
#[derive(Clone, Debug)]
pub struct Converted<T> {
    /// The converted tensor, or `()` for a written file.
    pub value: T,
    /// What was dropped, turned, scaled or clamped, in words.
    pub notes: Vec<String>,
}

/// Reads an image file as a tensor.
///
/// # Errors
///
/// If the file cannot be read, is neither PNG nor JPEG, is damaged, CMYK or unreasonably large, or if the
/// model does not accept its size.
pub fn read(path: &Path, image: &ImageType, fit: Fit) -> Result<Converted<Tensor>> {
    let name = path.display();
    let bytes = read_bytes(path)?;
    let mut notes = Vec::new();
    let decoded = decode(&bytes, &mut notes).with_context(|| name.to_string())?;
    let found = ImageSize::new(decoded.width() as usize, decoded.height() as usize);
    let size = match (image.sizes.admit(found), fit) {
        (true, _) => found,
        (false, Fit::Resize) => {
            let size = image.sizes.default_size();
            notes.push(format!("scaled from {found} to {size}{}", proportions(found, size)));
            size
        }
        (false, Fit::Exact) => {
            bail!(
                "{name} is {found}, the model takes {} (width x height): scale it with --resize",
                image.sizes
            )
        }
    };
    let shape = image.shape_of(size);
    let elements = shape.checked_elements().filter(|n| *n as u64 <= PIXEL_LIMIT / 4);
    ensure!(elements.is_some(), "{name}: an image of {size} is too large");
    let values = match image.color_space {
        ColorSpace::Rgb => planes(&scaled_rgb(&decoded, size), [0, 1, 2]),
        ColorSpace::Bgr => planes(&scaled_rgb(&decoded, size), [2, 1, 0]),
        ColorSpace::Grayscale => scale(grey(&decoded), size).iter().map(|v| f32::from(*v)).collect(),
        ColorSpace::GrayscaleFloat16 => {
            let fraction = |v: &u16| f16::from_f32(f32::from(*v) / 65_535.0).to_f32();
            scale(deep_grey(&decoded), size).iter().map(fraction).collect()
        }
    };
    let dtype = match image.color_space {
        ColorSpace::GrayscaleFloat16 => DType::Fp16,
        _ => DType::Fp32,
    };
    let value = Tensor::with_dtype(dtype, shape, ane_runtime::Data::F32(values))?;
    Ok(Converted { value, notes })
}

/// Reads a regular file whole, within the size limit.
fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let name = path.display();
    let metadata = path.metadata().with_context(|| format!("open {name}"))?;
    ensure!(metadata.is_file(), "{name} is not a regular file");
    ensure!(metadata.len() <= FILE_LIMIT, "{name}: {} bytes, at most {FILE_LIMIT}", metadata.len());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(|| format!("open {name}"))?;
    file.take(FILE_LIMIT).read_to_end(&mut bytes).with_context(|| format!("read {name}"))?;
    Ok(bytes)
}

/// Decodes an image file; applies its orientation and notes that alpha is ignored.
fn decode(bytes: &[u8], notes: &mut Vec<String>) -> Result<DynamicImage> {
    let format = image::guess_format(bytes).ok();
    let Some(format @ (ImageFormat::Png | ImageFormat::Jpeg)) = format else {
        bail!("it is neither a PNG nor a JPEG image: convert it to one of them")
    };
    ensure!(
        format != ImageFormat::Jpeg || jpeg_components(bytes) != Some(4),
        "it is a JPEG image of CMYK, whose colours depend on its profile: convert it to RGB"
    );
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(SIDE_LIMIT);
    limits.max_image_height = Some(SIDE_LIMIT);
    limits.max_alloc = Some(PIXEL_LIMIT);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    ensure!(
        decoder.total_bytes() <= PIXEL_LIMIT,
        "{width} x {height} pixels take {} bytes, at most {PIXEL_LIMIT}",
        decoder.total_bytes()
    );
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut decoded = DynamicImage::from_decoder(decoder)?;
    if orientation != Orientation::NoTransforms {
        decoded.apply_orientation(orientation);
        notes.push(format!("turned upright, as its EXIF data says (orientation {})", orientation.to_exif()));
    }
    if let Some(pixels) = translucent(&decoded).filter(|pixels| *pixels > 0) {
        let of = u64::from(decoded.width()) * u64::from(decoded.height());
        notes.push(format!("its alpha channel is ignored ({pixels} of {of} pixels are not opaque)"));
    }
    Ok(decoded)
}

/// Number of components of a JPEG image, from its frame header.
fn jpeg_components(bytes: &[u8]) -> Option<u8> {
    let mut at = 2;
    loop {
        let [0xff, marker] = *bytes.get(at..at + 2)? else { return None };
        at += 2;
        match marker {
            // A fill byte: the marker follows.
            0xff => at -= 1,
            0x01 | 0xd0..=0xd8 => {}
            // Frame headers are SOF0 to SOF15, except DHT, JPG and DAC: length, precision, height, width,
            // components.
            0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => return bytes.get(at + 7).copied(),
            _ => at += usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])),
        }
    }
}

/// Number of pixels that are not opaque; `None` without an alpha channel.
fn translucent(image: &DynamicImage) -> Option<usize> {
    Some(match image {
        DynamicImage::ImageLumaA8(pixels) => pixels.pixels().filter(|p| p.0[1] != u8::MAX).count(),
        DynamicImage::ImageRgba8(pixels) => pixels.pixels().filter(|p| p.0[3] != u8::MAX).count(),
        DynamicImage::ImageLumaA16(pixels) => pixels.pixels().filter(|p| p.0[1] != u16::MAX).count(),
        DynamicImage::ImageRgba16(pixels) => pixels.pixels().filter(|p| p.0[3] != u16::MAX).count(),
        _ => return None,
    })
}

/// Describes how scaling changes an image's proportions; empty if they stay within 1 %.
fn proportions(from: ImageSize, to: ImageSize) -> String {
    let ratio = |size: ImageSize| size.width as f64 / size.height as f64;
    let (before, after) = (ratio(from), ratio(to));
    match (after / before - 1.0).abs() < 0.01 {
        true => String::new(),
        false => format!(
            ", which changes its proportions from {before:.2} to {after:.2}: crop it first to keep them"
        ),
    }
}

/// The upper 8 bits.
fn upper(value: u16) -> u8 {
    (value >> 8) as u8
}

/// Luma as Pillow computes it, from components of 8 or 16 bits.
fn luma(r: u64, g: u64, b: u64) -> u64 {
    (r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16
}

/// Converts to three channels of 8 bits.
fn rgb(image: &DynamicImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let grey = |v: u8| image::Rgb([v; 3]);
    let from = |pixel: &dyn Fn(u32, u32) -> image::Rgb<u8>| RgbImage::from_fn(width, height, pixel);
    match image {
        DynamicImage::ImageRgb8(pixels) => pixels.clone(),
        DynamicImage::ImageRgba8(p) => from(&|x, y| {
            let [r, g, b, _] = p.get_pixel(x, y).0;
            image::Rgb([r, g, b])
        }),
        DynamicImage::ImageLuma8(p) => from(&|x, y| grey(p.get_pixel(x, y).0[0])),
        DynamicImage::ImageLumaA8(p) => from(&|x, y| grey(p.get_pixel(x, y).0[0])),
        DynamicImage::ImageLuma16(p) => from(&|x, y| grey(upper(p.get_pixel(x, y).0[0]))),
        DynamicImage::ImageLumaA16(p) => from(&|x, y| grey(upper(p.get_pixel(x, y).0[0]))),
        DynamicImage::ImageRgb16(p) => from(&|x, y| image::Rgb(p.get_pixel(x, y).0.map(upper))),
        DynamicImage::ImageRgba16(p) => from(&|x, y| {
            let [r, g, b, _] = p.get_pixel(x, y).0.map(upper);
            image::Rgb([r, g, b])
        }),
        // Float images, which neither PNG nor JPEG has.
        other => other.to_rgb8(),
    }
}

/// Converts to one channel of 8 bits.
fn grey(image: &DynamicImage) -> GrayImage {
    let (width, height) = (image.width(), image.height());
    match image {
        DynamicImage::ImageLuma8(pixels) => pixels.clone(),
        DynamicImage::ImageLumaA8(p) => {
            GrayImage::from_fn(width, height, |x, y| Luma([p.get_pixel(x, y).0[0]]))
        }
        DynamicImage::ImageLuma16(p) => {
            GrayImage::from_fn(width, height, |x, y| Luma([upper(p.get_pixel(x, y).0[0])]))
        }
        DynamicImage::ImageLumaA16(p) => {
            GrayImage::from_fn(width, height, |x, y| Luma([upper(p.get_pixel(x, y).0[0])]))
        }
        colour => {
            let pixels = rgb(colour);
            GrayImage::from_fn(width, height, |x, y| {
                let [r, g, b] = pixels.get_pixel(x, y).0.map(u64::from);
                Luma([luma(r, g, b) as u8])
            })
        }
    }
}

/// Converts to one channel of 16 bits.
fn deep_grey(image: &DynamicImage) -> ImageBuffer<Luma<u16>, Vec<u16>> {
    let (width, height) = (image.width(), image.height());
    let deep = |v: u8| u16::from(v) * 257;
    let of = |[r, g, b]: [u16; 3]| luma(r.into(), g.into(), b.into()) as u16;
    let from =
        |pixel: &dyn Fn(u32, u32) -> u16| ImageBuffer::from_fn(width, height, |x, y| Luma([pixel(x, y)]));
    match image {
        DynamicImage::ImageLuma8(p) => from(&|x, y| deep(p.get_pixel(x, y).0[0])),
        DynamicImage::ImageLumaA8(p) => from(&|x, y| deep(p.get_pixel(x, y).0[0])),
        DynamicImage::ImageLuma16(pixels) => pixels.clone(),
        DynamicImage::ImageLumaA16(p) => from(&|x, y| p.get_pixel(x, y).0[0]),
        DynamicImage::ImageRgb16(p) => from(&|x, y| of(p.get_pixel(x, y).0)),
        DynamicImage::ImageRgba16(p) => from(&|x, y| {
            let [r, g, b, _] = p.get_pixel(x, y).0;
            of([r, g, b])
        }),
        colour => {
            let pixels = rgb(colour);
            from(&|x, y| of(pixels.get_pixel(x, y).0.map(deep)))
        }
    }
}

fn scaled_rgb(image: &DynamicImage, size: ImageSize) -> RgbImage {
    scale(rgb(image), size)
}

/// Scales an image, unless it has that size already.
fn scale<P>(image: ImageBuffer<P, Vec<P::Subpixel>>, size: ImageSize) -> ImageBuffer<P, Vec<P::Subpixel>>
where
    P: image::Pixel + 'static,
    P::Subpixel: 'static,
{
    let (width, height) = (size.width as u32, size.height as u32);
    match image.dimensions() == (width, height) {
        true => image,
        false => imageops::resize(&image, width, height, FilterType::CatmullRom),
    }
}

/// The channels of an image as consecutive planes, in the order of `channels`.
fn planes(image: &RgbImage, channels: [usize; 3]) -> Vec<f32> {
    channels
        .iter()
        .flat_map(|&channel| image.pixels().map(move |pixel| f32::from(pixel.0[channel])))
        .collect()
}

/// Writes an output of image type as a PNG file, atomically: 8 bits per channel, or 16-bit grey for fp16.
///
/// Components are rounded to the nearest value that a pixel can hold, and NaN becomes 0. Values outside the
/// range are clamped, which the notes report. How Core ML rounds is not documented.
///
/// # Errors
///
/// If the model's description does not allow the tensor's shape, or the file cannot be written.
pub fn write(path: &Path, image: &ImageType, tensor: &Tensor) -> Result<Converted<()>> {
    let (png, notes) = encode(image, tensor)?;
    atomic_output::write_file(path, &png)?;
    Ok(Converted { value: (), notes })
}

/// Encodes a tensor as the bytes of a PNG file.
fn encode(image: &ImageType, tensor: &Tensor) -> Result<(Vec<u8>, Vec<String>)> {
    let shape = tensor.shape();
    ensure!(image.admits(shape.dims()), "its shape is {shape}, which is not that of {image}");
    let &[_, channels, height, width] = shape.dims() else {
        bail!("its shape is {shape}, expected four axes")
    };
    let values = tensor.as_f32().context("its elements are integers, expected floats")?;
    let (width, height, plane) = (u32::try_from(width)?, u32::try_from(height)?, height * width);
    let is_deep = image.color_space == ColorSpace::GrayscaleFloat16;
    let (white, levels) = if is_deep { (1.0, 65_535.0) } else { (255.0, 255.0) };
    let level = |value: &f32| (value.clamp(0.0, white) / white * levels).round();
    let at = |i: u32, channel: usize| &values[channel * plane + i as usize];
    let mut png = Cursor::new(Vec::new());
    let picture = if is_deep {
        let pixel = |x, y| Luma([level(at(y * width + x, 0)) as u16]);
        DynamicImage::ImageLuma16(ImageBuffer::from_fn(width, height, pixel))
    } else if channels == 1 {
        let pixel = |x, y| Luma([level(at(y * width + x, 0)) as u8]);
        DynamicImage::ImageLuma8(ImageBuffer::from_fn(width, height, pixel))
    } else {
        let order = if image.color_space == ColorSpace::Bgr { [2, 1, 0] } else { [0, 1, 2] };
        let pixel = |x, y| image::Rgb(order.map(|channel| level(at(y * width + x, channel)) as u8));
        DynamicImage::ImageRgb8(ImageBuffer::from_fn(width, height, pixel))
    };
    picture.write_to(&mut png, ImageFormat::Png)?;
    Ok((png.into_inner(), lost(values, white)))
}

/// Notes on values that the image does not represent.
fn lost(values: &[f32], white: f32) -> Vec<String> {
    let mut notes = Vec::new();
    let nans = values.iter().filter(|v| v.is_nan()).count();
    if nans > 0 {
        notes.push(format!("{} of {} are NaN, written as 0", nans, counted(values.len(), "value")));
    }
    let outside = values.iter().filter(|v| **v < 0.0 || **v > white).count();
    let (low, high) =
        values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    if outside > 0 {
        notes.push(format!(
            "{outside} of {} lie outside 0 to {white} and were clamped: they range from {low} to {high}",
            counted(values.len(), "value")
        ));
    } else if white > 1.0 && high <= 1.0 && high > 0.0 {
        notes.push(format!(
            "its values range from {low} to {high}, where {white} is white: it is all but black"
        ));
    }
    notes
}
