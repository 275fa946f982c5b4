"""Operations that create tensors. Random ones are only drawn if chance has no influence on the result."""

import math

import numpy as np

from .registry import Out, Unsupported, ints, op


@op("fill", exact=True)
def fill(c, shape, value=0.0):
    return Out(np.full(ints(shape), value), c.dtypes.get("value", "fp32"))


@op("fill_like", exact=True)
def fill_like(c, ref_tensor, value=0.0):
    return Out(np.full(ref_tensor.shape, value), c.dtypes.get("value", "fp32"))


@op("range_1d")
def range_1d(c, end, start, step):
    count = max(math.ceil((end - start) / step), 0)
    return Out(start + np.arange(count) * step, c.dtypes["end"])


@op("one_hot", exact=True)
def one_hot(c, indices, one_hot_vector_size, axis=-1, on_value=1, off_value=0):
    size = int(one_hot_vector_size)
    axis = int(axis) + indices.ndim + 1 if axis < 0 else int(axis)
    places = np.arange(size).reshape((-1,) + (1,) * (indices.ndim - axis))
    hit = np.expand_dims(indices, axis) == places
    return Out(np.where(hit, on_value, off_value), c.dtypes.get("on_value", "int32"))


@op("non_zero", exact=True)
def non_zero(c, x):
    return Out(np.argwhere(x), "int32")


@op("random_uniform", exact=True)
def random_uniform(c, shape, low=0.0, high=1.0, seed=-1):
    if low != high:
        raise Unsupported("random")
    return Out(np.full(ints(shape), low), c.dtypes.get("low", "fp32"))


@op("random_normal", exact=True)
def random_normal(c, shape, mean=0.0, stddev=1.0, seed=-1):
    if stddev != 0:
        raise Unsupported("random")
    return Out(np.full(ints(shape), mean), c.dtypes.get("mean", "fp32"))


@op("random_bernoulli", exact=True)
def random_bernoulli(c, shape, prob=0.5, seed=-1):
    if prob not in (0, 1):
        raise Unsupported("random")
    return Out(np.full(ints(shape), float(prob)), c.dtypes.get("prob", "fp32"))


@op("random_categorical", exact=True)
def random_categorical(c, x, mode="logits", size=1, seed=-1):
    # One class is certain: all others have a probability of 0, or a logit that is lower by thousands.
    best = np.argmax(x, -1)
    return np.repeat(best[..., None], int(size), -1).astype(np.float64)


@op("make_list", exact=True)
def make_list(c, elem_shape, init_length=1, dynamic_length=True, dtype="fp32"):
    return Out([np.zeros([int(n) for n in elem_shape])] * int(init_length), "list:" + str(dtype))


@op("list_length", exact=True)
def list_length(c, ls):
    return Out(np.int64(len(ls)), "int32")


@op("list_write", exact=True)
def list_write(c, ls, index, value):
    return Out(written(ls, [int(index)], [value]), c.dtypes["ls"])


@op("list_scatter", exact=True)
def list_scatter(c, ls, indices, value):
    return Out(written(ls, ints(indices), list(value)), c.dtypes["ls"])


def written(ls, indices, values):
    """A list with some elements replaced; it grows if an index is beyond its end."""
    result = list(ls)
    for index, value in zip(indices, values):
        result += [np.zeros_like(value)] * (index + 1 - len(result))
        result[index] = value
    return result


@op("list_read", exact=True)
def list_read(c, ls, index):
    return Out(ls[int(index)], c.dtypes["ls"].split(":")[1])


@op("list_gather", exact=True)
def list_gather(c, ls, indices):
    return Out(np.stack([ls[i] for i in ints(indices)]), c.dtypes["ls"].split(":")[1])
