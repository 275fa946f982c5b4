//! Packed elements as numbers.

use half::{bf16, f16};

use crate::dtype::DType;
use crate::mil::{Literal, TensorType};

/// `elements` packed elements of `dtype` as f32; `None` for types that hold no numbers or are not known here.
pub(crate) fn packed_to_f32(dtype: DType, elements: usize, data: &[u8]) -> Option<Vec<f32>> {
    let two = |b: &[u8]| [b[0], b[1]];
    let four = |b: &[u8]| [b[0], b[1], b[2], b[3]];
    Some(match dtype {
        DType::Fp16 => data.chunks_exact(2).map(|b| f16::from_le_bytes(two(b)).to_f32()).collect(),
        DType::Bf16 => data.chunks_exact(2).map(|b| bf16::from_le_bytes(two(b)).to_f32()).collect(),
        DType::Fp32 => data.chunks_exact(4).map(|b| f32::from_le_bytes(four(b))).collect(),
        DType::Int8 => data.iter().map(|&b| f32::from(b as i8)).collect(),
        DType::Uint8 => data.iter().map(|&b| f32::from(b)).collect(),
        DType::Int16 => data.chunks_exact(2).map(|b| f32::from(i16::from_le_bytes(two(b)))).collect(),
        DType::Uint16 => data.chunks_exact(2).map(|b| f32::from(u16::from_le_bytes(two(b)))).collect(),
        DType::Int32 => data.chunks_exact(4).map(|b| i32::from_le_bytes(four(b)) as f32).collect(),
        DType::Uint32 => data.chunks_exact(4).map(|b| u32::from_le_bytes(four(b)) as f32).collect(),
        DType::Int4 | DType::Uint1 | DType::Uint2 | DType::Uint3 | DType::Uint4 | DType::Uint6 => {
            (0..elements).map(|i| sub_byte(dtype, data, i)).collect()
        }
        _ => return None,
    })
}

/// Element `i` occupies bits `[i * bits, (i + 1) * bits)`, the least significant bit of the first byte first.
fn sub_byte(dtype: DType, data: &[u8], i: usize) -> f32 {
    let bits = dtype.bits();
    let at = i * bits;
    let window = u16::from(data[at / 8]) | u16::from(data.get(at / 8 + 1).copied().unwrap_or(0)) << 8;
    let raw = (window >> (at % 8)) & ((1 << bits) - 1);
    if dtype.is_signed_int() && raw >> (bits - 1) != 0 {
        f32::from(raw as i16 - (1 << bits))
    } else {
        f32::from(raw)
    }
}

/// An immediate tensor's elements as f32; `None` for strings and bools.
pub(crate) fn literal_to_f32(literal: &Literal, ty: &TensorType) -> Option<Vec<f32>> {
    Some(match literal {
        Literal::Floats(v) => v.clone(),
        Literal::Doubles(v) => v.iter().map(|&x| x as f32).collect(),
        Literal::Ints(v) => v.iter().map(|&x| x as f32).collect(),
        Literal::LongInts(v) => v.iter().map(|&x| x as f32).collect(),
        Literal::Bytes(v) => return packed_to_f32(ty.dtype, ty.shape.elements()?, v),
        Literal::Bools(_) | Literal::Strings(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that coremltools 9.0 wrote for these elements.
    #[test]
    fn sub_byte_elements_unpack_as_coremltools_packs_them() {
        let cases: [(DType, &[u8], &[f32]); 6] = [
            (DType::Int4, &[0xf8, 0x17, 0x02], &[-8., -1., 7., 1., 2.]),
            (DType::Uint4, &[0x1f, 0x02], &[15., 1., 2.]),
            (DType::Uint1, &[0x0d, 0x03], &[1., 0., 1., 1., 0., 0., 0., 0., 1., 1.]),
            (DType::Uint2, &[0x27, 0x01], &[3., 1., 2., 0., 1.]),
            (DType::Uint3, &[0x8f, 0xc6, 0x1a], &[7., 1., 2., 3., 4., 5., 6.]),
            (DType::Uint6, &[0x7f, 0x20, 0x84, 0x2c], &[63., 1., 2., 33., 44.]),
        ];
        for (dtype, bytes, expected) in cases {
            assert_eq!(packed_to_f32(dtype, expected.len(), bytes).unwrap(), expected, "{dtype}");
        }
    }
}
