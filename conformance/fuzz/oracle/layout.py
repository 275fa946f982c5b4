"""Operations that give a tensor other axes, another order, or select or join parts."""

import math

import numpy as np

from .registry import Out, axes_of, axis_of, ints, op


@op("reshape", exact=True)
def reshape(c, x, shape):
    shape = ints(shape)
    if c.version >= 8:
        # Zeros refer to axes counted from the right; one without a counterpart is 1.
        at = [i - len(shape) + x.ndim for i in range(len(shape))]
        shape = [(x.shape[a] if a >= 0 else 1) if n == 0 else n for n, a in zip(shape, at)]
    else:
        shape = [x.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return x.reshape(shape)


@op("reshape_like", exact=True)
def reshape_like(c, x, ref_tensors, begins, ends, end_masks):
    shape = []
    for ref, begin, end, masked in zip(ref_tensors, begins, ends, end_masks):
        shape += ref.shape[int(begin) :] if masked else ref.shape[int(begin) : int(end)]
    return x.reshape(shape)


@op("flatten2d", exact=True)
def flatten2d(c, x, axis=1):
    axis = axis_of(axis, x.ndim)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@op("expand_dims", exact=True)
def expand_dims(c, x, axes):
    rank = x.ndim + len(ints(axes))
    for axis in sorted(axis_of(a, rank) for a in ints(axes)):
        x = np.expand_dims(x, axis)
    return x


@op("squeeze", exact=True)
def squeeze(c, x, axes=None):
    # Axes that are longer than 1 stay, as in PyTorch.
    return np.squeeze(x, tuple(a for a in axes_of(axes, x.ndim) if x.shape[a] == 1))


@op("transpose", exact=True)
def transpose(c, x, perm):
    return np.transpose(x, axes_of(perm, x.ndim))


@op("reverse", exact=True)
def reverse(c, x, axes=None):
    return np.flip(x, axes_of(axes, x.ndim))


@op("reverse_sequence", exact=True)
def reverse_sequence(c, x, lengths, seq_axis=0, batch_axis=0):
    seq, batch = axis_of(seq_axis, x.ndim), axis_of(batch_axis, x.ndim)
    moved = np.moveaxis(x, (batch, seq), (0, 1)).copy()
    for row, n in zip(moved, ints(lengths)):
        row[:n] = row[:n][::-1].copy()
    return np.moveaxis(moved, (0, 1), (batch, seq))


@op("depth_to_space", exact=True)
def depth_to_space(c, x, block_size):
    n, ch, h, w = x.shape
    b = int(block_size)
    x = x.reshape(n, b, b, ch // (b * b), h, w)
    return x.transpose(0, 3, 4, 1, 5, 2).reshape(n, ch // (b * b), h * b, w * b)


@op("space_to_depth", exact=True)
def space_to_depth(c, x, block_size):
    n, ch, h, w = x.shape
    b = int(block_size)
    x = x.reshape(n, ch, h // b, b, w // b, b)
    return x.transpose(0, 3, 5, 1, 2, 4).reshape(n, ch * b * b, h // b, w // b)


@op("pixel_shuffle", exact=True)
def pixel_shuffle(c, x, upscale_factor):
    n, ch, h, w = x.shape
    b = int(upscale_factor)
    x = x.reshape(n, ch // (b * b), b, b, h, w)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(n, ch // (b * b), h * b, w * b)


@op("pixel_unshuffle", exact=True)
def pixel_unshuffle(c, x, downscale_factor):
    n, ch, h, w = x.shape
    b = int(downscale_factor)
    x = x.reshape(n, ch, h // b, b, w // b, b)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(n, ch * b * b, h // b, w // b)


@op("space_to_batch", exact=True)
def space_to_batch(c, x, block_shape, paddings):
    p, q = ints(block_shape)
    x = np.pad(x, [(0, 0), (0, 0), *np.asarray(paddings).reshape(2, 2).tolist()])
    n, ch, h, w = x.shape
    x = x.reshape(n, ch, h // p, p, w // q, q)
    return x.transpose(3, 5, 0, 1, 2, 4).reshape(n * p * q, ch, h // p, w // q)


@op("batch_to_space", exact=True)
def batch_to_space(c, x, block_shape, crops):
    p, q = ints(block_shape)
    (top, bottom), (left, right) = np.asarray(crops).reshape(2, 2).tolist()
    n, ch, h, w = x.shape
    x = x.reshape(p, q, n // (p * q), ch, h, w).transpose(2, 3, 4, 0, 5, 1).reshape(n // (p * q), ch, h * p, w * q)
    return x[:, :, top : h * p - bottom, left : w * q - right]


def box(shape, begin, end, stride=None, begin_mask=None, end_mask=None, squeeze_mask=None):
    """numpy slices for the arguments of `slice_by_index`, and the axes that are squeezed."""
    rank = len(shape)
    begin, end = ints(begin), ints(end)
    stride = [1] * rank if stride is None else ints(stride)
    given = lambda mask: [False] * rank if mask is None else [bool(m) for m in np.asarray(mask).reshape(-1)]  # noqa: E731
    begin_mask, end_mask, squeeze_mask = given(begin_mask), given(end_mask), given(squeeze_mask)
    slices = []
    for i in range(rank):
        if squeeze_mask[i]:
            at = 0 if begin_mask[i] else begin[i]
            slices.append(slice(at, at + 1 if at != -1 else None, 1))
        else:
            # A masked begin is the first element in the direction of the stride.
            slices.append(slice(None if begin_mask[i] else begin[i], None if end_mask[i] else end[i], stride[i]))
    return tuple(slices), tuple(i for i in range(rank) if squeeze_mask[i])


@op("slice_by_index", exact=True)
def slice_by_index(c, x, begin, end, **rest):
    slices, squeezed = box(x.shape, begin, end, **rest)
    return np.squeeze(x[slices], squeezed)


@op("slice_update", exact=True)
def slice_update(c, x, update, begin, end, **rest):
    slices, squeezed = box(x.shape, begin, end, **rest)
    result = x.copy()
    target = result[slices]
    target[...] = np.reshape(update, target.shape) if squeezed else update
    return result


@op("slice_by_size", exact=True)
def slice_by_size(c, x, begin, size):
    slices = []
    for b, n, extent in zip(ints(begin), ints(size), x.shape):
        b = b + extent if b < 0 else b
        slices.append(slice(b, extent if n == -1 else b + n))
    return x[tuple(slices)]


@op("concat", exact=True)
def concat(c, values, axis, interleave=False):
    if not interleave:
        return np.concatenate(values, int(axis))
    axis = axis_of(axis, values[0].ndim)
    both = np.stack(values, axis + 1)
    return both.reshape(values[0].shape[:axis] + (-1,) + values[0].shape[axis + 1 :])


@op("stack", exact=True)
def stack(c, values, axis):
    return np.stack(values, int(axis))


@op("split", exact=True)
def split(c, x, axis, num_splits=None, split_sizes=None):
    if split_sizes is None:
        return tuple(np.split(x, int(num_splits), int(axis)))
    return tuple(np.split(x, np.cumsum(ints(split_sizes))[:-1], int(axis)))


@op("tile", exact=True)
def tile(c, x, reps):
    return np.tile(x, ints(reps))


@op("pad", exact=True)
def pad(c, x, pad, mode="constant", constant_val=0.0):
    pairs = np.asarray(pad).reshape(-1, 2).tolist()
    pairs = [[0, 0]] * (x.ndim - len(pairs)) + pairs
    if mode == "constant":
        return np.pad(x, pairs, constant_values=constant_val)
    return np.pad(x, pairs, mode="edge" if mode == "replicate" else mode)


@op("sliding_windows", exact=True)
def sliding_windows(c, x, axis, size, stride=1):
    axis = axis_of(axis, x.ndim)
    windows = np.moveaxis(np.lib.stride_tricks.sliding_window_view(x, int(size), axis), -1, axis + 1)
    return windows[(slice(None),) * axis + (slice(None, None, int(stride)),)]


@op("crop", exact=True)
def crop(c, x, crop_height, crop_width):
    (top, bottom), (left, right) = ints(crop_height), ints(crop_width)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


@op("shape", exact=True)
def shape(c, x):
    return Out(np.array(x.shape, dtype=np.int64), "int32")


@op("band_part", exact=True)
def band_part(c, x, lower=-1, upper=-1):
    m, n = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])[None]
    keep = ((lower < 0) | (m - n <= lower)) & ((upper < 0) | (n - m <= upper))
    return np.where(keep, x, np.zeros((), x.dtype))
