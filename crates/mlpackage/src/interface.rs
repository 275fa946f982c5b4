//! What a package tells Core ML of a function: its inputs, outputs and states.

use crate::dtype::DType;
use crate::mil::{Dim, Dims, Function, TensorType};
use crate::proto::{self, array_feature_type::ShapeFlexibility, feature_type};
use crate::shape::Shape;

/// Inputs, outputs and states of a function, as the package describes them to Core ML.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Tensors that a call takes.
    pub inputs: Vec<Feature>,
    /// Tensors that a call gives.
    pub outputs: Vec<Feature>,
    /// Memory that outlives a call.
    pub states: Vec<Feature>,
}

/// One input, output or state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name, the same as in the program.
    pub name: String,
    /// Its type; a dimension that the caller may choose is open.
    pub ty: TensorType,
    /// Which shapes it may have.
    pub shapes: AllowedShapes,
    /// What it is, in words; often empty.
    pub description: String,
}

/// The shapes that a tensor at a function's border may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedShapes {
    /// That of its type, which has no open dimension; or, for outputs, whatever follows from the inputs.
    #[default]
    FromType,
    /// One of these; the first is the default.
    Enumerated(Vec<Shape>),
    /// Each dimension within a range.
    Ranged {
        /// The default.
        default: Shape,
        /// One for each dimension.
        ranges: Vec<DimRange>,
    },
}

/// The extents that a dimension may have, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DimRange {
    /// The smallest.
    pub lower: usize,
    /// The largest; `None`: there is no bound.
    pub upper: Option<usize>,
}

impl DimRange {
    /// One extent only.
    pub fn fixed(extent: usize) -> Self {
        Self { lower: extent, upper: Some(extent) }
    }

    fn dim(self) -> Dim {
        if self.upper == Some(self.lower) { Dim::Known(self.lower) } else { Dim::Unknown }
    }
}

impl AllowedShapes {
    /// The dimensions that all of them share, the others open; `None` for those of the type.
    fn dims(&self) -> Option<Dims> {
        match self {
            Self::FromType => None,
            Self::Enumerated(shapes) => {
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

    /// Whether `shape` is one of them.
    pub fn admit(&self, shape: &Shape) -> bool {
        match self {
            Self::FromType => true,
            Self::Enumerated(shapes) => shapes.contains(shape),
            Self::Ranged { ranges, .. } => {
                let within = |(&d, r): (&usize, &DimRange)| d >= r.lower && r.upper.is_none_or(|u| d <= u);
                shape.rank() == ranges.len() && shape.dims().iter().zip(ranges).all(within)
            }
        }
    }
}

impl Feature {
    /// A feature of fixed shape.
    pub fn new(name: impl Into<String>, ty: TensorType) -> Self {
        Self { name: name.into(), ty, shapes: AllowedShapes::FromType, description: String::new() }
    }

    /// The shape that it has where the caller says nothing; `None` if there is none.
    pub fn default_shape(&self) -> Option<Shape> {
        match &self.shapes {
            AllowedShapes::FromType => self.ty.shape.known(),
            AllowedShapes::Enumerated(shapes) => shapes.first().cloned(),
            AllowedShapes::Ranged { default, .. } => Some(default.clone()),
        }
    }
}

impl Interface {
    /// The interface that a function has. Which shapes an open dimension stands for is not in the program.
    pub fn of(function: &Function) -> Self {
        let feature = |(name, ty): (&str, &TensorType)| Feature::new(name, ty.clone());
        Self {
            inputs: function.tensor_inputs().map(feature).collect(),
            outputs: function.outputs().map(feature).collect(),
            states: function.states().map(feature).collect(),
        }
    }

    /// Whether both name the same features of types that may be the same; else the first that differs, in words.
    pub(crate) fn differs_from(&self, function: &Self) -> Option<String> {
        let kinds = [
            ("input", &self.inputs, &function.inputs),
            ("output", &self.outputs, &function.outputs),
            ("state", &self.states, &function.states),
        ];
        for (kind, described, found) in kinds {
            for feature in found {
                let Some(other) = described.iter().find(|f| f.name == feature.name) else {
                    return Some(format!("{kind} {} is not described", feature.name));
                };
                let same = other.ty.dtype == feature.ty.dtype
                    && (other.ty.shape.may_be(&feature.ty.shape) || unstated(kind, other));
                if !same {
                    return Some(format!(
                        "{kind} {} is described as {}, it is {}",
                        feature.name, other.ty, feature.ty
                    ));
                }
            }
            if let Some(extra) = described.iter().find(|f| !found.iter().any(|g| g.name == f.name)) {
                return Some(format!("{kind} {} is described, the function has none", extra.name));
            }
        }
        None
    }
}

/// coremltools leaves out the shape of an output that follows from the inputs.
fn unstated(kind: &str, described: &Feature) -> bool {
    kind == "output" && described.ty.shape.rank() == 0
}

/// `ArrayFeatureType.dataType`; `None` for types that an interface cannot have.
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

/// A feature as a package describes it, or why it is none that a program can have.
pub(crate) fn from_proto(feature: &proto::FeatureDescription) -> Result<Feature, String> {
    let array = match feature.r#type.as_ref().and_then(|t| t.r#type.as_ref()) {
        Some(feature_type::Type::MultiArray(array)) => Some(array),
        Some(feature_type::Type::State(state)) => state.array_type.as_ref(),
        None => None,
    };
    let array =
        array.ok_or_else(|| format!("{} is described as something other than an array", feature.name))?;
    let bad = |reason: String| format!("description of {}: {reason}", feature.name);
    let dtype = [DType::Fp32, DType::Fp16, DType::Fp64, DType::Int32, DType::Int8]
        .into_iter()
        .find(|&d| array_data_type(d) == Some(array.data_type))
        .ok_or_else(|| bad(format!("unknown array data type {}", array.data_type)))?;
    let shape = |dims: &[i64]| -> Result<Shape, String> {
        let dims = dims.iter().map(|&d| usize::try_from(d).map_err(|_| bad(format!("extent {d}"))));
        dims.collect::<Result<Vec<_>, _>>().map(Shape::from)
    };
    let default = shape(&array.shape)?;
    let shapes = match &array.shape_flexibility {
        None => AllowedShapes::FromType,
        Some(ShapeFlexibility::Enumerated(list)) => {
            let shapes = list.shapes.iter().map(|s| shape(&s.shape)).collect::<Result<Vec<_>, _>>()?;
            if shapes.iter().any(|s| s.rank() != default.rank()) {
                return Err(bad("its shapes differ in rank".into()));
            }
            // The default leads, wherever it stands in the list.
            let others = shapes.iter().filter(|s| **s != default).cloned();
            AllowedShapes::Enumerated(std::iter::once(default.clone()).chain(others).collect())
        }
        Some(ShapeFlexibility::Range(list)) => {
            let range = |r: &proto::SizeRange| {
                let lower = usize::try_from(r.lower_bound).ok()?;
                let upper = match r.upper_bound {
                    -1 => None,
                    upper => Some(usize::try_from(upper).ok()?),
                };
                Some(DimRange { lower, upper })
            };
            let ranges = list.size_ranges.iter().map(range).collect::<Option<Vec<_>>>();
            let ranges = ranges.filter(|r| r.len() == default.rank() || default.rank() == 0);
            AllowedShapes::Ranged {
                default: default.clone(),
                ranges: ranges.ok_or_else(|| bad("bad ranges".into()))?,
            }
        }
    };
    let dims = shapes.dims().unwrap_or_else(|| Dims::from(&default));
    let ty = TensorType { dtype, shape: dims };
    Ok(Feature { name: feature.name.clone(), ty, shapes, description: feature.short_description.clone() })
}

/// A feature as a package describes it.
///
/// # Errors
///
/// If it has a type that an interface cannot have, or an open dimension and no shapes for it.
pub(crate) fn to_proto(feature: &Feature, kind: FeatureKind) -> Result<proto::FeatureDescription, String> {
    let data_type = array_data_type(feature.ty.dtype).ok_or_else(|| {
        format!("%{} is {}; inputs and outputs are fp16, fp32, int32 or int8", feature.name, feature.ty)
    })?;
    let dims = |shape: &Shape| shape.dims().iter().map(|&d| d as i64).collect::<Vec<i64>>();
    let default = match (feature.default_shape(), kind) {
        (Some(shape), _) => dims(&shape),
        // What follows from the inputs is left out, as coremltools does.
        (None, FeatureKind::Output) => Vec::new(),
        (None, _) => {
            return Err(format!(
                "%{} is {}: say which shapes its open dimensions may have",
                feature.name, feature.ty
            ));
        }
    };
    let shape_flexibility = match &feature.shapes {
        AllowedShapes::FromType => None,
        AllowedShapes::Enumerated(shapes) => Some(ShapeFlexibility::Enumerated(proto::EnumeratedShapes {
            shapes: shapes.iter().map(|s| proto::ArrayShape { shape: dims(s) }).collect(),
        })),
        AllowedShapes::Ranged { ranges, .. } => Some(ShapeFlexibility::Range(proto::ShapeRange {
            size_ranges: ranges
                .iter()
                .map(|r| proto::SizeRange {
                    lower_bound: r.lower as u64,
                    upper_bound: r.upper.map_or(-1, |u| u as i64),
                })
                .collect(),
        })),
    };
    let array = proto::ArrayFeatureType { shape: default, data_type, shape_flexibility };
    let ty = match kind {
        FeatureKind::State => feature_type::Type::State(proto::StateFeatureType { array_type: Some(array) }),
        _ => feature_type::Type::MultiArray(array),
    };
    Ok(proto::FeatureDescription {
        name: feature.name.clone(),
        short_description: feature.description.clone(),
        r#type: Some(proto::FeatureType { r#type: Some(ty), is_optional: false }),
    })
}

/// Where a feature stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeatureKind {
    Input,
    Output,
    State,
}
