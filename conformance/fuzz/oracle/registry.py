"""The table of operations that the oracle knows, and what a function is told beside its arguments."""

from dataclasses import dataclass

import numpy as np

OPS: dict[str, "Op"] = {}


class Unsupported(Exception):
    """What the documentation leaves open, so that the oracle has no opinion."""


@dataclass
class Op:
    """A function that computes an operation, and whether it only moves, compares or chooses values, without any rounding."""

    compute: object
    exact: bool


@dataclass
class Call:
    """What a function is told beside its arguments.

    `version` is the opset's specification version, `dtypes` holds the element types of the arguments by name, and `moved`
    gives an intermediate result as an arithmetic may have it: off by a rounding error where bounds are sought.
    """

    version: int
    dtypes: dict
    moved: object


@dataclass
class Out:
    """A result whose element type is not that of the first argument."""

    value: np.ndarray
    dtype: str


def op(*names, exact=False):
    """Registers a function under the names of the operations that it computes."""

    def register(compute):
        for name in names:
            OPS[name] = Op(compute, exact)
        return compute

    return register


def ints(value) -> list[int]:
    """A vector of integers as a list."""
    return [int(v) for v in np.asarray(value).reshape(-1)]


def axis_of(axis, rank: int) -> int:
    """An axis counted from the front."""
    axis = int(axis)
    return axis + rank if axis < 0 else axis


def axes_of(axes, rank: int) -> tuple[int, ...]:
    """Axes counted from the front; all of them if none are given."""
    return tuple(range(rank)) if axes is None else tuple(axis_of(a, rank) for a in ints(axes))
