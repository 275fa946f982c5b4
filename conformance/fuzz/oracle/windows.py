"""Convolutions and pooling.

`same` and `same_lower` are interpreted as TensorFlow's SAME, which coremltools translates into them: the padding needed for
`ceil(in / stride)` output positions, half of it before, and an odd element after (`same`) or before (`same_lower`). The formulas
in the documentation of `conv` ignore strides and agree with this for strides of 1.
"""

import itertools
import math

import numpy as np

from .registry import ints, op


def padding(pad_type, pad, spatial, reach, strides):
    """Elements before and after each spatial axis."""
    n = len(spatial)
    if pad_type == "custom":
        flat = [0] * 2 * n if pad is None else ints(pad)
        return [(flat[2 * i], flat[2 * i + 1]) for i in range(n)]
    if pad_type == "valid":
        return [(0, 0)] * n
    result = []
    for size, r, s in zip(spatial, reach, strides):
        total = max((math.ceil(size / s) - 1) * s + r - size, 0)
        small, large = total // 2, total - total // 2
        result.append((large, small) if pad_type == "same_lower" else (small, large))
    return result


@op("conv")
def conv(c, x, weight, bias=None, strides=None, pad_type="valid", pad=None, dilations=None, groups=1):
    n = x.ndim - 2
    strides = [1] * n if strides is None else ints(strides)
    dilations = [1] * n if dilations is None else ints(dilations)
    kernel = weight.shape[2:]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    pads = padding(pad_type, pad, x.shape[2:], reach, strides)
    x = np.pad(x, [(0, 0), (0, 0)] + pads)
    out = [(size - r) // s + 1 for size, r, s in zip(x.shape[2:], reach, strides)]
    groups = int(groups)
    x = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    w = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    result = np.zeros((x.shape[0], groups, w.shape[1], *out))
    for tap in itertools.product(*map(range, kernel)):
        places = tuple(slice(t * d, t * d + s * (o - 1) + 1, s) for t, d, s, o in zip(tap, dilations, strides, out))
        result += _tap(x[(slice(None),) * 3 + places], w[(slice(None),) * 3 + tap])
    result = result.reshape(x.shape[0], weight.shape[0], *out)
    return result if bias is None else result + bias.reshape((-1,) + (1,) * n)


def _tap(x, w):
    """Inputs `[n, g, i, places]` times weights `[g, o, i]`: `[n, g, o, places]`."""
    places = x.shape[3:]
    flat = x.reshape(*x.shape[:3], -1)
    return (w[None] @ flat).reshape(x.shape[0], x.shape[1], w.shape[1], *places)


@op("conv_transpose")
def conv_transpose(
    c, x, weight, bias=None, pad=None, output_shape=None, pad_type="valid", strides=None, dilations=None, groups=1
):
    n = x.ndim - 2
    strides = [1] * n if strides is None else ints(strides)
    dilations = [1] * n if dilations is None else ints(dilations)
    kernel, spatial = weight.shape[2:], x.shape[2:]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    full = [(size - 1) * s + r for size, s, r in zip(spatial, strides, reach)]
    groups, per = int(groups), weight.shape[1]
    xg = x.reshape(x.shape[0], groups, x.shape[1] // groups, *spatial)
    w = weight.reshape(groups, x.shape[1] // groups, *weight.shape[1:])
    result = np.zeros((x.shape[0], groups, per, *full))
    for tap in itertools.product(*map(range, kernel)):
        places = tuple(
            slice(t * d, t * d + s * (size - 1) + 1, s) for t, d, s, size in zip(tap, dilations, strides, spatial)
        )
        result[(slice(None),) * 3 + places] += _tap(xg, np.swapaxes(w[(slice(None),) * 3 + tap], 1, 2))
    result = result.reshape(x.shape[0], groups * per, *full)
    if pad_type == "same":
        # The convolution whose gradient this is pads its input, our output, as SAME does.
        sizes = ints(output_shape)[2:] if output_shape is not None else [size * s for size, s in zip(spatial, strides)]
        before = [max(f - size, 0) // 2 for f, size in zip(full, sizes)]
    else:
        flat = [0] * 2 * n if pad is None or pad_type == "valid" else ints(pad)
        before = flat[0::2]
        sizes = [f - flat[2 * i] - flat[2 * i + 1] for i, f in enumerate(full)]
        sizes = ints(output_shape)[2:] if output_shape is not None else sizes
    short = [max(b + size - f, 0) for b, size, f in zip(before, sizes, full)]
    result = np.pad(result, [(0, 0), (0, 0)] + [(0, s) for s in short])
    result = result[(slice(None),) * 2 + tuple(slice(b, b + size) for b, size in zip(before, sizes))]
    return result if bias is None else result + bias.reshape((-1,) + (1,) * n)


def pool(x, kernel_sizes, strides, pad_type, pad, ceil_mode):
    """Windows of x, with padding as NaN: `[n, C, *out, *kernel]`."""
    kernel = ints(kernel_sizes)
    n = len(kernel)
    strides = [1] * n if strides is None else ints(strides)
    spatial = x.shape[2:]
    pads = padding(pad_type, pad, spatial, kernel, strides)
    out, after = [], []
    for size, k, s, (low, high) in zip(spatial, kernel, strides, pads):
        room = size + low + high - k
        places = (math.ceil(room / s) if ceil_mode else room // s) + 1
        if ceil_mode and (places - 1) * s >= size + low and low + high > 0:
            places -= 1
        out.append(places)
        # The overhang with ceil_mode counts as padding, too: apple/coremltools issue 2772.
        after.append(max((places - 1) * s + k - size - low, high))
    wide = np.pad(x, [(0, 0), (0, 0)] + [(low, a) for (low, _), a in zip(pads, after)], constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(wide, kernel, tuple(range(2, 2 + n)))
    return windows[(slice(None),) * 2 + tuple(slice(0, (o - 1) * s + 1, s) for o, s in zip(out, strides))], tuple(
        range(-n, 0)
    )


@op("max_pool", exact=True)
def max_pool(c, x, kernel_sizes, pad_type, strides=None, pad=None, ceil_mode=False):
    windows, axes = pool(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return np.where(np.isnan(windows), -np.inf, windows).max(axes)


@op("avg_pool")
def avg_pool(c, x, kernel_sizes, pad_type, strides=None, pad=None, ceil_mode=False, exclude_padding_from_average=False):
    windows, axes = pool(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    counts = (~np.isnan(windows)).sum(axes) if exclude_padding_from_average else np.prod(ints(kernel_sizes))
    return np.nansum(windows, axes) / counts


@op("l2_pool")
def l2_pool(c, x, kernel_sizes, pad_type, strides=None, pad=None, ceil_mode=False):
    windows, axes = pool(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return np.sqrt(np.nansum(np.square(windows), axes))
