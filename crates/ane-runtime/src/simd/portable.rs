//! The reference kernels, for machines without instructions that this crate knows of.

use half::f16;

/// Returns the dot product of two vectors of integers. For vectors as long as a block it fits into 32 bits.
pub(super) fn product(weights: &[i8], x: &[i16]) -> i32 {
    assert_eq!(weights.len(), x.len(), "vectors of one length");
    weights.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum()
}

/// Converts fp16 elements, two bytes each, to f32.
pub(super) fn halves(bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), 2 * out.len(), "two bytes for each element");
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *out = f16::from_le_bytes(*bytes).to_f32();
    }
}

/// Looks up entries of a table by indices of `bits` bits each, from index `start`.
pub(super) fn entries(bits: usize, indices: &[u8], start: usize, table: &[f32], out: &mut [f32]) {
    match bits {
        8 => {
            let indices = &indices[start..start + out.len()];
            out.iter_mut().zip(indices).for_each(|(out, i)| *out = table[usize::from(*i)]);
        }
        _ => {
            for (i, out) in out.iter_mut().enumerate() {
                let at = (start + i) * bits;
                let window = u16::from(indices[at / 8])
                    | u16::from(indices.get(at / 8 + 1).copied().unwrap_or(0)) << 8;
                *out = table[usize::from(window >> (at % 8)) & ((1 << bits) - 1)];
            }
        }
    }
}
