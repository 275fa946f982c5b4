"""Gathering, scattering, creation, selection, lists, recurrent layers and nested blocks."""

import numpy as np
from program import Block, Const, Node, Ref, Rejected

from .base import SMALL_INTS, Gen, gen


def index_types(g: Gen, name):
    """Element types that indices may have."""
    if g.version >= 8:
        return ("int32", "int32", "int16", "uint16", "int8", "uint8")
    # Before iOS 17, gather_along_axis and the scatters accept only int32.
    return ("int32", "int16", "uint16") if g.version == 7 and name in ("gather", "gather_nd") else ("int32",)


def indices(g: Gen, values, name, negative=False):
    """Indices as an operand: of any allowed type, constant or not."""
    dtype = g.pick(index_types(g, name)) if not negative else "int32"
    if g.chance(0.4) or (dtype in SMALL_INTS and g.version < 8):
        return g.constant(values, dtype)
    return g.given(values, dtype)


def gathered_type(g: Gen):
    return g.pick((g.F, g.F, g.F, "int32", *(SMALL_INTS if g.version >= 8 and g.chance(0.3) else ())))


def signed(g: Gen, drawn, extents, name):
    """Counts some indices from the end, which the operation allows up to iOS 16."""
    if g.version < 8 and g.chance(0.4):
        return np.where(g.rng.random(drawn.shape) < 0.5, drawn - extents, drawn), True
    return drawn, False


def validated(g: Gen, where):
    """`validate_indices`; coremltools' own check of constant indices fails on right ones of gather_nd and scatter_nd."""
    return g.b(g.chance(0.5)) if g.version >= 8 and not isinstance(where, Const) and g.chance(0.4) else None


@gen("gather", weight=5)
def gather(g: Gen):
    x = g.tensor((1, 4), dtype=gathered_type(g))
    shape = g.shape_of(x)
    rank = len(shape)
    axis = g.int(0, rank - 1)
    batch = g.int(0, axis) if g.version >= 7 and g.chance(0.35) else 0
    size = shape[:batch] + g.shape(g.int(0, 2), 4)
    if rank - 1 + len(size) - batch > 5:
        raise Rejected("rank")
    drawn, negative = signed(g, g.rng.integers(0, shape[axis], size), shape[axis], "gather")
    where = g.i(axis - rank if g.chance(0.4) else axis) if axis or batch or g.chance(0.7) else None
    picked = indices(g, drawn, "gather", negative)
    return g.emit(
        "gather",
        x=x,
        indices=picked,
        axis=where,
        batch_dims=g.i(batch) if batch or (g.version >= 7 and g.chance(0.2)) else None,
        validate_indices=validated(g, picked),
    )


@gen("gather_along_axis", weight=3)
def gather_along_axis(g: Gen):
    x = g.tensor((1, 4), dtype=gathered_type(g))
    shape = g.shape_of(x)
    axis = g.int(0, len(shape) - 1)
    size = tuple(g.dim(5) if i == axis else n for i, n in enumerate(shape))
    drawn, negative = signed(g, g.rng.integers(0, shape[axis], size), shape[axis], "gather_along_axis")
    where = g.i(axis - len(shape) if g.chance(0.4) else axis) if axis or g.chance(0.7) else None
    picked = indices(g, drawn, "gather_along_axis", negative)
    return g.emit("gather_along_axis", x=x, indices=picked, axis=where, validate_indices=validated(g, picked))


@gen("gather_nd", weight=3)
def gather_nd(g: Gen):
    x = g.tensor((1, 4), dtype=gathered_type(g))
    shape = g.shape_of(x)
    batch = g.int(0, len(shape) - 1) if g.version >= 7 and g.chance(0.35) else 0
    depth = g.int(1, len(shape) - batch)
    size = shape[:batch] + g.shape(g.int(0 if batch else 1, 2), 3)
    if len(size) + len(shape) - batch - depth > 5:
        raise Rejected("rank")
    drawn = np.stack([g.rng.integers(0, n, size) for n in shape[batch : batch + depth]], -1)
    picked = indices(g, drawn, "gather_nd")
    return g.emit(
        "gather_nd",
        x=x,
        indices=picked,
        batch_dims=g.i(batch) if batch else None,
        validate_indices=validated(g, picked),
    )


MODES = ("update", "add", "sub", "mul", "div", "max", "min")


def updates(g: Gen, shape, dtype, mode, data):
    """Updates, and the data that they apply to: integers are divided without a remainder."""
    if mode == "div":
        if dtype == "int32":
            return g.fresh(shape, dtype, 1, 1), data
        return g.fresh(shape, dtype, 0.5, 2.0, constant=0.2), data
    return g.fresh(shape, dtype, constant=0.2), data


def mode_of(g: Gen):
    return g.pick(MODES) if g.chance(0.9) else None


def picks(g: Gen, extent, count, mode, least=0):
    """Indices. If several updates hit one element, the result is not documented, so for `update` they are distinct."""
    if mode == "update":
        if count > extent:
            raise Rejected("more updates than elements")
        return g.rng.permutation(extent)[:count]
    return g.rng.integers(0, extent, count)


@gen("scatter", weight=4)
def scatter(g: Gen):
    data = g.tensor((1, 4), dtype=g.pick((g.F, g.F, "int32")))
    dtype, shape, mode = g.dtype(data), g.shape_of(data), mode_of(g)
    axis = g.int(0, len(shape) - 1)
    drawn = picks(g, shape[axis], g.int(1, shape[axis]), mode)
    negative = g.version < 8 and mode != "update" and g.chance(0.2)
    size = tuple(len(drawn) if i == axis else n for i, n in enumerate(shape))
    given, data = updates(g, size, dtype, mode or "update", data)
    where = g.i(axis - len(shape) if g.chance(0.4) else axis) if axis or g.chance(0.7) else None
    mode = mode or "update"
    picked = indices(g, drawn - shape[axis] if negative else drawn, "scatter", True)
    return g.emit(
        "scatter",
        data=data,
        indices=picked,
        updates=given,
        axis=where,
        mode=g.s(mode),
        validate_indices=validated(g, picked),
    )


@gen("scatter_along_axis", weight=4)
def scatter_along_axis(g: Gen):
    data = g.tensor((1, 4), dtype=g.pick((g.F, g.F, "int32")))
    dtype, shape, mode = g.dtype(data), g.shape_of(data), mode_of(g)
    axis = g.int(0, len(shape) - 1)
    size = tuple(g.int(1, n) if i == axis else n for i, n in enumerate(shape))
    order = np.argsort(g.rng.random(shape), axis)
    drawn = np.take(order, range(size[axis]), axis) if mode == "update" else g.rng.integers(0, shape[axis], size)
    given, data = updates(g, size, dtype, mode or "add", data)
    where = g.i(axis - len(shape) if g.chance(0.4) else axis) if axis or g.chance(0.7) else None
    picked = indices(g, drawn, "scatter_along_axis", True)
    return g.emit(
        "scatter_along_axis",
        data=data,
        indices=picked,
        updates=given,
        axis=where,
        mode=mode and g.s(mode),
        validate_indices=validated(g, picked),
    )


@gen("scatter_nd", weight=4)
def scatter_nd(g: Gen):
    data = g.tensor((1, 4), dtype=g.pick((g.F, g.F, "int32")))
    dtype, shape, mode = g.dtype(data), g.shape_of(data), mode_of(g)
    depth = g.int(1, len(shape))
    extent = int(np.prod(shape[:depth]))
    count = g.shape(g.int(1, 2), 3)
    flat = picks(g, extent, int(np.prod(count)), mode)
    drawn = np.stack(np.unravel_index(flat.reshape(count), shape[:depth]), -1)
    given, data = updates(g, (*count, *shape[depth:]), dtype, mode or "add", data)
    picked = indices(g, drawn, "scatter_nd", True)
    return g.emit(
        "scatter_nd",
        data=data,
        indices=picked,
        updates=given,
        mode=mode and g.s(mode),
        validate_indices=validated(g, picked),
    )


# --- creation


@gen("fill", weight=2)
def fill(g: Gen):
    dtype = g.pick((g.F, "int32", "bool", None))
    value = None if dtype is None else g.constant(g.values((), dtype), dtype)
    size = g.shape((1, 4))
    shape = g.emit("shape", x=g.fresh(size, g.F)) if g.chance(0.4) else g.i(size)
    return g.emit("fill", shape=shape, value=value)


@gen("fill_like", since="iOS16")
def fill_like(g: Gen):
    dtype = g.pick((g.F, "int32", "bool", None))
    value = None if dtype is None else g.constant(g.values((), dtype), dtype)
    return g.emit("fill_like", ref_tensor=g.tensor((1, 4), dtype=g.pick((g.F, "int32", "bool"))), value=value)


@gen("range_1d", weight=3)
def range_1d(g: Gen):
    dtype = g.pick(("int32", g.F))
    step = g.pick((1, 2, 3, -1, -2)) if dtype == "int32" else g.pick((0.25, 0.5, 1.0, -0.75))
    count = g.int(1, 9)
    start = g.int(-5, 5) if dtype == "int32" else g.int(-20, 20) / 4
    rest = g.int(0, abs(step) - 1) if dtype == "int32" else g.pick((0.0, 0.125))
    end = start + (count - 1) * step + (abs(step) - rest) * (1 if step > 0 else -1)
    make = lambda v: g.constant(np.asarray(v), dtype)  # noqa: E731
    if g.chance(0.4):
        g.config.planned = False
        make = lambda v: g.given(np.asarray(v), dtype)  # noqa: E731
    return g.emit("range_1d", end=make(end), start=make(start), step=make(step))


@gen("one_hot", weight=3)
def one_hot(g: Gen):
    size = g.int(1, 7)
    drawn = g.rng.integers(0, size, g.shape((0, 3)))
    dtype = g.pick((g.F, "int32", "bool", None))
    if dtype is None:
        on = off = None
    else:
        on, off = (
            g.constant(v, dtype)
            for v in ((True, False) if dtype == "bool" else g.rng.permutation(np.arange(-3, 4))[:2])
        )
    axis = g.maybe(0.8, g.i(g.int(-drawn.ndim - 1, drawn.ndim)))
    given = g.constant(drawn, "int32") if g.chance(0.15) else g.given(drawn, "int32")
    return g.emit("one_hot", indices=given, one_hot_vector_size=g.i(size), axis=axis, on_value=on, off_value=off)


@gen("non_zero", weight=2)
def non_zero(g: Gen):
    dtype = g.pick((g.F, "int32", "bool"))
    shape = g.shape((1, 4))
    values = np.where(g.rng.random(shape) < g.rng.uniform(0.1, 0.9), g.values(shape, dtype), 0)
    if not np.any(values):
        raise Rejected("nothing: an output without elements")
    g.config.planned = False
    return g.emit("non_zero", x=g.given(values, dtype))


@gen("random_uniform", "random_normal", "random_bernoulli")
def random(g: Gen, name):
    size = g.shape((1, 4))
    shape = g.emit("shape", x=g.fresh(size, g.F)) if g.chance(0.4) else g.i(size)
    seed = g.maybe(0.5, g.i(g.int(0, 9)))
    if name == "random_uniform":
        value = g.scalar(-2, 2)
        return g.emit(name, shape=shape, low=value, high=Const(value.value, value.dtype), seed=seed)
    if name == "random_normal":
        return g.emit(name, shape=shape, mean=g.scalar(-2, 2), stddev=g.f(0.0), seed=seed)
    return g.emit(name, shape=shape, prob=g.f(g.pick((0.0, 1.0))), seed=seed)


@gen("random_categorical")
def random_categorical(g: Gen):
    size = g.shape((1, 3))
    best = g.rng.integers(0, size[-1], size[:-1])
    sure = np.arange(size[-1]) == best[..., None]
    logits = g.chance(0.5)
    x = g.given(np.where(sure, 0.0, -20000.0) if logits else sure.astype(np.float64), g.F)
    return g.emit(
        "random_categorical",
        x=x,
        mode=g.s("logits" if logits else "probs"),
        size=g.maybe(0.7, g.i(g.int(1, 4))),
        seed=g.maybe(0.5, g.i(3)),
    )


# --- selection by values


@gen("non_maximum_suppression", weight=2)
def non_maximum_suppression(g: Gen):
    batch, boxes, classes = g.int(1, 2), g.int(2, 8), g.int(1, 3)
    centre = g.rng.uniform(0, 4, (batch, boxes, 2))
    size = g.rng.uniform(0.5, 2.5, (batch, boxes, 2))
    both = np.concatenate([centre, size], -1)
    scores = (g.rng.permutation(batch * boxes * classes) + 1).reshape(batch, boxes, classes) / 128
    more = {} if g.version >= 8 else {"score_threshold": g.f(g.pick((0.0, 0.02)))}
    if g.version >= 8:
        both, scores = np.swapaxes(both, 1, 2), np.swapaxes(scores, 1, 2)
    return g.emit(
        "non_maximum_suppression", results=3 if g.version >= 8 else 4, boxes=g.given(both, g.F), scores=g.given(scores, g.F),
        iou_threshold=g.f(g.rng.uniform(0.1, 0.6)), max_boxes=g.i(g.int(1, 3)), per_class_suppression=g.maybe(0.6, g.b(g.chance(0.5))), **more,
    )  # fmt: skip


# --- lists


@gen("make_list", "list_write", "list_read", "list_gather", "list_scatter", "list_length")
def lists(g: Gen, name):
    dtype = g.pick((g.F, "int32"))
    shape = g.shape((1, 2), 4)
    length = g.int(2, 4)
    dynamic = g.chance(0.5)
    ls = g.emit(
        "make_list",
        init_length=g.i(length),
        dynamic_length=g.b(dynamic),
        elem_shape=[g.i(n) for n in shape],
        dtype=g.s(dtype),
    )
    for i in g.rng.permutation(length):
        ls = g.emit("list_write", ls=ls, index=g.i(i), value=g.fresh(shape, dtype))
    if name == "list_scatter" or g.chance(0.3):
        where = g.rng.permutation(length)[: g.int(1, length)]
        ls = g.emit("list_scatter", ls=ls, indices=g.i(where), value=g.fresh((len(where), *shape), dtype))
    found = []
    if name == "list_length" or g.chance(0.2):
        found.append(g.emit("list_length", ls=ls))
    if name == "list_gather" or g.chance(0.4):
        found.append(g.emit("list_gather", ls=ls, indices=g.i(g.rng.integers(0, length, g.int(1, 4)))))
    if name == "list_read" or not found:
        found.append(g.emit("list_read", ls=ls, index=g.i(g.int(0, length - 1))))
    g.config.planned = False
    return found


# --- recurrent layers


@gen("rnn", "gru", "lstm", weight=2)
def recurrent(g: Gen, name):
    if g.version < 8 or (g.F == "fp16" and g.version < 8):
        g.F = "fp32"
    steps, batch, width, hidden = g.int(1, 4), g.int(1, 3), g.int(1, 5), g.int(1, 4)
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[name]
    direction = g.pick(("forward", "reverse", "bidirectional") if name == "lstm" else ("forward", "reverse"))
    ways = 2 if direction == "bidirectional" else 1
    x = g.tensor(3, shape=(steps, batch, width))
    w = lambda *shape: g.constant(g.values(shape, g.F, -0.8, 0.8), g.F)  # noqa: E731
    args = {
        "x": x, "initial_h": g.fresh((batch, ways * hidden), g.F), "weight_ih": w(gates * hidden, width),
        "weight_hh": w(gates * hidden, hidden), "bias": g.maybe(0.6, w(gates * hidden)),
        "direction": g.maybe(0.9, g.s(direction)) if direction == "forward" else g.s(direction),
        "output_sequence": g.maybe(0.8, g.b(g.chance(0.6))),
    }  # fmt: skip
    act = lambda: g.maybe(0.5, g.s(g.pick(("sigmoid", "tanh", "relu", "linear"))))  # noqa: E731
    args["activation"] = act()
    if name != "rnn":
        args["recurrent_activation"] = act()
    if name == "lstm":
        args["initial_c"] = g.fresh((batch, ways * hidden), g.F)
        args["cell_activation"] = act()
        args["peephole"] = g.maybe(0.3, w(3 * hidden))
        if ways == 2:
            args |= {
                "weight_ih_back": w(4 * hidden, width),
                "weight_hh_back": w(4 * hidden, hidden),
                "bias_back": g.maybe(0.6, w(4 * hidden)),
            }
            args["peephole_back"] = g.maybe(0.3, w(3 * hidden))
    return g.emit(name, results=3 if name == "lstm" else 2, **args)


# --- nested blocks


@gen("cond", weight=2)
def cond(g: Gen):
    x = g.tensor((1, 3))
    shape = g.shape_of(x)
    decided = (
        g.emit("greater", x=g.emit("reduce_sum", x=x), y=g.f(0.0))
        if g.chance(0.5)
        else g.given(np.array(g.chance(0.5)), "bool")
    )
    blocks = []
    for _ in range(2):
        name = g.name("b")
        op = g.pick(("add", "sub", "mul", "maximum"))
        blocks.append(Block([], [Node(op, {"x": x, "y": g.constant(g.values(shape, g.F), g.F)}, [name])], [Ref(name)]))
    g.config.planned = False
    return g.emit("cond", blocks=blocks, pred=decided)


@gen("while_loop", weight=2)
def while_loop(g: Gen):
    x = g.tensor((1, 3))
    shape = g.shape_of(x)
    rounds = g.int(0, 4)
    i, v, j, w = (g.name("p") for _ in range(4))
    test, more, after = g.name("b"), g.name("b"), g.name("b")
    condition = Block([i, v], [Node("less", {"x": Ref(i), "y": g.i(rounds)}, [test])], [Ref(test)])
    body = Block(
        [j, w],
        [
            Node("add", {"x": Ref(j), "y": g.i(1)}, [more]),
            Node(g.pick(("add", "maximum", "sub")), {"x": Ref(w), "y": g.constant(g.values(shape, g.F), g.F)}, [after]),
        ],
        [Ref(more), Ref(after)],
    )
    start = g.given(np.array(0), "int32")
    g.config.planned = False
    return g.emit("while_loop", results=2, blocks=[condition, body], loop_vars=[start, x])
