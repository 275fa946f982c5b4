"""Operations that give a tensor other axes, another order, or select or join parts."""

import math

import numpy as np
from program import Const, Rejected

from .base import Gen, gen


@gen("reshape", weight=5)
def reshape(g: Gen):
    x = g.tensor((0, 5), dtype=g.layout_types())
    shape = g.shape_of(x)
    target = factors(g, math.prod(shape), g.int(1, 5))
    written = list(target)
    if g.chance(0.4) and math.prod(target):
        written[g.int(0, len(target) - 1)] = -1
    if g.chance(0.4):
        for i in range(len(target)):
            at = i - len(target) + len(shape) if g.version >= 8 else i if len(shape) == len(target) else -1
            if written[i] != -1 and g.chance(0.6) and at < len(shape):
                if at >= 0 and shape[at] == target[i]:
                    written[i] = 0
                elif at < 0 and g.version >= 8 and target[i] == 1:
                    written[i] = 0
    dtype = g.pick(("int32", "int16", "int8")) if g.version >= 8 and max(written) < 128 else "int32"
    return g.emit("reshape", x=x, shape=g.i(written, dtype))


def factors(g: Gen, count, parts):
    """A shape with `count` elements."""
    dims = [1] * parts
    rest = count
    for p in (2, 3, 5, 7, 11, 13, 17):
        while rest % p == 0 and rest:
            dims[g.int(0, parts - 1)] *= p
            rest //= p
    dims[g.int(0, parts - 1)] *= rest
    return dims


@gen("reshape_like", since="iOS16")
def reshape_like(g: Gen):
    x = g.tensor((1, 4), dtype=g.layout_types())
    target = factors(g, math.prod(g.shape_of(x)), g.int(2, 4))
    cut = g.int(1, len(target) - 1)
    first = g.shape(g.int(0, 1), 3) + tuple(target[:cut])
    second = tuple(target[cut:]) + g.shape(g.int(0, 1), 3)
    begin = len(first) - cut
    masked = len(second) == len(target) - cut and g.chance(0.5)
    return g.emit(
        "reshape_like", x=x, ref_tensors=[g.fresh(first, g.F), g.fresh(second, g.F)], begins=[g.i(begin), g.i(0)],
        ends=[g.i(len(first)), g.i(0 if masked else len(target) - cut)],
        end_masks=[g.b(g.chance(0.5)), g.b(masked)],
    )  # fmt: skip


@gen("flatten2d")
def flatten2d(g: Gen):
    x = g.tensor((1, 5), dtype=g.pick((g.F, "int32", "bool")))
    rank = len(g.shape_of(x))
    return g.emit("flatten2d", x=x, axis=g.maybe(0.85, g.i(g.int(-rank, rank - 1 if rank > 1 else 0))))


@gen("expand_dims", weight=2)
def expand_dims(g: Gen):
    x = g.tensor((0, 4), dtype=g.layout_types())
    rank = len(g.shape_of(x))
    total = rank + g.int(1, min(2, 5 - rank))
    axes = g.rng.permutation(total)[: total - rank]
    return g.emit("expand_dims", x=x, axes=g.i([int(a) - total if g.chance(0.4) else int(a) for a in axes]))


@gen("squeeze", weight=2)
def squeeze(g: Gen):
    x = g.tensor((1, 5), dtype=g.layout_types(), fits=lambda s: 1 in s)
    shape = g.shape_of(x)
    ones = [i for i, n in enumerate(shape) if n == 1]
    axes = [a - len(shape) if g.chance(0.4) else a for a in g.some(ones, 1)]
    return g.emit("squeeze", x=x, axes=g.maybe(0.8, g.i(axes)))


@gen("transpose", weight=3)
def transpose(g: Gen):
    x = g.tensor((1, 5), dtype=g.layout_types())
    rank = len(g.shape_of(x))
    perm = [int(p) - rank if g.chance(0.3) else int(p) for p in g.rng.permutation(rank)]
    return g.emit("transpose", x=x, perm=g.i(perm))


@gen("reverse")
def reverse(g: Gen):
    x = g.tensor((1, 5), dtype=g.layout_types())
    rank = len(g.shape_of(x))
    return g.emit(
        "reverse", x=x, axes=g.maybe(0.8, g.i([a - rank if g.chance(0.4) else a for a in g.some(range(rank), 1)]))
    )


@gen("reverse_sequence", weight=2)
def reverse_sequence(g: Gen):
    x = g.tensor((2, 4), dtype=g.layout_types())
    shape = g.shape_of(x)
    seq, batch = (int(a) for a in g.rng.permutation(len(shape))[:2])
    lengths = g.rng.integers(0, shape[seq] + 1, shape[batch])
    lengths = g.given(lengths, "int32") if g.chance(0.5) else g.i(lengths)
    negative = lambda a: g.i(a - len(shape) if g.chance(0.3) else a)  # noqa: E731
    return g.emit("reverse_sequence", x=x, lengths=lengths, seq_axis=negative(seq), batch_axis=negative(batch))


@gen("depth_to_space", "pixel_shuffle")
def to_space(g: Gen, name):
    block = g.int(2, 3)
    x = g.tensor(4, shape=(g.dim(3), block * block * g.int(1, 3), g.dim(4), g.dim(4)))
    return g.emit(name, x=x, **{"block_size" if name == "depth_to_space" else "upscale_factor": g.i(block)})


@gen("space_to_depth")
def space_to_depth(g: Gen):
    block = g.int(2, 3)
    x = g.tensor(4, shape=(g.dim(3), g.dim(4), block * g.dim(3), block * g.dim(3)))
    return g.emit("space_to_depth", x=x, block_size=g.i(block))


@gen("pixel_unshuffle", since="iOS16")
def pixel_unshuffle(g: Gen):
    block = g.int(2, 3)
    x = g.tensor(4, shape=(g.dim(3), g.dim(4), block * g.dim(3), block * g.dim(3)))
    return g.emit("pixel_unshuffle", x=x, downscale_factor=g.i(block, "uint32"))


@gen("space_to_batch", weight=2)
def space_to_batch(g: Gen):
    blocks, pads, dims = [g.int(1, 3), g.int(1, 3)], [], []
    for block in blocks:
        size = block * g.int(1, 3)
        low, high = g.int(0, min(2, size - 1)), 0
        high = g.int(0, min(2, size - 1 - low))
        pads.append([low, high])
        dims.append(size - low - high)
    x = g.tensor(4, shape=(g.dim(3), g.dim(3), *dims))
    return g.emit("space_to_batch", x=x, block_shape=g.i(blocks), paddings=g.i(pads))


@gen("batch_to_space", weight=2)
def batch_to_space(g: Gen):
    blocks, crops, dims = [g.int(1, 3), g.int(1, 3)], [], []
    for block in blocks:
        size = g.int(1, 4)
        low = g.int(0, min(2, size * block - 1))
        crops.append([low, g.int(0, min(2, size * block - 1 - low))])
        dims.append(size)
    x = g.tensor(4, shape=(blocks[0] * blocks[1] * g.int(1, 2), g.dim(3), *dims))
    return g.emit("batch_to_space", x=x, block_shape=g.i(blocks), crops=g.i(crops))


def slicing(g: Gen, shape):
    """The arguments of a slice, with every way to write its bounds."""
    begin, end, stride, begin_mask, end_mask, squeeze = [], [], [], [], [], []
    for n in shape:
        s = 1 if g.chance(0.55) else g.pick((2, 3, -1, -2))
        b, e = (g.int(0, n - 1), g.int(1, n)) if s > 0 else (g.int(0, n - 1), g.int(-1, n - 2) if n > 1 else -1)
        if s > 0 and e <= b:
            e = b + 1
        if s < 0 and e >= b:
            e = b - 1
        bm, em = g.chance(0.2), g.chance(0.2)
        squeezed = g.chance(0.12)
        # An end before the first element can only be masked.
        if s < 0 and e < 0:
            em, e = True, 0
        if squeezed:
            s, bm = 1, False
        if g.chance(0.35):
            b -= n
        if e < n and e > 0 and g.chance(0.3):
            e -= n
        elif s > 0 and g.chance(0.12):
            # Beyond the end: clipped, as in numpy.
            e = n + g.int(1, 3)
        (
            begin.append(b),
            end.append(e),
            stride.append(s),
            begin_mask.append(bm),
            end_mask.append(em),
            squeeze.append(squeezed),
        )
    return begin, end, stride, begin_mask, end_mask, squeeze


def slice_args(g: Gen, shape):
    begin, end, stride, begin_mask, end_mask, squeeze = slicing(g, shape)
    dtype = g.pick(("int32", "int32", "int16", "int8" if max(shape) < 120 else "int16")) if g.version >= 8 else "int32"
    bound = lambda v: g.i(v, dtype)  # noqa: E731
    args = {"begin": bound(begin), "end": bound(end)}
    if set(stride) != {1} or g.chance(0.3):
        args["stride"] = bound(stride)
    for name, mask in (("begin_mask", begin_mask), ("end_mask", end_mask), ("squeeze_mask", squeeze)):
        if any(mask) or g.chance(0.2):
            args[name] = g.b(mask)
    if dtype == "int32" and not any(squeeze) and g.chance(0.15) and all(s > 0 for s in stride):
        # Bounds that are known only at run time.
        args["begin"] = g.given(np.array(begin), "int32")
        args["end"] = g.given(np.array(end), "int32")
        g.config.planned = False
    return args


@gen("slice_by_index", weight=8)
def slice_by_index(g: Gen):
    x = g.tensor((1, 5), dtype=g.layout_types(), most=8)
    return g.emit("slice_by_index", x=x, **slice_args(g, g.shape_of(x)))


@gen("slice_update", weight=5, since="iOS18")
def slice_update(g: Gen):
    dtype = g.layout_types()
    x = g.tensor((1, 5), dtype=dtype, most=8)
    args = slice_args(g, g.shape_of(x))
    from oracle.layout import slice_by_index as cut

    shape = cut(None, g.value(x), **{k: g.value(v) for k, v in args.items()}).shape
    if not shape or 0 in shape:
        raise Rejected("an update of rank 0 is not supported")
    if any(not isinstance(a, Const) for a in args.values()):
        g.config.planned = True
    return g.emit("slice_update", x=x, update=g.fresh(shape, dtype, constant=0.2), **args)


@gen("slice_by_size", weight=3)
def slice_by_size(g: Gen):
    x = g.tensor((1, 5), dtype=g.layout_types(), most=8)
    shape = g.shape_of(x)
    begin = [g.int(0, n - 1) for n in shape]
    size = [g.int(1, n - b) for n, b in zip(shape, begin)]
    size = [-1 if b + s == n and g.chance(0.5) else s for b, s, n in zip(begin, size, shape)]
    if g.chance(0.25) and -1 not in size:
        return g.emit("slice_by_size", x=x, begin=g.given(np.array(begin), "int32"), size=g.i(size))
    return g.emit("slice_by_size", x=x, begin=g.i(begin), size=g.i(size))


@gen("concat", weight=3)
def concat(g: Gen):
    dtype = g.pick((g.F, g.F, "int32", "bool"))
    x = g.tensor((1, 5), dtype=dtype)
    shape = g.shape_of(x)
    axis = g.axis(len(shape))
    interleave = g.chance(0.25)
    values = [x]
    for _ in range(g.int(0, 3)):
        dims = list(shape)
        if not interleave:
            dims[axis] = g.dim(4)
        values.insert(g.int(0, len(values)), g.fresh(tuple(dims), dtype, constant=0.25))
    return g.emit(
        "concat", values=values, axis=g.i(axis), interleave=g.b(True) if interleave else g.maybe(0.3, g.b(False))
    )


@gen("stack", weight=2)
def stack(g: Gen):
    dtype = g.pick((g.F, g.F, "int32", "bool"))
    x = g.tensor((0, 4), dtype=dtype)
    values = [x] + [g.fresh(g.shape_of(x), dtype, constant=0.25) for _ in range(g.int(0, 3))]
    return g.emit("stack", values=values, axis=g.i(g.axis(len(g.shape_of(x)) + 1)))


@gen("split", weight=3)
def split(g: Gen):
    x = g.tensor((1, 5), dtype=g.pick((g.F, g.F, "int32", "bool")), most=8)
    shape = g.shape_of(x)
    axis = g.axis(len(shape))
    n = shape[axis]
    if g.chance(0.5):
        parts = g.pick([d for d in range(1, n + 1) if n % d == 0])
        return g.emit("split", results=parts, x=x, axis=g.i(axis), num_splits=g.i(parts))
    cuts = sorted(g.int(1, n - 1) for _ in range(g.int(0, 3))) if n > 1 else []
    sizes = np.diff([0, *sorted(set(cuts)), n])
    more = {"num_splits": g.i(len(sizes))} if g.chance(0.3) else {}
    return g.emit("split", results=len(sizes), x=x, axis=g.i(axis), split_sizes=g.i(sizes), **more)


@gen("tile", weight=2)
def tile(g: Gen):
    x = g.tensor((1, 5), dtype=g.pick((g.F, g.F, "int32", "bool")), most=4)
    return g.emit("tile", x=x, reps=g.i([g.int(1, 3) for _ in g.shape_of(x)]))


@gen("pad", weight=4)
def pad(g: Gen):
    x = g.tensor((1, 5))
    shape = g.shape_of(x)
    mode = g.pick(("constant", "constant", "reflect", "replicate"))
    # Core ML reflects and replicates over at most the last two axes.
    count = g.int(1, len(shape) if mode == "constant" else min(2, len(shape)))
    pads = []
    for n in shape[len(shape) - count :]:
        most = 3 if mode != "reflect" else min(3, n - 1)
        most = min(most, n) if mode == "replicate" else most
        pads += [g.int(0, most), g.int(0, most)]
    value = g.maybe(0.6, g.scalar(-2, 2)) if mode == "constant" else None
    return g.emit("pad", x=x, pad=g.i(pads), mode=g.s(mode), constant_val=value)


@gen("sliding_windows", weight=2)
def sliding_windows(g: Gen):
    dtype = g.layout_types()
    if g.version < 8 and dtype == "bool":
        dtype = "int32"
    x = g.tensor((1, 4), dtype=dtype, most=8)
    shape = g.shape_of(x)
    axis = g.axis(len(shape))
    return g.emit(
        "sliding_windows", x=x, axis=g.i(axis), size=g.i(g.int(1, shape[axis])), stride=g.maybe(0.7, g.i(g.int(1, 3)))
    )


@gen("shape")
def shape(g: Gen):
    return g.emit("shape", x=g.tensor((1, 5), dtype=g.pick((g.F, "int32", "bool"))))


@gen("band_part")
def band_part(g: Gen):
    x = g.tensor((2, 5), dtype=g.pick((g.F, "int32", "bool")))
    return g.emit("band_part", x=x, lower=g.maybe(0.8, g.i(g.int(-1, 3))), upper=g.maybe(0.8, g.i(g.int(-1, 3))))
