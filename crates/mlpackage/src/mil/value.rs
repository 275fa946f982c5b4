//! Constants, stored in the program or in a weight file.

use half::f16;

use super::dims::Dims;
use super::types::{TensorType, ValueType};
use crate::dtype::DType;
use crate::mil::elements;

/// A constant of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The type, in nearly all programs a tensor type.
    pub ty: ValueType,
    /// The contents.
    pub data: ValueData,
}

/// The contents of a constant.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueData {
    /// A tensor's elements, stored in the program itself.
    Immediate(Literal),
    /// A tensor's elements, stored in a weight file.
    Blob(BlobRef),
    /// The values of a list.
    List(Vec<Value>),
    /// The values of a tuple.
    Tuple(Vec<Value>),
    /// Keys and values of a dictionary.
    Dictionary(Vec<(Value, Value)>),
}

/// The location of a blob in a weight file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BlobRef {
    /// `@model_path/`, followed by the file's path relative to the folder of `model.mlmodel`.
    pub file: String,
    /// Byte offset of the blob's record.
    pub offset: u64,
}

/// Elements stored in the program, in the field of `TensorValue` that their type requires.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// fp32.
    Floats(Vec<f32>),
    /// fp64.
    Doubles(Vec<f64>),
    /// int32, int16 and uint16.
    Ints(Vec<i32>),
    /// int64 and uint64.
    LongInts(Vec<i64>),
    /// bool.
    Bools(Vec<bool>),
    /// string.
    Strings(Vec<String>),
    /// All other types, packed little endian: fp16, int8, uint8, uint32 and the sub-byte types.
    Bytes(Vec<u8>),
}

impl Literal {
    /// Converts the elements of a constant of type `ty` to f32; `None` for strings and bools.
    pub fn to_f32(&self, ty: &TensorType) -> Option<Vec<f32>> {
        elements::literal_to_f32(self, ty)
    }

    /// Returns the name of the `TensorValue` field that holds this literal.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::Floats(_) => "floats",
            Self::Doubles(_) => "doubles",
            Self::Ints(_) => "ints",
            Self::LongInts(_) => "longInts",
            Self::Bools(_) => "bools",
            Self::Strings(_) => "strings",
            Self::Bytes(_) => "bytes",
        }
    }

    /// Returns the name of the `TensorValue` field that holds elements of `dtype`.
    pub(crate) fn field_of(dtype: DType) -> &'static str {
        match dtype {
            DType::Fp32 => "floats",
            DType::Fp64 => "doubles",
            DType::Int32 | DType::Int16 | DType::Uint16 => "ints",
            DType::Int64 | DType::Uint64 => "longInts",
            DType::Bool => "bools",
            DType::String => "strings",
            _ => "bytes",
        }
    }

    /// Checks that the literal holds exactly the elements of `ty`, in the right field.
    pub(crate) fn fits(&self, ty: &TensorType) -> Result<(), String> {
        let want = Self::field_of(ty.dtype);
        if self.field() != want {
            return Err(format!(
                "immediate {} must be stored in TensorValue.{want}, found {}",
                ty,
                self.field()
            ));
        }
        let elements = ty.shape.elements().ok_or_else(|| format!("{ty} cannot be the type of a constant"))?;
        let (found, expected) = match self {
            Self::Floats(v) => (v.len(), Some(elements)),
            Self::Doubles(v) => (v.len(), Some(elements)),
            Self::Ints(v) => (v.len(), Some(elements)),
            Self::LongInts(v) => (v.len(), Some(elements)),
            Self::Bools(v) => (v.len(), Some(elements)),
            Self::Strings(v) => (v.len(), Some(elements)),
            Self::Bytes(v) => (v.len(), ty.dtype.packed_bytes(elements)),
        };
        if Some(found) == expected {
            Ok(())
        } else {
            let unit = if matches!(self, Self::Bytes(_)) { "bytes" } else { "values" };
            Err(format!("immediate {ty} holds {found} {unit}, expected {}", expected.unwrap_or(usize::MAX)))
        }
    }
}

impl Value {
    /// Creates a tensor of int32 elements.
    pub fn ints(shape: impl Into<Dims>, values: impl Into<Vec<i32>>) -> Self {
        Self::immediate(DType::Int32, shape, Literal::Ints(values.into()))
    }

    /// Creates an int32 scalar.
    pub fn int(value: i32) -> Self {
        Self::ints(Dims::default(), [value])
    }

    /// Creates a bool scalar.
    pub fn bool(value: bool) -> Self {
        Self::immediate(DType::Bool, Dims::default(), Literal::Bools(vec![value]))
    }

    /// Creates a tensor of rank 1 with bool elements.
    pub fn bools(values: impl Into<Vec<bool>>) -> Self {
        let values = values.into();
        Self::immediate(DType::Bool, [values.len()], Literal::Bools(values))
    }

    /// Creates a string scalar.
    pub fn string(value: impl Into<String>) -> Self {
        Self::immediate(DType::String, Dims::default(), Literal::Strings(vec![value.into()]))
    }

    /// Creates an fp32 scalar.
    pub fn fp32(value: f32) -> Self {
        Self::immediate(DType::Fp32, Dims::default(), Literal::Floats(vec![value]))
    }

    /// Creates an fp16 scalar, rounded to nearest even.
    pub fn fp16(value: f32) -> Self {
        Self::immediate(
            DType::Fp16,
            Dims::default(),
            Literal::Bytes(f16::from_f32(value).to_le_bytes().to_vec()),
        )
    }

    /// Creates a tensor of fp16 elements that are stored in the program.
    pub fn fp16s(shape: impl Into<Dims>, values: &[f16]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::immediate(DType::Fp16, shape, Literal::Bytes(bytes))
    }

    /// Creates a tensor of fp32 elements that are stored in the program.
    pub fn fp32s(shape: impl Into<Dims>, values: impl Into<Vec<f32>>) -> Self {
        Self::immediate(DType::Fp32, shape, Literal::Floats(values.into()))
    }

    /// Creates a list of scalars of `dtype`, such as the labels of a classifier.
    pub fn list(dtype: DType, values: impl Into<Vec<Self>>) -> Self {
        let (element, values) = (TensorType::new(dtype, Dims::default()), values.into());
        let length = Some(super::dims::Dim::Known(values.len()));
        Self {
            ty: ValueType::List { element: Box::new(element.into()), length },
            data: ValueData::List(values),
        }
    }

    /// Creates a tensor whose elements are stored in a weight file.
    pub fn blob(ty: TensorType, blob: BlobRef) -> Self {
        Self { ty: ty.into(), data: ValueData::Blob(blob) }
    }

    /// Creates a tensor whose elements are stored in the program. [`builder`](crate::builder) refuses
    /// elements that do not match the type.
    pub fn immediate(dtype: DType, shape: impl Into<Dims>, literal: Literal) -> Self {
        Self { ty: TensorType::new(dtype, shape).into(), data: ValueData::Immediate(literal) }
    }

    /// Returns the tensor type; `None` if this is not a tensor.
    pub fn tensor_type(&self) -> Option<&TensorType> {
        match &self.ty {
            ValueType::Tensor(ty) => Some(ty),
            _ => None,
        }
    }

    /// Returns the element type; `None` if this is not a tensor.
    pub fn dtype(&self) -> Option<DType> {
        self.tensor_type().map(|ty| ty.dtype)
    }

    /// Returns every value that refers to a weight file, including nested values and the value itself.
    pub(crate) fn blobs(&self) -> Vec<(&TensorType, &BlobRef)> {
        match &self.data {
            ValueData::Immediate(_) => Vec::new(),
            ValueData::Blob(blob) => self.tensor_type().map(|ty| (ty, blob)).into_iter().collect(),
            ValueData::List(values) | ValueData::Tuple(values) => {
                values.iter().flat_map(Self::blobs).collect()
            }
            ValueData::Dictionary(pairs) => {
                pairs.iter().flat_map(|(key, value)| [key, value]).flat_map(Self::blobs).collect()
            }
        }
    }

    /// Returns the elements as `i32` if they are stored in the program as int32, int16 or uint16.
    pub fn as_ints(&self) -> Option<&[i32]> {
        match &self.data {
            ValueData::Immediate(Literal::Ints(v)) => Some(v),
            _ => None,
        }
    }

    /// Converts the elements to `i32`, if they are stored in the program, are integers of up to 64 bits, and
    /// fit.
    pub fn to_ints(&self) -> Option<Vec<i32>> {
        match (&self.data, self.dtype()?) {
            (ValueData::Immediate(Literal::Ints(v)), _) => Some(v.clone()),
            (ValueData::Immediate(Literal::LongInts(v)), _) => {
                v.iter().map(|&v| i32::try_from(v).ok()).collect()
            }
            (ValueData::Immediate(Literal::Bytes(b)), DType::Uint32) => {
                let words = b.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                words.map(|v| i32::try_from(v).ok()).collect()
            }
            (ValueData::Immediate(Literal::Bytes(b)), DType::Int8) => {
                Some(b.iter().map(|&b| i32::from(b as i8)).collect())
            }
            (ValueData::Immediate(Literal::Bytes(b)), DType::Uint8) => {
                Some(b.iter().map(|&b| i32::from(b)).collect())
            }
            _ => None,
        }
    }

    /// Returns the elements if they are bools stored in the program.
    pub fn as_bools(&self) -> Option<&[bool]> {
        match &self.data {
            ValueData::Immediate(Literal::Bools(v)) => Some(v),
            _ => None,
        }
    }

    /// Returns the string if it is stored in the program.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            ValueData::Immediate(Literal::Strings(v)) => v.first().map(String::as_str),
            _ => None,
        }
    }

    /// Returns the first element as `f32` if it is stored in the program as fp16 or fp32.
    pub fn as_float(&self) -> Option<f32> {
        match &self.data {
            ValueData::Immediate(Literal::Floats(v)) => v.first().copied(),
            ValueData::Immediate(Literal::Bytes(b)) if self.dtype() == Some(DType::Fp16) => {
                b.get(..2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
            }
            _ => None,
        }
    }
}
