//! Image features.

use std::fmt;

use prost::Message as _;

use crate::dim_range::DimRange;
use crate::mil::Dims;
use crate::proto;
use crate::shape::Shape;

/// The type of an image feature. In the program it is a tensor `[1, channels, height, width]`.
///
/// Core ML passes images as pixel buffers, and the program receives their components without scaling:
/// integers from 0 to 255, or any fp16 value with [`ColorSpace::GrayscaleFloat16`]. Preprocessing, such as a
/// scale and a bias for each channel, is part of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageType {
    /// The colour space.
    pub color_space: ColorSpace,
    /// The allowed sizes.
    pub sizes: ImageSizes,
}

/// The channels of an image and the storage of their components (`ImageFeatureType.ColorSpace` in Core ML's
/// `FeatureTypes.proto`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColorSpace {
    /// One channel of 8 bits.
    Grayscale,
    /// Red, green and blue, 8 bits each.
    Rgb,
    /// Blue, green and red, 8 bits each.
    Bgr,
    /// One channel of fp16.
    GrayscaleFloat16,
}

/// The allowed sizes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSizes {
    /// One size.
    Fixed(ImageSize),
    /// One of several sizes.
    Enumerated {
        /// The default, which is one of `sizes`.
        default: ImageSize,
        /// The allowed sizes.
        sizes: Vec<ImageSize>,
    },
    /// Ranges of width and height.
    Ranged {
        /// The default.
        default: ImageSize,
        /// The range of the width.
        width: DimRange,
        /// The range of the height.
        height: DimRange,
    },
}

/// The size of an image in pixels. Displays as width x height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageSize {
    /// Pixels per row.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
}

impl ImageSize {
    /// Creates a size.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height }
    }
}

impl ColorSpace {
    /// All colour spaces.
    pub const ALL: [Self; 4] = [Self::Grayscale, Self::Rgb, Self::Bgr, Self::GrayscaleFloat16];

    /// Returns the number of channels.
    pub fn channels(self) -> usize {
        match self {
            Self::Grayscale | Self::GrayscaleFloat16 => 1,
            Self::Rgb | Self::Bgr => 3,
        }
    }

    /// Returns Core ML's name, such as `RGB`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grayscale => "GRAYSCALE",
            Self::Rgb => "RGB",
            Self::Bgr => "BGR",
            Self::GrayscaleFloat16 => "GRAYSCALE_FLOAT16",
        }
    }

    fn number(self) -> i32 {
        match self {
            Self::Grayscale => proto::ImageFeatureType::GRAYSCALE,
            Self::Rgb => proto::ImageFeatureType::RGB,
            Self::Bgr => proto::ImageFeatureType::BGR,
            Self::GrayscaleFloat16 => proto::ImageFeatureType::GRAYSCALE_FLOAT16,
        }
    }
}

impl ImageSizes {
    /// Returns the default size.
    pub fn default_size(&self) -> ImageSize {
        match self {
            Self::Fixed(size) => *size,
            Self::Enumerated { default, .. } | Self::Ranged { default, .. } => *default,
        }
    }

    /// Returns whether `size` is allowed.
    pub fn admits(&self, size: ImageSize) -> bool {
        match self {
            Self::Fixed(only) => *only == size,
            Self::Enumerated { sizes, .. } => sizes.contains(&size),
            Self::Ranged { width, height, .. } => width.admits(size.width) && height.admits(size.height),
        }
    }
}

impl ImageType {
    /// Creates an image type of one size.
    pub fn new(color_space: ColorSpace, size: ImageSize) -> Self {
        Self { color_space, sizes: ImageSizes::Fixed(size) }
    }

    /// Returns the default shape of the image's tensor.
    pub fn default_shape(&self) -> Shape {
        self.shape_of(self.sizes.default_size())
    }

    /// Returns the shape of the image's tensor for the given size.
    pub fn shape_of(&self, size: ImageSize) -> Shape {
        [1, self.color_space.channels(), size.height, size.width].into()
    }

    /// Returns whether a tensor of shape `dims` is an allowed image.
    pub fn admits(&self, dims: &[usize]) -> bool {
        match *dims {
            [1, channels, height, width] => {
                channels == self.color_space.channels() && self.sizes.admits(ImageSize { width, height })
            }
            _ => false,
        }
    }

    /// Returns whether a value that the program declares with `dims` can be such an image.
    pub(crate) fn may_be(&self, dims: &Dims) -> bool {
        // Tensors of other ranks are images only in models older than ML Programs; how Core ML treats them
        // here is unknown.
        let &[_, channels, height, width] = dims.as_slice() else { return true };
        let size = match self.sizes {
            ImageSizes::Fixed(size) => height.may_be(size.height) && width.may_be(size.width),
            ImageSizes::Enumerated { .. } | ImageSizes::Ranged { .. } => true,
        };
        channels.may_be(self.color_space.channels()) && size
    }

    /// Decodes an image type; `None` if its colour space is unknown or it has no size.
    pub(crate) fn decode(encoded: &[u8]) -> Option<Self> {
        use proto::image_feature_type::SizeFlexibility;
        let image = proto::ImageFeatureType::decode(encoded).ok()?;
        let color_space = ColorSpace::ALL.into_iter().find(|c| c.number() == image.color_space)?;
        let extent = |extent: i64| usize::try_from(extent).ok().filter(|extent| *extent > 0);
        let stated = extent(image.width).zip(extent(image.height));
        let stated = stated.map(|(width, height)| ImageSize { width, height });
        let sizes = match image.size_flexibility {
            None => ImageSizes::Fixed(stated?),
            Some(SizeFlexibility::Enumerated(list)) => {
                let size = |size: &proto::ImageSize| {
                    let (width, height) = (usize::try_from(size.width), usize::try_from(size.height));
                    Some(ImageSize { width: width.ok()?, height: height.ok()? })
                };
                let sizes = list.sizes.iter().map(size).collect::<Option<Vec<_>>>()?;
                let default = stated.or_else(|| sizes.first().copied())?;
                ImageSizes::Enumerated { default, sizes }
            }
            Some(SizeFlexibility::Range(range)) => {
                let width = DimRange::from_proto(&range.width.unwrap_or_default())?;
                let height = DimRange::from_proto(&range.height.unwrap_or_default())?;
                let smallest = ImageSize { width: width.lower.max(1), height: height.lower.max(1) };
                ImageSizes::Ranged { default: stated.unwrap_or(smallest), width, height }
            }
        };
        Some(Self { color_space, sizes })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        use proto::image_feature_type::SizeFlexibility;
        let ImageSize { width, height } = self.sizes.default_size();
        let size_flexibility = match &self.sizes {
            ImageSizes::Fixed(_) => None,
            ImageSizes::Enumerated { sizes, .. } => {
                let size =
                    |s: &ImageSize| proto::ImageSize { width: s.width as u64, height: s.height as u64 };
                let sizes = sizes.iter().map(size).collect();
                Some(SizeFlexibility::Enumerated(proto::EnumeratedImageSizes { sizes }))
            }
            ImageSizes::Ranged { width, height, .. } => Some(SizeFlexibility::Range(proto::ImageSizeRange {
                width: Some(width.to_proto()),
                height: Some(height.to_proto()),
            })),
        };
        proto::ImageFeatureType {
            width: width as i64,
            height: height as i64,
            color_space: self.color_space.number(),
            size_flexibility,
        }
        .encode_to_vec()
    }
}

impl fmt::Display for ColorSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.width, self.height)
    }
}

/// Displays `640 x 480`, `one of 80 x 100, 100 x 80` or `16..640 x 16..`, each as width x height.
impl fmt::Display for ImageSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => size.fmt(f),
            Self::Enumerated { sizes, .. } => {
                f.write_str("one of ")?;
                for (i, size) in sizes.iter().enumerate() {
                    write!(f, "{}{size}", if i > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
            Self::Ranged { width, height, .. } => write!(f, "{width} x {height}"),
        }
    }
}

/// Displays `image<RGB, 640 x 480>`, width first; if there are several sizes, the default follows.
impl fmt::Display for ImageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image<{}, {}>", self.color_space, self.sizes)?;
        match &self.sizes {
            ImageSizes::Fixed(_) => Ok(()),
            ImageSizes::Enumerated { default, .. } | ImageSizes::Ranged { default, .. } => {
                write!(f, ", by default {default}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hand-encoded `ImageFeatureType`: field 1 is the width, 2 the height, 3 the colour space, 21 sizes, 31
    /// ranges.
    #[test]
    fn descriptions_are_read() {
        let image = |encoded: &[u8]| ImageType::decode(encoded).map(|image| image.to_string());
        let is = |encoded: &[u8], text: &str| assert_eq!(image(encoded).as_deref(), Some(text));
        is(&[0x08, 0x08, 0x10, 0x04, 0x18, 20], "image<RGB, 8 x 4>");
        is(&[0x08, 0x08, 0x10, 0x04, 0x18, 40], "image<GRAYSCALE_FLOAT16, 8 x 4>");
        // Sizes 8 x 4 and 2 x 3; the first is the default.
        let sizes = [0x18, 30, 0xaa, 1, 12, 0x0a, 4, 0x08, 8, 0x10, 4, 0x0a, 4, 0x08, 2, 0x10, 3];
        is(&sizes, "image<BGR, one of 8 x 4, 2 x 3>, by default 8 x 4");
        // Width 2 to 9, height 3 or more. An upper bound of -1 occupies ten bytes.
        let mut range = vec![0x18, 10, 0xfa, 1, 21, 0x0a, 4, 0x08, 2, 0x10, 9, 0x12, 13, 0x08, 3, 0x10];
        range.extend([0xff; 9]);
        range.push(1);
        is(&range, "image<GRAYSCALE, 2..9 x 3..>, by default 2 x 3");
        // No colour space; no size.
        assert_eq!(image(&[0x08, 0x08, 0x10, 0x04]), None);
        assert_eq!(image(&[0x18, 20]), None);
    }

    #[test]
    fn descriptions_are_written_as_they_are_read() {
        let default = ImageSize::new(8, 4);
        let range = |lower, upper| DimRange { lower, upper };
        for sizes in [
            ImageSizes::Fixed(default),
            ImageSizes::Enumerated { default, sizes: vec![ImageSize::new(2, 3), default] },
            ImageSizes::Ranged { default, width: range(2, Some(9)), height: range(3, None) },
        ] {
            for color_space in ColorSpace::ALL {
                let image = ImageType { color_space, sizes: sizes.clone() };
                assert_eq!(ImageType::decode(&image.encode()).as_ref(), Some(&image));
                assert!(image.admits(image.default_shape().dims()));
                assert!(!image.admits(&[1, image.color_space.channels(), 2, 2]));
                assert!(!image.admits(&[1, 2, 4, 8]));
                assert!(!image.admits(&[2, image.color_space.channels(), 4, 8]));
            }
        }
    }
}
