"""Compares the oracle with coremltools' own evaluation of constants, operation by operation.

    conformance/fuzz/run.sh --second-opinion [--count N]

coremltools evaluates many operations itself if all operands are constants. Drawn operations are passed to it with constant
operands, and its results are compared with the oracle's. If the two disagree for a known reason, the documentation decides, and
`KNOWN` states the reason.
"""

from collections import Counter

import generate
import numpy as np
import oracle
from build import SUBBYTE, AvailableTarget
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import Function
from evaluate import ARITHMETICS, Run
from program import OPSETS, STORAGE, Const, Rejected

# Operations that coremltools evaluates differently from its documentation.
KNOWN = {
    "concat": "it does not interleave",
    "quantize": "it divides in fp16",
    "scatter_along_axis": "it updates, whatever the mode is",
    "softplus": "it adds 1 in fp16, where small results vanish",
}


def constant(value, dtype):
    """A value as a constant operand."""
    if dtype == "string":
        return value
    array = np.asarray(value).astype(STORAGE[dtype])
    array = array.astype(SUBBYTE[dtype]) if dtype in SUBBYTE else array
    return array[()] if array.ndim == 0 else array


def opinion(config, node, run: Run):
    """coremltools' result for an operation with constant operands, or None."""

    def given(arg):
        if isinstance(arg, list):
            return tuple(given(one) for one in arg)
        value, dtype = (arg.value, arg.dtype) if isinstance(arg, Const) else run.env[arg.name]
        return constant(value, dtype)

    with Function({}, opset_version=AvailableTarget[config.opset]):
        made = getattr(mb, node.op)(**{name: given(arg) for name, arg in node.args.items()})
    made = list(made) if isinstance(made, list | tuple) else [made]
    return [var.val if var.val is not None else materialized(var) for var in made]


def materialized(var):
    """The value of a compressed weight, which coremltools does not treat as a constant."""
    if var.op is None or not hasattr(var.op, "materialized_val_inference"):
        return None
    values = var.op.materialized_val_inference()
    return values[var.op.outputs.index(var)] if isinstance(values, tuple) else values


def differs(theirs, ours, dtype) -> bool:
    theirs, ours = np.asarray(theirs), np.asarray(ours)
    if theirs.shape != ours.shape:
        return True
    if ours.dtype.kind != "f":
        return not np.array_equal(theirs.astype(np.int64), ours.astype(np.int64))
    # coremltools computes in the type of the operands, with sums of a few hundred terms.
    scale = (2e-2 if dtype == "fp16" else 1e-4) * (1e-3 + np.max(np.abs(ours), initial=0))
    return bool(np.any(np.abs(theirs.astype(np.float64) - ours) > scale))


def run(seed: int, count: int) -> int:
    """Compares operations of `count` configurations for each opset and prints the differences."""
    agreed, failed, wrong = Counter(), Counter(), {}
    for opset in OPSETS:
        kinds = generate.kinds(opset)
        for number in range(count // len(OPSETS)):
            config = generate.draw(seed, number, opset, kinds[number % len(kinds)])
            if config is None or config.states:
                continue
            outcome = Run(config.version, ARITHMETICS["f16"])
            try:
                outcome.call(config, 0)
            except (Rejected, oracle.Unsupported, ValueError, IndexError):
                continue
            for node in config.nodes:
                if node.blocks or node.op not in oracle.OPS or "list" in node.op:
                    continue
                try:
                    theirs = opinion(config, node, outcome)
                except Exception as error:
                    # Its evaluation has faults of its own, which do not concern the oracle.
                    failed[f"{node.op}: {type(error).__name__}"] += 1
                    continue
                for value, name in zip(theirs, node.outputs):
                    ours, dtype = outcome.env[name]
                    if value is None or np.asarray(value).dtype == object:
                        continue
                    if differs(value, ours, dtype):
                        wrong.setdefault(node.op, []).append((config.seed, node))
                    else:
                        agreed[node.op] += 1
    print(f"{sum(agreed.values())} results of {len(agreed)} operations agree with coremltools' own evaluation")
    print(f"it fails by itself: {', '.join(f'{what} {n}' for what, n in failed.most_common())}")
    for name, cases in sorted(wrong.items()):
        print(
            f"{'known' if name in KNOWN else 'DIFFERS'} {name}: {len(cases)} x, such as in {cases[0][0]} {KNOWN.get(name, '')}"
        )
    return 1 if set(wrong) - set(KNOWN) else 0
