"""Compares the weights of a package with the checkpoint, and with those that coremltools stores for the same graph."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from checkpoint import Checkpoint
from graph import Stored, convolutions, stored_weight
from package import Package, Problem
from reference import Options, matrices

#: Largest error in steps. Half a step is the error of quantization; coremltools and the exporter round the ratio of weight
#: and scale, at most about 127, to fp16 before they round it to an integer, which adds at most 1/32.
LARGEST_ERROR = 0.5 + 1 / 32
#: A scale is the range divided by 254 and rounded to fp16, by at most 2^-11 of itself; twice that is allowed. A small
#: scale is rounded by up to fp16's smallest positive value, because it must not become 0.
SCALE_TOLERANCE = 2.0**-10
SMALLEST_FP16 = 2.0**-24


def check_weights(package: Package, checkpoint: Checkpoint, options: Options) -> list[Problem]:
    """Compares every convolution's weight with the checkpoint's: equal in fp16, or within half a quantization step."""
    convs, expected = convolutions(package.program), matrices(checkpoint, options.projections)
    if len(convs) != len(expected):
        return [Problem("weights", "program", f"{len(convs)} convolutions, expected {len(expected)}")]
    problems = []
    for conv, (tensor, matrix) in zip(convs, expected.items(), strict=True):
        found = stored_weight(conv)
        message = _shape_error(found, matrix, options) or _value_error(found, matrix)
        if message:
            problems.append(Problem("weights", f"conv %{conv.name}", f"{tensor}: {message}"))
    return problems


def _shape_error(found: Stored, matrix: np.ndarray, options: Options) -> str | None:
    rows = {"none": None, "int8-per-tensor": 1, "int8-per-channel": matrix.shape[0]}[options.quantize]
    types = (found.data.dtype.name, found.data.shape, None if found.scale is None else found.scale.shape)
    expected = ("float16" if rows is None else "int8", matrix.shape, None if rows is None else (rows, 1, 1, 1))
    return None if types == expected else f"stored as {types}, expected {expected}"


def _value_error(found: Stored, matrix: np.ndarray) -> str | None:
    if found.scale is None:
        wrong = np.flatnonzero(found.data.view(np.uint16) != matrix.view(np.uint16))
        return f"{wrong.size} of {matrix.size} values differ, the first is element {wrong[0]}" if wrong.size else None
    groups = matrix.reshape(found.scale.size, -1)
    largest = np.abs(groups).max(axis=1).astype(np.float32)
    scale = found.scale.reshape(-1, 1).astype(np.float32)
    # Errors are measured in steps, so a scale that is too large would hide them.
    ideal = np.where(largest == 0, 1, largest / 127)
    wrong = np.flatnonzero(np.abs(scale[:, 0] - ideal) > np.maximum(SCALE_TOLERANCE * ideal, SMALLEST_FP16))
    if wrong.size:
        first = f"{scale[wrong[0], 0]}, expected {ideal[wrong[0]]}"
        return f"{wrong.size} of {ideal.size} scales are off, the first is {first}"
    # Exact: both factors have at most 11 significant bits.
    error = np.abs(found.data.reshape(groups.shape) * scale - groups.astype(np.float32)) / scale
    wrong = np.flatnonzero(error > LARGEST_ERROR)
    if wrong.size:
        return f"{wrong.size} of {matrix.size} values are off by more than half a step, the first is element {wrong[0]}"
    return None


def check_identity(package: Package, theirs: Package) -> list[Problem]:
    """Compares the weight file with coremltools', byte for byte."""
    offset = first_difference(package.weight_file, theirs.weight_file)
    if offset is None:
        return []
    starts = {value.blobFileValue.offset: where for where, value in package.blobs()}
    where = starts[max(start for start in starts if start <= offset)] if offset >= min(starts) else "header"
    sizes = [p.weight_file.stat().st_size for p in (package, theirs)]
    return [Problem("identity", where, f"byte {offset} of weight.bin differs from coremltools' (sizes {sizes})")]


def first_difference(ours: Path, theirs: Path) -> int | None:
    """Offset of the first byte that differs, or of the shorter file's end."""
    a, b = np.fromfile(ours, np.uint8), np.fromfile(theirs, np.uint8)
    common = min(a.size, b.size)
    different = np.flatnonzero(a[:common] != b[:common])
    if different.size:
        return int(different[0])
    return None if a.size == b.size else common


def check_quantized(package: Package, theirs: Package) -> list[Problem]:
    """Compares INT8 data and scales of every convolution with those of coremltools' `linear_quantize_weights`."""
    problems = []
    for conv, other in zip(convolutions(package.program), convolutions(theirs.program)):
        a, b = stored_weight(conv), stored_weight(other)
        if a.scale is None or b.scale is None or a.data.shape != b.data.shape or a.scale.shape != b.scale.shape:
            problems.append(Problem("int8", f"conv %{conv.name}", "stored in another form than coremltools'"))
            continue
        values = np.abs(a.data.astype(np.int16) - b.data)
        scales = np.abs(a.scale.astype(np.float32) - b.scale.astype(np.float32))
        if values.any() or scales.any():
            message = (
                f"{np.count_nonzero(values)} of {values.size} int8 values differ from coremltools', the most by "
                f"{values.max()}; {np.count_nonzero(scales)} of {scales.size} scales do, the most by {scales.max():.3g}"
            )
            problems.append(Problem("int8", f"conv %{conv.name}", message))
    return problems


def check_embeddings(bundle: Path, checkpoint: Checkpoint) -> list[Problem]:
    """Compares the host's tables with the checkpoint's embeddings, rounded to fp16."""
    tables = load_file(bundle / "embeddings.safetensors")
    problems = []
    for name in ("wte.weight", "wpe.weight"):
        expected, found = checkpoint.weights[name].astype(np.float16), tables.get(name)
        if found is None or found.dtype != np.float16 or not np.array_equal(found, expected):
            problems.append(Problem("embeddings", name, "not the checkpoint's table in fp16"))
    return problems
