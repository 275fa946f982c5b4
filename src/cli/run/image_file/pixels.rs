//! Conversion of decoded pixels to the channels, the depth and the size that a model takes.

use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageBuffer, Luma, RgbImage};
use mlpackage::ImageSize;

/// Returns the upper 8 bits.
fn upper(value: u16) -> u8 {
    (value >> 8) as u8
}

/// Returns luma as Pillow computes it, from components of 8 or 16 bits.
fn luma(r: u64, g: u64, b: u64) -> u64 {
    (r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16
}

/// Converts to three channels of 8 bits.
pub(super) fn rgb(image: &DynamicImage) -> RgbImage {
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
pub(super) fn grey(image: &DynamicImage) -> GrayImage {
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
pub(super) fn deep_grey(image: &DynamicImage) -> ImageBuffer<Luma<u16>, Vec<u16>> {
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

/// Scales an image, unless it has that size already.
pub(super) fn scale<P>(
    image: ImageBuffer<P, Vec<P::Subpixel>>,
    size: ImageSize,
) -> ImageBuffer<P, Vec<P::Subpixel>>
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

/// Returns the channels of an image as consecutive planes, in the order of `channels`.
pub(super) fn planes(image: &RgbImage, channels: [usize; 3]) -> Vec<f32> {
    channels
        .iter()
        .flat_map(|&channel| image.pixels().map(move |pixel| f32::from(pixel.0[channel])))
        .collect()
}
