"""The fuzzer's representation of programs: values, constants, operations, blocks, and configurations.

A `Config` is one configuration: a program of a few operations with its inputs. It is independent of coremltools and of the
executor, so that `build.py`, which writes it, and `evaluate.py`, which computes its results, read the same description.
"""

from dataclasses import dataclass, field

import numpy as np

# Element types of MIL, with the numpy type that holds their values exactly.
STORAGE = {
    "fp16": np.float16, "fp32": np.float32, "int32": np.int32, "bool": np.bool_, "int8": np.int8, "uint8": np.uint8,
    "int16": np.int16, "uint16": np.uint16, "uint32": np.uint32, "int4": np.int8, "uint4": np.uint8, "uint1": np.uint8,
    "uint2": np.uint8, "uint3": np.uint8, "uint6": np.uint8,
}  # fmt: skip
FLOATS = ("fp16", "fp32")
# Opsets by their names in coremltools, oldest first, with their specification version.
OPSETS = {"iOS15": 6, "iOS16": 7, "iOS17": 8, "iOS18": 9, "iOS26": 10}


@dataclass(frozen=True)
class Ref:
    """A use of a value, by name."""

    name: str


@dataclass
class Const:
    """A constant operand. `value` is an array of the type's storage, or a string."""

    value: object
    dtype: str


@dataclass
class Block:
    """A nested block of `cond` or `while_loop`: its parameters, operations and results."""

    params: list[str]
    nodes: list["Node"]
    outputs: list[Ref]


@dataclass
class Node:
    """An operation. An argument is a `Ref`, a `Const`, or a list of them."""

    op: str
    args: dict
    outputs: list[str]
    blocks: list[Block] = field(default_factory=list)


@dataclass
class Input:
    """An input of the program: its value in each call, its type, and its open axes."""

    values: list[np.ndarray]
    dtype: str
    flexible: tuple[int, ...] = ()


@dataclass
class Config:
    """A configuration. Each call runs the program once; states persist between calls."""

    opset: str
    inputs: dict[str, Input]
    nodes: list[Node]
    outputs: list[Ref]
    # Name of each state and its shape; states are fp16 and begin as zeros.
    states: dict[str, tuple[int, ...]] = field(default_factory=dict)
    calls: int = 1
    # Properties that the coverage table cannot see in the operations, such as "outlier".
    notes: set[str] = field(default_factory=set)
    # Whether the function can be planned ahead: not if shapes depend on values.
    planned: bool = True
    seed: str = ""

    @property
    def version(self) -> int:
        """The specification version of the opset."""
        return OPSETS[self.opset]


class Rejected(Exception):
    """A random choice without a valid or meaningful program; another one is drawn."""


def refs_of(node: Node):
    """Every reference in the arguments of an operation, including nested blocks."""
    for arg in node.args.values():
        for one in arg if isinstance(arg, list) else [arg]:
            if isinstance(one, Ref):
                yield one
    for block in node.blocks:
        inner = set(block.params)
        for child in block.nodes:
            yield from (ref for ref in refs_of(child) if ref.name not in inner)
            inner.update(child.outputs)
        yield from (ref for ref in block.outputs if ref.name not in inner)
