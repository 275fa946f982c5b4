"""Elementwise operations, comparisons, activations and casts."""

import math

import numpy as np

from .registry import Out, axis_of, op

_erf = np.frompyfunc(math.erf, 1, 1)


def erf(x):
    """The error function of an array."""
    return np.asarray(_erf(x), dtype=np.float64)


def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow."""
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def softplus(x):
    """log(1 + exp(x)), without overflow."""
    return np.logaddexp(x, 0)


def unary(name, compute, exact=False):
    op(name, exact=exact)(lambda c, x: compute(x))


for name, compute in {
    "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "atanh": np.arctanh, "cos": np.cos, "cosh": np.cosh,
    "erf": erf, "exp": np.exp, "sin": np.sin, "sinh": np.sinh, "sqrt": np.sqrt, "tan": np.tan, "tanh": np.tanh,
    "sigmoid": sigmoid, "silu": lambda x: x * sigmoid(x), "softplus": softplus, "softsign": lambda x: x / (1 + np.abs(x)),
    "square": np.square,
}.items():  # fmt: skip
    unary(name, compute)
for name, compute in {
    "abs": np.abs, "ceil": np.ceil, "floor": np.floor, "round": np.rint, "sign": np.sign, "logical_not": np.logical_not,
    "relu": lambda x: np.maximum(x, 0), "relu6": lambda x: np.clip(x, 0, 6), "identity": lambda x: x,
}.items():  # fmt: skip
    unary(name, compute, exact=True)


@op("exp2")
def exp2(c, x):
    return np.exp2(x).astype(x.dtype)


# The defaults of epsilon come from the documentation; since iOS 17 its type may differ from that of x.
@op("rsqrt")
def rsqrt(c, x, epsilon=1e-12):
    return 1 / np.sqrt(x + epsilon)


@op("inverse")
def inverse(c, x, epsilon=1e-4):
    return 1 / (x + epsilon)


@op("log")
def log(c, x, epsilon=1e-45):
    return np.log(x + epsilon)


@op("clip", exact=True)
def clip(c, x, alpha, beta):
    return np.minimum(np.maximum(x, alpha), beta)


@op("threshold", exact=True)
def threshold(c, x, alpha):
    return np.maximum(x, alpha)


@op("elu")
def elu(c, x, alpha=1.0):
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))


@op("leaky_relu")
def leaky_relu(c, x, alpha=0.01):
    return np.where(x >= 0, x, alpha * x)


@op("thresholded_relu", exact=True)
def thresholded_relu(c, x, alpha=1.0):
    return np.where(x >= alpha, x, 0.0)


@op("clamped_relu")
def clamped_relu(c, x, alpha, beta):
    return np.minimum(beta, np.where(x >= 0, x, alpha * x))


@op("linear_activation")
def linear_activation(c, x, alpha, beta=0.0):
    return alpha * x + beta


@op("scaled_tanh")
def scaled_tanh(c, x, alpha=1.0, beta=1.0):
    return alpha * np.tanh(beta * x)


@op("sigmoid_hard")
def sigmoid_hard(c, x, alpha=0.2, beta=0.5):
    return np.minimum(np.maximum(alpha * x + beta, 0), 1)


def by_channel(vector, x):
    """A vector over the second axis of x."""
    return np.reshape(vector, (-1,) + (1,) * (x.ndim - 2))


@op("prelu")
def prelu(c, x, alpha):
    return np.where(x >= 0, x, by_channel(alpha, x) * x)


@op("softplus_parametric")
def softplus_parametric(c, x, alpha, beta):
    return by_channel(alpha, x) * softplus(by_channel(beta, x) * x)


@op("gelu")
def gelu(c, x, mode="EXACT"):
    # Far below 0 the sum cancels in every arithmetic that computes it as written.
    if mode == "EXACT":
        return 0.5 * x * (1 + c.moved(erf(x / math.sqrt(2))))
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + c.moved(np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return x * sigmoid(1.702 * x)


@op("softmax")
def softmax(c, x, axis=-1):
    e = np.exp(x - x.max(int(axis), keepdims=True))
    return e / e.sum(int(axis), keepdims=True)


def binary(name, compute, exact=False, dtype=None):
    def run(c, x, y):
        result = compute(x, y)
        return Out(result, dtype) if dtype else result

    op(name, exact=exact)(run)


def real_div(x, y):
    if x.dtype.kind != "f":
        # Integers: the generator only divides without a remainder, where all interpretations agree.
        return x // y
    return x / y


for name, compute in {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "real_div": real_div, "pow": np.power, "floor_div": np.floor_divide,
    "mod": np.mod,
}.items():  # fmt: skip
    binary(name, compute)
for name, compute in {"maximum": np.maximum, "minimum": np.minimum}.items():
    binary(name, compute, exact=True)
for name, compute in {
    "equal": np.equal, "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal, "greater": np.greater,
    "greater_equal": np.greater_equal, "logical_and": np.logical_and, "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}.items():  # fmt: skip
    binary(name, compute, exact=True, dtype="bool")


@op("select", exact=True)
def select(c, cond, a, b):
    return Out(np.where(cond, a, b), c.dtypes["a"])


@op("cast", exact=True)
def cast(c, x, dtype):
    if dtype in ("fp16", "fp32"):
        return Out(x.astype(np.float64), dtype)
    if dtype == "bool":
        return Out(x != 0, dtype)
    return Out((np.trunc(x) if x.dtype.kind == "f" else x).astype(np.int64), dtype)


def along(vector, x, axis):
    """A scalar, or a vector over one axis of x."""
    if vector.ndim == 0:
        return vector
    shape = [1] * x.ndim
    shape[axis_of(axis, x.ndim)] = -1
    return vector.reshape(shape)


@op("quantize")
def quantize(c, input, scale, output_dtype, zero_point=None, axis=0):
    low, high = (0, 255) if output_dtype == "uint8" else (-128, 127)
    zero = 0 if zero_point is None else along(zero_point, input, axis)
    return Out(np.clip(np.rint(input / along(scale, input, axis)) + zero, low, high).astype(np.int64), output_dtype)


@op("dequantize")
def dequantize(c, input, scale, zero_point=None, axis=0):
    zero = 0 if zero_point is None else along(zero_point, input, axis)
    return Out(along(scale, input, axis) * (input - zero).astype(np.float64), c.dtypes["scale"])
