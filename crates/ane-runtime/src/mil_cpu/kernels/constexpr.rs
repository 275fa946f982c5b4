//! Compressed weights, unfolded.

use mlpackage::Shape;

/// `scale * (data - offset)`; an element of `scale` and `offset` stands for a block of `data`.
pub(in crate::mil_cpu) fn dequantize(
    data: &[f32],
    shape: &Shape,
    scale: &[f32],
    scale_shape: &Shape,
    offset: Option<&[f32]>,
) -> Vec<f32> {
    let blocks: Vec<usize> = shape.dims().iter().zip(scale_shape.dims()).map(|(&d, &s)| d / s).collect();
    let scale_strides = super::strides(scale_shape.dims());
    let strides = super::strides(shape.dims());
    let value = |(i, &q): (usize, &f32)| {
        let at: usize = (0..blocks.len())
            .map(|axis| (i / strides[axis]) % shape.dims()[axis] / blocks[axis] * scale_strides[axis])
            .sum();
        scale[at] * (q - offset.map_or(0.0, |o| o[at]))
    };
    // The common case of one scale for everything needs no index.
    if let (&[scale], None) = (scale, offset) {
        return data.iter().map(|q| scale * q).collect();
    }
    data.iter().enumerate().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_has_its_own_scale_and_offset() {
        let data: Vec<f32> = (0..8).map(|v| v as f32).collect();
        let shape = Shape::from([2, 4]);
        // Blocks of one row by two columns: scales [[1, 10], [100, 1000]], offsets [[0, 1], [4, 5]].
        let got =
            dequantize(&data, &shape, &[1., 10., 100., 1000.], &Shape::from([2, 2]), Some(&[0., 1., 4., 5.]));
        assert_eq!(got, [0., 1., 10., 20., 0., 100., 1000., 2000.]);
        assert_eq!(dequantize(&data, &shape, &[2.], &Shape::from([1, 1]), None)[7], 14.);
        let rows = dequantize(&data, &shape, &[1., 3.], &Shape::from([2, 1]), None);
        assert_eq!(rows, [0., 1., 2., 3., 12., 15., 18., 21.]);
    }
}
