//! Reads the header of an image file, and then its pixels, within limits.

use std::borrow::Cow;
use std::io::Cursor;

use anyhow::{Error, Result, bail, ensure};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use mlpackage::ImageSize;

use super::PIXEL_LIMIT;
use super::jpeg::JpegSegments;
use super::png::without_metadata;

/// Limit of the width and height that a file declares, checked before it is decoded.
const SIDE_LIMIT: u32 = 1 << 15;

/// An image file whose header has been read, and whose pixels have not.
pub(super) struct Header<'b> {
    decoder: Box<dyn ImageDecoder + 'b>,
    orientation: Orientation,
}

impl<'b> Header<'b> {
    pub(super) fn read(bytes: &'b [u8]) -> Result<Self> {
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

    /// Returns the size of the image once its orientation is applied.
    pub(super) fn size(&self) -> ImageSize {
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        let (width, height) = self.decoder.dimensions();
        let (width, height) = (width as usize, height as usize);
        match self.orientation {
            Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH => ImageSize::new(height, width),
            _ => ImageSize::new(width, height),
        }
    }

    /// Decodes the pixels; applies the orientation and notes that alpha is ignored.
    pub(super) fn decode(self, notes: &mut Vec<String>) -> Result<DynamicImage> {
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

/// Explains what an error of the decoder means for the file.
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

/// Returns the number of pixels that are not opaque; `None` without an alpha channel.
fn translucent(image: &DynamicImage) -> Option<usize> {
    Some(match image {
        DynamicImage::ImageLumaA8(pixels) => pixels.pixels().filter(|p| p.0[1] != u8::MAX).count(),
        DynamicImage::ImageRgba8(pixels) => pixels.pixels().filter(|p| p.0[3] != u8::MAX).count(),
        DynamicImage::ImageLumaA16(pixels) => pixels.pixels().filter(|p| p.0[1] != u16::MAX).count(),
        DynamicImage::ImageRgba16(pixels) => pixels.pixels().filter(|p| p.0[3] != u16::MAX).count(),
        _ => return None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use image::RgbImage;

    use super::*;

    /// An image of 40 x 30 pixels in a format.
    pub(in super::super) fn encoded(format: ImageFormat) -> Vec<u8> {
        let pixel = |x: u32, y: u32| image::Rgb([(x * 7) as u8, (y * 11) as u8, (x * y) as u8]);
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::ImageRgb8(RgbImage::from_fn(40, 30, pixel)).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }
}
