//! Conversions between tensors and arrays of the crate `ndarray`.

use half::f16;
use ndarray::{ArrayD, ArrayViewD, IxDyn};

use crate::error::{Error, Result};
use crate::tensor::{Data, Tensor, TensorView};

impl Tensor {
    /// Returns an `ndarray` view, if the elements are floats.
    pub fn array(&self) -> Option<ArrayViewD<'_, f32>> {
        let values = self.as_f32()?;
        ArrayViewD::from_shape(IxDyn(self.shape().dims()), values).ok()
    }
}

macro_rules! conversions {
    ($($element:ty),*) => {$(
        /// Fails for an array that is not in row-major order: copy it with `as_standard_layout` first.
        impl<'a> TryFrom<&'a ArrayViewD<'_, $element>> for TensorView<'a> {
            type Error = Error;

            fn try_from(array: &'a ArrayViewD<'_, $element>) -> Result<Self> {
                let elements = array.as_slice().ok_or(Error::TensorLayout)?;
                Self::new(array.shape(), elements)
            }
        }
    )*};
}

conversions!(f16, f32, i32, i8, bool);

macro_rules! owned {
    ($($element:ty),*) => {$(
        /// Copies the elements only if the array is not in row-major order.
        impl From<ArrayD<$element>> for Tensor {
            fn from(array: ArrayD<$element>) -> Self {
                let shape = array.shape().to_vec();
                let elements = match array.is_standard_layout() {
                    true => array.into_raw_vec_and_offset(),
                    false => (array.iter().copied().collect(), None),
                };
                let skipped = elements.1.unwrap_or(0);
                let count = shape.iter().product();
                let data: Vec<$element> = elements.0.into_iter().skip(skipped).take(count).collect();
                Self::new(shape, Data::from(data)).expect("an array has the elements of its shape")
            }
        }
    )*};
}

owned!(f32, i32, bool);

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, Axis, IxDyn, Slice};

    use super::*;
    use crate::tensor::Elements;

    fn counting() -> ArrayD<f32> {
        ArrayD::from_shape_fn(IxDyn(&[2, 3]), |i| (i[0] * 3 + i[1]) as f32)
    }

    #[test]
    fn views_of_arrays_become_views_of_tensors() {
        let array = counting();
        let rows = array.view();
        let view = TensorView::try_from(&rows).unwrap();
        assert_eq!(view.shape(), [2, 3]);
        assert!(matches!(view.elements(), Elements::F32(v) if v == [0., 1., 2., 3., 4., 5.]));
        let columns = array.t();
        assert!(matches!(TensorView::try_from(&columns), Err(Error::TensorLayout)));
    }

    #[test]
    fn arrays_become_tensors_in_any_layout() {
        let array = counting();
        assert_eq!(Tensor::from(array.clone()).array().unwrap(), array);
        let columns = array.clone().reversed_axes();
        assert_eq!(Tensor::from(columns).as_f32().unwrap(), [0., 3., 1., 4., 2., 5.]);
        let mut last_row = array;
        last_row.slice_axis_inplace(Axis(0), Slice::from(1..));
        let tensor = Tensor::from(last_row);
        assert_eq!((tensor.shape().dims(), tensor.as_f32().unwrap()), (&[1, 3][..], &[3., 4., 5.][..]));
    }
}
