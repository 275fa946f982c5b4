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
//! - **16 bits** per channel are reduced to their upper 8; fp16 images keep all 16. Pillow does the same for colour,
//!   but clips 16-bit grey at 255.
//! - **fp16** buffers hold any half-precision values, and Core ML passes them on as they are
//!   (`CoreMLPythonUtils.mm` of coremltools, for images of mode F). White is 1 there, as Core Image and
//!   vImage scale float buffers and as coremltools' own tests fill them.
//! - **EXIF orientation** is applied, as Core ML does for images on disk ("Orientation is read from Exif",
//!   `MLFeatureValue+MLImageConversion.h`). Pillow's `Image.open` leaves that to `ImageOps.exif_transpose`.
//! - **Colour profiles and gamma** are ignored, as in Pillow: components are used as they are stored.
//! - **CMYK** is refused, because its conversion to RGB depends on its profile.

use std::borrow::Cow;
use std::io::{Cursor, Read as _};
use std::path::Path;

use ane_runtime::Tensor;
use anyhow::{Context as _, Error, Result, bail, ensure};
use half::f16;
use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{
    DynamicImage, GrayImage, ImageBuffer, ImageDecoder, ImageError, ImageFormat, ImageReader, Luma, RgbImage,
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
    let admit = |found: ImageSize| match (image.sizes.admit(found), fit) {
        (true, _) => Ok(found),
        (false, Fit::Resize) => Ok(image.sizes.default_size()),
        (false, Fit::Exact) => bail!(
            "{name} is {found}, the model takes {} (width x height): scale it with --resize",
            image.sizes
        ),
    };
    let header = Header::read(&bytes).with_context(|| name.to_string())?;
    let found = header.size();
    let size = admit(found)?;
    if size != found {
        notes.push(format!("scaled from {found} to {size}{}", proportions(found, size)));
    }
    let decoded = header.decode(&mut notes).with_context(|| name.to_string())?;
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

/// An image file whose header has been read, and whose pixels have not.
struct Header<'b> {
    decoder: Box<dyn ImageDecoder + 'b>,
    orientation: Orientation,
}

impl<'b> Header<'b> {
    fn read(bytes: &'b [u8]) -> Result<Self> {
        ensure!(!bytes.is_empty(), "it is empty");
        let format = image::guess_format(bytes).ok();
        let Some(format @ (ImageFormat::Png | ImageFormat::Jpeg)) = format else {
            bail!("it is neither a PNG nor a JPEG image: convert it to one of them")
        };
        let mut bytes = Cow::Borrowed(bytes);
        if format == ImageFormat::Png {
            bytes = without_metadata(&bytes).into();
        } else {
            let segments = JpegSegments::of(&bytes);
            ensure!(
                segments.components != Some(4),
                "it is a JPEG image of CMYK, whose colours depend on its profile: convert it to RGB"
            );
            // The decoder fills what is missing with grey.
            ensure!(segments.are_complete, "it is cut short: its end is missing");
        }
        let mut limits = image::Limits::default();
        limits.max_alloc = Some(PIXEL_LIMIT);
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(explained)?;
        let ((width, height), bytes) = (decoder.dimensions(), decoder.total_bytes());
        ensure!(
            width.max(height) <= SIDE_LIMIT,
            "it is {width} x {height}, more than the limit of {SIDE_LIMIT} pixels a side"
        );
        ensure!(
            bytes <= PIXEL_LIMIT,
            "it is {width} x {height}, which takes {bytes} bytes, more than the limit of {PIXEL_LIMIT}"
        );
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        Ok(Self { decoder: Box::new(decoder), orientation })
    }

    /// The size of the image once its orientation is applied.
    fn size(&self) -> ImageSize {
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        let (width, height) = self.decoder.dimensions();
        let (width, height) = (width as usize, height as usize);
        match self.orientation {
            Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH => ImageSize::new(height, width),
            _ => ImageSize::new(width, height),
        }
    }

    /// Decodes the pixels; applies the orientation and notes that alpha is ignored.
    fn decode(self, notes: &mut Vec<String>) -> Result<DynamicImage> {
        let Self { decoder, orientation } = self;
        let mut decoded = DynamicImage::from_decoder(decoder).map_err(explained)?;
        if orientation != Orientation::NoTransforms {
            decoded.apply_orientation(orientation);
            notes.push(format!(
                "turned upright, as its EXIF data says (orientation {})",
                orientation.to_exif()
            ));
        }
        if let Some(pixels) = translucent(&decoded).filter(|pixels| *pixels > 0) {
            let of = u64::from(decoded.width()) * u64::from(decoded.height());
            notes.push(format!("its alpha channel is ignored ({pixels} of {of} pixels are not opaque)"));
        }
        Ok(decoded)
    }
}

/// Says what an error of the decoder means for the file.
fn explained(error: ImageError) -> Error {
    match &error {
        ImageError::Limits(_) => {
            Error::new(error).context(format!("it takes more memory than the limit of {PIXEL_LIMIT} bytes"))
        }
        ImageError::Unsupported(_) => {
            Error::new(error).context("it has a form that this program does not read")
        }
        _ => Error::new(error).context("it is damaged or cut short"),
    }
}

/// A PNG file without its colour profile and texts. They are not used, and decompressing them could take any amount of
/// memory.
fn without_metadata(png: &[u8]) -> Vec<u8> {
    const CHUNKS: [&[u8]; 4] = [b"iCCP", b"iTXt", b"tEXt", b"zTXt"];
    let signature = png.len().min(8);
    let (signature, mut rest) = png.split_at(signature);
    let mut kept = signature.to_vec();
    // A chunk is the length of its data, its type, its data and a checksum.
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (chunk, further) = rest.split_at(length.saturating_add(12).min(rest.len()));
        if !chunk.get(4..8).is_some_and(|name| CHUNKS.contains(&name)) {
            kept.extend_from_slice(chunk);
        }
        rest = further;
    }
    kept.extend_from_slice(rest);
    kept
}

/// What the segments of a JPEG file say about it.
struct JpegSegments {
    /// Number of components, from the frame header.
    components: Option<u8>,
    /// Whether a marker ends the image, after its pixels.
    are_complete: bool,
}

impl JpegSegments {
    fn of(bytes: &[u8]) -> Self {
        let mut found = Self { components: None, are_complete: false };
        let (mut at, mut has_pixels) = (2, false);
        while let Some(next) = bytes.get(at..) {
            // Pixels have no 0xff but before a zero or a restart marker, which have no length.
            let Some(skipped) =
                next.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0 | 1 | 0xd0..=0xd8 | 0xff))
            else {
                return found;
            };
            at += skipped + 2;
            match bytes[at - 1] {
                0xd9 => {
                    found.are_complete = has_pixels;
                    return found;
                }
                0xda => has_pixels = true,
                // Frame headers are SOF0 to SOF15, except DHT, JPG and DAC: length, precision, height, width,
                // components.
                marker @ 0xc0..=0xcf
                    if ![0xc4, 0xc8, 0xcc].contains(&marker) && found.components.is_none() =>
                {
                    found.components = bytes.get(at + 7).copied();
                }
                _ => {}
            }
            // A segment may hold a thumbnail, which is a JPEG file of its own.
            let Some(&[high, low]) = bytes.get(at..at + 2) else { return found };
            at += usize::from(u16::from_be_bytes([high, low]));
        }
        found
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

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let pixel = |x: u32, y: u32| image::Rgb([(x * 7) as u8, (y * 11) as u8, (x * y) as u8]);
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::ImageRgb8(RgbImage::from_fn(40, 30, pixel)).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// A thumbnail in an EXIF segment has its own end; it is not that of the image.
    #[test]
    fn a_jpeg_image_that_is_cut_anywhere_is_incomplete() {
        let whole = encoded(ImageFormat::Jpeg);
        let mut with_thumbnail = whole[..2].to_vec();
        with_thumbnail.extend(b"\xff\xe1");
        with_thumbnail.extend((whole.len() as u16 + 2).to_be_bytes());
        with_thumbnail.extend(&whole);
        with_thumbnail.extend(&whole[2..]);
        for file in [&whole, &with_thumbnail] {
            assert!(JpegSegments::of(file).are_complete);
            assert_eq!(JpegSegments::of(file).components, Some(3));
            Header::read(file).unwrap().decode(&mut Vec::new()).unwrap();
            for end in 0..file.len() {
                assert!(!JpegSegments::of(&file[..end]).are_complete, "cut at {end}");
            }
            let mut padded = file.clone();
            padded.extend([0; 100]);
            assert!(JpegSegments::of(&padded).are_complete, "bytes after the end");
        }
    }

    #[test]
    fn metadata_that_is_not_used_is_not_read() {
        let plain = encoded(ImageFormat::Png);
        assert_eq!(without_metadata(&plain), plain);
        // The header is a chunk of 13 bytes. The profile and the text are not valid.
        let mut file = plain[..33].to_vec();
        for name in [b"iCCP", b"zTXt", b"iTXt", b"tEXt"] {
            file.extend(b"\0\0\0\x03");
            file.extend(name);
            file.extend(b"abc\0\0\0\0");
        }
        file.extend(&plain[33..]);
        assert_eq!(without_metadata(&file), plain);
        for end in 0..plain.len() {
            assert_eq!(without_metadata(&plain[..end]), plain[..end]);
        }
    }
}
