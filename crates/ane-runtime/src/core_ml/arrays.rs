//! Input and output arrays of a Core ML call.

#![allow(unsafe_code, reason = "shares memory with Core ML")]

use std::mem::ManuallyDrop;
use std::ptr;

use coreml_rs::error::CoreMLError;
use coreml_rs::feature_provider::FeatureProvider;
use coreml_rs::multi_array::{DataType, MultiArray, MultiArrayRef};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use mlpackage::DType;
use mlpackage::mil::Function;

use super::strided::{dense_mut, gather, scatter};
use crate::error::Error;
use crate::inputs::{Input, Inputs};
use crate::tensor::{Data, Elements, Tensor};

/// The input arrays of calls. They are created once and rewritten for each call, until a call has other
/// inputs or other shapes.
pub(super) struct InputArrays {
    arrays: Vec<InputArray>,
    /// Owns the storage that `arrays` writes to.
    provider: FeatureProvider,
}

/// An input's array with its shape; `None` for an omitted input, for which Core ML has a default.
type InputArray = Option<(ManuallyDrop<MultiArray>, Vec<usize>)>;

impl InputArrays {
    /// Creates arrays for inputs of these shapes.
    pub(super) fn new(function: &Function, inputs: &Inputs<'_>) -> Result<Self, CoreMLError> {
        let mut provider = FeatureProvider::new();
        let mut arrays = Vec::with_capacity(inputs.len());
        for ((name, declared), input) in function.tensor_inputs().zip(inputs) {
            let Input::Given(view) = input else {
                arrays.push(None);
                continue;
            };
            let array = MultiArray::new(view.shape(), data_type(declared.dtype))?;
            // SAFETY: this is a second handle to the same object. `insert_multi_array` makes the provider
            // retain the object and releases the handle that it receives. The alias is never dropped and
            // never used after the provider: they live and die together, and nothing else is ever inserted
            // under the same name. Nobody reads the storage while it is written: writing needs `&mut self`, a
            // call `&self`. Core ML may hold on to inputs for a while after a call (coremltools #2827), but
            // then it only releases them.
            let alias = ManuallyDrop::new(unsafe { ptr::read(&raw const array) });
            provider.insert_multi_array(name, array)?;
            arrays.push(Some((alias, view.shape().to_vec())));
        }
        Ok(Self { arrays, provider })
    }

    /// Returns whether the arrays were created for these inputs, in the same shapes.
    pub(super) fn fit(&self, inputs: &Inputs<'_>) -> bool {
        self.arrays.len() == inputs.len()
            && self.arrays.iter().zip(inputs).all(|(array, input)| match (array, input) {
                (Some((_, shape)), Input::Given(view)) => shape == view.shape(),
                (None, Input::Default(_)) => true,
                _ => false,
            })
    }

    /// Writes the inputs of a call.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the input's type cannot hold an element, or if Core ML does not give access to an
    /// array.
    pub(super) fn write(&mut self, function: &Function, inputs: &Inputs<'_>) -> Result<(), Error> {
        for (((name, _), input), array) in function.tensor_inputs().zip(inputs).zip(&mut self.arrays) {
            if let (Input::Given(view), Some((array, shape))) = (input, array) {
                write(array, shape, view.elements())
                    .map_err(|reason| Error::Input { name: name.to_owned(), reason })?;
            }
        }
        Ok(())
    }

    /// Returns the provider to pass to a call.
    pub(super) fn provider(&self) -> &FeatureProvider {
        &self.provider
    }
}

/// Returns the array type for a MIL type. A model with other types is refused at load.
fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::Fp32 => DataType::Float32,
        DType::Int8 => DataType::Int8,
        dtype if dtype.is_float() => DataType::Float16,
        _ => DataType::Int32,
    }
}

/// Writes elements into an array, converted to its type, at the positions that its strides define.
fn write(array: &mut MultiArrayRef, shape: &[usize], elements: Elements<'_>) -> Result<(), String> {
    let data_type = array.data_type();
    array
        .with_bytes_mut(|bytes, strides| match (data_type, elements) {
            // Caches that the host holds arrive whole with every call, so they are converted in bulk where
            // possible.
            (DataType::Float16, Elements::F32(v)) => match dense_mut::<f16>(bytes, shape, strides) {
                Some(halves) if halves.len() == v.len() => {
                    halves.convert_from_f32_slice(v);
                    Ok(())
                }
                _ => scatter(v, shape, strides, bytes, f16::from_f32),
            },
            (DataType::Float16, Elements::F16(v)) => scatter(v, shape, strides, bytes, |v| v),
            (DataType::Float32, Elements::F32(v)) => scatter(v, shape, strides, bytes, |v| v),
            (DataType::Float32, Elements::F16(v)) => scatter(v, shape, strides, bytes, f16::to_f32),
            (DataType::Int32, Elements::I32(v)) => scatter(v, shape, strides, bytes, |v| v),
            (DataType::Int32, Elements::I8(v)) => scatter(v, shape, strides, bytes, i32::from),
            (DataType::Int8, Elements::I8(v)) => scatter(v, shape, strides, bytes, |v| v),
            (DataType::Int8, Elements::I32(v)) => match v.iter().find(|v| i8::try_from(**v).is_err()) {
                Some(bad) => Err(format!("has {bad}, which int8 cannot hold")),
                None => scatter(v, shape, strides, bytes, |v| v as i8),
            },
            (found, given) => Err(format!("Core ML created an array of {found:?} for {}", given.name())),
        })
        .map_err(|e| e.message().to_owned())?
}

/// Copies a Core ML array into a tensor of type `dtype`.
pub(super) fn read(array: &MultiArrayRef, dtype: DType, tensor: &mut Tensor) -> Result<(), String> {
    let shape = array.shape();
    tensor.reset(dtype, &shape.as_slice().into());
    let data_type = array.data_type();
    array
        .with_bytes(|bytes, strides| match (data_type, tensor.data_mut()) {
            (DataType::Float16, Data::F32(v)) => gather(bytes, &shape, strides, v, f16::to_f32),
            (DataType::Float32, Data::F32(v)) => gather(bytes, &shape, strides, v, |v: f32| v),
            (DataType::Float64, Data::F32(v)) => gather(bytes, &shape, strides, v, |v: f64| v as f32),
            (DataType::Int32, Data::I32(v)) => gather(bytes, &shape, strides, v, |v: i32| v),
            (DataType::Int8, Data::I32(v)) => gather(bytes, &shape, strides, v, |v: i8| i32::from(v)),
            (found, _) => Err(format!("Core ML returned {found:?}, the package declares {dtype}")),
        })
        .map_err(|e| e.message().to_owned())?
}
