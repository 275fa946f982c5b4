#!/usr/bin/env python3
"""Checks with coremltools the packages that `microgpt export` writes. Runs on Linux; nothing here runs on Core ML.

The script creates checkpoints, exports them with every option, loads each package with coremltools' own loader, and compares
graph, weights and weight file with the same decoder built, converted and quantized by coremltools. It then plants faults into
packages and requires that they are reported, and checks the edge cases in which exporter and coremltools are known to differ.
Exits with 1 if a package fails, a fault goes unnoticed or an edge case has changed.
"""

import argparse
import functools
import itertools
import logging
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

# Before the import, because coremltools warns of every library that exists only on a Mac, and draws progress bars.
logging.disable(logging.WARNING)
os.environ.setdefault("TQDM_DISABLE", "1")

import coremltools as ct  # noqa: E402

import checkpoint as checkpoints  # noqa: E402
import edges  # noqa: E402
import faults  # noqa: E402
import reference  # noqa: E402
import weights  # noqa: E402
from checkpoint import Checkpoint  # noqa: E402
from graph import Signature, differences, signature  # noqa: E402
from package import Package, Problem, check_interface, check_operations, open_package, operations  # noqa: E402
from reference import CACHE_UPDATES, NORMS, PROJECTIONS, QUANTIZATIONS, Options  # noqa: E402

PACKAGE = "decoder-00.mlpackage"
COLUMNS = "{:<9} {:<17} {:<10} {:<11} {:<12} {:>10} {:>6} {:>10}  {:<27} {:>5}  {}"


def label(checkpoint: Checkpoint, options: Options) -> str:
    """Name of a checkpoint exported with some options."""
    return "-".join((checkpoint.name, *vars(options).values()))


@dataclass(frozen=True)
class Reference:
    """coremltools' result for the same checkpoint and options."""

    package: Package
    signature: Signature


@dataclass(frozen=True)
class Judge:
    """The state of a run: the exporter, a working folder, and the references made so far."""

    microgpt: Path
    work: Path
    references: dict[tuple[str, Options], Reference]

    def run(self, *arguments: str | Path) -> None:
        """Runs `microgpt`; ends the script with its message if it fails."""
        command = [str(a) for a in (self.microgpt, *arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")

    def train(self) -> Checkpoint:
        """Has microgpt train and write a checkpoint: 16 dimensions, 1 layer."""
        path = self.work / "checkpoints" / "original"
        self.run("train", "--preset", "original", "--steps", "50", "--seed", "42", "--out", path)
        return checkpoints.load(path)

    def synthesize(self, original: Checkpoint) -> Checkpoint:
        """Writes a checkpoint of the `scaled` preset's dimensions with random weights, from Python."""
        path = self.work / "checkpoints" / "scaled"
        dimensions = replace(original.config, n_embd=512, n_head=8, n_layer=6, block_size=64)
        checkpoints.write_random(path, dimensions, original.path / "tokenizer.json", seed=0)
        return checkpoints.load(path)

    def export(self, checkpoint: Checkpoint, options: Options) -> Path:
        """Exports a bundle and returns its folder."""
        bundle = self.work / "bundles" / label(checkpoint, options)
        choices = [f"--{option.replace('_', '-')}={value}" for option, value in vars(options).items()]
        # `microgpt verify`, not coremltools, runs the program on the CPU.
        self.run("export", checkpoint.path, "--out", bundle, "--no-verify", *choices)
        return bundle

    def reference(self, checkpoint: Checkpoint, options: Options) -> Reference:
        """Builds, converts and quantizes with coremltools, once for each combination of options."""
        key = (checkpoint.name, options)
        if key not in self.references:
            path = self.work / "reference" / f"{label(checkpoint, options)}.mlpackage"
            if options.quantize == "none":
                reference.convert(reference.build(checkpoint, options), path)
            else:
                fp16 = self.reference(checkpoint, replace(options, quantize="none"))
                model = ct.models.MLModel(str(fp16.package.path), skip_model_load=True)
                reference.quantize(model, options.quantize, path)
            package, problems = open_package(path)
            if package:
                problems += check_interface(package, checkpoint.config, options.cache_update)
                problems += check_operations(package)
            if package is None or problems:
                # The check must be wrong, since coremltools is right by definition.
                sys.exit(f"{path}: coremltools' own package fails: {'; '.join(map(str, problems))}")
            self.references[key] = Reference(package, signature(package.program))
        return self.references[key]

    def check(self, bundle: Path, checkpoint: Checkpoint, options: Options) -> tuple[Package | None, list[Problem]]:
        """Runs all checks of one bundle; returns its package only if coremltools can load it."""
        package, problems = open_package(bundle / PACKAGE)
        problems += weights.check_embeddings(bundle, checkpoint)
        if package is None:
            return None, problems
        theirs = self.reference(checkpoint, options)
        problems += check_interface(package, checkpoint.config, options.cache_update)
        problems += check_operations(package)
        problems += weights.check_weights(package, checkpoint, options)
        found = differences(signature(package.program), theirs.signature)
        problems += [Problem("graph", where, message) for where, message in found]
        if options.quantize == "none":
            problems += weights.check_identity(package, theirs.package)
        else:
            problems += weights.check_quantized(package, theirs.package)
        return package, problems

    def problems(self, bundle: Path, checkpoint: Checkpoint, options: Options) -> list[Problem]:
        """Returns the problems of a bundle."""
        return self.check(bundle, checkpoint, options)[1]

    def judge(self, checkpoint: Checkpoint, options: Options) -> list[str]:
        """Exports and checks one bundle, prints its line of the table, and returns its problems."""
        started = time.monotonic()
        bundle = self.export(checkpoint, options)
        package, problems = self.check(bundle, checkpoint, options)
        counts, same = ("-", "-", "-"), "-"
        if package:
            theirs = self.reference(checkpoint, options).package
            number = "/".join(str(len(operations(p.spec))) for p in (package, theirs))
            counts = (number, len(package.blobs()), package.weight_file.stat().st_size)
            same = describe_identity(package, theirs, options, problems)
        seconds = f"{time.monotonic() - started:.1f}"
        verdict = f"{len(problems)} PROBLEMS" if problems else "pass"
        print(COLUMNS.format(checkpoint.name, *vars(options).values(), *counts, same, seconds, verdict), flush=True)
        for problem in problems:
            print(f"    {problem}")
        return [f"{bundle.name}: {problem}" for problem in problems]


def describe_identity(package: Package, theirs: Package, options: Options, problems: list[Problem]) -> str:
    """Describes briefly how the weights compare with coremltools'."""
    same_file = weights.first_difference(package.weight_file, theirs.weight_file) is None
    file = "file identical" if same_file else "file differs"
    if options.quantize == "none":
        return file
    differing = sum(problem.check == "int8" for problem in problems)
    return f"{f'{differing} differ' if differing else 'values equal'}, {file}"


def cases(original: Checkpoint, scaled: Checkpoint) -> list[tuple[Checkpoint, Options]]:
    """Every combination for the small model; for the large, slow one, those that change weights and caches."""
    every = [Options(*choice) for choice in itertools.product(QUANTIZATIONS, PROJECTIONS, NORMS, CACHE_UPDATES)]
    some = [Options(quantize) for quantize in QUANTIZATIONS] + [Options("none", "fused-qkv")]
    some += [Options("none", cache_update=update) for update in CACHE_UPDATES if update != Options().cache_update]
    return [(original, options) for options in every] + [(scaled, options) for options in some]


def self_test(judge: Judge, original: Checkpoint) -> list[str]:
    """Plants faults and returns those that went unnoticed."""
    unnoticed = []
    for options, planted in (
        (Options("none"), faults.FP16_FAULTS),
        (Options("int8-per-channel"), faults.INT8_FAULTS),
        (Options("none", cache_update="slice-update"), faults.SLICE_FAULTS),
        (Options("none", cache_update="host"), faults.HOST_FAULTS),
    ):
        bundle = judge.work / "bundles" / label(original, options)
        if not bundle.exists():
            judge.export(original, options)
        print(f"faults planted into {bundle.name}:")
        check = functools.partial(judge.problems, checkpoint=original, options=options)
        unnoticed += faults.run(planted, bundle, PACKAGE, judge.work / "faults", check)
    return unnoticed


def prepare(work: Path) -> None:
    """Empties the folders that this script writes, and no others."""
    for name in ("checkpoints", "bundles", "reference", "faults"):
        shutil.rmtree(work / name, ignore_errors=True)
        (work / name).mkdir(parents=True)


def main() -> int:
    """Runs the checks; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--microgpt", type=Path, required=True, help="the `microgpt` binary")
    parser.add_argument("--work", type=Path, default=Path("target/conformance"), help="folder for intermediate files")
    parser.add_argument("--selftest", action="store_true", help="only plant faults and check the edge cases")
    arguments = parser.parse_args()

    started = time.monotonic()
    prepare(arguments.work)
    judge = Judge(arguments.microgpt.resolve(), arguments.work, {})
    original = judge.train()
    failures: list[str] = []
    if not arguments.selftest:
        print(f"coremltools {ct.__version__}")
        sizes = ("ops/theirs", "blobs", "weight.bin")
        header = ("model", "quantize", "projection", "norm", "cache", *sizes, "weights, to coremltools'", "s", "result")
        print(COLUMNS.format(*header))
        for checkpoint, options in cases(original, judge.synthesize(original)):
            failures += judge.judge(checkpoint, options)
    failures += self_test(judge, original)
    print("where the exporter is known to differ from coremltools:")
    failures += edges.run(original, lambda changed, o: judge.problems(judge.export(changed, o), changed, o))

    print(f"{time.monotonic() - started:.0f} s")
    for failure in failures:
        print(f"FAILED {failure}")
    print("failed" if failures else "passed: coremltools finds nothing wrong, and every planted fault was reported")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
