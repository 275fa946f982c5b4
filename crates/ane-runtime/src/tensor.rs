//! Tensors at an engine's border.

use std::collections::BTreeMap;

use mlpackage::Shape;

use crate::error::{Error, Result};

/// A dense tensor, row-major. fp16 values are carried as the f32 that they equal.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: Data,
}

/// Elements of a [`Tensor`].
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// fp16 and fp32.
    F32(Vec<f32>),
    /// Integers.
    I32(Vec<i32>),
    /// Truth values.
    Bool(Vec<bool>),
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

impl Tensor {
    /// A tensor of floats.
    ///
    /// # Errors
    ///
    /// [`Error::TensorSize`] if `data` has not as many elements as `shape`.
    pub fn new(shape: impl Into<Shape>, data: Vec<f32>) -> Result<Self> {
        let shape = shape.into();
        if shape.checked_elements() != Some(data.len()) {
            return Err(Error::TensorSize { shape, elements: data.len() });
        }
        Ok(Self { shape, data: Data::F32(data) })
    }

    pub(crate) fn from_parts(shape: Shape, data: Data) -> Self {
        Self { shape, data }
    }

    /// A tensor of zeros.
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let data = Data::F32(vec![0.0; shape.elements()]);
        Self { shape, data }
    }

    /// Its extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    pub(crate) fn data_mut(&mut self) -> &mut Data {
        &mut self.data
    }

    /// Its elements, if they are floats.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(v) => Some(v),
            _ => None,
        }
    }

    /// Its elements, which the checker has found to be floats.
    pub(crate) fn floats(&self) -> &[f32] {
        self.as_f32().expect("the operation's types were checked at load")
    }
}
