"""Weights for which the exporter is known to differ from coremltools. Each difference is pinned to one check.

The check of the weights against the checkpoint must still pass.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from safetensors.numpy import save_file

import checkpoint as checkpoints
from checkpoint import Checkpoint, Weights
from package import Problem
from reference import Options

Check = Callable[[Checkpoint, Options], list[Problem]]
MATRIX = "layers.0.attn_o.weight"


@dataclass(frozen=True)
class Edge:
    """A change to the weights, and the only check that then may and must report a difference."""

    name: str
    change: Callable[[Weights], None]
    options: Options
    check: str
    reason: str


def _zero_row(weights: Weights) -> None:
    weights[MATRIX][3] = 0


def _large(weights: Weights) -> None:
    weights[MATRIX] *= 40_000 / np.abs(weights[MATRIX]).max()


def _small(weights: Weights) -> None:
    weights[MATRIX] *= 3e-6 / np.abs(weights[MATRIX]).max()


def _equal(weights: Weights) -> None:
    weights[MATRIX] = weights["layers.0.attn_q.weight"].copy()


EDGES = (
    Edge(
        "a row of zeros",
        _zero_row,
        Options("int8-per-channel"),
        "int8",
        "coremltools' scale is 0 and the values are NaN cast to int8; ours is 1",
    ),
    Edge(
        "a range beyond fp16",
        _large,
        Options("int8-per-tensor"),
        "int8",
        "max - min is infinite in fp16, and with it coremltools' scale",
    ),
    Edge(
        "a scale below fp16",
        _small,
        Options("int8-per-tensor"),
        "int8",
        "coremltools' scale rounds to 0; ours is the smallest number of fp16",
    ),
    Edge(
        "two equal matrices",
        _equal,
        Options("none"),
        "identity",
        "coremltools stores equal constants once, the exporter each time",
    ),
)


def run(original: Checkpoint, check: Check) -> list[str]:
    """Exports and checks a changed checkpoint for every edge case; returns those with an unexpected result."""
    failures = []
    for index, edge in enumerate(EDGES):
        path = original.path.with_name(f"edge{index}")
        shutil.copytree(original.path, path)
        changed = {name: weight.copy() for name, weight in original.weights.items()}
        edge.change(changed)
        save_file(changed, path / "model.safetensors")
        problems = check(checkpoints.load(path), edge.options)
        expected = len(problems) == 1 and problems[0].check == edge.check
        shown = "; ".join(map(str, problems)) or "no difference"
        print(f"  {'as expected' if expected else 'UNEXPECTED'}  {edge.name} ({edge.reason}): {shown}")
        if not expected:
            failures.append(f"{path.name}: {edge.name}: expected one difference by [{edge.check}], got {shown}")
    return failures
