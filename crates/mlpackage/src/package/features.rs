//! Conversion of inputs, outputs and states between their public form and protobuf.

use crate::dim_range::DimRange;
use crate::dtype::DType;
use crate::interface::{AllowedShapes, ArrayType, DefaultValue, Feature, FeatureType, OtherKind, OtherType};
use crate::mil::{Dims, TensorType};
use crate::proto::array_feature_type::{DefaultOptionalValue, ShapeFlexibility};
use crate::proto::{self, feature_type};
use crate::shape::Shape;

/// Returns the number of a type in `ArrayFeatureType.dataType`; `None` for types that an interface cannot
/// have.
pub(crate) fn array_data_type(dtype: DType) -> Option<i32> {
    match dtype {
        DType::Fp32 => Some(65568),
        DType::Fp16 => Some(65552),
        DType::Fp64 => Some(65600),
        DType::Int32 => Some(131_104),
        DType::Int8 => Some(131_080),
        _ => None,
    }
}

/// Converts a feature from a package's description, or returns why a program cannot have it.
pub(crate) fn from_proto(feature: &proto::FeatureDescription) -> Result<Feature, String> {
    use feature_type::Type;
    let bad = |reason: String| format!("description of {}: {reason}", feature.name);
    let other =
        |kind, encoded: &Vec<u8>| Ok(FeatureType::Other(OtherType { kind, encoded: encoded.clone() }));
    let ty = match feature.r#type.as_ref().and_then(|t| t.r#type.as_ref()) {
        Some(Type::MultiArray(array)) => array_type(array).map(FeatureType::Array),
        Some(Type::State(state)) => match &state.array_type {
            Some(array) => array_type(array).map(FeatureType::Array),
            None => Err("a state must hold an array".into()),
        },
        Some(Type::Int64(encoded)) => other(OtherKind::Int64, encoded),
        Some(Type::Double(encoded)) => other(OtherKind::Double, encoded),
        Some(Type::String(encoded)) => other(OtherKind::String, encoded),
        Some(Type::Image(encoded)) => other(OtherKind::Image, encoded),
        Some(Type::Dictionary(encoded)) => other(OtherKind::Dictionary, encoded),
        Some(Type::Sequence(encoded)) => other(OtherKind::Sequence, encoded),
        None => Err("it has no type".into()),
    };
    Ok(Feature {
        name: feature.name.clone(),
        ty: ty.map_err(bad)?,
        optional: feature.r#type.as_ref().is_some_and(|t| t.is_optional),
        description: feature.short_description.clone(),
    })
}

fn shape(dims: &[i64]) -> Result<Shape, String> {
    let dims = dims.iter().map(|&d| usize::try_from(d).map_err(|_| format!("dimension {d}")));
    dims.collect::<Result<Vec<_>, _>>().map(Shape::from)
}

fn array_type(array: &proto::ArrayFeatureType) -> Result<ArrayType, String> {
    let dtype = [DType::Fp32, DType::Fp16, DType::Fp64, DType::Int32, DType::Int8]
        .into_iter()
        .find(|&d| array_data_type(d) == Some(array.data_type))
        .ok_or_else(|| format!("unknown array data type {}", array.data_type))?;
    let default = shape(&array.shape)?;
    let shapes = match &array.shape_flexibility {
        None => AllowedShapes::FromType,
        Some(ShapeFlexibility::Enumerated(list)) => {
            let shapes = list.shapes.iter().map(|s| shape(&s.shape)).collect::<Result<Vec<_>, _>>()?;
            if shapes.is_empty() || shapes.iter().any(|s| s.rank() != default.rank()) {
                return Err("it has no enumerated shapes, or they differ in rank".into());
            }
            if !shapes.contains(&default) {
                return Err(format!("its shape {default} is not among its enumerated shapes"));
            }
            AllowedShapes::Enumerated { default, shapes }
        }
        Some(ShapeFlexibility::Range(list)) => {
            let ranges = list.size_ranges.iter().map(DimRange::from_proto).collect::<Option<Vec<_>>>();
            let ranges = ranges.filter(|r| r.len() == default.rank() || default.rank() == 0);
            let ranges = ranges.ok_or("expected one range for each dimension, each from low to high")?;
            AllowedShapes::Ranged { default, ranges }
        }
    };
    let dims = match shapes.dims() {
        Some(dims) => dims,
        None => Dims::from(shape(&array.shape)?),
    };
    let default_value = array.default_optional_value.map(|value| match value {
        DefaultOptionalValue::Int(v) => DefaultValue::Int(v),
        DefaultOptionalValue::Float(v) => DefaultValue::Float(v),
        DefaultOptionalValue::Double(v) => DefaultValue::Double(v),
    });
    Ok(ArrayType { tensor: TensorType { dtype, shape: dims }, shapes, default_value })
}

/// Converts a feature to the form that a package's description stores.
///
/// # Errors
///
/// If the feature has a type that an interface cannot have, or an unknown dimension without allowed shapes.
pub(crate) fn to_proto(feature: &Feature, kind: FeatureKind) -> Result<proto::FeatureDescription, String> {
    use feature_type::Type;
    let ty = match &feature.ty {
        FeatureType::Array(array) => {
            let array = array_to_proto(&feature.name, array, kind)?;
            match kind {
                FeatureKind::State => Type::State(proto::StateFeatureType { array_type: Some(array) }),
                FeatureKind::Input | FeatureKind::Output => Type::MultiArray(array),
            }
        }
        FeatureType::Other(OtherType { kind, encoded }) => {
            let encoded = encoded.clone();
            match kind {
                OtherKind::Int64 => Type::Int64(encoded),
                OtherKind::Double => Type::Double(encoded),
                OtherKind::String => Type::String(encoded),
                OtherKind::Image => Type::Image(encoded),
                OtherKind::Dictionary => Type::Dictionary(encoded),
                OtherKind::Sequence => Type::Sequence(encoded),
            }
        }
    };
    Ok(proto::FeatureDescription {
        name: feature.name.clone(),
        short_description: feature.description.clone(),
        r#type: Some(proto::FeatureType { r#type: Some(ty), is_optional: feature.optional }),
    })
}

fn array_to_proto(
    name: &str,
    array: &ArrayType,
    kind: FeatureKind,
) -> Result<proto::ArrayFeatureType, String> {
    let ty = &array.tensor;
    let data_type = array_data_type(ty.dtype)
        .ok_or_else(|| format!("%{name} is {ty}; inputs and outputs are fp16, fp32, int32 or int8"))?;
    let sound = match &array.shapes {
        AllowedShapes::FromType => true,
        AllowedShapes::Enumerated { default, shapes } => {
            shapes.contains(default) && shapes.iter().all(|s| s.rank() == default.rank())
        }
        ranged @ AllowedShapes::Ranged { default, .. } => ranged.admits(default),
    };
    if !sound {
        return Err(format!(
            "%{name}: the default shape must be among the allowed shapes, and all of them must have one rank"
        ));
    }
    let dims = |shape: &Shape| shape.dims().iter().map(|&d| d as i64).collect::<Vec<i64>>();
    let default = match (array.default_shape(), kind) {
        (Some(shape), _) => dims(&shape),
        // Shapes that follow from the inputs are left out, as coremltools does.
        (None, FeatureKind::Output) => Vec::new(),
        (None, _) => {
            return Err(format!("%{name} is {ty}: state the allowed shapes of its unknown dimensions"));
        }
    };
    let shape_flexibility = match &array.shapes {
        AllowedShapes::FromType => None,
        AllowedShapes::Enumerated { shapes, .. } => {
            Some(ShapeFlexibility::Enumerated(proto::EnumeratedShapes {
                shapes: shapes.iter().map(|s| proto::ArrayShape { shape: dims(s) }).collect(),
            }))
        }
        AllowedShapes::Ranged { ranges, .. } => Some(ShapeFlexibility::Range(proto::ShapeRange {
            size_ranges: ranges.iter().map(|range| range.to_proto()).collect(),
        })),
    };
    let default_optional_value = array.default_value.map(|value| match value {
        DefaultValue::Int(v) => DefaultOptionalValue::Int(v),
        DefaultValue::Float(v) => DefaultOptionalValue::Float(v),
        DefaultValue::Double(v) => DefaultOptionalValue::Double(v),
    });
    Ok(proto::ArrayFeatureType { shape: default, data_type, shape_flexibility, default_optional_value })
}

/// The role of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeatureKind {
    Input,
    Output,
    State,
}
