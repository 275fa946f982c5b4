"""Operations that sample images."""

import itertools
import math

import numpy as np

from .registry import Unsupported, op


def grid(mode, size, to):
    """The sampling point of each of `to` results on an axis of `size` elements, as documented for `resize_bilinear`."""
    i = np.arange(to, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if to == 1:
            points = np.array([(size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0])
        else:
            points = i * (size - 1) / (to - 1)
    elif mode == "DEFAULT":
        # (Xin - Xin / Xout) / (Xout - 1) is Xin / Xout.
        points = i * size / to
    elif mode == "OFFSET_CORNERS":
        delta = max(1, size - 1) / to
        points = 0.5 * delta + i * delta
    else:
        points = (i + 0.5) * size / to - 0.5
    return np.clip(points, 0, size - 1)


def interpolate(c, x, axis, points):
    """Linear interpolation along one axis."""
    # The added pixel is subtracted at the end, so that the error is that of a larger value.
    points = np.clip(c.moved(points + 1) - 1, 0, x.shape[axis] - 1)
    low = np.floor(points).astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    shape = [1] * x.ndim
    shape[axis] = -1
    share = (points - low).reshape(shape)
    return np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share


def linear(c, x, sizes, mode):
    for axis, size in zip(range(x.ndim - len(sizes), x.ndim), sizes):
        x = interpolate(c, x, axis, grid(mode, x.shape[axis], size))
    return x


def nearest(x, sizes, mode):
    for axis, size in zip(range(x.ndim - len(sizes), x.ndim), sizes):
        if mode in ("DEFAULT", "UNALIGN_CORNERS"):
            # The element that contains the centre of the result's element, in integer arithmetic.
            places = (2 * np.arange(size) + 1) * x.shape[axis] // (2 * size)
        else:
            points = grid(mode, x.shape[axis], size)
            if np.any(np.abs(points % 1 - 0.5) < 1e-6):
                raise Unsupported("which of two elements that are equally near")
            places = np.rint(points).astype(int)
        x = np.take(x, places, axis)
    return x


@op("resize_bilinear")
def resize_bilinear(c, x, target_size_height=1, target_size_width=1, sampling_mode="DEFAULT"):
    return linear(c, x, [int(target_size_height), int(target_size_width)], sampling_mode)


@op("resize_nearest_neighbor", exact=True)
def resize_nearest_neighbor(c, x, target_size_height, target_size_width):
    return nearest(x, [int(target_size_height), int(target_size_width)], "DEFAULT")


@op("upsample_nearest_neighbor", exact=True)
def upsample_nearest_neighbor(c, x, scale_factor_height=1, scale_factor_width=1):
    for axis, scale in ((-2, float(scale_factor_height)), (-1, float(scale_factor_width))):
        size = math.floor(x.shape[axis] * scale)
        by_size = np.arange(size) * x.shape[axis] // size
        by_scale = np.floor(np.arange(size) / scale).astype(int)
        if np.any(by_size != by_scale):
            raise Unsupported("whether sizes or scales say which element is nearest")
        x = np.take(x, by_size, axis)
    return x


@op("upsample_bilinear")
def upsample_bilinear(c, x, scale_factor_height=1, scale_factor_width=1, align_corners=True, half_pixel_centers=None):
    half = not align_corners if half_pixel_centers is None else bool(half_pixel_centers)
    if align_corners and half:
        raise Unsupported("both align_corners and half_pixel_centers")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half else "DEFAULT"
    sizes = [math.floor(x.shape[-2] * float(scale_factor_height)), math.floor(x.shape[-1] * float(scale_factor_width))]
    return linear(c, x, sizes, mode)


@op("resize")
def resize(c, x, shape, resized_dims, interpolation_mode="LINEAR", sampling_mode="DEFAULT"):
    count = int(resized_dims)
    sizes = [int(n) for n in shape[len(shape) - count :]]
    sizes = [n or x.shape[x.ndim - count + i] for i, n in enumerate(sizes)]
    if interpolation_mode == "NEAREST_NEIGHBOR":
        return nearest(x, sizes, sampling_mode)
    if x.dtype.kind != "f":
        raise Unsupported("how a mean of integers is rounded")
    return linear(c, x, sizes, sampling_mode)


def beyond(mode, i, size):
    """The element at position i of an axis that continues outside the image."""
    if mode == "border" or size == 1:
        return np.clip(i, 0, size - 1)
    if mode == "reflection":
        i = np.abs(i) % (2 * (size - 1))
        return np.minimum(i, 2 * (size - 1) - i)
    i = i % (2 * size)
    return np.minimum(i, 2 * size - 1 - i)


def sample(image, px, py, sampling_mode, padding_mode, padding_value):
    """Samples `image [C, H, W]` at points `[...]`."""
    h, w = image.shape[1:]

    def at(ix, iy):
        if padding_mode == "constant":
            inside = (ix >= 0) & (ix < w) & (iy >= 0) & (iy < h)
            return np.where(inside, image[:, np.clip(iy, 0, h - 1), np.clip(ix, 0, w - 1)], padding_value)
        return image[:, beyond(padding_mode, iy, h), beyond(padding_mode, ix, w)]

    if sampling_mode == "nearest":
        for points in (px, py):
            if np.any(np.abs(points % 1 - 0.5) < 1e-4):
                raise Unsupported("which of two elements that are equally near")
        return at(np.rint(px).astype(int), np.rint(py).astype(int))
    lx, ly = np.floor(px).astype(int), np.floor(py).astype(int)
    result = 0.0
    for dx, dy in itertools.product((0, 1), (0, 1)):
        share = (px - lx if dx else 1 - (px - lx)) * (py - ly if dy else 1 - (py - ly))
        result = result + share * at(lx + dx, ly + dy)
    return result


def unnormalized(c, points, size, mode, align_corners):
    """Converts coordinates to element positions."""
    points = points.astype(np.float64)
    if mode == "unnormalized":
        return points
    share = (points + 1) / 2 if mode == "normalized_minus_one_to_one" else points
    return c.moved(share * (size - 1)) if align_corners else c.moved(share * size) - 0.5


@op("resample")
def resample(c, x, coordinates, sampling_mode, padding_mode, padding_value, coordinates_mode, align_corners):
    result = []
    for image, points in zip(x, coordinates):
        px = unnormalized(c, points[..., 0], x.shape[3], coordinates_mode, align_corners)
        py = unnormalized(c, points[..., 1], x.shape[2], coordinates_mode, align_corners)
        result.append(sample(image, px, py, sampling_mode, padding_mode, padding_value))
    return np.stack(result)


@op("affine")
def affine(
    c,
    x,
    transform_matrix,
    output_height,
    output_width,
    sampling_mode,
    padding_mode,
    padding_value,
    coordinates_mode,
    align_corners,
):
    h, w = int(output_height), int(output_width)
    if h == 1 or w == 1:
        raise Unsupported("the coordinate of a single element")
    gx, gy = np.meshgrid(np.linspace(-1, 1, w), np.linspace(-1, 1, h))
    result = []
    for i, image in enumerate(x):
        a0, a1, a2, b0, b1, b2 = transform_matrix[i % len(transform_matrix)]
        px = unnormalized(c, a0 * gx + a1 * gy + a2, x.shape[3], coordinates_mode, True)
        py = unnormalized(c, b0 * gx + b1 * gy + b2, x.shape[2], coordinates_mode, True)
        result.append(sample(image, px, py, sampling_mode, padding_mode, padding_value))
    return np.stack(result)


@op("crop_resize")
def crop_resize(
    c, x, roi=None, boxes=None, box_indices=None, target_height=1, target_width=1, normalized_coordinates=False,
    spatial_scale=1.0, box_coordinate_mode="CORNERS_HEIGHT_FIRST", sampling_mode="DEFAULT", pad_value=0.0,
):  # fmt: skip
    if sampling_mode not in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        raise Unsupported("the sampling points of the other modes within a box")
    sizes = (int(target_height), int(target_width))
    if 1 in sizes:
        raise Unsupported("the point of a single element")
    if roi is not None:
        roi = roi[:, 0, :, 0, 0]
        jobs = [(int(r[0]), r[1:]) for r in roi] if roi.shape[1] == 5 else [(None, r) for r in roi]
    else:
        jobs = list(zip(range(len(boxes)) if box_indices is None else [int(i) for i in box_indices], boxes))
    result = []
    for index, box in jobs:
        corners = corners_of(box.astype(np.float64) * float(spatial_scale), box_coordinate_mode)
        if normalized_coordinates:
            corners = corners * [x.shape[2] - 1, x.shape[3] - 1, x.shape[2] - 1, x.shape[3] - 1]
        h1, w1, h2, w2 = corners
        px, py = np.meshgrid(c.moved(np.linspace(w1, w2, sizes[1])), c.moved(np.linspace(h1, h2, sizes[0])))
        if px.min() < 0 or py.min() < 0 or px.max() > x.shape[3] - 1 or py.max() > x.shape[2] - 1:
            raise Unsupported("a box that reaches outside of the image")
        picked = x if index is None else x[index : index + 1]
        result.append(np.stack([sample(image, px, py, "bilinear", "border", 0.0) for image in picked]))
    result = np.stack(result)
    return result if roi is not None else result[:, 0]


def corners_of(box, mode):
    """The corners of a box: (top, left, bottom, right)."""
    a, b, d, e = box
    if mode == "CORNERS_HEIGHT_FIRST":
        return np.array([a, b, d, e])
    if mode == "CORNERS_WIDTH_FIRST":
        return np.array([b, a, e, d])
    if mode == "CENTER_SIZE_WIDTH_FIRST":
        a, b, d, e = b, a, e, d
    return np.array([a - d / 2, b - e / 2, a + d / 2, b + e / 2])
