//! Access to arrays with gaps between their rows.
//!
//! Core ML pads rows (the Neural Engine wants 64 bytes). The position of an element in an `MLMultiArray`
//! therefore follows from its strides, never from its row-major index.

use bytemuck::{AnyBitPattern, NoUninit};
use smallvec::SmallVec;

/// An axis: its size, and its stride in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    extent: usize,
    stride: usize,
}

/// The axes of an array, outermost first. Axes of size 1 are left out, and adjacent axes without a gap are
/// merged.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    axes: SmallVec<[Axis; 6]>,
    elements: usize,
}

impl Layout {
    /// Computes the layout of a shape with strides, and checks that it fits into `bytes` bytes of elements of
    /// `size` bytes each.
    fn new(shape: &[usize], strides: &[usize], size: usize, bytes: usize) -> Result<Self, String> {
        if shape.len() != strides.len() {
            return Err(format!("{} strides for {} axes", strides.len(), shape.len()));
        }
        let elements = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
        let elements = elements.ok_or_else(|| format!("shape {shape:?} overflows"))?;
        if elements == 0 {
            return Ok(Self { axes: SmallVec::new(), elements });
        }
        let last = shape
            .iter()
            .zip(strides)
            .try_fold(0usize, |last, (&extent, &stride)| last.checked_add((extent - 1).checked_mul(stride)?));
        let needed = last.and_then(|last| last.checked_add(1)?.checked_mul(size));
        if needed.is_none_or(|needed| needed > bytes) {
            return Err(format!(
                "shape {shape:?} with strides {strides:?} of {size} bytes each reaches beyond its {bytes} bytes"
            ));
        }
        let mut axes: SmallVec<[Axis; 6]> = SmallVec::new();
        for (&extent, &stride) in shape.iter().zip(strides).filter(|(extent, _)| **extent > 1) {
            match axes.last_mut() {
                Some(outer) if extent.checked_mul(stride) == Some(outer.stride) => {
                    *outer = Axis { extent: outer.extent * extent, stride };
                }
                _ => axes.push(Axis { extent, stride }),
            }
        }
        Ok(Self { axes, elements })
    }

    /// Calls `run` with the first element, the stride and the length of each innermost run, in row-major
    /// order.
    fn runs(&self, mut run: impl FnMut(usize, usize, usize)) {
        let Some((inner, outer)) = self.axes.split_last() else {
            if self.elements > 0 {
                run(0, 1, 1);
            }
            return;
        };
        let mut index: SmallVec<[usize; 6]> = SmallVec::from_elem(0, outer.len());
        let mut first = 0;
        loop {
            run(first, inner.stride, inner.extent);
            // Advances the index to the next run, like an odometer.
            let mut axis = outer.len();
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                index[axis] += 1;
                first += outer[axis].stride;
                if index[axis] < outer[axis].extent {
                    break;
                }
                first -= outer[axis].extent * outer[axis].stride;
                index[axis] = 0;
            }
        }
    }
}

/// Returns the elements as a slice if there are no gaps between them; `None` otherwise.
pub(super) fn dense_mut<'b, T: AnyBitPattern + NoUninit>(
    bytes: &'b mut [u8],
    shape: &[usize],
    strides: &[usize],
) -> Option<&'b mut [T]> {
    let Layout { axes, elements } = Layout::new(shape, strides, size_of::<T>(), bytes.len()).ok()?;
    match axes.as_slice() {
        [] | [Axis { stride: 1, .. }] => {
            bytemuck::try_cast_slice_mut(&mut bytes[..elements * size_of::<T>()]).ok()
        }
        _ => None,
    }
}

/// Copies the elements of a strided array to `out` in row-major order, each through `convert`.
///
/// # Errors
///
/// Returns an error if the array exceeds `bytes`, or if its number of elements differs from that of `out`;
/// nothing has been copied then.
pub(super) fn gather<S: AnyBitPattern, D>(
    bytes: &[u8],
    shape: &[usize],
    strides: &[usize],
    out: &mut [D],
    convert: impl Fn(S) -> D,
) -> Result<(), String> {
    let size = size_of::<S>();
    let layout = Layout::new(shape, strides, size, bytes.len())?;
    if layout.elements != out.len() {
        return Err(format!("shape {shape:?} has {} elements, not {}", layout.elements, out.len()));
    }
    let mut out = out.iter_mut();
    layout.runs(|first, stride, extent| {
        for (i, out) in out.by_ref().take(extent).enumerate() {
            let at = (first + i * stride) * size;
            *out = convert(bytemuck::pod_read_unaligned(&bytes[at..at + size]));
        }
    });
    Ok(())
}

/// Copies elements in row-major order into a strided array, each through `convert`. Padding is unchanged.
///
/// # Errors
///
/// As for [`gather`].
pub(super) fn scatter<S: Copy, D: NoUninit>(
    values: &[S],
    shape: &[usize],
    strides: &[usize],
    bytes: &mut [u8],
    convert: impl Fn(S) -> D,
) -> Result<(), String> {
    let size = size_of::<D>();
    let layout = Layout::new(shape, strides, size, bytes.len())?;
    if layout.elements != values.len() {
        return Err(format!("shape {shape:?} has {} elements, not {}", layout.elements, values.len()));
    }
    let mut values = values.iter();
    layout.runs(|first, stride, extent| {
        for (i, value) in values.by_ref().take(extent).enumerate() {
            let at = (first + i * stride) * size;
            bytes[at..at + size].copy_from_slice(bytemuck::bytes_of(&convert(*value)));
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;

    /// Returns every index of a shape in row-major order, computed naively.
    fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
        shape.iter().fold(vec![vec![]], |before, &extent| {
            let longer = |index: &Vec<usize>| {
                (0..extent).map(|i| [index.as_slice(), &[i]].concat()).collect::<Vec<_>>()
            };
            before.iter().flat_map(longer).collect()
        })
    }

    fn offset(index: &[usize], strides: &[usize]) -> usize {
        index.iter().zip(strides).map(|(i, stride)| i * stride).sum()
    }

    /// Shapes with strides that leave gaps: each stride is at least the size of the inner axes.
    fn arrays() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
        prop::collection::vec((0..5usize, 0..4usize), 0..6).prop_map(|axes| {
            let mut strides = vec![0; axes.len()];
            let mut within = 1;
            for (i, (extent, padding)) in axes.iter().enumerate().rev() {
                strides[i] = within + padding;
                within = strides[i] * extent.max(&1);
            }
            (axes.into_iter().map(|(extent, _)| extent).collect(), strides)
        })
    }

    proptest! {
        #[test]
        fn elements_are_where_a_naive_walk_finds_them((shape, strides) in arrays(), slack in 0..9usize) {
            let indices = indices(&shape);
            let last = indices.iter().map(|index| offset(index, &strides) + 1).max().unwrap_or(0);
            let storage: Vec<f16> = (0..last + slack).map(|i| f16::from_f32(i as f32)).collect();
            let bytes: &[u8] = bytemuck::cast_slice(&storage);
            let naive: Vec<f32> = indices.iter().map(|index| storage[offset(index, &strides)].to_f32()).collect();
            let mut found = vec![f32::NAN; naive.len()];
            gather(bytes, &shape, &strides, &mut found, f16::to_f32).unwrap();
            prop_assert_eq!(&found, &naive);

            // Writes them back into storage; only the padding keeps its old contents.
            let mut naively = vec![f16::NEG_ONE; storage.len()];
            for (index, value) in indices.iter().zip(&naive) {
                naively[offset(index, &strides)] = f16::from_f32(*value);
            }
            let mut written = vec![f16::NEG_ONE; storage.len()];
            scatter(&naive, &shape, &strides, bytemuck::cast_slice_mut(&mut written), f16::from_f32).unwrap();
            prop_assert_eq!(&written, &naively);
            // Elements without gaps are a slice.
            let dense = last == naive.len();
            let slice = dense_mut::<f16>(bytemuck::cast_slice_mut(&mut written), &shape, &strides);
            prop_assert_eq!(slice.is_some(), dense);
            if let Some(slice) = slice {
                let values: Vec<f32> = slice.iter().map(|v| v.to_f32()).collect();
                prop_assert_eq!(values, naive);
            }

            // With one byte less, the array is refused before anything is read or written.
            if last > 0 {
                let short = &bytes[..2 * last - 1];
                let refused = gather(short, &shape, &strides, &mut found, f16::to_f32).unwrap_err();
                prop_assert!(refused.contains("beyond"), "{}", refused);
            }
        }
    }

    #[test]
    fn rows_of_the_neural_engine_are_64_bytes_apart() {
        // [1, 3, 1, 1] of fp16, each row padded to 32 elements.
        let mut storage = [f16::ZERO; 96];
        for (i, at) in [0, 32, 64].into_iter().enumerate() {
            storage[at] = f16::from_f32(i as f32 + 1.0);
        }
        let mut out = [0.0; 3];
        let bytes: &[u8] = bytemuck::cast_slice(&storage);
        gather(bytes, &[1, 3, 1, 1], &[96, 32, 32, 32], &mut out, f16::to_f32).unwrap();
        assert_eq!(out, [1.0, 2.0, 3.0]);
    }

    #[test]
    fn axes_without_a_gap_are_one() {
        let axes = |shape: &[usize], strides: &[usize]| Layout::new(shape, strides, 1, 1 << 20).unwrap().axes;
        assert_eq!(axes(&[2, 3, 4], &[12, 4, 1]).as_slice(), [Axis { extent: 24, stride: 1 }]);
        let padded = [Axis { extent: 6, stride: 32 }, Axis { extent: 4, stride: 1 }];
        assert_eq!(axes(&[2, 3, 1, 4], &[96, 32, 4, 1]).as_slice(), padded);
    }

    #[test]
    fn absurd_layouts_are_refused() {
        let mut out = [0u8; 4];
        let mut refused = |shape: &[usize], strides: &[usize]| {
            gather(&[0u8; 8], shape, strides, &mut out, |b: u8| b).unwrap_err()
        };
        assert!(refused(&[4], &[]).contains("0 strides for 1 axes"));
        assert!(refused(&[usize::MAX, 2], &[1, 1]).contains("overflows"));
        assert!(refused(&[4], &[usize::MAX]).contains("beyond its 8 bytes"));
        assert!(refused(&[4], &[3]).contains("beyond its 8 bytes"));
        assert!(refused(&[5], &[1]).contains("has 5 elements, not 4"));
    }
}
