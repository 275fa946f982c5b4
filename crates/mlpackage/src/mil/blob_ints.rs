//! Integer constants that a program stores in a weight file.

use std::collections::HashMap;

use super::program::Program;
use super::types::TensorType;
use super::value::{BlobRef, Literal, Value, ValueData};
use crate::dtype::DType;

/// Limit on the number of elements. Axes, sizes, bounds and paddings are short; tables of indices are not.
const MOST_ELEMENTS: usize = 1024;

/// The short integer constants that a program stores in a weight file.
///
/// coremltools stores constants of ten elements or more there. Shapes can depend on them: the sizes of a
/// `split` into eleven parts, the padding of five axes.
///
/// Empty for a program without weight files; [`Package::blob_ints`](crate::Package::blob_ints) reads those of
/// a package.
#[derive(Clone, Debug, Default)]
pub struct BlobInts(HashMap<BlobRef, Vec<Value>>);

impl BlobInts {
    /// Reads the constants of `program`. `read` returns the packed elements of a blob, or `None` if they do
    /// not match the type that the program declares.
    pub(crate) fn of<'a>(
        program: &Program,
        read: impl Fn(&BlobRef, &TensorType) -> Option<&'a [u8]>,
    ) -> Self {
        let mut found = Self::default();
        let operations = program.functions.values().flat_map(|f| f.block.all_operations());
        for (ty, at) in operations.flat_map(|o| o.values()).flat_map(Value::blobs) {
            if let Some(data) = read(at, ty) {
                found.insert(at, ty, data);
            }
        }
        found
    }

    /// Adds the blob at `at` if it holds few integers.
    pub(crate) fn insert(&mut self, at: &BlobRef, ty: &TensorType, data: &[u8]) {
        if ty.shape.elements().is_none_or(|n| n > MOST_ELEMENTS) {
            return;
        }
        let Some(literal) = integers(ty.dtype, data) else { return };
        let value = Value::immediate(ty.dtype, ty.shape.clone(), literal);
        let known = self.0.entry(at.clone()).or_default();
        if !known.contains(&value) {
            known.push(value);
        }
    }

    /// Returns the same constant with its elements in the program; the constant itself if its elements were
    /// not read.
    pub(crate) fn stated<'a>(&'a self, value: &'a Value) -> &'a Value {
        let ValueData::Blob(at) = &value.data else { return value };
        let known = self.0.get(at).and_then(|values| values.iter().find(|v| v.ty == value.ty));
        known.unwrap_or(value)
    }
}

/// Converts packed integers to the form in which a program holds them; `None` for other types.
fn integers(dtype: DType, data: &[u8]) -> Option<Literal> {
    Some(match dtype {
        DType::Int32 => Literal::Ints(data.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect()),
        DType::Int16 => {
            Literal::Ints(data.as_chunks().0.iter().map(|b| i32::from(i16::from_le_bytes(*b))).collect())
        }
        DType::Uint16 => {
            Literal::Ints(data.as_chunks().0.iter().map(|b| i32::from(u16::from_le_bytes(*b))).collect())
        }
        DType::Uint32 | DType::Int8 | DType::Uint8 => Literal::Bytes(data.to_vec()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_with_their_sign() {
        let data = [0xff, 0xff, 1, 0];
        assert_eq!(integers(DType::Int16, &data), Some(Literal::Ints(vec![-1, 1])));
        assert_eq!(integers(DType::Uint16, &data), Some(Literal::Ints(vec![65_535, 1])));
        assert_eq!(integers(DType::Int32, &data), Some(Literal::Ints(vec![131_071])));
        assert_eq!(integers(DType::Int8, &data), Some(Literal::Bytes(data.to_vec())));
        assert_eq!(integers(DType::Fp16, &data), None);
    }
}
