//! MIL's element types, and their numbers in MIL programs and weight files.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The element type of a MIL tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[allow(missing_docs)] // each variant is its own name
pub enum DType {
    Bool,
    String,
    Fp16,
    Fp32,
    Fp64,
    Bf16,
    Int8,
    Int16,
    Int32,
    Int64,
    Int4,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Uint4,
    Uint2,
    Uint1,
    Uint6,
    Uint3,
    Fp8E4M3Fn,
    Fp8E5M2,
}

/// One row: element type, MIL name, `MILSpec.DataType` number, `BlobDataType` number, bits per element.
type Row = (DType, &'static str, i32, Option<u32>, usize);

/// The third column is from `MIL.proto`, the fourth from MIL blob storage version 2, which has neither bool
/// nor string.
const TABLE: [Row; 22] = [
    (DType::Bool, "bool", 1, None, 8),
    (DType::String, "string", 2, None, 0),
    (DType::Fp16, "fp16", 10, Some(1), 16),
    (DType::Fp32, "fp32", 11, Some(2), 32),
    (DType::Fp64, "fp64", 12, None, 64),
    (DType::Bf16, "bf16", 13, Some(5), 16),
    (DType::Int8, "int8", 21, Some(4), 8),
    (DType::Int16, "int16", 22, Some(6), 16),
    (DType::Int32, "int32", 23, Some(14), 32),
    (DType::Int64, "int64", 24, None, 64),
    (DType::Int4, "int4", 25, Some(8), 4),
    (DType::Uint8, "uint8", 31, Some(3), 8),
    (DType::Uint16, "uint16", 32, Some(7), 16),
    (DType::Uint32, "uint32", 33, Some(15), 32),
    (DType::Uint64, "uint64", 34, None, 64),
    (DType::Uint4, "uint4", 35, Some(11), 4),
    (DType::Uint2, "uint2", 36, Some(10), 2),
    (DType::Uint1, "uint1", 37, Some(9), 1),
    (DType::Uint6, "uint6", 38, Some(13), 6),
    (DType::Uint3, "uint3", 39, Some(12), 3),
    (DType::Fp8E4M3Fn, "fp8e4m3fn", 40, Some(16), 8),
    (DType::Fp8E5M2, "fp8e5m2", 41, Some(17), 8),
];

impl DType {
    /// All element types, in order of declaration.
    pub const ALL: [Self; 22] = {
        let mut all = [Self::Bool; 22];
        let mut i = 0;
        while i < all.len() {
            all[i] = TABLE[i].0;
            i += 1;
        }
        all
    };

    fn row(self) -> &'static Row {
        // The table lists every variant in order of declaration, which a test verifies.
        &TABLE[self as usize]
    }

    /// Returns MIL's name of the type, such as `fp16`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Returns the type's number in `MILSpec.DataType`.
    pub(crate) fn mil_number(self) -> i32 {
        self.row().2
    }

    /// Returns the type's number in the records of a weight file; `None` if a weight file cannot hold it.
    pub fn blob_number(self) -> Option<u32> {
        self.row().3
    }

    /// Returns the size of a packed element in bits; 0 for strings.
    pub fn bits(self) -> usize {
        self.row().4
    }

    /// Returns the size of `elements` packed elements in bytes; `None` on overflow.
    pub fn packed_bytes(self, elements: usize) -> Option<usize> {
        elements.checked_mul(self.bits()).map(|bits| bits.div_ceil(8))
    }

    pub(crate) fn from_mil_number(number: i32) -> Option<Self> {
        TABLE.iter().find(|row| row.2 == number).map(|row| row.0)
    }

    pub(crate) fn from_blob_number(number: u32) -> Option<Self> {
        TABLE.iter().find(|row| row.3 == Some(number)).map(|row| row.0)
    }

    /// Returns whether this crate can read the elements as numbers: all types except string, bool, the 64-bit
    /// types and the 8-bit floating-point types.
    pub fn is_number(self) -> bool {
        self.is_int() && !matches!(self, Self::Int64 | Self::Uint64)
            || matches!(self, Self::Fp16 | Self::Bf16 | Self::Fp32)
    }

    /// Returns whether the type is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Fp32 | Self::Fp64 | Self::Bf16 | Self::Fp8E4M3Fn | Self::Fp8E5M2)
    }

    /// Returns whether the type is an integer type, including those of less than a byte.
    pub fn is_int(self) -> bool {
        !self.is_float() && !matches!(self, Self::Bool | Self::String)
    }

    /// Returns whether the type is a signed integer type.
    pub fn is_signed_int(self) -> bool {
        matches!(self, Self::Int4 | Self::Int8 | Self::Int16 | Self::Int32 | Self::Int64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_order_of_declaration() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i, "{}", row.1);
        }
    }

    #[test]
    fn packed_bytes_round_up() {
        assert_eq!(DType::Int4.packed_bytes(5), Some(3));
        assert_eq!(DType::Uint3.packed_bytes(7), Some(3));
        assert_eq!(DType::Fp16.packed_bytes(7), Some(14));
        assert_eq!(DType::Fp32.packed_bytes(usize::MAX), None);
    }
}
