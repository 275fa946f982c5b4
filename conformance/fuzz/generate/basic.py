"""Elementwise operations, reductions, products and normalizations."""

import numpy as np
from program import Const, Rejected

from .base import Gen, gen

# Operations of one operand, with the bounds of their values.
UNARY = {
    "acos": (-0.95, 0.95), "asin": (-0.95, 0.95), "atan": (-2.0, 2.0), "atanh": (-0.9, 0.9), "ceil": (-5.0, 5.0),
    "cos": (-6.0, 6.0), "cosh": (-3.0, 3.0), "erf": (-3.0, 3.0), "exp": (-5.0, 5.0), "floor": (-5.0, 5.0),
    "round": (-5.0, 5.0), "sin": (-6.0, 6.0), "sinh": (-3.0, 3.0), "sqrt": (0.0, 9.0), "tan": (-1.2, 1.2),
    "tanh": (-4.0, 4.0), "relu": (-2.0, 2.0), "relu6": (-3.0, 9.0), "sigmoid": (-12.0, 12.0), "silu": (-12.0, 12.0),
    "softplus": (-12.0, 12.0), "softsign": (-12.0, 12.0),
}  # fmt: skip


@gen(*UNARY)
def unary(g: Gen, name):
    low, high = UNARY[name]
    return g.emit(name, x=g.tensor((0, 5), low=low, high=high))


@gen("abs", "sign", "square")
def signed(g: Gen, name):
    return g.emit(name, x=g.tensor((0, 5), dtype=g.number_type()))


@gen("exp2")
def exp2(g: Gen):
    if g.chance(0.3):
        return g.emit("exp2", x=g.tensor((0, 5), dtype="int32", low=0, high=9))
    return g.emit("exp2", x=g.tensor((0, 5), low=-5.0, high=5.0))


@gen("logical_not")
def logical_not(g: Gen):
    return g.emit("logical_not", x=g.tensor((0, 5), dtype="bool"))


@gen("rsqrt", "inverse", "log")
def with_epsilon(g: Gen, name):
    x = g.tensor((0, 5), low=0.1, high=9.0)
    # Since iOS 17 epsilon may be of another float type than x.
    dtype = g.pick(("fp16", "fp32")) if g.version >= 8 else g.dtype(x)
    return g.emit(name, x=x, epsilon=g.maybe(0.6, g.scalar(0.01, 1.0, dtype)))


@gen("clip")
def clip(g: Gen):
    x = g.tensor((0, 5), low=-4.0, high=4.0)
    low = g.rng.uniform(-3, 1)
    return g.emit("clip", x=x, alpha=g.f(low), beta=g.f(low + g.rng.uniform(0.5, 3)))


@gen("threshold")
def threshold(g: Gen):
    x = g.tensor((0, 5), dtype=g.number_type())
    alpha = g.i(g.int(-3, 3)) if g.dtype(x) == "int32" else g.scalar(-1, 1)
    return g.emit("threshold", x=x, alpha=alpha)


@gen("identity")
def identity(g: Gen):
    return g.emit("identity", x=g.tensor((0, 5), dtype=g.pick((g.F, "int32", "bool"))))


@gen("cast", weight=3)
def cast(g: Gen):
    small = ("int8", "uint8", "int16", "uint16") if g.version >= 8 else ()
    source = g.pick(("fp16", "fp32", "int32", "bool", *small))
    target = g.pick(("fp16", "fp32", "int32", "bool", *small))
    low, high = (0.0, 100.0) if target.startswith("uint") else (-100.0, 100.0)
    if source == "bool":
        low, high = -2.0, 2.0
    elif target == "fp16" and source == "fp32" and g.chance(0.3):
        # Values that fp16 rounds.
        low, high = -3000.0, 3000.0
    elif target == "fp16" and source in ("int32", "int16", "uint16") and g.chance(0.3):
        low, high = (0, 9000) if source == "uint16" else (-9000, 9000)
    x = g.tensor((0, 5), dtype=source, low=low, high=high)
    if target == "bool" and source in ("fp16", "fp32"):
        x = g.emit("round", x=x)
    return g.emit("cast", x=x, dtype=g.s(target))


@gen("select", weight=2)
def select(g: Gen):
    dtype = g.pick((g.F, g.F, "int32", "bool"))
    a = g.tensor((0, 4), dtype=dtype)
    shape = g.shape_of(a)
    b = g.fresh(partner(g, shape), dtype, constant=0.3)
    # coremltools infers the shape of the result only from a and b.
    whole = np.broadcast_shapes(shape, g.shape_of(b))
    dims = tuple(1 if g.chance(0.3) else n for n in whole)
    cond = g.fresh(dims[g.int(0, len(dims)) if g.chance(0.3) else 0 :], "bool", constant=0.2)
    a, b = (b, a) if g.chance(0.3) else (a, b)
    return g.emit("select", cond=cond, a=a, b=b)


def partner(g: Gen, shape):
    """A shape that broadcasts with another, or is the same."""
    if g.chance(0.35):
        return shape
    dims = [1 if g.chance(0.35) else n if n != 1 or g.chance(0.5) else g.dim(4) for n in shape]
    dims = dims[g.int(0, len(dims)) :] if g.chance(0.35) else dims
    return tuple(dims)


ARITHMETIC = ("add", "sub", "mul", "maximum", "minimum", "floor_div", "mod", "real_div", "pow")
COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")


@gen(*ARITHMETIC, weight=2)
def arithmetic(g: Gen, name):
    dtype = g.number_type()
    if name == "pow":
        low, high = (0.2, 3.0) if dtype != "int32" else (-3, 3)
        x = g.tensor((0, 5), dtype=dtype, low=low, high=high)
        y = g.fresh(partner(g, g.shape_of(x)), dtype, *((-2.5, 2.5) if dtype != "int32" else (0, 4)), constant=0.4)
        return g.emit(name, x=x, y=y)
    x = g.tensor((0, 5), dtype=dtype)
    shape = partner(g, g.shape_of(x))
    if name in ("floor_div", "mod", "real_div"):
        if dtype == "int32":
            y = g.values(shape, dtype, 1, 5) * g.rng.choice((-1, 1), shape).astype(np.int32)
            if name == "real_div":
                # Without a remainder, since the documentation does not define the rounding.
                x = g.given(g.value(x) * 60, "int32")
        else:
            y = g.values(shape, dtype, 0.3, 3.0) * g.rng.choice((-1, 1), shape).astype(np.float32)
        y = g.constant(y, dtype) if g.chance(0.4) else g.given(y, dtype)
    else:
        y = g.fresh(shape, dtype, constant=0.4)
    if name not in ("floor_div", "mod", "real_div") and g.chance(0.3):
        x, y = y, x
    return both(g, name, x, y)


def both(g: Gen, name, x, y):
    """A binary operation with at least one input: one of two constants would be no test."""
    if isinstance(x, Const) and isinstance(y, Const):
        raise Rejected("two constants")
    return g.emit(name, x=x, y=y)


@gen(*COMPARISONS)
def comparison(g: Gen, name):
    dtype = g.number_type()
    x = g.tensor((0, 5), dtype=dtype)
    shape = partner(g, g.shape_of(x))
    if g.chance(0.5) and shape == g.shape_of(x) and dtype == "int32":
        y = g.given(np.where(g.rng.random(shape) < 0.5, g.value(x), g.values(shape, dtype)), dtype)
    else:
        y = g.fresh(shape, dtype, constant=0.4)
    return both(g, name, x, y)


@gen("logical_and", "logical_or", "logical_xor")
def logical(g: Gen, name):
    x = g.tensor((0, 5), dtype="bool")
    return both(g, name, x, g.fresh(partner(g, g.shape_of(x)), "bool", constant=0.3))


@gen("elu", "leaky_relu", "thresholded_relu")
def one_parameter(g: Gen, name):
    return g.emit(name, x=g.tensor((0, 5), low=-4.0, high=4.0), alpha=g.scalar(0.05, 1.5))


@gen("clamped_relu", "linear_activation", "scaled_tanh", "sigmoid_hard")
def two_parameters(g: Gen, name):
    return g.emit(name, x=g.tensor((0, 5), low=-4.0, high=4.0), alpha=g.scalar(0.05, 1.5), beta=g.scalar(0.1, 2.0))


@gen("prelu", "softplus_parametric")
def by_channel(g: Gen, name):
    x = g.tensor((3, 5), low=-4.0, high=4.0)
    channels = (g.shape_of(x)[1],)
    if name == "prelu":
        alpha = g.values(channels, g.F, -1, 2)
        # coremltools accepts different slopes only for images.
        alpha = alpha if len(g.shape_of(x)) == 4 else np.full_like(alpha, alpha[0])
        return g.emit(name, x=x, alpha=g.constant(alpha, g.F))
    alpha, beta = (g.constant(g.values(channels, g.F, 0.3, 2), g.F) for _ in range(2))
    return g.emit(name, x=x, alpha=alpha, beta=beta)


@gen("gelu", weight=2)
def gelu(g: Gen):
    mode = g.pick((None, "EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"))
    return g.emit("gelu", x=g.tensor((0, 5), low=-6.0, high=6.0), mode=mode and g.s(mode))


@gen("softmax", weight=2)
def softmax(g: Gen):
    x = g.tensor((1, 5), low=-8.0, high=8.0)
    return g.emit("softmax", x=x, axis=g.maybe(0.8, g.i(g.axis(len(g.shape_of(x))))))


# --- reductions

FOLDS = (
    "reduce_l1_norm", "reduce_l2_norm", "reduce_log_sum", "reduce_log_sum_exp", "reduce_max", "reduce_mean", "reduce_min",
    "reduce_prod", "reduce_sum", "reduce_sum_square",
)  # fmt: skip


@gen(*FOLDS, weight=2)
def reduction(g: Gen, name):
    whole = name in ("reduce_max", "reduce_min", "reduce_sum", "reduce_l1_norm", "reduce_sum_square", "reduce_prod")
    dtype = "int32" if whole and g.chance(0.2) else g.F
    low, high = (0.2, 3.0) if name == "reduce_log_sum" else (-1.4, 1.4) if name == "reduce_prod" else (-2.0, 2.0)
    if dtype == "int32":
        low, high = (-2, 2) if name == "reduce_prod" else (-9, 9)
    x = g.tensor((1, 5), dtype=dtype, low=low, high=high)
    rank = len(g.shape_of(x))
    axes = [a - rank if g.chance(0.4) else a for a in g.some(range(rank), 1)]
    if g.chance(0.3):
        axes.reverse()
    return g.emit(name, x=x, axes=g.maybe(0.85, g.i(axes)), keep_dims=g.maybe(0.8, g.b(g.chance(0.5))))


def distinct(g: Gen, shape, dtype):
    """Values that differ clearly, so that their order does not depend on rounding."""
    count = int(np.prod(shape))
    places = g.rng.permutation(count) - count // 2
    return g.given((places if dtype == "int32" else places * 0.25).reshape(shape), dtype)


@gen("reduce_argmax", "reduce_argmin")
def arg(g: Gen, name):
    x = distinct(g, g.shape((1, 5)), g.number_type())
    output = g.maybe(0.5, g.s(g.pick(("int32", "uint16")))) if g.version >= 8 else None
    axis = g.maybe(0.85, g.i(g.axis(len(g.shape_of(x)))))
    return g.emit(name, x=x, axis=axis, keep_dims=g.maybe(0.8, g.b(g.chance(0.5))), output_dtype=output)


@gen("cumsum", weight=2)
def cumsum(g: Gen):
    x = g.tensor((1, 5), dtype=g.number_type())
    flag = lambda: g.maybe(0.8, g.b(g.chance(0.5)))  # noqa: E731
    # coremltools accepts no axis below -1.
    axis = g.maybe(0.85, g.i(g.axis(len(g.shape_of(x)), low=-1)))
    return g.emit("cumsum", x=x, axis=axis, exclusive=flag(), reverse=flag())


@gen("argsort")
def argsort(g: Gen):
    x = distinct(g, g.shape((1, 5)), g.number_type())
    axis = g.maybe(0.85, g.i(g.axis(len(g.shape_of(x)))))
    return g.emit("argsort", x=x, axis=axis, ascending=g.maybe(0.8, g.b(g.chance(0.5))))


@gen("topk", weight=3)
def topk(g: Gen):
    dtype = g.pick(("int8", "int16", "uint8", "uint16")) if g.version >= 8 and g.chance(0.15) else g.number_type()
    shape = g.shape((1, 4))
    x = distinct(g, shape, dtype) if dtype in (g.F, "int32") else shuffled(g, shape, dtype)
    axis = g.axis(len(shape))
    # Not -1, "all elements": coremltools infers an axis of size -1.
    k = g.int(1, shape[axis])
    more = {}
    if g.version >= 7 and g.chance(0.4):
        more["return_indices"] = g.b(g.chance(0.6))
    if g.version >= 8 and g.chance(0.4) and bool(more.get("return_indices", g.b(True)).value):
        more["output_indices_dtype"] = g.s(g.pick(("int32", "uint16")))
    if g.version >= 7 and g.chance(0.4):
        more["sort"] = g.b(True)
    size = g.pick(("int32", "int16", "int8")) if g.version >= 8 else "int32"
    alone = "return_indices" in more and not bool(more["return_indices"].value)
    ascending = g.maybe(0.8, g.b(g.chance(0.5)))
    return g.emit("topk", results=1 if alone else 2, x=x, k=g.i(k, size), axis=g.i(axis), ascending=ascending, **more)


def shuffled(g: Gen, shape, dtype):
    """The same in a small integer type."""
    count = int(np.prod(shape))
    if count > 120:
        raise Rejected("too many for a small type")
    return g.given(g.rng.permutation(count).reshape(shape), dtype)


# --- products


@gen("matmul", weight=6)
def matmul(g: Gen):
    dtype = "int32" if g.chance(0.1) else g.F
    rank = g.pick((1, 2, 2, 3, 4))
    x = g.tensor(rank, dtype=dtype, most=g.pick((4, 9)))
    shape = g.shape_of(x)
    tx = rank > 1 and g.chance(0.4)
    inner = shape[-2] if tx else shape[-1]
    ty = g.chance(0.4)
    columns = g.dim(8)
    if g.chance(0.06) and dtype == g.F:
        columns, inner = g.matrix()
        x = g.fresh((inner,) if rank == 1 else (inner, 1) if tx else (1, inner), g.F)
        rank, shape = min(rank, 2), g.shape_of(x)
    # coremltools accepts no vector on the right.
    other = g.pick((2, max(rank, 2), max(rank, 2)))
    outer = [1 if g.chance(0.3) else n for n in shape[:-2]][max(rank - other, 0) :]
    dims = (*outer, *((columns, inner) if ty else (inner, columns)))
    if dtype == g.F and g.chance(0.4):
        y = g.weight(dims)
    else:
        y = g.fresh(dims, dtype, constant=0.3)
    if g.chance(0.15) and rank > 1 and not isinstance(y, Const):
        # y' x' = (x y)'.
        return g.emit("matmul", x=y, y=x, transpose_x=g.b(not ty), transpose_y=g.b(not tx))
    return g.emit(
        "matmul",
        x=x,
        y=y,
        transpose_x=g.maybe(0.9 if not tx else 1, g.b(tx)),
        transpose_y=g.maybe(0.9 if not ty else 1, g.b(ty)),
    )


@gen("linear", weight=6)
def linear(g: Gen):
    rank = g.pick((1, 2, 2, 3, 4))
    if g.chance(0.25):
        # Wide enough for blocks and vectors of every width.
        out, size = g.matrix() if g.chance(0.5) else (g.int(1, 6), g.int(60, 600))
        x = g.fresh((1,) * (rank - 1) + (size,), g.F)
    else:
        x = g.tensor(rank, most=9)
        out = g.dim(9)
    if g.dtype(x) in ("fp16", "fp32") and g.chance(0.2):
        x = g.outliers(x)
    size = g.shape_of(x)[-1]
    weight = g.weight((out, size))
    bias = g.maybe(0.6, g.constant(g.values((out,), g.F), g.F))
    return g.emit("linear", x=x, weight=weight, bias=bias)


@gen("einsum", weight=2)
def einsum(g: Gen):
    letters = [chr(c) for c in g.rng.permutation(np.arange(97, 123))[:5]]
    n, ch, h, w, u = letters
    a, b, c, d, e = (g.dim(5) for _ in range(5))
    if g.chance(0.5):
        x, y = g.tensor(4, shape=(a, b, c, d)), g.fresh((a, d, c, e), g.F, constant=0.2)
        equation = f"{n}{ch}{h}{w},{n}{w}{h}{u}->{n}{ch}{h}{u}"
    else:
        x, y = g.tensor(3, shape=(b, c, d)), g.fresh((d, c, e), g.F, constant=0.2)
        equation = f"{ch}{h}{w},{w}{h}{u}->{ch}{h}{u}"
    return g.emit("einsum", values=[x, y], equation=g.s(equation))


@gen("scaled_dot_product_attention", weight=5, since="iOS18")
def attention(g: Gen):
    rank = g.pick((3, 4, 4, 5))
    outer = g.shape(rank - 2, 3)
    length, keys, width, wide = g.dim(5), g.dim(7), g.dim(8), g.dim(8)
    query = g.tensor(rank, shape=(*outer, length, width))
    key, value = g.fresh((*outer, keys, width), g.F), g.fresh((*outer, keys, wide), g.F)
    mask = None
    if g.chance(0.6):
        dims = partner(g, (*outer, length, keys))
        if len(dims) < 2:
            dims = (length, keys)
        # coremltools accepts no mask whose last axis broadcasts.
        dims = (*(1 if d == 1 else n for d, n in zip(dims[:-1], (*outer, length)[1 - len(dims) :])), keys)
        if g.chance(0.5):
            seen = g.rng.random(dims) < 0.7
            seen[..., 0] = True
            mask = g.constant(seen, "bool") if g.chance(0.5) else g.given(seen, "bool")
        else:
            mask = np.where(g.rng.random(dims) < 0.7, g.rng.uniform(-1, 1, dims), -1e4)
            mask[..., 0] = 0
            mask = g.constant(mask, g.F) if g.chance(0.5) else g.given(mask, g.F)
    return g.emit("scaled_dot_product_attention", query=query, key=key, value=value, attn_mask=mask)


# --- normalization


def vector(g: Gen, size, low, high):
    return g.constant(g.values(size, g.F, low, high), g.F)


@gen("batch_norm", weight=2)
def batch_norm(g: Gen):
    x = g.tensor((3, 5))
    n = (g.shape_of(x)[1],)
    gamma, beta = g.chance(0.6), g.chance(0.6)
    return g.emit(
        "batch_norm", x=x, mean=vector(g, n, -1, 1), variance=vector(g, n, 0.3, 2), epsilon=g.maybe(0.6, g.scalar(0.001, 0.1)),
        gamma=vector(g, n, 0.5, 2) if gamma else None, beta=vector(g, n, -1, 1) if beta else None,
    )  # fmt: skip


@gen("instance_norm", weight=2)
def instance_norm(g: Gen):
    x = g.tensor((3, 4), fits=lambda s: np.prod(s[2:]) > 1)
    n = (g.shape_of(x)[1],)
    return g.emit(
        "instance_norm", x=x, epsilon=g.scalar(0.01, 0.1), gamma=g.maybe(0.6, vector(g, n, 0.5, 2)),
        beta=g.maybe(0.6, vector(g, n, -1, 1)),
    )  # fmt: skip


@gen("layer_norm", weight=4)
def layer_norm(g: Gen):
    x = g.tensor((1, 5), most=9)
    shape = g.shape_of(x)
    rank = len(shape)
    first = g.int(0, rank - 1)
    # Core ML normalizes over consecutive axes up to the last, or over the channels only.
    axes = list(range(first, rank)) if g.chance(0.75) or rank < 3 else [1]
    size = tuple(shape[a] for a in axes)
    gamma = g.maybe(0.6, vector(g, size, 0.5, 2))
    # coremltools accepts no beta without gamma.
    affine = (gamma, g.maybe(0.7, vector(g, size, -1, 1)) if gamma is not None else None)
    axes = [a - rank if g.chance(0.4) else a for a in axes]
    return g.emit("layer_norm", x=x, axes=g.i(axes), gamma=affine[0], beta=affine[1], epsilon=g.scalar(0.01, 0.1))


@gen("l2_norm")
def l2_norm(g: Gen):
    return g.emit("l2_norm", x=g.tensor((3, 5)), epsilon=g.maybe(0.6, g.scalar(0.001, 0.1)))


@gen("local_response_norm")
def local_response_norm(g: Gen):
    x = g.tensor((3, 4), most=8)
    return g.emit(
        "local_response_norm", x=x, size=g.i(g.pick((1, 3, 5, 7))), alpha=g.maybe(0.7, g.scalar(0.01, 1)),
        beta=g.maybe(0.7, g.scalar(0.3, 1)), k=g.maybe(0.7, g.scalar(0.5, 2)),
    )  # fmt: skip
