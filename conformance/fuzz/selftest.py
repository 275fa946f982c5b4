"""Plants faults in the expected results and in the executor, and checks that the fuzzer finds them.

    conformance/fuzz/run.sh --selftest [--mutants]

Expected results: each operation's result is made wrong in turn, by a value, a position or a shape, and a configuration with
the operation must be reported. With --mutants, faults are planted one at a time in the kernels and fusions of a copy of the
workspace, which is built. A configuration must then be reported that the executor without the fault passes.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import generate
import numpy as np
import oracle
from fuzz import BATCH, Worker
from generate.base import GENERATORS
from program import OPSETS

ROOT = Path(__file__).resolve().parents[2]
KERNELS = "crates/ane-runtime/src/mil_cpu/kernels"
FUSION = "crates/ane-runtime/src/mil_cpu/fusion"
# Name, file, original text, faulty text.
MUTANTS = [
    ("swapped operands", f"{KERNELS}/elementwise.rs", '"sub" => (|x, y| x - y,', '"sub" => (|x, y| y - x,'),
    ("wrong broadcast", f"{KERNELS}/strided.rs", "if i < missing || from[i - missing] == 1 { 0 }", "if i < missing { 0 }"),
    (
        "residual of a fused projection",
        f"{FUSION}/projection.rs",
        "|(out, r)| *out += r)",
        "|(out, r)| *out += 0.0 * r)",
    ),
    ("row of a cache", f"{FUSION}/attention.rs", "row.copy_from_slice(new);", "row.fill(new[0]);"),
]
# Batches in which a mutant must be found.
BATCHES = 16


# Operations without planted wrong results.
UNTRIED = {"identity", "make_list"}


def wrong(result):
    """A result with one element off by slightly more than any rounding."""
    value = result.value if isinstance(result, oracle.Out) else result
    if isinstance(value, list):
        # Changes every element, as not all of them are read, and adds one, as only the length may be used.
        elements = [wrong(element) for element in value]
        return oracle.Out(elements + elements[-1:], result.dtype)
    if np.size(value) == 0:
        return result
    value = np.array(value)
    place = np.unravel_index(value.size - 1, value.shape)
    if value.dtype.kind == "b":
        value[place] = ~value[place]
    elif value.dtype.kind == "f":
        value[place] += 0.05 * (1 + np.max(np.abs(value)))
    else:
        value[place] += 1
    return oracle.Out(value, result.dtype) if isinstance(result, oracle.Out) else value


def expected_faults(program: Path, folder: Path, skip) -> list[str]:
    """Operations whose wrong results go unreported."""
    missed = []
    for name in sorted(oracle.OPS):
        # Identities publish inputs, and are part of too many programs. A new list is overwritten before it is read.
        if name in skip or name in UNTRIED:
            continue
        entry = oracle.OPS[name]
        worker = Worker(1, program, folder, skip, shrink=False)
        configs = drawn(name, skip)
        if not configs:
            missed.append(f"{name}: nothing to draw")
            continue
        honest = entry.compute
        # Without the fault, nothing may be reported: a runner that fails on everything would find every fault.
        for config in configs:
            worker.alone(config)
        if worker.result.findings:
            missed.append(f"{name}: reported although nothing is wrong")
            worker.runner.stop()
            continue

        def fault(*args, honest=honest, **kwargs):
            results = honest(*args, **kwargs)
            if isinstance(results, tuple):
                return (*results[:-1], wrong(results[-1]))
            return wrong(results)

        entry.compute = fault
        try:
            for config in configs:
                worker.alone(config)
        finally:
            entry.compute = honest
            worker.runner.stop()
        if not worker.result.findings:
            missed.append(f"{name}: a wrong value is not reported")
    return missed


def drawn(name: str, skip):
    """A few configurations with the operation."""
    found = []
    for opset in reversed(OPSETS):
        for kind in [name] if name in GENERATORS else generate.kinds(opset):
            if not GENERATORS[kind].in_opset(opset):
                continue
            for number in range(3):
                config = generate.draw(7, number, opset, kind)
                if config and not skip & {n.op for n in config.nodes} and any(n.op == name for n in config.nodes):
                    found.append(config)
            if len(found) >= 3:
                return found
    return found


def reported(program: Path, folder: Path, skip, known=frozenset()) -> set[str]:
    """The reported configurations of a few batches; stops at the first that is not in `known`."""
    worker = Worker(1, program, folder, skip, shrink=False)
    for number in range(BATCHES):
        worker.batch(number, BATCH)
        found = {finding.config.seed for finding in worker.result.findings}
        if known and found - known:
            break
    worker.runner.stop()
    return found


def mutants(program: Path, skip) -> list[str]:
    """Faults in the executor that go unreported."""
    missed = []
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "workspace"
        files = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in files.splitlines():
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, copy / name)
        target = ROOT / "target/fuzz-mutants"
        known = reported(program, Path(place) / "package", skip) | {""}
        command = ["cargo", "build", "--quiet", "--release", "-p", "ane-runtime", "--example", "differential"]
        for name, file, line, fault in MUTANTS:
            path = copy / file
            text = path.read_text()
            if line not in text:
                missed.append(f"{name}: {file} has no line {line!r}")
                continue
            path.write_text(text.replace(line, fault, 1))
            subprocess.run(command, cwd=copy, env=os.environ | {"CARGO_TARGET_DIR": str(target)}, check=True)
            path.write_text(text)
            found = reported(target / "release/examples/differential", Path(place) / "package", skip, known) - known
            if found:
                print(f"{name}: found by {min(found)}", flush=True)
            else:
                missed.append(f"{name}: not found")
    return missed


def run(program: Path, skip, planted: bool) -> int:
    """Plants all faults and prints those that are not found."""
    skip = set(skip)
    with tempfile.TemporaryDirectory() as folder:
        missed = expected_faults(program, Path(folder) / "package", skip)
    tried = set(oracle.OPS) - skip - UNTRIED
    print(f"{len(tried) - len(missed)} of {len(tried)} operations whose wrong results are reported")
    if planted:
        missed += mutants(program, skip)
    for one in missed:
        print(f"MISSED {one}")
    return 1 if missed else 0
