//! Tensors that go into an engine and come out of it.

use std::fmt;

use half::f16;
use mlpackage::{DType, Shape};

use crate::error::{Error, Result};

/// A dense tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    data: Data,
}

/// Elements of a [`Tensor`].
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// fp16 and fp32. fp16 values are held as the equal f32; an engine that does not round results to fp16
    /// returns its unrounded values.
    F32(Vec<f32>),
    /// Integers of every width.
    I32(Vec<i32>),
    /// Booleans.
    Bool(Vec<bool>),
}

impl Tensor {
    /// Creates a tensor of fp32, int32 or bool, whichever the elements are.
    ///
    /// ```
    /// # use ane_runtime::Tensor;
    /// let mask = Tensor::new([1, 3], vec![0.0, 0.0, -1e4])?;
    /// let token_ids = Tensor::new([2], vec![7, 42])?;
    /// # Ok::<(), ane_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::TensorSize`] if the number of elements does not match `shape`.
    pub fn new(shape: impl Into<Shape>, data: impl Into<Data>) -> Result<Self> {
        let data = data.into();
        Self::with_dtype(data.dtype(), shape, data)
    }

    /// Creates a tensor whose elements represent values of `dtype`.
    ///
    /// # Errors
    ///
    /// [`Error::TensorSize`] if the number of elements does not match `shape`; [`Error::TensorType`] if
    /// `data` is not the variant that holds elements of `dtype`.
    pub fn with_dtype(dtype: DType, shape: impl Into<Shape>, data: impl Into<Data>) -> Result<Self> {
        let (shape, data) = (shape.into(), data.into());
        if shape.checked_elements() != Some(data.len()) {
            return Err(Error::TensorSize { shape, elements: data.len() });
        }
        let fits = match data {
            Data::F32(_) => dtype.is_float(),
            Data::I32(_) => dtype.is_int(),
            Data::Bool(_) => dtype == DType::Bool,
        };
        if fits {
            Ok(Self { dtype, shape, data })
        } else {
            Err(Error::TensorType { dtype, data: data.name() })
        }
    }

    /// Creates a tensor of fp32 zeros.
    ///
    /// # Panics
    ///
    /// Panics if the elements of `shape` cannot be counted, or are more than a vector can hold.
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let data = Data::F32(vec![0.0; shape.elements()]);
        Self { dtype: DType::Fp32, shape, data }
    }

    /// Returns the element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns the elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Returns the elements, if they are floats.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(v) => Some(v),
            _ => None,
        }
    }

    /// Returns the elements, if they are integers.
    pub fn as_i32(&self) -> Option<&[i32]> {
        match &self.data {
            Data::I32(v) => Some(v),
            _ => None,
        }
    }

    /// Returns the elements, if they are booleans.
    pub fn as_bool(&self) -> Option<&[bool]> {
        match &self.data {
            Data::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// Borrows the tensor.
    ///
    /// Floats of an fp16 tensor count as fp16 values: an engine that does not round its results does not
    /// round them as inputs either. So a cache that the host holds is as exact as a state.
    pub fn view(&self) -> TensorView<'_> {
        let elements = match &self.data {
            Data::F32(v) => Elements::F32(v),
            Data::I32(v) => Elements::I32(v),
            Data::Bool(v) => Elements::Bool(v),
        };
        TensorView { shape: self.shape.dims(), elements, counts_as_half: self.dtype == DType::Fp16 }
    }

    /// Changes type and shape; the elements are then unspecified. Reuses the memory if it is of the right
    /// kind.
    pub(crate) fn reset(&mut self, dtype: DType, shape: &Shape) {
        if self.dtype != dtype {
            self.dtype = dtype;
        }
        if self.shape != *shape {
            self.shape = shape.clone();
        }
        let n = shape.elements();
        match &mut self.data {
            Data::F32(v) if dtype.is_float() => v.resize(n, 0.0),
            Data::I32(v) if dtype.is_int() => v.resize(n, 0),
            Data::Bool(v) if dtype == DType::Bool => v.resize(n, false),
            data if dtype.is_float() => *data = Data::F32(vec![0.0; n]),
            data if dtype == DType::Bool => *data = Data::Bool(vec![false; n]),
            data => *data = Data::I32(vec![0; n]),
        }
    }

    pub(crate) fn data_mut(&mut self) -> &mut Data {
        &mut self.data
    }
}

impl Data {
    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::Bool(v) => v.len(),
        }
    }

    /// Returns whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the widest type of its elements: fp32, int32 or bool.
    fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::Fp32,
            Self::I32(_) => DType::Int32,
            Self::Bool(_) => DType::Bool,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::F32(_) => "floats",
            Self::I32(_) => "integers",
            Self::Bool(_) => "booleans",
        }
    }
}

impl From<Vec<f32>> for Data {
    fn from(elements: Vec<f32>) -> Self {
        Self::F32(elements)
    }
}

impl From<Vec<i32>> for Data {
    fn from(elements: Vec<i32>) -> Self {
        Self::I32(elements)
    }
}

impl From<Vec<bool>> for Data {
    fn from(elements: Vec<bool>) -> Self {
        Self::Bool(elements)
    }
}

/// Borrowed elements, row-major, with their shape.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    shape: &'a [usize],
    elements: Elements<'a>,
    /// Whether floats represent fp16 values.
    counts_as_half: bool,
}

/// Elements of a [`TensorView`].
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// fp16.
    F16(&'a [f16]),
    /// fp32.
    F32(&'a [f32]),
    /// int32.
    I32(&'a [i32]),
    /// int8.
    I8(&'a [i8]),
    /// Booleans.
    Bool(&'a [bool]),
}

impl<'a> TensorView<'a> {
    /// Creates a view of elements with a shape.
    ///
    /// # Errors
    ///
    /// [`Error::TensorSize`] if the number of elements does not match `shape`.
    pub fn new(shape: &'a [usize], elements: impl Into<Elements<'a>>) -> Result<Self> {
        let elements = elements.into();
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(elements.len()) {
            return Err(Error::TensorSize { shape: shape.into(), elements: elements.len() });
        }
        Ok(Self { shape, elements, counts_as_half: false })
    }

    /// Returns the shape.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Returns the elements.
    pub fn elements(&self) -> Elements<'a> {
        self.elements
    }

    /// Returns whether floats represent fp16 values, as those of an fp16 [`Tensor`] do.
    pub(crate) fn counts_as_half(&self) -> bool {
        self.counts_as_half
    }
}

impl<'a> From<&'a Tensor> for TensorView<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        tensor.view()
    }
}

macro_rules! elements {
    ($($variant:ident($element:ty)),*) => {
        impl Elements<'_> {
            /// Returns the number of elements.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$variant(v) => v.len(),)*
                }
            }

            /// Returns whether there are no elements.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
        }

        $(
            impl<'a> From<&'a [$element]> for Elements<'a> {
                fn from(elements: &'a [$element]) -> Self {
                    Self::$variant(elements)
                }
            }
        )*
    };
}

elements!(F16(f16), F32(f32), I32(i32), I8(i8), Bool(bool));

impl Elements<'_> {
    /// Returns Core ML's name of the element type.
    pub fn name(&self) -> &'static str {
        match self {
            Self::F16(_) => "fp16",
            Self::F32(_) => "fp32",
            Self::I32(_) => "int32",
            Self::I8(_) => "int8",
            Self::Bool(_) => "bool",
        }
    }
}

/// Named tensors, in the order of the function's outputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensors(Vec<(String, Tensor)>);

impl Tensors {
    /// No tensors.
    pub(crate) const EMPTY: Self = Self(Vec::new());

    /// Returns the tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, tensor)| tensor)
    }

    /// Returns all names and tensors.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Returns the number of tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the tensor called `name`, for an engine that replaces it with a result.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Tensor> {
        self.0.iter_mut().find(|(n, _)| n == name).map(|(_, tensor)| tensor)
    }

    pub(crate) fn at_mut(&mut self, index: usize) -> &mut Tensor {
        &mut self.0[index].1
    }
}

/// Keeps the given order. Of two tensors with the same name, only the first can be found by that name.
impl<N: Into<String>> FromIterator<(N, Tensor)> for Tensors {
    fn from_iter<I: IntoIterator<Item = (N, Tensor)>>(tensors: I) -> Self {
        Self(tensors.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect())
    }
}

impl std::ops::Index<&str> for Tensors {
    type Output = Tensor;

    /// Returns the tensor called `name`.
    ///
    /// # Panics
    ///
    /// Panics if there is no tensor of that name; [`get`](Tensors::get) returns `None` instead.
    fn index(&self, name: &str) -> &Tensor {
        self.get(name).unwrap_or_else(|| panic!("no tensor {name:?}"))
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tensor<{}, {}>", self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_choose_the_type() {
        assert_eq!(Tensor::new([2], vec![1.0, 2.0]).unwrap().dtype(), DType::Fp32);
        assert_eq!(Tensor::new([2], vec![1, 2]).unwrap().as_i32(), Some(&[1, 2][..]));
        assert_eq!(Tensor::new([1], vec![true]).unwrap().as_bool(), Some(&[true][..]));
        assert_eq!(Tensor::with_dtype(DType::Int8, [1], vec![3]).unwrap().dtype(), DType::Int8);
    }

    #[test]
    fn elements_must_be_as_many_as_the_shape_says_and_of_its_kind() {
        let five = [0.0f32; 5];
        assert!(matches!(TensorView::new(&[2, 3], &five[..]), Err(Error::TensorSize { elements: 5, .. })));
        assert!(matches!(TensorView::new(&[usize::MAX, 2], &five[..]), Err(Error::TensorSize { .. })));
        let whole = Tensor::with_dtype(DType::Int8, [1], Data::F32(vec![1.0]));
        assert_eq!(whole.unwrap_err().to_string(), "elements of a tensor of int8 cannot be floats");
        assert!(Tensor::with_dtype(DType::Fp16, [1], Data::F32(vec![1.0])).is_ok());
    }

    #[test]
    fn a_tensor_that_is_reset_keeps_its_memory_where_it_can() {
        let mut tensor = Tensor::new([4], vec![1.0; 4]).unwrap();
        let before = tensor.as_f32().unwrap().as_ptr();
        tensor.reset(DType::Fp16, &Shape::from([2, 2]));
        assert_eq!((tensor.dtype(), tensor.as_f32().unwrap().as_ptr()), (DType::Fp16, before));
        tensor.reset(DType::Int32, &Shape::from([3]));
        assert_eq!(tensor.as_i32(), Some(&[0, 0, 0][..]));
        tensor.reset(DType::Bool, &Shape::from([1]));
        assert_eq!(tensor.as_bool(), Some(&[false][..]));
    }
}
