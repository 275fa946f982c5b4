//! What a caller hands over, held against what a function takes.

use half::f16;
use mlpackage::mil::TensorType;
use mlpackage::{AllowedShapes, DType, DefaultValue, Feature, Shape};

use super::lowering;
use super::numerics::{Numerics, round_to_half};
use crate::error::{Error, Result};
use crate::tensor::{Data, Elements, Tensor, TensorView};

/// An input of a call.
pub(super) enum Input<'i> {
    Given(TensorView<'i>),
    /// What stands for an input that was left out.
    Default(Box<Tensor>),
}

impl Input<'_> {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Given(view) => view.shape(),
            Self::Default(tensor) => tensor.shape().dims(),
        }
    }

    /// Writes the elements as words of `dtype`.
    pub(super) fn write(
        &self,
        name: &str,
        dtype: DType,
        numerics: Numerics,
        words: &mut [u32],
    ) -> Result<()> {
        let (elements, counts_as_half) = match self {
            Self::Given(view) => (view.elements(), view.counts_as_half()),
            Self::Default(tensor) => (tensor.view().elements(), false),
        };
        // Where results are not rounded, neither are those that come back.
        let rounds = dtype == DType::Fp16 && !(counts_as_half && numerics != Numerics::F16);
        let floats = |words: &mut [u32], values: &mut dyn Iterator<Item = f32>| {
            words.iter_mut().zip(values).for_each(|(word, value)| *word = value.to_bits());
        };
        match elements {
            Elements::F32(v) => {
                words.copy_from_slice(bytemuck::cast_slice(v));
                if rounds {
                    round_to_half(bytemuck::cast_slice_mut(words));
                }
            }
            Elements::F16(v) => floats(words, &mut v.iter().copied().map(f16::to_f32)),
            Elements::I32(v) if dtype.is_float() => floats(words, &mut v.iter().map(|v| *v as f32)),
            Elements::I32(v) => words.copy_from_slice(bytemuck::cast_slice(v)),
            Elements::I8(v) => words.iter_mut().zip(v).for_each(|(word, v)| *word = i32::from(*v) as u32),
            Elements::Bool(v) => words.iter_mut().zip(v).for_each(|(word, v)| *word = u32::from(*v)),
        }
        if let (DType::Int8, Elements::I32(v)) = (dtype, elements)
            && let Some(bad) = v.iter().find(|v| i8::try_from(**v).is_err())
        {
            let reason = format!("has {bad}, which int8 cannot hold");
            return Err(Error::Input { name: name.to_owned(), reason });
        }
        Ok(())
    }
}

/// Whether elements of that type may be given for an input of `dtype`.
pub(super) fn takes(dtype: DType, elements: Elements<'_>) -> bool {
    match elements {
        Elements::F16(_) | Elements::F32(_) => dtype.is_float(),
        Elements::I32(_) | Elements::I8(_) => dtype.is_int(),
        Elements::Bool(_) => dtype == DType::Bool,
    }
}

/// Whether an input may have that shape; if not, why.
pub(super) fn check_shape(
    dims: &[usize],
    declared: &TensorType,
    feature: Option<&Feature>,
) -> Result<(), String> {
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
    if dims.contains(&0) {
        return Err(format!("shape {} has no elements", shape()));
    }
    match dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
        Some(n) if n <= lowering::MAX_ELEMENTS => Ok(()),
        _ => Err(format!("shape {} is too large", shape())),
    }
}

/// What stands for an input that is left out.
pub(super) fn default_input(feature: &Feature, declared: &TensorType) -> Option<Tensor> {
    let array = feature.array()?;
    let shape = declared.shape.known().or_else(|| array.default_shape())?;
    let n = shape.checked_elements().filter(|n| *n <= lowering::MAX_ELEMENTS)?;
    let data = match (array.default_value?, declared.dtype) {
        (DefaultValue::Int(v), dtype) if dtype.is_int() => Data::I32(vec![v; n]),
        (DefaultValue::Float(v), dtype) if dtype.is_float() => Data::F32(vec![v; n]),
        (DefaultValue::Double(v), dtype) if dtype.is_float() => Data::F32(vec![v as f32; n]),
        _ => return None,
    };
    Tensor::with_dtype(declared.dtype, shape, data).ok()
}
