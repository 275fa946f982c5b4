"""The stored forms of weights, which are expanded to dense ones when a program is loaded.

Their results are constants and have exactly the values of their type: fp16 results are rounded to fp16 in every arithmetic.
"""

import numpy as np

from .elementwise import along
from .registry import Out, axis_of, op


def stored(values, dtype):
    """Values rounded to the element type of a constant."""
    if dtype == "fp16":
        return Out(values.astype(np.float16).astype(np.float64), dtype)
    if dtype == "fp32":
        return Out(values.astype(np.float32).astype(np.float64), dtype)
    return Out(values, dtype)


def unpacked(packed, bits, count):
    """`count` integers of `bits` bits each, least significant bit first."""
    flat = np.unpackbits(packed.astype(np.uint8), bitorder="little")[: count * bits].reshape(count, bits)
    return (flat.astype(np.int64) << np.arange(bits)).sum(1)


@op("constexpr_affine_dequantize", exact=True)
def affine_dequantize(c, quantized_data, zero_point, scale, axis):
    zero, scale = along(zero_point, quantized_data, axis), along(scale, quantized_data, axis)
    return stored(scale * (quantized_data - zero), c.dtypes["scale"])


@op("constexpr_cast", exact=True)
def cast(c, source_val, output_dtype):
    return Out(source_val, output_dtype)


def blocks(values, shape):
    """Repeats the values of blocks, so that there is one for each element of `shape`."""
    for axis, (size, whole) in enumerate(zip(values.shape, shape)):
        values = np.repeat(values, whole // size, axis)
    return values


@op("constexpr_blockwise_shift_scale", exact=True)
def blockwise_shift_scale(c, data, scale, offset=None):
    zero = 0 if offset is None else blocks(offset, data.shape)
    return stored(blocks(scale, data.shape) * (data - zero), c.dtypes["scale"])


@op("constexpr_sparse_blockwise_shift_scale", exact=True)
def sparse_blockwise_shift_scale(c, data_mask, nonzero_data, scale, offset=None):
    dense = np.zeros(data_mask.shape)
    dense[data_mask != 0] = nonzero_data
    result = blockwise_shift_scale(c, dense, scale, offset).value
    return Out(data_mask, "uint1"), Out(result[data_mask != 0], c.dtypes["scale"])


def looked_up(indices, lut, vector_axis):
    """Looks up `indices [...]` in a table `[groups..., palettes, vector]`."""
    groups, vector = lut.shape[: indices.ndim], lut.shape[-1]
    places = tuple(np.arange(size) // (size // n) if size else np.arange(0) for size, n in zip(indices.shape, groups))
    entries = lut[np.ix_(*places) + (indices,)] if indices.ndim else lut[indices]
    if vector == 1:
        return entries[..., 0]
    axis = axis_of(vector_axis, indices.ndim)
    shape = list(indices.shape)
    shape[axis] *= vector
    return np.moveaxis(entries, -1, axis + 1).reshape(shape)


@op("constexpr_lut_to_dense", exact=True)
def lut_to_dense(c, indices, lut, shape=None, vector_axis=None):
    if shape is not None:
        bits = int(np.log2(lut.size))
        return Out(lut[unpacked(indices, bits, int(np.prod(shape)))].reshape([int(n) for n in shape]), c.dtypes["lut"])
    return Out(looked_up(indices, lut, vector_axis), c.dtypes["lut"])


@op("constexpr_lut_to_sparse", exact=True)
def lut_to_sparse(c, indices_mask, indices_nonzero_data, lut, vector_axis=None):
    dense = np.zeros(indices_mask.shape, dtype=np.int64)
    dense[indices_mask != 0] = indices_nonzero_data
    values = looked_up(dense, lut, vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1:
        mask = np.repeat(mask, lut.shape[-1], axis_of(vector_axis, mask.ndim))
    return Out(mask, "uint1"), Out(values[mask != 0], c.dtypes["lut"])


@op("constexpr_sparse_to_dense", exact=True)
def sparse_to_dense(c, nonzero_data, mask, shape=None):
    if shape is not None:
        mask = unpacked(mask, 1, int(np.prod(shape))).reshape([int(n) for n in shape])
    result = np.zeros(mask.shape, dtype=nonzero_data.dtype)
    result[mask != 0] = nonzero_data
    return Out(result, c.dtypes["nonzero_data"])
