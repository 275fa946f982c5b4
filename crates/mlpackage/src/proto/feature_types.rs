//! `FeatureTypes.proto`: the types of inputs, outputs and states.

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureType {
    #[prost(oneof = "feature_type::Type", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub(crate) r#type: Option<feature_type::Type>,
    #[prost(bool, tag = "1000")]
    pub(crate) is_optional: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageFeatureType {
    #[prost(int64, tag = "1")]
    pub(crate) width: i64,
    #[prost(int64, tag = "2")]
    pub(crate) height: i64,
    #[prost(int32, tag = "3")]
    pub(crate) color_space: i32,
    #[prost(oneof = "image_feature_type::SizeFlexibility", tags = "21, 31")]
    pub(crate) size_flexibility: Option<image_feature_type::SizeFlexibility>,
}

/// `ImageFeatureType.ColorSpace`.
impl ImageFeatureType {
    pub(crate) const GRAYSCALE: i32 = 10;
    pub(crate) const RGB: i32 = 20;
    pub(crate) const BGR: i32 = 30;
    pub(crate) const GRAYSCALE_FLOAT16: i32 = 40;
}

pub(crate) mod image_feature_type {
    use super::{EnumeratedImageSizes, ImageSizeRange, Oneof};

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum SizeFlexibility {
        #[prost(message, tag = "21")]
        Enumerated(EnumeratedImageSizes),
        #[prost(message, tag = "31")]
        Range(ImageSizeRange),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EnumeratedImageSizes {
    #[prost(message, repeated, tag = "1")]
    pub(crate) sizes: Vec<ImageSize>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageSize {
    #[prost(uint64, tag = "1")]
    pub(crate) width: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) height: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageSizeRange {
    #[prost(message, optional, tag = "1")]
    pub(crate) width: Option<SizeRange>,
    #[prost(message, optional, tag = "2")]
    pub(crate) height: Option<SizeRange>,
}

/// Types other than arrays and states are kept in encoded form.
pub(crate) mod feature_type {
    use super::{ArrayFeatureType, Oneof, StateFeatureType};

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum Type {
        #[prost(bytes, tag = "1")]
        Int64(Vec<u8>),
        #[prost(bytes, tag = "2")]
        Double(Vec<u8>),
        #[prost(bytes, tag = "3")]
        String(Vec<u8>),
        #[prost(bytes, tag = "4")]
        Image(Vec<u8>),
        #[prost(message, tag = "5")]
        MultiArray(ArrayFeatureType),
        #[prost(bytes, tag = "6")]
        Dictionary(Vec<u8>),
        #[prost(bytes, tag = "7")]
        Sequence(Vec<u8>),
        #[prost(message, tag = "8")]
        State(StateFeatureType),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArrayFeatureType {
    /// The default shape, if several are allowed.
    #[prost(int64, repeated, tag = "1")]
    pub(crate) shape: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(crate) data_type: i32,
    #[prost(oneof = "array_feature_type::ShapeFlexibility", tags = "21, 31")]
    pub(crate) shape_flexibility: Option<array_feature_type::ShapeFlexibility>,
    #[prost(oneof = "array_feature_type::DefaultOptionalValue", tags = "41, 51, 61")]
    pub(crate) default_optional_value: Option<array_feature_type::DefaultOptionalValue>,
}

pub(crate) mod array_feature_type {
    use super::{EnumeratedShapes, Oneof, ShapeRange};

    #[derive(Clone, Copy, PartialEq, Oneof)]
    pub(crate) enum DefaultOptionalValue {
        #[prost(int32, tag = "41")]
        Int(i32),
        #[prost(float, tag = "51")]
        Float(f32),
        #[prost(double, tag = "61")]
        Double(f64),
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum ShapeFlexibility {
        #[prost(message, tag = "21")]
        Enumerated(EnumeratedShapes),
        #[prost(message, tag = "31")]
        Range(ShapeRange),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EnumeratedShapes {
    #[prost(message, repeated, tag = "1")]
    pub(crate) shapes: Vec<ArrayShape>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArrayShape {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ShapeRange {
    #[prost(message, repeated, tag = "1")]
    pub(crate) size_ranges: Vec<SizeRange>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SizeRange {
    #[prost(uint64, tag = "1")]
    pub(crate) lower_bound: u64,
    /// -1 if there is no bound.
    #[prost(int64, tag = "2")]
    pub(crate) upper_bound: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StateFeatureType {
    #[prost(message, optional, tag = "1")]
    pub(crate) array_type: Option<ArrayFeatureType>,
}
