"""Convolutions, pooling and sampling of images."""

import numpy as np
from program import Rejected

from .base import Gen, gen


def window(g: Gen, n, spatial):
    """Kernel, strides, padding and dilations that leave at least one output position on each axis."""
    pads_of = ("valid", "same", "same_lower", "custom") if g.version >= 7 else ("valid", "same", "custom")
    pad_type = g.pick((*pads_of, "custom", "valid"))
    pointwise = g.chance(0.2)
    kernel = [1 if pointwise else g.int(1, 3) if size < 9 or g.chance(0.7) else g.int(3, 7) for size in spatial]
    dilations = [g.int(1, 3) if g.chance(0.35) else 1 for _ in range(n)]
    strides = [g.int(1, 3) if g.chance(0.45) else 1 for _ in range(n)]
    pad = [g.int(0, 2) if pad_type == "custom" else 0 for _ in range(2 * n)]
    for i, size in enumerate(spatial):
        if pad_type in ("valid", "custom"):
            whole = size + pad[2 * i] + pad[2 * i + 1]
            if (kernel[i] - 1) * dilations[i] + 1 > whole:
                dilations[i] = 1
            kernel[i] = min(kernel[i], whole)
    return kernel, strides, pad_type, pad, dilations


@gen("conv", weight=16)
def conv(g: Gen):
    n = g.pick((1, 2, 2, 2, 2, 3))
    x = g.tensor(n + 2, most=g.pick((4, 7, 9)))
    if g.dtype(x) in ("fp16", "fp32") and g.chance(0.15):
        x = g.outliers(x)
    shape = g.shape_of(x)
    channels = shape[1]
    kernel, strides, pad_type, pad, dilations = window(g, n, shape[2:])
    divisors = [d for d in range(1, channels + 1) if channels % d == 0]
    groups = g.pick((1, 1, g.pick(divisors), channels))
    out = groups * g.int(1, 3 if groups > 2 else 8)
    if g.chance(0.06):
        # Large enough to be kept in its stored form.
        count = channels // groups * int(np.prod(kernel))
        out = groups * (4097 // (count * groups) + g.int(1, 3))
        if int(np.prod(shape)) * out > 300_000:
            raise Rejected("too much work")
    dims = (out, channels // groups, *kernel)
    dynamic = g.version >= 8 and g.chance(0.08)
    weight = g.fresh(dims, g.F) if dynamic else g.weight(dims)
    if dynamic:
        dilations = [1] * n
    bias = g.maybe(0.55, g.constant(g.values((out,), g.F), g.F))
    given = lambda p, used, value: value if used or g.chance(p) else None  # noqa: E731
    return g.emit(
        "conv", x=x, weight=weight, bias=bias,
        strides=given(0.5, set(strides) != {1}, g.i(strides)), pad_type=g.s(pad_type),
        pad=g.i(pad) if pad_type == "custom" else None, dilations=given(0.5, set(dilations) != {1}, g.i(dilations)),
        groups=given(0.5, groups != 1, g.i(groups)),
    )  # fmt: skip


@gen("conv_transpose", weight=9)
def conv_transpose(g: Gen):
    n = g.pick((1, 2, 2, 2, 3))
    x = g.tensor(n + 2, most=5)
    shape = g.shape_of(x)
    channels, spatial = shape[1], shape[2:]
    pad_type = g.pick(("valid", "same", "custom", "custom"))
    kernel = [g.int(1, 3) for _ in range(n)]
    dilations = [g.int(1, 3) if g.chance(0.3) else 1 for _ in range(n)]
    strides = [g.int(1, 3) if g.chance(0.5) else 1 for _ in range(n)]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    full = [(size - 1) * s + r for size, s, r in zip(spatial, strides, reach)]
    pad = [0] * 2 * n
    if pad_type == "custom":
        for i, f in enumerate(full):
            pad[2 * i] = g.int(0, min(2, f - 1))
            pad[2 * i + 1] = g.int(0, min(2, f - 1 - pad[2 * i]))
    divisors = [d for d in range(1, channels + 1) if channels % d == 0]
    groups = g.pick((1, 1, g.pick(divisors)))
    per = g.int(1, 3)
    output = None
    if pad_type == "same" and g.chance(0.4):
        output = [shape[0], groups * per] + [g.int((size - 1) * s + 1, size * s) for size, s in zip(spatial, strides)]
    elif pad_type == "custom" and g.chance(0.3):
        # A size whose convolution with this stride would have the input's size.
        sizes = [f - pad[2 * i] - pad[2 * i + 1] + g.int(0, strides[i] - 1) for i, f in enumerate(full)]
        output = [shape[0], groups * per, *sizes]
    bias = g.maybe(0.5, g.constant(g.values((groups * per,), g.F), g.F))
    return g.emit(
        "conv_transpose", x=x, weight=g.weight((channels, per, *kernel)), bias=bias, pad_type=g.s(pad_type),
        pad=g.i(pad) if pad_type == "custom" else None, output_shape=None if output is None else g.i(output),
        strides=g.i(strides), dilations=g.i(dilations), groups=g.i(groups),
    )  # fmt: skip


@gen("max_pool", "avg_pool", "l2_pool", weight=6)
def pool(g: Gen, name):
    n = g.pick((1, 2, 2, 3)) if name != "l2_pool" else g.pick((1, 2, 2))
    x = g.tensor(n + 2, most=7)
    spatial = g.shape_of(x)[2:]
    kernel, strides, pad_type, pad, _ = window(g, n, spatial)
    said = g.chance(0.9)
    strides = strides if said else [1] * n
    # A window of only padding has no maximum, and no mean.
    for i in range(n):
        pad[2 * i], pad[2 * i + 1] = min(pad[2 * i], kernel[i] - 1), min(pad[2 * i + 1], kernel[i] - 1)
    more = {}
    ceil = False
    if n < 3 and name != "l2_pool" and pad_type in ("valid", "custom") and g.chance(0.4):
        pad = [pad[i - i % 2] for i in range(2 * n)]
        ceil = g.chance(0.8)
        more["ceil_mode"] = g.b(ceil)
        # A window may be larger than its axis if its overhang is less than a stride.
        if ceil and pad_type == "valid" and g.chance(0.2):
            kernel = [size + g.int(0, stride) for size, stride in zip(spatial, strides)]
    for i in range(n):
        room = spatial[i] + (pad[2 * i] + pad[2 * i + 1]) * (pad_type == "custom") - kernel[i]
        if pad_type in ("valid", "custom") and room + (strides[i] - 1 if ceil else 0) < 0:
            raise Rejected("nothing is left")
    if name == "avg_pool" and g.chance(0.6):
        more["exclude_padding_from_average"] = g.b(g.chance(0.6))
    result = g.emit(
        name, x=x, kernel_sizes=g.i(kernel), strides=g.i(strides) if said else None, pad_type=g.s(pad_type),
        pad=g.i(pad) if pad_type == "custom" else None, **more,
    )  # fmt: skip
    if not np.all(np.isfinite(g.value(result))):
        raise Rejected("a window of only padding")
    return result


MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "UNALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS")


@gen("resize_bilinear", weight=3)
def resize_bilinear(g: Gen):
    x = g.tensor((3, 5))
    mode = g.maybe(0.85, g.s(g.pick(MODES)))
    return g.emit(
        "resize_bilinear", x=x, target_size_height=g.i(g.dim(9)), target_size_width=g.i(g.dim(9)), sampling_mode=mode
    )


@gen("resize_nearest_neighbor", weight=2)
def resize_nearest_neighbor(g: Gen):
    return g.emit(
        "resize_nearest_neighbor", x=g.tensor((3, 5)), target_size_height=g.i(g.dim(9)), target_size_width=g.i(g.dim(9))
    )


@gen("upsample_nearest_neighbor", weight=2)
def upsample_nearest_neighbor(g: Gen):
    x = g.tensor((3, 5))
    height, width = g.scales()
    return g.emit("upsample_nearest_neighbor", x=x, scale_factor_height=height, scale_factor_width=width)


@gen("upsample_bilinear", weight=2)
def upsample_bilinear(g: Gen):
    x = g.tensor((3, 5))
    height, width = g.scales()
    align = g.maybe(0.8, g.b(g.chance(0.5)))
    half = (
        g.b(g.chance(0.5)) if g.version >= 7 and align is not None and not bool(align.value) and g.chance(0.5) else None
    )
    return g.emit(
        "upsample_bilinear",
        x=x,
        scale_factor_height=height,
        scale_factor_width=width,
        align_corners=align,
        half_pixel_centers=half,
    )


@gen("resize", weight=4, since="iOS17")
def resize(g: Gen):
    rank = g.int(2, 4)
    x = g.tensor(rank)
    # Core ML resizes at most the last two axes.
    dims = g.int(1, 2)
    sizes = [0 if g.chance(0.25) else g.dim(8) for _ in range(g.int(dims, rank))]
    mode = g.pick((None, "LINEAR", "NEAREST_NEIGHBOR"))
    return g.emit(
        "resize", x=x, shape=g.i(sizes, g.pick(("int32", "int32", "uint16", "int16"))), resized_dims=g.i(dims, "uint32"),
        interpolation_mode=mode and g.s(mode), sampling_mode=g.maybe(0.85, g.s(g.pick(MODES))),
    )  # fmt: skip


@gen("resample", weight=4)
def resample(g: Gen):
    x = g.tensor(4, most=5)
    shape = g.shape_of(x)
    coordinates = g.pick(("unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one"))
    size = (shape[0], g.dim(4), g.dim(4), 2)
    whole = coordinates == "unnormalized" and g.chance(0.3)
    low, high = {
        "unnormalized": (-3.0, 8.0),
        "normalized_minus_one_to_one": (-1.7, 1.7),
        "normalized_zero_to_one": (-0.5, 1.5),
    }[coordinates]
    dtype = "int32" if whole else "fp32" if g.version < 7 else g.pick(("fp32", "fp16"))
    points = g.fresh(size, dtype, low, high, constant=0.3)
    padding = g.pick(("constant", "border", "reflection", "symmetric"))
    return g.emit(
        "resample", x=x, coordinates=points, sampling_mode=g.s(g.pick(("bilinear", "nearest"))), padding_mode=g.s(padding),
        padding_value=g.f(g.pick((0.0, 1.5))), coordinates_mode=g.s(coordinates), align_corners=g.b(g.chance(0.5)),
    )  # fmt: skip


@gen("affine", weight=2)
def affine(g: Gen):
    x = g.tensor(4, most=5)
    batch = g.pick((1, g.shape_of(x)[0]))
    matrix = g.values((batch, 6), g.F, -0.9, 0.9)
    return g.emit(
        "affine", x=x, transform_matrix=g.given(matrix, g.F), output_height=g.i(g.int(2, 5)), output_width=g.i(g.int(2, 5)),
        sampling_mode=g.s("bilinear"), padding_mode=g.s("constant"), padding_value=g.f(0.0),
        coordinates_mode=g.s("normalized_minus_one_to_one"), align_corners=g.b(True),
    )  # fmt: skip


@gen("crop_resize", weight=3)
def crop_resize(g: Gen):
    x = g.tensor(4, most=6, fits=lambda s: min(s[2:]) > 1)
    b, _, h, w = g.shape_of(x)
    count = g.int(1, 3)
    normalized = g.chance(0.5)
    tops, lefts = np.sort(g.rng.uniform(0, 1, (count, 2))), np.sort(g.rng.uniform(0, 1, (count, 2)))
    if not normalized:
        tops, lefts = tops * (h - 1), lefts * (w - 1)
    mode = g.pick(
        ("CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST")
    )
    if mode.startswith("CENTER"):
        tops, lefts = (np.stack([p.mean(1), (p[:, 1] - p[:, 0]) * 0.98], 1) for p in (tops, lefts))
    pair = (tops, lefts) if mode.endswith("HEIGHT_FIRST") else (lefts, tops)
    boxes = np.stack([pair[0][:, 0], pair[1][:, 0], pair[0][:, 1], pair[1][:, 1]], 1)
    more = {}
    if g.version >= 8:
        more["boxes"] = g.given(boxes, g.F)
        if count > b or g.chance(0.5):
            more["box_indices"] = g.i(g.rng.integers(0, b, count))
    else:
        if g.chance(0.5):
            boxes = np.concatenate([g.rng.integers(0, b, (count, 1)), boxes], 1)
        elif b != 1:
            raise Rejected("a crop of every image: the documentation gives two shapes")
        more["roi"] = g.given(boxes.reshape(count, 1, -1, 1, 1), g.F)
        if boxes.shape[1] == 5 and b != 1:
            # coremltools infers [N, B, ..], the documentation specifies [N, 1, ..].
            raise Rejected("the shape is not agreed upon")
    return g.emit(
        "crop_resize", x=x, target_height=g.i(g.int(2, 5)), target_width=g.i(g.int(2, 5)), normalized_coordinates=g.b(normalized),
        box_coordinate_mode=g.s(mode), sampling_mode=g.s(g.pick(("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"))), **more,
    )  # fmt: skip


@gen("crop")
def crop(g: Gen):
    x = g.tensor((3, 5))
    h, w = g.shape_of(x)[-2:]
    top, left = g.int(0, h - 1), g.int(0, w - 1)
    return g.emit(
        "crop", x=x, crop_height=g.i([top, g.int(0, h - 1 - top)]), crop_width=g.i([left, g.int(0, w - 1 - left)])
    )
