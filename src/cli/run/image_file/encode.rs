//! Encodes tensors as PNG files.

use std::io::Cursor;

use ane_runtime::Tensor;
use anyhow::{Context as _, Result, bail, ensure};
use image::{DynamicImage, ImageBuffer, ImageFormat, Luma};
use mlpackage::{ColorSpace, ImageType, counted};

/// Encodes a tensor as the bytes of a PNG file, with notes on what the file does not represent.
pub(super) fn png(image: &ImageType, tensor: &Tensor) -> Result<(Vec<u8>, Vec<String>)> {
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

/// Describes the values that the image does not represent.
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
