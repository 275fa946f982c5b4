"""Products, reductions and normalizations."""

import math

import numpy as np

from .elementwise import by_channel, softmax
from .registry import Out, axes_of, axis_of, op


@op("linear")
def linear(c, x, weight, bias=None):
    result = x @ weight.T
    return result if bias is None else result + bias


@op("matmul")
def matmul(c, x, y, transpose_x=False, transpose_y=False):
    x = np.swapaxes(x, -1, -2) if transpose_x and x.ndim > 1 else x
    y = np.swapaxes(y, -1, -2) if transpose_y and y.ndim > 1 else y
    return x @ y


@op("einsum")
def einsum(c, values, equation):
    return np.einsum(equation.replace(" ", ""), *values)


@op("scaled_dot_product_attention")
def attention(c, query, key, value, attn_mask=None):
    scores = query @ np.swapaxes(key, -1, -2) / math.sqrt(query.shape[-1])
    if attn_mask is not None:
        scores = scores + (np.where(attn_mask, 0.0, -np.inf) if attn_mask.dtype == bool else attn_mask)
    return softmax(c, scores) @ value


FOLDS = {
    "reduce_l1_norm": lambda x, **k: np.sum(np.abs(x), **k),
    "reduce_l2_norm": lambda x, **k: np.sqrt(np.sum(x * x, **k)),
    "reduce_log_sum": lambda x, **k: np.log(np.sum(x, **k)),
    "reduce_mean": np.mean, "reduce_prod": np.prod, "reduce_sum": np.sum,
    "reduce_sum_square": lambda x, **k: np.sum(x * x, **k),
}  # fmt: skip


def fold(name, compute, exact=False):
    def run(c, x, axes=None, keep_dims=False):
        result = compute(x, axis=axes_of(axes, x.ndim), keepdims=bool(keep_dims))
        return np.asarray(result).astype(x.dtype)

    op(name, exact=exact)(run)


for name, compute in FOLDS.items():
    fold(name, compute)
fold("reduce_max", np.max, exact=True)
fold("reduce_min", np.min, exact=True)


@op("reduce_log_sum_exp")
def log_sum_exp(c, x, axes=None, keep_dims=False):
    axes = axes_of(axes, x.ndim)
    top = x.max(axis=axes, keepdims=True)
    result = np.log(np.sum(np.exp(x - top), axis=axes, keepdims=True)) + top
    return result if keep_dims else np.squeeze(result, axis=axes)


def arg(name, compute):
    def run(c, x, axis=-1, keep_dims=False, output_dtype="int32"):
        result = compute(x, axis=int(axis))
        return Out(np.expand_dims(result, axis_of(axis, x.ndim)) if keep_dims else result, output_dtype)

    op(name, exact=True)(run)


arg("reduce_argmax", np.argmax)
arg("reduce_argmin", np.argmin)


@op("cumsum")
def cumsum(c, x, axis=0, exclusive=False, reverse=False):
    axis = axis_of(axis, x.ndim)
    x = np.flip(x, axis) if reverse else x
    result = np.cumsum(x, axis)
    result = result - x if exclusive and x.dtype.kind != "f" else result
    if exclusive and x.dtype.kind == "f":
        head = np.zeros_like(np.take(result, [0], axis))
        result = np.concatenate([head, np.take(result, range(x.shape[axis] - 1), axis)], axis)
    return np.flip(result, axis) if reverse else result


@op("argsort", exact=True)
def argsort(c, x, axis=-1, ascending=False):
    return Out(np.argsort(x if ascending else -x, axis=int(axis), kind="stable"), "int32")


@op("topk", exact=True)
def topk(c, x, k=1, axis=-1, ascending=False, sort=True, return_indices=True, output_indices_dtype="int32"):
    axis = axis_of(axis, x.ndim)
    k = x.shape[axis] if int(k) == -1 else int(k)
    order = np.take(np.argsort(x if ascending else -x, axis=axis, kind="stable"), range(k), axis)
    values = np.take_along_axis(x, order, axis)
    return (values, Out(order, output_indices_dtype)) if return_indices else values


@op("batch_norm")
def batch_norm(c, x, mean, variance, gamma=None, beta=None, epsilon=1e-5):
    result = (x - by_channel(mean, x)) / np.sqrt(by_channel(variance, x) + epsilon)
    result = result if gamma is None else result * by_channel(gamma, x)
    return result if beta is None else result + by_channel(beta, x)


def normalized(x, axes, epsilon):
    mean = x.mean(axes, keepdims=True)
    return (x - mean) / np.sqrt(np.square(x - mean).mean(axes, keepdims=True) + epsilon)


@op("instance_norm")
def instance_norm(c, x, gamma=None, beta=None, epsilon=1e-5):
    result = normalized(x, tuple(range(2, x.ndim)), epsilon)
    result = result if gamma is None else result * by_channel(gamma, x)
    return result if beta is None else result + by_channel(beta, x)


@op("layer_norm")
def layer_norm(c, x, axes=None, gamma=None, beta=None, epsilon=1e-5):
    axes = sorted(axes_of(axes, x.ndim))
    result = normalized(x, tuple(axes), epsilon)
    shape = [n if i in axes else 1 for i, n in enumerate(x.shape)]
    result = result if gamma is None else result * gamma.reshape(shape)
    return result if beta is None else result + beta.reshape(shape)


@op("l2_norm")
def l2_norm(c, x, epsilon=1e-6):
    return x / np.sqrt(np.square(x).sum((-3, -2, -1), keepdims=True) + epsilon)


@op("local_response_norm")
def local_response_norm(c, x, size, alpha=1e-4, beta=0.75, k=1.0):
    # The window is centred. For even sizes the documentation leaves the side open, so the generator draws odd ones.
    half = int(size) // 2
    squares = np.pad(np.square(x), [(0, 0), (half, half)] + [(0, 0)] * (x.ndim - 2))
    sums = sum(squares[:, i : i + x.shape[1]] for i in range(int(size)))
    return x / (k + alpha / int(size) * sums) ** beta
