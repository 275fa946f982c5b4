//! Conversion of packed elements to f32.

use half::{bf16, f16};

use crate::dtype::DType;
use crate::mil::{Literal, TensorType};

/// Converts `elements` packed elements of `dtype` to f32; `None` if [`DType::is_number`] is false or `data`
/// is too short.
pub(crate) fn packed_to_f32(dtype: DType, elements: usize, data: &[u8]) -> Option<Vec<f32>> {
    if !dtype.is_number() || dtype.packed_bytes(elements).is_none_or(|bytes| bytes > data.len()) {
        return None;
    }
    let mut out = vec![0.0; elements];
    read(dtype, data, 0, &mut out);
    Some(out)
}

/// Converts packed elements of `dtype`, beginning with element `start`. `data` must hold them, and
/// [`DType::is_number`] must be true.
pub(crate) fn read(dtype: DType, data: &[u8], start: usize, out: &mut [f32]) {
    fn each<const N: usize>(data: &[u8], start: usize, out: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
        let packed = data[start * N..].as_chunks::<N>().0;
        out.iter_mut().zip(packed).for_each(|(out, bytes)| *out = convert(*bytes));
    }
    match dtype {
        DType::Fp16 => each(data, start, out, |b| f16::from_le_bytes(b).to_f32()),
        DType::Bf16 => each(data, start, out, |b| bf16::from_le_bytes(b).to_f32()),
        DType::Fp32 => each(data, start, out, f32::from_le_bytes),
        DType::Int8 => each(data, start, out, |[b]| f32::from(b as i8)),
        DType::Uint8 => each(data, start, out, |[b]| f32::from(b)),
        DType::Int16 => each(data, start, out, |b| f32::from(i16::from_le_bytes(b))),
        DType::Uint16 => each(data, start, out, |b| f32::from(u16::from_le_bytes(b))),
        DType::Int32 => each(data, start, out, |b| i32::from_le_bytes(b) as f32),
        DType::Uint32 => each(data, start, out, |b| u32::from_le_bytes(b) as f32),
        DType::Int4 | DType::Uint1 | DType::Uint2 | DType::Uint3 | DType::Uint4 | DType::Uint6 => {
            out.iter_mut().enumerate().for_each(|(i, out)| *out = sub_byte(dtype, data, start + i));
        }
        other => unreachable!("{other} is not numeric"),
    }
}

/// Returns element `i`, which occupies bits `[i * bits, (i + 1) * bits)`, counted from the least significant bit
/// of the first byte.
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

/// Converts the elements of an immediate tensor to f32; `None` for strings and bools.
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

    /// The bytes are what coremltools 9.0 writes for these elements.
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
