//! Conversion between elements of safetensors files and elements of tensors.

use std::borrow::Cow;

use half::{bf16, f16};
use mlpackage::DType;
use safetensors::tensor::TensorView as FileView;
use safetensors::{Dtype, View};

use crate::error::{Error, Result};
use crate::tensor::{Data, Tensor};

/// A value between two types: every value that a file may hold is an f64 or an i128.
#[derive(Clone, Copy)]
enum Number {
    Float(f64),
    Int(i128),
}

/// Converts elements of a file to elements of a tensor of type `to`.
pub(super) fn convert(from: Dtype, bytes: &[u8], to: DType) -> Result<Data, String> {
    let numbers = read_numbers(from, bytes)
        .ok_or_else(|| format!("its type {from:?} is not supported, expected {to}"))?;
    let lost = |index: usize, value: &dyn std::fmt::Display| {
        format!("element {index} is {value}, which {to} cannot hold exactly: convert the file first")
    };
    let numbers = numbers.into_iter().enumerate();
    if to.is_float() {
        let float = |(i, number): (usize, Number)| number.to_float(to).map_err(|value| lost(i, &value));
        return Ok(Data::F32(numbers.map(float).collect::<Result<_, _>>()?));
    }
    let (low, high) = match to {
        DType::Bool => (0, 1),
        DType::Int8 => (-128, 127),
        DType::Uint8 => (0, 255),
        DType::Int16 => (-32_768, 32_767),
        DType::Uint16 => (0, 65_535),
        _ => (i128::from(i32::MIN), i128::from(i32::MAX)),
    };
    let integer = |(i, number): (usize, Number)| match number.to_integer() {
        Some(v) if (low..=high).contains(&v) => Ok(v as i32),
        _ => Err(lost(i, &number)),
    };
    if to == DType::Bool {
        let bool = |element| integer(element).map(|v| v == 1);
        return Ok(Data::Bool(numbers.map(bool).collect::<Result<_, _>>()?));
    }
    Ok(Data::I32(numbers.map(integer).collect::<Result<_, _>>()?))
}

/// Reads the elements of a file; `None` for a type that has no conversion.
fn read_numbers(from: Dtype, bytes: &[u8]) -> Option<Vec<Number>> {
    fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> Number) -> Vec<Number> {
        bytes.as_chunks::<N>().0.iter().map(|b| read(*b)).collect()
    }
    use Number::{Float, Int};
    Some(match from {
        Dtype::BOOL => each(bytes, |[b]| Int(i128::from(b != 0))),
        Dtype::U8 => each(bytes, |[b]| Int(b.into())),
        Dtype::I8 => each(bytes, |[b]| Int((b as i8).into())),
        Dtype::U16 => each(bytes, |b| Int(u16::from_le_bytes(b).into())),
        Dtype::I16 => each(bytes, |b| Int(i16::from_le_bytes(b).into())),
        Dtype::U32 => each(bytes, |b| Int(u32::from_le_bytes(b).into())),
        Dtype::I32 => each(bytes, |b| Int(i32::from_le_bytes(b).into())),
        Dtype::U64 => each(bytes, |b| Int(u64::from_le_bytes(b).into())),
        Dtype::I64 => each(bytes, |b| Int(i64::from_le_bytes(b).into())),
        Dtype::F16 => each(bytes, |b| Float(f16::from_le_bytes(b).into())),
        Dtype::BF16 => each(bytes, |b| Float(bf16::from_le_bytes(b).into())),
        Dtype::F32 => each(bytes, |b| Float(f32::from_le_bytes(b).into())),
        Dtype::F64 => each(bytes, |b| Float(f64::from_le_bytes(b))),
        _ => return None,
    })
}

impl Number {
    /// Returns the number as a value of `to`, fp16 or fp32; the number itself if `to` cannot hold it exactly.
    fn to_float(self, to: DType) -> Result<f32, Self> {
        let exact = match self {
            Self::Float(v) => v,
            // An f64 holds every integer that fp32 holds.
            Self::Int(v) if (v as f64) as i128 == v => v as f64,
            Self::Int(_) => return Err(self),
        };
        let value = if to == DType::Fp16 { f16::from_f64(exact).to_f32() } else { exact as f32 };
        if f64::from(value) == exact || exact.is_nan() { Ok(value) } else { Err(self) }
    }

    /// Returns the number as an integer; `None` if it has a fraction or is beyond every integer type.
    fn to_integer(self) -> Option<i128> {
        match self {
            Self::Int(v) => Some(v),
            Self::Float(v) if v.fract() == 0.0 && v.abs() < 1e18 => Some(v as i128),
            Self::Float(_) => None,
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Float(v) => v.fmt(f),
            Self::Int(v) => v.fmt(f),
        }
    }
}

/// Takes a tensor of a safetensors file. Integers of 32 and 64 bits become int32, bf16 and f64 become fp32; a value
/// that the type cannot hold exactly is an error.
impl TryFrom<FileView<'_>> for Tensor {
    type Error = Error;

    fn try_from(view: FileView<'_>) -> Result<Self> {
        let dtype = match view.dtype() {
            Dtype::F16 => DType::Fp16,
            Dtype::BOOL => DType::Bool,
            Dtype::I8 => DType::Int8,
            Dtype::U8 => DType::Uint8,
            Dtype::I16 => DType::Int16,
            Dtype::U16 => DType::Uint16,
            Dtype::I32 | Dtype::U32 | Dtype::I64 | Dtype::U64 => DType::Int32,
            _ => DType::Fp32,
        };
        let data = convert(view.dtype(), view.data(), dtype)
            .map_err(|reason| Error::Conversion { dtype, reason })?;
        Self::with_dtype(dtype, view.shape(), data)
    }
}

/// Writes floats as F32, integers as I32 and booleans as BOOL, whatever the element type: the values of an fp16 tensor
/// need not be rounded to fp16.
impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        file_dtype(Tensor::data(self))
    }

    fn shape(&self) -> &[usize] {
        Tensor::shape(self).dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        file_bytes(Tensor::data(self)).into()
    }

    fn data_len(&self) -> usize {
        match Tensor::data(self) {
            Data::F32(v) => size_of_val(v.as_slice()),
            Data::I32(v) => size_of_val(v.as_slice()),
            Data::Bool(v) => v.len(),
        }
    }
}

/// Returns the type in which a file stores these elements.
pub(super) fn file_dtype(data: &Data) -> Dtype {
    match data {
        Data::F32(_) => Dtype::F32,
        Data::I32(_) => Dtype::I32,
        Data::Bool(_) => Dtype::BOOL,
    }
}

/// Returns the bytes of these elements in a file.
pub(super) fn file_bytes(data: &Data) -> Vec<u8> {
    match data {
        Data::F32(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Data::I32(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Data::Bool(v) => v.iter().map(|v| u8::from(*v)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn what_converts_without_loss_is_taken() {
        let exact = floats(&[1.5, -2048.0, f32::INFINITY]);
        assert_eq!(
            convert(Dtype::F32, &exact, DType::Fp16).unwrap(),
            Data::F32(vec![1.5, -2048.0, f32::INFINITY])
        );
        assert_eq!(convert(Dtype::F32, &floats(&[3.0]), DType::Int32).unwrap(), Data::I32(vec![3]));
        assert_eq!(convert(Dtype::I64, &7i64.to_le_bytes(), DType::Int32).unwrap(), Data::I32(vec![7]));
        assert_eq!(convert(Dtype::U8, &[0, 1], DType::Bool).unwrap(), Data::Bool(vec![false, true]));
        assert_eq!(
            convert(Dtype::I32, &2049i32.to_le_bytes(), DType::Fp32).unwrap(),
            Data::F32(vec![2049.0])
        );
        let Data::F32(nan) = convert(Dtype::F32, &floats(&[f32::NAN]), DType::Fp16).unwrap() else {
            panic!()
        };
        assert!(nan[0].is_nan());
    }

    #[test]
    fn what_does_not_is_named() {
        let refused = |from, bytes: &[u8], to| convert(from, bytes, to).unwrap_err();
        let lost = refused(Dtype::F32, &floats(&[1.0, 0.1]), DType::Fp16);
        assert_eq!(
            lost,
            "element 1 is 0.10000000149011612, which fp16 cannot hold exactly: convert the file first"
        );
        assert!(refused(Dtype::I32, &2049i32.to_le_bytes(), DType::Fp16).contains("2049"));
        assert!(refused(Dtype::F32, &floats(&[1.5]), DType::Int32).contains("1.5"));
        assert!(refused(Dtype::I64, &(1i64 << 40).to_le_bytes(), DType::Int32).contains("1099511627776"));
        assert!(refused(Dtype::U64, &u64::MAX.to_le_bytes(), DType::Fp32).contains("18446744073709551615"));
        assert!(refused(Dtype::I32, &2i32.to_le_bytes(), DType::Bool).contains("element 0 is 2"));
    }

    #[test]
    fn tensors_of_safetensors_go_in_and_out() {
        let half: Vec<u8> = [1.0, -2.0].iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let tensor = Tensor::try_from(FileView::new(Dtype::F16, vec![2, 1], &half).unwrap()).unwrap();
        assert_eq!((tensor.dtype(), tensor.as_f32()), (DType::Fp16, Some(&[1.0, -2.0][..])));
        let bytes = safetensors::serialize([("x", &tensor)], None).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let view = file.tensor("x").unwrap();
        assert_eq!(
            (view.dtype(), view.shape(), view.data()),
            (Dtype::F32, &[2, 1][..], &floats(&[1.0, -2.0])[..])
        );

        let large = (1i64 << 40).to_le_bytes();
        let error = Tensor::try_from(FileView::new(Dtype::I64, vec![1], &large).unwrap()).unwrap_err();
        assert!(error.to_string().contains("1099511627776"), "{error}");
    }
}
