//! A function's inputs, outputs and states, as a package describes them to Core ML.

use std::fmt;

use crate::dim_range::DimRange;
use crate::dtype::DType;
use crate::image::ImageType;
use crate::mil::{Container, Dim, Dims, Function, TensorType, ValueType};
use crate::shape::Shape;

/// Inputs, outputs and states of a function, as the package describes them to Core ML.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// The inputs of a call.
    pub inputs: Vec<Feature>,
    /// The outputs of a call.
    pub outputs: Vec<Feature>,
    /// State tensors, which persist between calls.
    pub states: Vec<Feature>,
    /// For a classifier, the output that holds the label; otherwise empty.
    pub predicted_feature: String,
    /// For a classifier, the output that holds the probabilities; otherwise empty.
    pub predicted_probabilities: String,
}

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

/// A feature type other than a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherType {
    pub(crate) kind: OtherKind,
    pub(crate) encoded: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherKind {
    Int64,
    Double,
    String,
    Image,
    Dictionary,
    Sequence,
}

/// `DictionaryFeatureType` with int64 keys, and with string keys.
const INT64_KEYS: &[u8] = &[0x0a, 0x00];
const STRING_KEYS: &[u8] = &[0x12, 0x00];

impl OtherType {
    /// Returns the type that describes a classifier's label or probabilities; `None` for other values.
    fn of(ty: &ValueType) -> Option<Self> {
        let (content, container) = ty.content()?;
        let (kind, encoded) = match (container, content.dtype) {
            (Container::Tensor, DType::String) => (OtherKind::String, &[][..]),
            (Container::Tensor, DType::Int64) => (OtherKind::Int64, &[][..]),
            (Container::Dictionary { key: DType::String }, _) => (OtherKind::Dictionary, STRING_KEYS),
            (Container::Dictionary { key: DType::Int64 }, _) => (OtherKind::Dictionary, INT64_KEYS),
            _ => return None,
        };
        Some(Self { kind, encoded: encoded.to_vec() })
    }

    /// Whether both dictionaries have keys of the same type. A description without a key type matches any.
    fn has_keys_of(&self, other: &Self) -> bool {
        match (self.encoded.first(), other.encoded.first()) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
    }

    /// Returns Core ML's name of the type, such as `image`.
    pub fn name(&self) -> &'static str {
        match self.kind {
            OtherKind::Int64 => "int64",
            OtherKind::Double => "double",
            OtherKind::String => "string",
            OtherKind::Image => "image",
            OtherKind::Dictionary => "dictionary",
            OtherKind::Sequence => "sequence",
        }
    }

    /// Returns the image type; `None` if this is not an image, or its colour space or size is unknown.
    pub fn image(&self) -> Option<ImageType> {
        (self.kind == OtherKind::Image).then(|| ImageType::decode(&self.encoded)).flatten()
    }
}

impl From<&ImageType> for FeatureType {
    fn from(image: &ImageType) -> Self {
        Self::Other(OtherType { kind: OtherKind::Image, encoded: image.encode() })
    }
}

/// Displays an image with its size and colour space, and any other type by its name.
impl fmt::Display for OtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.image() {
            Some(image) => image.fmt(f),
            None => f.write_str(self.name()),
        }
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

/// The allowed shapes of a tensor feature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedShapes {
    /// The shape of the type, if it has no unknown dimension; for outputs, the shape that follows from the
    /// inputs.
    #[default]
    FromType,
    /// One of several shapes.
    Enumerated {
        /// The default, which is one of `shapes`.
        default: Shape,
        /// The allowed shapes.
        shapes: Vec<Shape>,
    },
    /// A range for each dimension.
    Ranged {
        /// The default.
        default: Shape,
        /// One range for each dimension.
        ranges: Vec<DimRange>,
    },
}

impl AllowedShapes {
    /// Returns the dimensions that all shapes share, the others as unknown; `None` if the type states the
    /// shape.
    pub(crate) fn dims(&self) -> Option<Dims> {
        match self {
            Self::FromType => None,
            Self::Enumerated { shapes, .. } => {
                let first = shapes.first()?;
                let dim = |axis: usize| {
                    let extent = first.dims()[axis];
                    let same = shapes.iter().all(|s| s.dims().get(axis) == Some(&extent));
                    if same { Dim::Known(extent) } else { Dim::Unknown }
                };
                Some((0..first.rank()).map(dim).collect())
            }
            Self::Ranged { ranges, .. } => Some(ranges.iter().map(|r| r.dim()).collect()),
        }
    }

    /// Returns whether `shape` is allowed.
    pub fn admit(&self, shape: &Shape) -> bool {
        match self {
            Self::FromType => true,
            Self::Enumerated { shapes, .. } => shapes.contains(shape),
            Self::Ranged { ranges, .. } => {
                let within = |(&d, r): (&usize, &DimRange)| r.admits(d);
                shape.rank() == ranges.len() && shape.dims().iter().zip(ranges).all(within)
            }
        }
    }
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

impl Interface {
    /// Derives the interface of a function. A program does not contain the allowed shapes of its unknown
    /// dimensions.
    pub fn of(function: &Function) -> Self {
        let feature = |(name, ty): (&str, &TensorType)| Feature::new(name, ty.clone());
        let output = |(name, ty): (&str, &ValueType)| {
            let Some(other) = OtherType::of(ty) else { return ty.tensor().map(|ty| feature((name, ty))) };
            let (name, ty) = (name.to_owned(), FeatureType::Other(other));
            Some(Feature { name, ty, optional: false, description: String::new() })
        };
        let classify = function.block.operations.iter().find(|operation| operation.op == "classify");
        let classified = |index: usize| {
            let output = classify.and_then(|operation| operation.outputs.get(index));
            let returned = output.filter(|output| function.block.outputs.contains(&output.name));
            returned.map(|output| output.name.clone()).unwrap_or_default()
        };
        Self {
            inputs: function.tensor_inputs().map(feature).collect(),
            outputs: function.all_outputs().filter_map(output).collect(),
            states: function.states().map(feature).collect(),
            predicted_feature: classified(0),
            predicted_probabilities: classified(1),
        }
    }

    /// Returns the input called `name`, to add what the program does not contain.
    pub fn input_mut(&mut self, name: &str) -> Option<&mut Feature> {
        self.inputs.iter_mut().find(|f| f.name == name)
    }

    /// Describes each difference between the description and the function.
    pub(crate) fn differences(&self, function: &Function) -> Vec<String> {
        let mut differences = Vec::new();
        let tensors = |named: Vec<(&str, &TensorType)>| -> Vec<(String, Option<ValueType>)> {
            named.into_iter().map(|(name, ty)| (name.to_owned(), Some(ty.clone().into()))).collect()
        };
        let inputs = tensors(function.tensor_inputs().collect());
        let states = tensors(function.states().collect());
        let outputs = function.all_outputs().map(|(name, ty)| (name.to_owned(), Some(ty.clone())));
        let mut outputs: Vec<(String, Option<ValueType>)> = outputs.collect();
        // An output that nothing defines has no type, so only its name is compared.
        for name in &function.block.outputs {
            if !outputs.iter().any(|(found, _)| found == name) {
                outputs.push((name.clone(), None));
            }
        }
        let kinds = [
            ("input", &self.inputs, inputs),
            ("output", &self.outputs, outputs),
            ("state", &self.states, states),
        ];
        for (kind, described, found) in kinds {
            for (name, ty) in &found {
                match (described.iter().find(|f| f.name == *name), ty) {
                    (None, _) => differences.push(format!("{kind} {name} is not described")),
                    (Some(feature), Some(ty)) if !feature.may_be(kind, ty) => {
                        differences.push(format!("{kind} {name} is described as {}, it is {ty}", feature.ty));
                    }
                    _ => {}
                }
            }
            for (i, feature) in described.iter().enumerate() {
                let name = &feature.name;
                let earlier = described[..i].iter().filter(|earlier| earlier.name == *name).count();
                match found.iter().filter(|(found, _)| found == name).count() {
                    0 => differences
                        .push(format!("{kind} {name} is described, but the function has no such feature")),
                    // A value that is returned twice is described twice.
                    times if earlier >= times => {
                        differences.push(format!("{kind} {name} is described twice"));
                    }
                    _ => {}
                }
            }
        }
        for (what, name) in
            [("label", &self.predicted_feature), ("probabilities", &self.predicted_probabilities)]
        {
            if !name.is_empty() && !self.outputs.iter().any(|f| f.name == *name) {
                differences.push(format!("the {what} of the classifier is {name:?}, which is not an output"));
            }
        }
        differences
    }
}

impl Feature {
    /// Whether a value of type `ty` in the program agrees with this description.
    fn may_be(&self, kind: &str, ty: &ValueType) -> bool {
        let described = match (&self.ty, OtherType::of(ty)) {
            // A classifier's output. For a dictionary, the key types must agree.
            (FeatureType::Other(described), Some(found)) => {
                return described.kind == found.kind
                    && (found.kind != OtherKind::Dictionary || described.has_keys_of(&found));
            }
            (_, Some(_)) => return false,
            (FeatureType::Array(array), None) => Some(&array.tensor),
            (FeatureType::Other(_), None) => None,
        };
        let ty = match ty.content() {
            Some((ty, Container::Tensor | Container::State)) => ty,
            // A list cannot be an input or output, which another rule reports.
            _ => return true,
        };
        let Some(described) = described else {
            return kind != "state" && self.image().is_none_or(|image| image.may_be(&ty.shape));
        };
        let unstated = kind == "output" && described.shape.rank() == 0;
        let shapes_fit = match self.array().map(|a| &a.shapes) {
            Some(AllowedShapes::Enumerated { shapes, .. }) => {
                shapes.iter().all(|s| Dims::from(s).may_be(&ty.shape))
            }
            Some(ranged @ AllowedShapes::Ranged { default, ranges }) => {
                ranged.admit(default)
                    && Dims::from(default).may_be(&ty.shape)
                    && ranges.iter().zip(ty.shape.iter()).all(|(r, d)| d.known().is_none() || r.dim() == d)
            }
            _ => true,
        };
        let default_fits = match self.array().and_then(|a| a.default_value) {
            Some(DefaultValue::Int(_)) => ty.dtype == DType::Int32,
            Some(DefaultValue::Float(_)) => [DType::Fp16, DType::Fp32].contains(&ty.dtype),
            Some(DefaultValue::Double(_)) => ty.dtype == DType::Fp64,
            None => true,
        };
        default_fits
            && described.dtype == ty.dtype
            && (unstated || (described.shape.may_be(&ty.shape) && shapes_fit))
    }
}
