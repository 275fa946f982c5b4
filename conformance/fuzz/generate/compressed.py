"""Weights in every form in which a package can store them, and each form as an operation by itself."""

import math

import numpy as np
from program import STORAGE, Const, Ref, Rejected

from .base import Gen, gen

BITS = {"uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6, "uint8": 8}
RANGES = {"int4": (-8, 7), "uint4": (0, 15), "int8": (-128, 127), "uint8": (0, 255)}


def weight(g: Gen, shape, low=-1.5, high=1.5) -> Ref | Const:
    """A weight: plain, or in one of the forms of the program's opset."""
    if g.version < 7 or g.chance(0.45) or math.prod(shape) == 0:
        return g.constant(g.values(shape, g.F, low, high), g.F)
    return form(g, tuple(shape), g.F)


def form(g: Gen, shape, dtype):
    """A constant of the given shape and float type in one of the compressed forms."""
    if g.version < 9:
        names = ["affine", "lut", "sparse"] + (["cast"] if dtype == "fp32" else [])
        return OLD[g.pick(names)](g, shape, dtype)
    names = ["blockwise", "blockwise", "lut", "lut", "sparse", "sparse_lut", "sparse_blockwise", "lut_of_blockwise"]
    return NEW[g.pick(names)](g, shape, dtype)


def whole(g: Gen, shape, dtype):
    low, high = RANGES.get(dtype) or (0, 2 ** BITS[dtype] - 1)
    return g.rng.integers(low, high + 1, shape).astype(STORAGE[dtype])


def scales(g: Gen, shape, dtype, source):
    """Scales that bring integers of the type to about 2."""
    top = {"int8": 64, "uint8": 128, "int4": 4, "uint4": 8}.get(source, 1)
    return g.constant(g.rng.uniform(0.5, 2, shape) / top, dtype)


# --- iOS 16 and 17: flat data with a separate shape


def affine(g: Gen, shape, dtype):
    source = g.pick(("int8", "uint8"))
    axis = g.int(0, len(shape) - 1)
    size = () if g.chance(0.4) else (shape[axis],)
    zero = g.pick(("zeros", "same", "fp32"))
    zero_size = size if g.chance(0.7) else ()
    if zero == "fp32":
        zero_point = g.constant(g.rng.integers(-9, 9, zero_size), "fp32")
    else:
        zero_point = g.constant(np.zeros(zero_size) if zero == "zeros" else g.rng.integers(0, 20, zero_size), source)
    axis = axis - len(shape) if g.chance(0.3) else axis
    return g.emit(
        "constexpr_affine_dequantize", quantized_data=Const(whole(g, shape, source), source), zero_point=zero_point,
        scale=scales(g, size, dtype, source), axis=g.i(axis),
    )  # fmt: skip


def packed(values, bits):
    """Packs integers of `bits` bits each into bytes, least significant bit first."""
    flat = (values.reshape(-1, 1).astype(np.int64) >> np.arange(bits)) & 1
    return np.packbits(flat.reshape(-1).astype(np.uint8), bitorder="little")


def old_lut(g: Gen, shape, dtype):
    bits = g.pick((1, 2, 4, 6, 8))
    indices = g.rng.integers(0, 2**bits, shape)
    lut = g.constant(g.rng.uniform(-1.5, 1.5, 2**bits), dtype)
    return g.emit(
        "constexpr_lut_to_dense", indices=Const(packed(indices, bits), "uint8"), lut=lut, shape=g.i(shape, "uint32")
    )


def mask_of(g: Gen, shape):
    """A mask with at least one element set."""
    mask = (g.rng.random(shape) < g.rng.uniform(0.2, 0.9)).astype(np.uint8)
    mask.reshape(-1)[0] = 1
    return mask


def old_sparse(g: Gen, shape, dtype):
    mask = mask_of(g, shape)
    data = g.constant(g.rng.uniform(-1.5, 1.5, int(mask.sum())), dtype)
    return g.emit(
        "constexpr_sparse_to_dense", nonzero_data=data, mask=Const(packed(mask, 1), "uint8"), shape=g.i(shape, "uint32")
    )


def old_cast(g: Gen, shape, dtype):
    return g.emit(
        "constexpr_cast", source_val=g.constant(g.values(shape, "fp16", -1.5, 1.5), "fp16"), output_dtype=g.s("fp32")
    )


OLD = {"affine": affine, "lut": old_lut, "sparse": old_sparse, "cast": old_cast}


# --- iOS 18: blocks, groups, vectors, and one form over another


def parts(g: Gen, shape):
    """The number of blocks on each axis."""
    return tuple(g.pick([d for d in range(1, n + 1) if n % d == 0]) if g.chance(0.4) else 1 for n in shape)


def offset(g: Gen, size, source):
    """Offsets of the data's type or floats, or None."""
    kind = g.pick((None, "same", "float"))
    if kind is None:
        return None
    return (
        g.constant(whole(g, size, source) // 4, source)
        if kind == "same"
        else g.constant(g.rng.uniform(-4, 4, size), g.F)
    )


def blockwise(g: Gen, shape, dtype, source=None):
    source = source or g.pick(("int8", "uint8", "int4", "uint4", "int8"))
    size = parts(g, shape)
    return g.emit(
        "constexpr_blockwise_shift_scale", data=Const(whole(g, shape, source), source), scale=scales(g, size, dtype, source),
        offset=offset(g, size, source),
    )  # fmt: skip


def table(g: Gen, shape):
    """The type of indices, their groups, the length of a table's vectors and the axis of these."""
    kind = g.pick(BITS)
    vector, axis = 1, None
    indices = list(shape)
    if g.chance(0.3):
        axis = g.int(0, len(shape) - 1)
        vector = g.pick([d for d in (2, 3, 4) if shape[axis] % d == 0] or [1])
        indices[axis] //= vector
    groups = tuple(n if all(indices[i] % n == 0 for i in [k]) else 1 for k, n in enumerate(parts(g, indices)))
    if vector == 1:
        axis = None if g.chance(0.8) else 0
    elif g.chance(0.3):
        axis -= len(shape)
    return kind, tuple(indices), groups, vector, axis


def lut(g: Gen, shape, dtype, nested=False):
    kind, indices, groups, vector, axis = table(g, shape)
    size = (*groups, 2 ** BITS[kind], vector)
    if math.prod(size) > 3000:
        raise Rejected("a table that is larger than the weight")
    entries = blockwise(g, size, dtype, "int8") if nested else g.constant(g.rng.uniform(-1.5, 1.5, size), dtype)
    return g.emit(
        "constexpr_lut_to_dense", indices=Const(whole(g, indices, kind), kind), lut=entries,
        vector_axis=None if axis is None else g.i(axis),
    )  # fmt: skip


def sparse(g: Gen, shape, dtype):
    mask = mask_of(g, shape)
    data = g.constant(g.rng.uniform(-1.5, 1.5, int(mask.sum())), dtype)
    return g.emit("constexpr_sparse_to_dense", nonzero_data=data, mask=Const(mask, "uint1"))


def sparse_lut(g: Gen, shape, dtype):
    kind, indices, groups, vector, axis = table(g, shape)
    size = (*groups, 2 ** BITS[kind], vector)
    if math.prod(size) > 3000:
        raise Rejected("a table that is larger than the weight")
    mask = mask_of(g, indices)
    both = g.emit(
        "constexpr_lut_to_sparse", results=2, indices_mask=Const(mask, "uint1"),
        indices_nonzero_data=Const(whole(g, int(mask.sum()), kind), kind), lut=g.constant(g.rng.uniform(-1.5, 1.5, size), dtype),
        vector_axis=None if axis is None else g.i(axis),
    )  # fmt: skip
    return g.emit("constexpr_sparse_to_dense", nonzero_data=both[1], mask=both[0])


def sparse_blockwise(g: Gen, shape, dtype):
    source = g.pick(("int8", "uint8", "int4", "uint4"))
    mask = mask_of(g, shape)
    size = parts(g, shape)
    both = g.emit(
        "constexpr_sparse_blockwise_shift_scale", results=2, data_mask=Const(mask, "uint1"),
        nonzero_data=Const(whole(g, int(mask.sum()), source), source), scale=scales(g, size, dtype, source),
        offset=offset(g, size, source),
    )  # fmt: skip
    return g.emit("constexpr_sparse_to_dense", nonzero_data=both[1], mask=both[0])


NEW = {
    "blockwise": blockwise, "lut": lut, "sparse": sparse, "sparse_lut": sparse_lut, "sparse_blockwise": sparse_blockwise,
    "lut_of_blockwise": lambda g, shape, dtype: lut(g, shape, dtype, nested=True),
}  # fmt: skip


# --- each form by itself, added to an input


def alone(g: Gen, make):
    shape = g.shape((1, 4), most=8)
    made = make(g, shape, g.F)
    return g.emit("add", x=g.fresh(shape, g.F), y=made)


@gen("constexpr_affine_dequantize", "constexpr_cast", weight=2, since="iOS16", until="iOS17")
def old_forms(g: Gen, name):
    if name == "constexpr_cast":
        g.F = "fp32"
        return alone(g, old_cast)
    return alone(g, affine)


@gen("constexpr_lut_to_dense", "constexpr_sparse_to_dense", weight=3, since="iOS16")
def both_forms(g: Gen, name):
    if g.version < 9:
        return alone(g, old_lut if name.startswith("constexpr_lut") else old_sparse)
    return alone(
        g,
        NEW["lut_of_blockwise"]
        if name.startswith("constexpr_lut") and g.chance(0.2)
        else lut
        if "lut" in name
        else sparse,
    )


@gen(
    "constexpr_blockwise_shift_scale",
    "constexpr_lut_to_sparse",
    "constexpr_sparse_blockwise_shift_scale",
    weight=3,
    since="iOS18",
)
def new_forms(g: Gen, name):
    makes = {
        "blockwise_shift_scale": blockwise,
        "lut_to_sparse": sparse_lut,
        "sparse_blockwise_shift_scale": sparse_blockwise,
    }
    return alone(g, makes[name.removeprefix("constexpr_")])


@gen("quantize", "dequantize", weight=3, since="iOS17")
def quantization(g: Gen, name):
    kind = g.pick(("int8", "uint8"))
    shape = g.shape((1, 4))
    axis = g.int(0, len(shape) - 1)
    vector = g.chance(0.6)
    size = (shape[axis],) if vector else ()
    scale = g.constant(g.rng.uniform(0.02, 0.5, size), g.F)
    zero = g.maybe(0.6, g.constant(whole(g, size, kind) // 8, kind))
    where = g.i(axis - len(shape) if g.chance(0.3) else axis) if vector else None
    if name == "dequantize":
        return g.emit("dequantize", input=g.fresh(shape, kind, -120, 120), scale=scale, zero_point=zero, axis=where)
    # Far from the middle between two integers, so that rounding does not decide. Values beyond the type's range are clipped.
    by = scale.value.astype(np.float64).reshape(
        [-1 if vector and i == axis else 1 for i in range(len(shape))] if vector else ()
    )
    wanted = (g.rng.integers(-160, 300, shape) + g.rng.uniform(-0.4, 0.4, shape)) * by
    x = g.given(wanted, g.F)
    rest = g.value(x) / by % 1
    if np.any(np.abs(rest - 0.5) < 0.02):
        raise Rejected("too near to the middle")
    return g.emit("quantize", input=x, scale=scale, zero_point=zero, output_dtype=g.s(kind), axis=where)
