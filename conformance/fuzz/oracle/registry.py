"""The oracle's table of operations, and the context of its functions."""

from dataclasses import dataclass

import numpy as np

OPS: dict[str, "Op"] = {}


class Unsupported(Exception):
    """The documentation leaves the result open, so the oracle does not decide."""


@dataclass
class Op:
    """A function that computes an operation; `exact` if it only moves, compares or chooses values, without rounding."""

    compute: object
    exact: bool


@dataclass
class Call:
    """The context of a function, besides its arguments.

    `version` is the opset's specification version, `dtypes` maps arguments to their element types, and `moved` returns an
    intermediate result as an arithmetic may compute it: off by a rounding error when bounds are computed.
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
    """An axis, counted from the front."""
    axis = int(axis)
    return axis + rank if axis < 0 else axis


def axes_of(axes, rank: int) -> tuple[int, ...]:
    """Axes, counted from the front; all of them if none are given."""
    return tuple(range(rank)) if axes is None else tuple(axis_of(a, rank) for a in ints(axes))
