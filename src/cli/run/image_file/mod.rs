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

mod encode;
mod header;
mod jpeg;
mod pixels;
mod png;

use std::io::Read as _;
use std::path::Path;

use ane_runtime::Tensor;
use anyhow::{Context as _, Result, bail, ensure};
use half::f16;
use mlpackage::{ColorSpace, DType, ImageSize, ImageType};

use self::header::Header;
use self::pixels::{deep_grey, grey, planes, rgb, scale};

/// Size limit of a file, checked before it is read.
const FILE_LIMIT: u64 = 256 << 20;
/// Size limit of the decoded pixels in memory, in bytes.
const PIXEL_LIMIT: u64 = 1 << 29;

/// How to handle an image whose size the model does not accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Refuse it.
    #[default]
    Exact,
    /// Scale it to the model's default size, bicubically and without preserving its proportions.
    Resize,
}

/// The result of reading or writing an image, with notes for the user.
#[derive(Clone, Debug)]
pub(crate) struct Converted<T> {
    /// The converted tensor, or `()` for a written file.
    pub(crate) value: T,
    /// What was dropped, turned, scaled or clamped, in words.
    pub(crate) notes: Vec<String>,
}

/// Reads an image file as a tensor.
///
/// # Errors
///
/// If the file cannot be read, is neither PNG nor JPEG, is damaged, CMYK or unreasonably large, or if the
/// model does not accept its size.
pub(crate) fn read(path: &Path, image: &ImageType, fit: Fit) -> Result<Converted<Tensor>> {
    let name = path.display();
    let bytes = read_bytes(path)?;
    let mut notes = Vec::new();
    let admit = |found: ImageSize| match (image.sizes.admits(found), fit) {
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
        ColorSpace::Rgb => planes(&scale(rgb(&decoded), size), [0, 1, 2]),
        ColorSpace::Bgr => planes(&scale(rgb(&decoded), size), [2, 1, 0]),
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

/// Writes an output of image type as a PNG file, atomically: 8 bits per channel, or 16-bit grey for fp16.
///
/// Components are rounded to the nearest value that a pixel can hold, and NaN becomes 0. Values outside the
/// range are clamped, which the notes report. How Core ML rounds is not documented.
///
/// # Errors
///
/// If the model's description does not allow the tensor's shape, or the file cannot be written.
pub(crate) fn write(path: &Path, image: &ImageType, tensor: &Tensor) -> Result<Converted<()>> {
    let (png, notes) = encode::png(image, tensor)?;
    atomic_output::write_file(path, &png)?;
    Ok(Converted { value: (), notes })
}
