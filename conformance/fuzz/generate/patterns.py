"""Patterns that the executor fuses: norms, projections, attention over a cache; and near misses of them."""

import numpy as np
from program import Const, Ref

from .base import Gen, gen


@gen("pattern:norm", weight=8)
def norm(g: Gen):
    """x divided by the root of its mean square, or a near miss."""
    rank = g.pick((2, 3, 4, 4))
    if rank == 4 and g.chance(0.7):
        shape, axes = (1, g.int(2, 70), 1, g.pick((1, 1, 3))), [1]
    else:
        shape = g.shape(rank, 8)
        axes = [g.axis(rank)] if g.chance(0.8) else [a for a in g.some(range(rank), 1)]
    x = g.fresh(shape, g.F)
    if g.chance(0.2):
        x = g.outliers(x)
    squared = g.emit("square", x=x) if g.chance(0.4) else g.emit("mul", x=x, y=x)
    fold = g.pick(("reduce_mean", "reduce_mean", "reduce_mean", "reduce_sum", "reduce_max"))
    mean = g.emit(fold, x=squared, axes=g.i(axes), keep_dims=g.b(True))
    form = g.pick(("rsqrt", "add rsqrt", "sqrt div", "pow"))
    small = g.scalar(0.001, 0.1)
    if form == "rsqrt":
        root = g.emit("rsqrt", x=mean, epsilon=g.f(g.rng.uniform(0.001, 0.1), "fp32" if g.version >= 8 else g.F))
    elif form == "pow":
        root = g.emit("pow", x=g.emit("add", x=mean, y=small), y=g.f(-0.5))
    else:
        total = g.emit("add", x=mean, y=small) if g.chance(0.7) else g.emit("add", x=small, y=mean)
        root = g.emit("rsqrt", x=total) if form == "add rsqrt" else g.emit("sqrt", x=total)
    source = x if g.chance(0.85) else squared
    if form == "sqrt div":
        result = g.emit("real_div", x=source, y=root)
    else:
        result = g.emit("mul", x=source, y=root) if g.chance(0.7) else g.emit("mul", x=root, y=source)
    found = [result]
    if g.chance(0.6):
        gain = g.constant(
            g.values(tuple(n if i in [a % rank for a in axes] else 1 for i, n in enumerate(shape)), g.F, 0.5, 2), g.F
        )
        found = [g.emit("mul", x=result, y=gain)]
    if g.chance(0.15):
        # An intermediate result is used elsewhere, too.
        found.append(g.emit("identity", x=g.pick((squared, mean, root))))
    return found


@gen("pattern:projection", weight=14)
def projection(g: Gen):
    """A matrix times one vector, with bias, rectifier and residual, and near misses."""
    wide, out = g.pick((g.int(1, 40), g.int(1, 300))), g.pick((g.int(1, 20), 32, 64))
    if g.chance(0.35):
        out, wide = g.matrix()
    form = g.pick(("conv", "conv", "linear", "matmul"))
    places = g.pick((1, 1, 1, 2, 5))
    if form == "conv":
        spatial = g.pick(((1, places), (places, 1), (1, 1), (2, 2)))
        x = g.fresh((g.pick((1, 1, 2)), wide, *spatial), g.F)
    else:
        x = g.fresh((*((1,) * g.int(0, 2)), places, wide), g.F)
    if g.chance(0.3):
        x = g.outliers(x)
    weight = g.weight((out, wide, 1, 1) if form == "conv" else (out, wide))
    if form == "conv":
        more = {}
        if g.chance(0.35):
            more["strides"] = g.i([g.int(1, 2), g.int(1, 2)])
        if g.chance(0.25):
            more |= {"pad": g.i([g.int(0, 1) for _ in range(4)]), "pad_type": g.s("custom")}
        else:
            more["pad_type"] = g.s(g.pick(("valid", "same")))
        y = g.emit("conv", x=x, weight=weight, bias=bias_of(g, out), **more)
    elif form == "linear":
        y = g.emit("linear", x=x, weight=weight, bias=bias_of(g, out))
    else:
        y = g.emit("matmul", x=x, y=weight, transpose_x=g.b(False), transpose_y=g.b(True))
    found = []
    if g.chance(0.15):
        found.append(g.emit("identity", x=y))
    if g.chance(0.5):
        y = g.emit(g.pick(("relu", "relu", "silu", "gelu")), x=y)
    if g.chance(0.5):
        shape = g.shape_of(y)
        other = shape if g.chance(0.7) else tuple(1 if g.chance(0.5) else n for n in shape)
        residual = g.fresh(other, g.F, constant=0.15)
        order = (y, residual) if g.chance(0.5) else (residual, y)
        y = g.emit(g.pick(("add", "add", "mul", "sub")), x=order[0], y=order[1])
    if g.chance(0.2):
        y = g.emit("relu", x=y)
    return [y, *found]


def bias_of(g: Gen, out):
    return g.maybe(0.5, g.constant(g.values((out,), g.F), g.F))


@gen("pattern:outlier", weight=4, since="iOS18")
def outlier(g: Gen):
    """One activation that is hundreds or thousands of times larger than the others, and weights that ignore it."""
    wide, out = g.int(2, 300), g.int(1, 20)
    if g.chance(0.8):
        out, wide = g.matrix()
    form = g.pick(("conv", "linear"))
    values = g.values((wide,), g.F, -1, 1)
    columns = g.rng.permutation(wide)[: g.int(1, 2)]
    values[columns] = g.rng.choice((-1, 1), len(columns)) * g.rng.uniform(100, 20000, len(columns))
    g.config.notes.add("outlier")
    x = g.given(values.reshape((1, wide, 1, 1) if form == "conv" else (1, wide)), g.F)
    integers = g.rng.integers(-127, 128, (out, wide)).astype(np.int8)
    integers[:, columns] = 0
    tail = (1, 1) if form == "conv" else ()
    scale = g.rng.uniform(0.5, 2, (g.pick((1, out)), 1, *tail)) / 64
    weight = g.emit(
        "constexpr_blockwise_shift_scale",
        data=Const(integers.reshape(out, wide, *tail), "int8"),
        scale=g.constant(scale, g.F),
    )
    bias = bias_of(g, out)
    return (
        g.emit("conv", x=x, weight=weight, bias=bias, pad_type=g.s("valid"))
        if form == "conv"
        else g.emit("linear", x=x, weight=weight, bias=bias)
    )


@gen("pattern:attention", weight=6, since="iOS18")
def attention(g: Gen):
    """One step of a decoder over a cache that is a state, called several times."""
    g.F = "fp16"
    heads, length, width = g.int(1, 3), g.int(2, 9), g.pick((4, 8, 8, 16, 32))
    steps = g.int(2, 3)
    shape = (1, heads, length, width)
    names = [g.name("k_cache"), g.name("v_cache")]
    update = g.pick(("one-hot", "slice"))
    hot, mask, position = [], [], []
    for step in range(steps):
        at = min(step, length - 1) if g.chance(0.8) else g.int(0, length - 1)
        hot.append((np.arange(length) == at).reshape(1, 1, length, 1).astype(np.float16))
        mask.append(np.where(np.arange(length) <= at, 0.0, -1e4).reshape(1, 1, 1, length).astype(np.float16))
        position.append(np.array([0, 0, at, 0], np.int32))
    x_of = lambda: several(g, (1, heads, 1, width), steps)  # noqa: E731
    query, key, value = x_of(), x_of(), x_of()
    seen = several(g, (1, 1, 1, length), steps, mask)
    where = several(g, (1, 1, length, 1), steps, hot) if update == "one-hot" else None
    g.config.calls = steps
    caches, direct = [], g.chance(0.75)
    for name, new in zip(names, (key, value)):
        g.config.states[name] = shape
        g.run.env[name] = (np.zeros(shape), "fp16")
        old = g.emit("read_state", input=Ref(name))
        if update == "one-hot":
            kept = g.emit("mul", x=old, y=g.emit("sub", x=g.f(1.0), y=where))
            after = g.emit("add", x=kept, y=g.emit("mul", x=new, y=where))
        else:
            at = several(g, (4,), steps, position, "int32")
            end = g.emit("add", x=at, y=g.i([1, heads, 1, width]))
            after = g.emit("slice_update", x=old, update=new, begin=at, end=end)
        stored = g.emit("coreml_update_state", state=Ref(name), value=after)
        # The written value is used directly, or read back.
        caches.append(after if direct else stored)
    keys, values = caches
    if g.chance(0.3):
        result = g.emit(
            "scaled_dot_product_attention",
            query=query,
            key=keys,
            value=values,
            attn_mask=seen if g.chance(0.8) else None,
        )
    else:
        scaled = g.emit("mul", x=query, y=g.f(width**-0.5)) if g.chance(0.8) else query
        scores = g.emit("matmul", x=scaled, y=keys, transpose_x=g.b(False), transpose_y=g.b(True))
        scores = g.emit("add", x=scores, y=seen) if g.chance(0.85) else scores
        share = g.emit("softmax", x=scores, axis=g.i(-1))
        result = g.emit("matmul", x=share, y=values, transpose_x=g.b(False), transpose_y=g.b(False))
    return [result, g.emit("identity", x=keys)] if g.chance(0.2) else result


def several(g: Gen, shape, steps, values=None, dtype="fp16"):
    """An input with a value for each call."""
    drawn = [g.values(shape, dtype) for _ in range(steps)] if values is None else values
    ref = g.given(drawn[0], dtype)
    g.config.inputs[ref.name].values = [np.asarray(v) for v in drawn]
    return ref


@gen("pattern:empty")
def empty(g: Gen):
    """An empty intermediate value, and a use of it. It may be refused, but with a message."""
    g.config.notes.add("empty")
    g.config.planned = False
    kind = g.pick(("non_zero", "slice", "range_1d"))
    if kind == "non_zero":
        nothing = g.emit("non_zero", x=g.given(np.zeros(g.shape((1, 3)), np.int32), "int32"))
    elif kind == "range_1d":
        at = g.int(-3, 3)
        nothing = g.emit(
            "range_1d", end=g.given(np.array(at), "int32"), start=g.given(np.array(at), "int32"), step=g.i(1)
        )
    else:
        # coremltools infers that a part of an axis of size 1 has size 1.
        shape = (g.int(2, 5), *g.shape((0, 2)))
        x = g.fresh(shape, "int32")
        bounds = [0] * len(shape), [0 if i == 0 else n for i, n in enumerate(shape)]
        nothing = g.emit(
            "slice_by_index",
            x=x,
            begin=g.given(np.array(bounds[0]), "int32"),
            end=g.given(np.array(bounds[1]), "int32"),
        )
    found = g.pick(("nothing", "concat", "reduce_sum", "add", "shape"))
    if found == "concat":
        rest = (g.int(1, 3), *g.shape_of(nothing)[1:])
        return g.emit("concat", values=[nothing, g.fresh(rest, "int32")], axis=g.i(0))
    if found == "reduce_sum":
        return g.emit("reduce_sum", x=nothing, axes=g.i([0]))
    if found == "add":
        return g.emit("add", x=nothing, y=g.i(1))
    return g.emit("shape", x=nothing) if found == "shape" else nothing


@gen("read_state", "coreml_update_state", weight=2, since="iOS18")
def states(g: Gen, name):
    """States that are read, used and written, in various orders."""
    g.F = "fp16"
    steps = g.int(2, 3)
    state, shape = g.name("state"), g.shape((1, 4), 5)
    g.config.states[state] = shape
    g.run.env[state] = (np.zeros(shape), "fp16")
    x = several(g, shape, steps)
    old = g.emit("read_state", input=Ref(state))
    after = g.emit(g.pick(("add", "maximum", "sub")), x=old, y=x)
    found = [after]
    new = g.emit("coreml_update_state", state=Ref(state), value=after)
    if g.chance(0.5):
        found.append(g.emit("mul", x=new, y=g.f(0.5)))
    if g.chance(0.4):
        found.append(g.emit("read_state", input=Ref(state)))
        if g.chance(0.5):
            again = g.emit("mul", x=found[-1], y=g.f(0.5))
            g.emit("coreml_update_state", state=Ref(state), value=again)
    if g.chance(0.4):
        # The value read before the write must be unaffected.
        found.append(g.emit("mul", x=old, y=g.f(2.0)))
    g.config.calls = steps
    return found
