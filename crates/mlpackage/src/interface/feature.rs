//! An input, output or state, and its type.

use std::fmt;

use super::other_type::{OtherKind, OtherType};
use super::shapes::AllowedShapes;
use crate::image::ImageType;
use crate::mil::TensorType;
use crate::shape::Shape;

/// An input, output or state.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// The name, which is the same in the program.
    pub name: String,
    /// The type.
    pub ty: FeatureType,
    /// Whether a call may omit it.
    pub optional: bool,
    /// A free-text description; often empty.
    pub description: String,
}

/// The type of an input, output or state.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FeatureType {
    /// A tensor.
    Array(ArrayType),
    /// An image, label or dictionary of probabilities, which is kept in its encoded form.
    Other(OtherType),
}

/// The type of a tensor feature.
#[derive(Clone, Debug, PartialEq)]
pub struct ArrayType {
    /// The tensor's type. A dimension that the caller may choose is unknown.
    pub tensor: TensorType,
    /// The allowed shapes.
    pub shapes: AllowedShapes,
    /// The value of every element if the caller omits the input.
    pub default_value: Option<DefaultValue>,
}

/// The value of every element of an omitted input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DefaultValue {
    /// For int32.
    Int(i32),
    /// For fp16 and fp32.
    Float(f32),
    /// For fp64.
    Double(f64),
}

impl Feature {
    /// Creates a tensor feature of fixed shape.
    pub fn new(name: impl Into<String>, tensor: TensorType) -> Self {
        let array = ArrayType { tensor, shapes: AllowedShapes::FromType, default_value: None };
        Self { name: name.into(), ty: FeatureType::Array(array), optional: false, description: String::new() }
    }

    /// Returns the array type; `None` if this is not a tensor.
    pub fn array(&self) -> Option<&ArrayType> {
        match &self.ty {
            FeatureType::Array(array) => Some(array),
            FeatureType::Other(_) => None,
        }
    }

    /// Returns the image type; `None` if this is not an image, or its colour space or size is unknown.
    pub fn image(&self) -> Option<ImageType> {
        match &self.ty {
            FeatureType::Array(_) => None,
            FeatureType::Other(other) => other.image(),
        }
    }

    /// Returns the tensor type; `None` if this is not a tensor.
    pub fn tensor(&self) -> Option<&TensorType> {
        self.array().map(|a| &a.tensor)
    }

    /// Returns the default shape, for an image the shape of its tensor; `None` if there is none.
    pub fn default_shape(&self) -> Option<Shape> {
        let image = || self.image().map(|image| image.default_shape());
        self.array().map_or_else(image, ArrayType::default_shape)
    }

    /// Sets the allowed shapes. Has no effect on a feature that is not a tensor.
    pub fn allow(&mut self, shapes: AllowedShapes) {
        if let FeatureType::Array(array) = &mut self.ty {
            if let Some(dims) = shapes.dims() {
                array.tensor.shape = dims;
            }
            array.shapes = shapes;
        }
    }
}

impl ArrayType {
    /// Returns whether the shape is described. coremltools leaves out the shape of an output that follows
    /// from the inputs.
    pub fn has_shape(&self) -> bool {
        self.tensor.shape.rank() > 0 || self.shapes != AllowedShapes::FromType
    }

    /// Returns the default shape; `None` if there is none.
    pub fn default_shape(&self) -> Option<Shape> {
        match &self.shapes {
            AllowedShapes::FromType => self.tensor.shape.known(),
            AllowedShapes::Enumerated { default, .. } | AllowedShapes::Ranged { default, .. } => {
                Some(default.clone())
            }
        }
    }
}

impl From<&ImageType> for FeatureType {
    fn from(image: &ImageType) -> Self {
        Self::Other(OtherType { kind: OtherKind::Image, encoded: image.encode() })
    }
}

impl fmt::Display for FeatureType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Core ML has no scalar arrays. coremltools leaves out the shape of an output that follows from
            // the inputs.
            Self::Array(array) if !array.has_shape() => {
                write!(f, "tensor<{}>, its shape is not described", array.tensor.dtype)
            }
            Self::Array(array) => {
                array.tensor.fmt(f)?;
                match &array.shapes {
                    AllowedShapes::FromType => Ok(()),
                    AllowedShapes::Enumerated { shapes, .. } => {
                        f.write_str(" of")?;
                        for (i, shape) in shapes.iter().enumerate() {
                            write!(f, "{} {shape}", if i > 0 { "," } else { "" })?;
                        }
                        Ok(())
                    }
                    AllowedShapes::Ranged { default, ranges } => {
                        f.write_str(" of [")?;
                        for (i, range) in ranges.iter().enumerate() {
                            write!(f, "{}{range}", if i > 0 { ", " } else { "" })?;
                        }
                        write!(f, "], by default {default}")
                    }
                }
            }
            Self::Other(other) => other.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DimRange;

    #[test]
    fn types_are_written_with_the_shapes_that_are_allowed() {
        let array = |tensor: TensorType, shapes| {
            FeatureType::Array(ArrayType { tensor, shapes, default_value: None })
        };
        let fp16 = |dims: &[usize]| TensorType::new(crate::DType::Fp16, dims);
        let shape = |n: usize| Shape::from([1, n]);
        for (ty, text) in [
            (array(fp16(&[1, 2]), AllowedShapes::FromType), "tensor<fp16, [1, 2]>"),
            (array(fp16(&[]), AllowedShapes::FromType), "tensor<fp16>, its shape is not described"),
            (
                array(
                    fp16(&[1, 2]),
                    AllowedShapes::Enumerated { default: shape(2), shapes: vec![shape(2), shape(4)] },
                ),
                "tensor<fp16, [1, 2]> of [1, 2], [1, 4]",
            ),
            (
                array(
                    fp16(&[1, 2]),
                    AllowedShapes::Ranged {
                        default: shape(2),
                        ranges: vec![DimRange::fixed(1), DimRange { lower: 2, upper: Some(8) }],
                    },
                ),
                "tensor<fp16, [1, 2]> of [1, 2..8], by default [1, 2]",
            ),
        ] {
            assert_eq!(ty.to_string(), text);
        }
    }
}
