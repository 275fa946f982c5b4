"""What a PyMIL program computes, independent of its names and of the order and sharing of its constants."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
from coremltools.converters.mil.mil import Function, Operation, Program, Var, types

COMMUTATIVE = {"add", "maximum", "mul"}


@dataclass(frozen=True)
class Stored:
    """The stored weight of a convolution: fp16 data without a scale, or int8 data with one."""

    data: np.ndarray
    scale: np.ndarray | None = None


def main(program: Program) -> Function:
    """The program's only function."""
    return program.functions["main"]


def convolutions(program: Program) -> list[Operation]:
    """The convolutions in the order in which they run."""
    return list(main(program).find_ops(op_type="conv"))


def stored_weight(conv: Operation) -> Stored:
    """The weight that a convolution reads."""
    source = conv.weight.op
    if source.op_type == "constexpr_blockwise_shift_scale":
        return Stored(source.data.val, source.scale.val)
    return Stored(conv.weight.val)


@dataclass
class Signature:
    """Digests of a program's computation.

    A value's digest covers the whole expression that computes it: the operation, every argument by name, and recursively the
    digests of the arguments. Two programs with equal effects compute the same from the same weights.
    """

    #: Digest and name of every operation that computes or writes, in execution order.
    operations: list[tuple[str, str]] = field(default_factory=list)
    #: Digest of the final content of every state that is written, and of every output.
    effects: dict[str, str] = field(default_factory=dict)


def signature(program: Program) -> Signature:
    """Digests of a program. The weight of the n-th convolution counts as "weight n": its values are checked elsewhere."""
    return _Reader(main(program)).read()


class _Reader:
    """Reads a function once and digests its operations."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.result = Signature()
        self.digests = {v: _digest("input", name, str(v.shape)) for name, v in function.inputs.items()}
        self.contents = dict(self.digests)  # of the states, as far as the program has run
        self.convolutions = 0

    def read(self) -> Signature:
        for operation in self.function.operations:
            if operation.op_type == "read_state":
                self.digests[operation.outputs[0]] = self.contents[operation.input]
            elif operation.op_type == "coreml_update_state":
                self.write(operation)
            elif operation.op_type != "const" and not operation.op_type.startswith("constexpr_"):
                self.compute(operation)
        self.result.effects |= {output.name: self.digests[output] for output in self.function.outputs}
        return self.result

    def write(self, operation: Operation) -> None:
        """A write to a state. Using the written value and reading it back get the same digest, because coremltools' passes
        turn one into the other."""
        state, value = operation.state, self.digests[operation.value]
        self.contents[state] = self.digests[operation.outputs[0]] = value
        self.result.effects[state.name] = value
        self.result.operations.append((_digest("write", state.name, value), f"write_state to {state.name}"))

    def compute(self, operation: Operation) -> None:
        kind = operation.op_type
        inputs = {name: value for name, value in operation.inputs.items() if value is not None}
        if kind == "conv":
            self.digests[inputs["weight"]] = f"weight {self.convolutions} {operation.weight.shape}"
            self.convolutions += 1
        arguments = {name: self.argument(value) for name, value in inputs.items()}
        if kind in COMMUTATIVE:
            arguments = dict(zip("xy", sorted(arguments.values()), strict=True))
        digest = _digest(kind, *(f"{name}={value}" for name, value in sorted(arguments.items())))
        self.result.operations.append((digest, f"{kind} %{operation.name}"))
        for index, output in enumerate(operation.outputs):
            dtype = types.builtin_to_string(output.dtype)
            self.digests[output] = _digest(digest, str(index), str(output.shape), dtype)

    def argument(self, value: Var | list[Var]) -> str:
        if isinstance(value, (list, tuple)):
            return _digest(*(self.argument(element) for element in value))
        if value in self.digests:
            return self.digests[value]
        constant = np.asarray(value.val)
        return _digest("const", str(constant.dtype), str(constant.shape), constant.tobytes().hex())


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def differences(ours: Signature, reference: Signature) -> list[tuple[str, str]]:
    """The first difference on each side, as (operation, description); later differences follow from it."""
    found = []
    for side, other, message in (
        (ours, reference, "the reference has no such operation"),
        (reference, ours, "the reference has this operation, the package has not"),
    ):
        known = {digest for digest, _ in other.operations}
        first = next((name for digest, name in side.operations if digest not in known), None)
        if first:
            found.append((first, message))
    for name in sorted(ours.effects.keys() | reference.effects.keys()):
        if not found and ours.effects.get(name) != reference.effects.get(name):
            found.append((name, "ends with another value than in the reference"))
    return found
