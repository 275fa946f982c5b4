"""The expected results of a program, and the allowed error of each arithmetic.

The expected value comes from the oracle in float64. The allowed error follows from the program itself, by Monte Carlo
arithmetic: the program is computed a few more times, with every operand and every result of a rounding operation moved randomly
up or down by one rounding error of the arithmetic. The spread of these results shows the effect of rounding on this element of
this program: cancellation, large sums and steep functions widen it automatically. The bound is four times the spread, plus a
few roundings of the result itself. Operations that only move, compare or choose values do not round, so programs of only such
operations must be exact. An integer that is not the same in all runs depends on a rounding and is not compared.

`f32` rounds only to fp32. `f16` rounds every fp16 result to fp16, also in the expected value. `fast` promises errors as small as
those of fp16, so its fp16 results are moved by fp16's rounding error. Compressed weights are moved too, because it computes with
the scale and the integer, where the others round their product to fp16.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import oracle
from program import Config, Const, Node, Ref, Rejected

warnings.filterwarnings("ignore", category=RuntimeWarning)

U32, U16 = 2.0**-24, 2.0**-11
# The smallest positive fp32 value: a smaller product becomes this or zero, whose sign or floor differs from the product's.
SMALLEST = 2.0**-149


@dataclass(frozen=True)
class Arithmetic:
    """How an arithmetic rounds: whether fp16 results are rounded to fp16, and the error of a value of either type."""

    rounds: bool
    fp16: float
    fp32: float


# An elementary function, or a sum of a few products, may be off by a few units of fp32.
ARITHMETICS = {
    "f32": Arithmetic(False, 4 * U32, 4 * U32),
    "f16": Arithmetic(True, 4 * U32, 4 * U32),
    "fast": Arithmetic(False, U16, 4 * U32),
}
# `fast` without its fusions has the same bound.
VARIANTS = {"f32": "f32", "f16": "f16", "fast": "fast", "unfused": "fast"}


def exact(const: Const):
    """The value of a constant, in the oracle's types."""
    if const.dtype == "string":
        return const.value
    return widened(np.asarray(const.value))


def widened(array: np.ndarray) -> np.ndarray:
    """An array in float64, int64 or bool."""
    if array.dtype.kind == "f":
        return array.astype(np.float64)
    return array if array.dtype.kind == "b" else array.astype(np.int64)


def summed(operands: dict, result) -> float:
    """Estimates how many terms an element of a result sums up: those of a row of weights, or the share of an operand in the result."""
    arrays = {name: value for name, value in operands.items() if isinstance(value, np.ndarray) and value.dtype.kind == "f"}
    terms = [value.size / max(np.size(result), 1) for value in arrays.values()]
    if "weight" in arrays and arrays["weight"].ndim > 1:
        terms.append(arrays["weight"].size / max(arrays["weight"].shape[0], 1))
    return max([1.0, *terms])


class Run:
    """One computation of a program: of the expected values, or with random roundings if there is an `rng`."""

    def __init__(self, config_version: int, arithmetic: Arithmetic, rng: np.random.Generator | None = None):
        self.version, self.arithmetic, self.rng = config_version, arithmetic, rng
        self.env: dict[str, tuple[object, str]] = {}
        # Names of values that were rounded, and of weights that are stored compressed.
        self.inexact: set[str] = set()
        self.compressed: set[str] = set()

    def operand(self, arg):
        """The values and element types of an argument."""
        if isinstance(arg, list):
            both = [self.operand(one) for one in arg]
            return [value for value, _ in both], [dtype for _, dtype in both]
        return self.env[arg.name] if isinstance(arg, Ref) else (exact(arg), arg.dtype)

    def moved(self, value, dtype="fp32", result="", terms=1.0):
        """Moves a float up or down by a rounding error of fp32.

        A result is also moved by one of its type, and a sum of `terms` products by one of the largest result times their root: roundings
        of a sum add up like steps of a random walk.
        """
        if isinstance(value, list):
            return [self.moved(v, d) for v, d in zip(value, dtype)]
        if self.rng is None or not isinstance(value, np.ndarray | np.floating) or value.dtype.kind != "f":
            return value
        unit = self.arithmetic.fp16 if dtype == "fp16" else self.arithmetic.fp32
        error = (unit if result else self.arithmetic.fp32) * np.abs(value) + SMALLEST
        if result == "sum":
            error = error + terms**0.5 * U32 * np.max(np.abs(value), initial=0.0, where=np.isfinite(value))
        return value + error * (1 - 2 * self.rng.integers(0, 2, np.shape(value), dtype=np.int8))

    def nudged(self, value):
        """Moves an intermediate result, but only in some runs: at a kink the move would hide a change in the other direction."""
        if self.rng is None:
            return value
        return value + (self.moved(value) - value) * self.rng.choice((0.0, 0.25, 1.0))

    def step(self, node: Node) -> None:
        """Computes an operation."""
        if node.op in ("cond", "while_loop"):
            return self.control(node)
        if node.op == "read_state":
            self.env[node.outputs[0]] = self.env[node.args["input"].name]
            return self.taint(node, False)
        if node.op == "coreml_update_state":
            value = self.operand(node.args["value"])
            self.env[node.args["state"].name] = self.env[node.outputs[0]] = value
            if node.args["value"].name in self.inexact:
                self.inexact.add(node.args["state"].name)
            return self.taint(node, False)
        entry = oracle.OPS[node.op]
        both = {name: self.operand(arg) for name, arg in node.args.items()}
        dtypes = {name: dtype for name, (_, dtype) in both.items()}
        values = {name: value for name, (value, _) in both.items()}
        first = next(iter(dtypes.values()))
        first = first[0] if isinstance(first, list) else first
        fast = self.arithmetic.fp16 == U16
        weight = fast and node.op.startswith("constexpr_")
        if weight:
            self.compressed.update(node.outputs)
        # `fast` multiplies compressed weights by operands with fp16's precision, whatever their type.
        coarse = (
            fast and any(isinstance(a, Ref) and a.name in self.compressed for a in node.args.values()) and not weight
        )
        rounds = not entry.exact or weight
        if not entry.exact:
            values = {
                name: self.moved(value, "fp16" if coarse else dtypes[name], "operand" if coarse else "")
                for name, value in values.items()
            }
        call = oracle.Call(self.version, dtypes, self.nudged)
        results = entry.compute(call, **values)
        results = results if isinstance(results, tuple) else (results,)
        if len(results) != len(node.outputs):
            raise Rejected(f"{node.op} gives {len(results)} results, {len(node.outputs)} are named")
        for name, result in zip(node.outputs, results):
            value, dtype = (result.value, result.dtype) if isinstance(result, oracle.Out) else (result, first)
            if rounds and not (weight and dtype not in ("fp16", "fp32")):
                terms = summed(values, value)
                value = self.moved(value, "fp16" if coarse else dtype, "weight" if weight else "sum", terms)
            # The program itself requests a cast to fp16, so it rounds in every arithmetic.
            if dtype == "fp16" and (self.arithmetic.rounds or node.op == "cast"):
                value = np.asarray(value).astype(np.float16).astype(np.float64)
            self.env[name] = (value, dtype)
        self.taint(node, rounds and any(dtype in ("fp16", "fp32") for _, dtype in (self.env[n] for n in node.outputs)))

    def taint(self, node: Node, rounds: bool) -> None:
        refs = [
            r for arg in node.args.values() for r in (arg if isinstance(arg, list) else [arg]) if isinstance(r, Ref)
        ]
        if rounds or any(ref.name in self.inexact for ref in refs):
            self.inexact.update(node.outputs)

    def block(self, block, values):
        """Computes a nested block; returns its results."""
        self.env.update(zip(block.params, values))
        for child in block.nodes:
            self.step(child)
        return [self.env[ref.name] for ref in block.outputs]

    def control(self, node: Node) -> None:
        """Computes `cond` and `while_loop`."""
        if node.op == "cond":
            taken = node.blocks[0 if bool(self.operand(node.args["pred"])[0]) else 1]
            results = self.block(taken, [])
        else:
            condition, body = node.blocks
            results = [self.operand(arg) for arg in node.args["loop_vars"]]
            for _ in range(100):
                if not bool(self.block(condition, results)[0][0]):
                    break
                results = self.block(body, results)
            else:
                raise Rejected("a loop that does not end")
        self.env.update(zip(node.outputs, results))
        inner = {name for block in node.blocks for child in block.nodes for name in child.outputs}
        self.taint(node, bool(inner & self.inexact))

    def call(self, config: Config, number: int) -> list[tuple[object, str]]:
        """The outputs of one call. States remain in the environment."""
        states = {name: self.env.get(name, (np.zeros(shape), "fp16")) for name, shape in config.states.items()}
        self.env = states
        for name, given in config.inputs.items():
            self.env[name] = (widened(given.values[number]), given.dtype)
        for node in config.nodes:
            self.step(node)
        return [self.env[ref.name] for ref in config.outputs]


@dataclass
class Expected:
    """An output of a call: its value, its type, and the allowed error of each element; NaN where it is not compared."""

    value: np.ndarray
    dtype: str
    bound: np.ndarray


def expect(config: Config, variant: str, samples: int = 4, slack: float = 4.0) -> list[list[Expected]]:
    """The outputs of every call in an arithmetic."""
    arithmetic = ARITHMETICS[VARIANTS[variant]]
    centre = Run(config.version, arithmetic)
    centres = [centre.call(config, n) for n in range(config.calls)]
    tainted = [ref.name in centre.inexact for ref in config.outputs]
    others = []
    if any(tainted):
        for k in range(samples):
            run = Run(config.version, arithmetic, np.random.default_rng(k))
            others.append([run.call(config, n) for n in range(config.calls)])
    return [
        [bounded(*out, [o[n][i][0] for o in others] if tainted[i] else None, slack) for i, out in enumerate(outputs)]
        for n, outputs in enumerate(centres)
    ]


def bounded(value, dtype: str, samples, slack: float) -> Expected:
    """A value with its bound."""
    value = np.asarray(value)
    if samples is None:
        return Expected(value, dtype, np.zeros(value.shape))
    if any(np.shape(s) != value.shape for s in samples):
        return Expected(value, dtype, np.full(value.shape, np.nan))
    if value.dtype.kind != "f":
        same = np.logical_and.reduce([s == value for s in samples])
        return Expected(value, dtype, np.where(same, 0.0, np.nan))
    spread = np.maximum.reduce([np.where(s == value, 0.0, np.abs(s - value)) for s in samples])
    largest = np.max(np.abs(value), initial=0.0, where=np.isfinite(value))
    bound = slack * spread + 4 * U32 * np.abs(value) + U32 * largest + 1e-38
    return Expected(value, dtype, np.where(np.isfinite(value), bound, np.where(np.isnan(spread), np.nan, 0.0)))


def off(found: np.ndarray, expected: Expected) -> tuple[float, tuple[int, ...]] | None:
    """The largest error of a result in units of its bound, with its position, if the bound is exceeded."""
    value, bound = expected.value, expected.bound
    if found.shape != value.shape:
        return np.inf, ()
    found = found.astype(np.float64)
    wanted = value.astype(np.float64)
    with np.errstate(all="ignore"):
        excess = np.abs(found - wanted) / np.where(bound == 0, 1e-300, bound)
    excess = np.where((found == wanted) | (np.isnan(found) & np.isnan(wanted)) | np.isnan(bound), 0.0, excess)
    excess = np.where(np.isnan(excess), np.inf, excess)
    if excess.size == 0 or excess.max() <= 1:
        return None
    place = np.unravel_index(int(excess.argmax()), excess.shape)
    return float(excess.max()), tuple(int(i) for i in place)
