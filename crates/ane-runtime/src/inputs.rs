//! Checks a caller's inputs against what a function accepts.

use mlpackage::mil::{Function, TensorType};
use mlpackage::{AllowedShapes, DType, DefaultValue, Feature, Interface, Shape};
use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::tensor::{Data, Elements, Tensor, TensorView};

/// Largest number of elements of one value: a gigabyte of 32-bit words. More is a sure sign of a damaged
/// package.
pub(crate) const MAX_ELEMENTS: usize = 1 << 28;

/// Inputs of a call, in the function's order. A decoder of six layers whose caches the host holds has
/// fifteen.
pub(crate) type Inputs<'i> = SmallVec<[Input<'i>; 16]>;

/// An input of a call.
pub(crate) enum Input<'i> {
    Given(TensorView<'i>),
    /// The default of an omitted input.
    Default(Box<Tensor>),
}

impl Input<'_> {
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::Given(view) => view.shape(),
            Self::Default(tensor) => tensor.shape().dims(),
        }
    }
}

/// Checks the caller's inputs and puts them into the function's order.
///
/// # Errors
///
/// [`Error::Input`] with the input that is missing, unknown, given twice, or of the wrong type or shape.
pub(crate) fn order<'i>(
    function: &Function,
    interface: &Interface,
    given: &[(&str, TensorView<'i>)],
) -> Result<Inputs<'i>> {
    let bad = |name: &str, reason: String| Error::Input { name: name.to_owned(), reason };
    let mut ordered = Inputs::new();
    for (name, declared) in function.tensor_inputs() {
        let feature = interface.inputs.iter().find(|f| f.name == name);
        let mut found = given.iter().filter(|(n, _)| *n == name).map(|(_, view)| view);
        let view = match (found.next(), feature) {
            (Some(view), _) => *view,
            (None, Some(feature)) if feature.optional => {
                let default = default_input(feature, declared);
                let default = default.ok_or_else(|| bad(name, "missing, and it has no default".into()))?;
                ordered.push(Input::Default(Box::new(default)));
                continue;
            }
            (None, _) => return Err(bad(name, format!("missing, expected {declared}"))),
        };
        if found.next().is_some() {
            return Err(bad(name, "given twice".into()));
        }
        if let Err(reason) = check_shape(view.shape(), declared, feature) {
            return Err(bad(name, reason));
        }
        if !takes(declared.dtype, view.elements()) {
            let found = view.elements().name();
            return Err(bad(name, format!("its elements are {found}, expected {}", declared.dtype)));
        }
        ordered.push(Input::Given(view));
    }
    if let Some((name, _)) = given.iter().find(|(n, _)| !function.tensor_inputs().any(|(i, _)| i == *n)) {
        let known: Vec<_> = function.tensor_inputs().map(|(i, _)| i).collect();
        return Err(bad(name, format!("the function takes {}", known.join(", "))));
    }
    Ok(ordered)
}

/// Returns whether elements of that type are accepted for an input of `dtype`.
fn takes(dtype: DType, elements: Elements<'_>) -> bool {
    match elements {
        Elements::F16(_) | Elements::F32(_) => dtype.is_float(),
        Elements::I32(_) | Elements::I8(_) => dtype.is_int(),
        Elements::Bool(_) => dtype == DType::Bool,
    }
}

/// Checks that an input may have that shape; the error gives the reason.
fn check_shape(dims: &[usize], declared: &TensorType, feature: Option<&Feature>) -> Result<(), String> {
    let shape = || Shape::from(dims);
    let axes = dims.iter().zip(declared.shape.as_slice());
    if dims.len() != declared.shape.rank() || !{ axes }.all(|(d, declared)| declared.may_be(*d)) {
        return Err(format!("shape {}, expected {}", shape(), declared.shape));
    }
    match feature.and_then(Feature::array).map(|array| &array.shapes) {
        Some(AllowedShapes::Enumerated { shapes, .. }) if shapes.iter().all(|s| s.dims() != dims) => {
            let allowed: Vec<String> = shapes.iter().map(ToString::to_string).collect();
            return Err(format!("shape {}, expected one of {}", shape(), allowed.join(", ")));
        }
        Some(AllowedShapes::Ranged { ranges, .. }) => {
            let mut pairs = dims.iter().zip(ranges).enumerate();
            let outside = pairs.find(|(_, (d, r))| **d < r.lower || r.upper.is_some_and(|u| **d > u));
            if let Some((axis, (extent, range))) = outside {
                let upper = range.upper.map_or("any".to_owned(), |u| u.to_string());
                return Err(format!(
                    "axis {axis} of shape {} is {extent}, expected {} to {upper}",
                    shape(),
                    range.lower
                ));
            }
        }
        _ => {}
    }
    if let Some(image) = feature.and_then(Feature::image)
        && !image.admits(dims)
    {
        return Err(format!(
            "shape {}, expected [1, {}, height, width] of {image}",
            shape(),
            image.color_space.channels()
        ));
    }
    if dims.contains(&0) {
        return Err(format!("shape {} has no elements: the size of every axis must be at least 1", shape()));
    }
    match dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
        Some(n) if n <= MAX_ELEMENTS => Ok(()),
        n => Err(format!("shape {}: {}", shape(), too_many(n))),
    }
}

/// Returns the error text for a value of more than [`MAX_ELEMENTS`] elements; `None` means the count
/// overflowed.
pub(crate) fn too_many(elements: Option<usize>) -> String {
    let found = elements.map_or("more elements than can be counted".to_owned(), |n| format!("{n} elements"));
    format!("{found}, at most {MAX_ELEMENTS} in one value")
}

/// Returns the default of an omitted input.
fn default_input(feature: &Feature, declared: &TensorType) -> Option<Tensor> {
    let array = feature.array()?;
    let shape = declared.shape.known().or_else(|| array.default_shape())?;
    let n = shape.checked_elements().filter(|n| *n <= MAX_ELEMENTS)?;
    let data = match (array.default_value?, declared.dtype) {
        (DefaultValue::Int(v), dtype) if dtype.is_int() => Data::I32(vec![v; n]),
        (DefaultValue::Float(v), dtype) if dtype.is_float() => Data::F32(vec![v; n]),
        (DefaultValue::Double(v), dtype) if dtype.is_float() => Data::F32(vec![v as f32; n]),
        _ => return None,
    };
    Tensor::with_dtype(declared.dtype, shape, data).ok()
}
