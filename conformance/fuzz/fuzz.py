#!/usr/bin/env python3
"""Draws random programs, has the executor run them in every arithmetic, and compares with the oracle.

    conformance/fuzz/run.sh [--count N] [--seed S] [--jobs J] [--out FOLDER]

Everything is determined by the seed. Findings are confirmed in packages of their own, reduced and written to FOLDER as complete
cases. The coverage is printed for each operation. The exit status is 0 if there are no findings and everything obligatory was
exercised.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

# One thread per process, because the matrices are small.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import build  # noqa: E402
import generate  # noqa: E402
import numpy as np  # noqa: E402
import oracle  # noqa: E402
from cases import COMPARED, UNDEFINED, UNKNOWN, Finding, Shrinker, alone, differences, text, write_case  # noqa: E402
from coverage import Coverage  # noqa: E402
from evaluate import ARITHMETICS, Run  # noqa: E402
from generate.base import GENERATORS  # noqa: E402
from program import Config, Rejected  # noqa: E402
from runner import Runner  # noqa: E402

# Configurations in one package.
BATCH = 60
# How often each opset is drawn: the newest ones have the most forms.
WEIGHTS = {"iOS15": 2, "iOS16": 2, "iOS17": 3, "iOS18": 6, "iOS26": 1}
# Limit of the findings that are reduced, so that a fault that shows everywhere does not take hours.
MOST_SHRUNK = 60
# The largest share of elements, and of configurations, that may be left out because roundings decide their values.
MOST_UNKNOWN = 0.02


# Names in a plan of the executor's fused steps.
FUSED = ("projection", "rms_norm", "attention")


@dataclass
class Result:
    """The results of a range of configurations."""

    coverage: Coverage = field(default_factory=Coverage)
    findings: list[Finding] = field(default_factory=list)
    refused: Counter = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    unshrunk: Counter = field(default_factory=Counter)
    # Elements that were compared or not, and configurations without a defined result.
    counted: Counter = field(default_factory=Counter)

    def merge(self, other: "Result") -> None:
        self.coverage.merge(other.coverage)
        self.findings += other.findings
        self.refused.update(other.refused)
        self.examples = other.examples | self.examples
        self.unshrunk.update(other.unshrunk)
        self.counted.update(other.counted)


def plan(seed: int, number: int) -> str:
    """The opset of a package's configurations, drawn by weight."""
    opsets = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
    return opsets[np.random.default_rng([seed, number]).integers(len(opsets))]


class Worker:
    """Runs packages of configurations one after another."""

    def __init__(self, seed: int, program: Path, folder: Path, skip=(), shrink: bool = True):
        self.seed, self.folder, self.skip, self.shrink = seed, folder, set(skip), shrink
        self.runner = Runner(program)
        self.result = Result()

    def batch(self, number: int, count: int) -> None:
        """Draws the configurations of a batch, groups them into packages and runs these."""
        opset = plan(self.seed, number)
        rng = np.random.default_rng([self.seed, number, 1])
        kinds = generate.kinds(opset)
        order = rng.permutation(len(kinds))
        groups: dict[tuple, list] = {}
        start = number * count
        for i in range(count):
            config = generate.draw(self.seed, start + i, opset, kinds[order[i % len(kinds)]])
            if config is not None and self.skip & {node.op for node in config.nodes}:
                continue
            if config is None:
                self.result.refused[f"nothing drawn: {kinds[order[i % len(kinds)]]}"] += 1
                continue
            try:
                run = Run(config.version, ARITHMETICS["f32"])
                outputs = [run.call(config, n) for n in range(config.calls)][0]
            except (Rejected, oracle.Unsupported, ValueError, IndexError):
                continue
            # A configuration that may be refused gets a package of its own.
            apart = config.seed if "empty" in config.notes else ""
            key = (config.planned, config.calls, "flexible" in config.notes, apart)
            groups.setdefault(key, []).append((config, outputs, run.env))
        for key in sorted(groups):
            if opset in ("iOS18", "iOS26") and rng.random() < 0.15:
                for config, _, _ in groups[key]:
                    config.notes.add(build.TWO_FUNCTIONS)
            self.package(groups[key])

    def alone(self, config: Config) -> None:
        """Runs a single configuration."""
        try:
            run = Run(config.version, ARITHMETICS["f32"])
            outputs = [run.call(config, n) for n in range(config.calls)][0]
        except (Rejected, oracle.Unsupported, ValueError, IndexError):
            return
        self.package([(config, outputs, run.env)])

    def package(self, group) -> None:
        """Writes a package of configurations, runs it and compares."""
        configs = [config for config, _, _ in group]
        expected = None if "flexible" in configs[0].notes else [outputs for _, outputs, _ in group]
        try:
            refused = build.write(configs, self.folder, expected)
        except Exception as error:
            # The backend refuses a program that the Builder accepted, and does not name the configuration.
            if len(group) > 1:
                self.halves(group)
            else:
                self.result.refused[f"backend: {type(error).__name__}: {error}"[:140]] += 1
            return
        bad = {one.index for one in refused}
        for one in refused:
            config = configs[one.index]
            if "flexible" not in config.notes:
                key = f"{config.nodes[-1].op if len(config.nodes) == 1 else 'program'}: {one.reason[:110]}"
                self.result.refused[key] += 1
                self.result.examples.setdefault(key, config.seed)
        if len(bad) == len(configs):
            return
        outcomes = self.runner.run(self.folder)
        if "empty" in configs[0].notes:
            self.single(configs[0], group[0][2], outcomes)
            return
        failed = {variant: outcome.error for variant, outcome in outcomes.items() if outcome.error}
        kept = [one for i, one in enumerate(group) if i not in bad]
        if failed:
            # Searches for the configuration that failed, so that the others are still compared.
            if len(kept) == 1:
                self.found(kept[0][0], failed, np.inf)
                self.result.coverage.add(kept[0][0], kept[0][2])
                return
            self.halves(kept)
            return
        steps = outcomes["fast"].steps
        self.result.coverage.whole.update({f"fused {kind}": steps[kind] for kind in FUSED if kind in steps})
        for index, (config, _, env) in enumerate(group):
            if index not in bad:
                self.single(config, env, outcomes, index)

    def halves(self, group) -> None:
        """Runs the halves of a package, each in a package of its own."""
        half = len(group) // 2
        self.package(group[:half])
        self.package(group[half:])

    def single(self, config: Config, env, outcomes, index: int = 0) -> None:
        """Compares one configuration of a package that ran."""
        self.result.coverage.add(config, env)
        try:
            wrong, excess = differences(config, outcomes, index, counted=self.result.counted)
        except (Rejected, oracle.Unsupported, ValueError, IndexError):
            # In a sample a rounding chose another branch, so the configuration has no defined result.
            self.result.counted[UNDEFINED] += 1
            return
        if wrong:
            self.found(config, wrong, excess, lambda: differences(config, outcomes, index, thorough=True)[0])

    def found(self, config: Config, wrong: dict, excess: float, again=lambda: {}) -> None:
        """Confirms a finding and reduces its program. `again` compares once more, with a better bound."""
        own = self.folder.with_name(self.folder.name + "-alone")
        try:
            sure, excess = alone(config, self.runner, own)
        except (Rejected, oracle.Unsupported, ValueError, IndexError):
            return
        finding = Finding(config, sure or wrong, excess)
        if not sure:
            # It passes by itself: either the bound was too small by chance, or the other configurations contribute.
            finding.wrong = again() if all(text.startswith("differs") for text in wrong.values()) else wrong
            if not finding.wrong:
                return
            finding.notes.append("only beside the others of its package")
        elif self.shrink and len(self.result.findings) < MOST_SHRUNK:
            finding.small = Shrinker(self.runner, own, sure).shrink(config)
            finding.wrong, finding.excess = alone(finding.small, self.runner, own)
        else:
            self.result.unshrunk[finding.signature] += 1
            if len(self.result.findings) > 5 * MOST_SHRUNK:
                return
        self.result.findings.append(finding)


def work(task) -> Result:
    """One process's share of the batches."""
    seed, numbers, count, program, skip = task
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(seed, program, Path(folder) / "package", skip)
        for number in numbers:
            worker.batch(number, count)
        worker.runner.stop()
        return worker.result


def tasks(seed: int, count: int, jobs: int, program: Path, skip):
    """Batches in small shares, so that the processes finish together."""
    batches = -(-count // BATCH)
    share = max(1, min(10, batches // (4 * jobs) or 1))
    return [(seed, range(i, min(i + share, batches)), BATCH, program, skip) for i in range(0, batches, share)]


def report(result: Result, out: Path | None) -> None:
    """Prints one finding of each kind, and writes the cases."""
    kinds: dict[str, list[Finding]] = {}
    for finding in result.findings:
        kinds.setdefault(finding.signature, []).append(finding)
    print(f"\n{len(result.findings)} findings of {len(kinds)} kinds")
    for number, (signature, findings) in enumerate(sorted(kinds.items(), key=lambda one: -len(one[1]))):
        first = min(findings, key=lambda f: len(text(f.small or f.config)))
        print(f"\n[{number}] {len(findings)} x {signature}  ({first.config.seed}) {' '.join(first.notes)}")
        print(text(first.small or first.config))
        for variant, what in first.wrong.items():
            print(f"  {variant}: {what}")
        if out is not None:
            ops = "_".join(dict.fromkeys(node.op for node in (first.small or first.config).nodes))[:60]
            print(f"  case: {write_case(first, f'{number:03}_{ops}', out)}")


def one(seed: str, program: Path, out: Path | None) -> int:
    """Runs a single configuration by its reported name, and prints all details."""
    first, number, opset, kind = seed.split("/", 3)
    config = generate.draw(int(first), int(number), opset, kind)
    print(text(config))
    with tempfile.TemporaryDirectory() as folder:
        refused = build.write([config], Path(folder) / "package")
        for reason in refused:
            print(f"coremltools: {reason.reason}")
        runner = Runner(program)
        wrong, excess = ({}, 0.0) if refused else alone(config, runner, Path(folder) / "package")
        if wrong:
            finding = Finding(config, wrong, excess)
            finding.small = Shrinker(runner, Path(folder) / "package", wrong).shrink(config)
            finding.wrong, finding.excess = alone(finding.small, runner, Path(folder) / "package")
            result = Result(findings=[finding])
            report(result, out)
        runner.stop()
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=6000, help="configurations [6000]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes [one per core]")
    parser.add_argument("--runner", type=Path, required=True, help="the executor: examples/differential.rs, built")
    parser.add_argument("--out", type=Path, help="folder to write findings to as complete cases")
    parser.add_argument("--skip", nargs="*", default=(), metavar="OPERATION", help="operations to skip")
    parser.add_argument("--table", action="store_true", help="print the coverage of every operation")
    parser.add_argument("--json", type=Path, help="write counts to a file")
    parser.add_argument(
        "--one", metavar="NAME", help="run only one configuration, as SEED/NUMBER/OPSET/KIND"
    )
    parser.add_argument(
        "--selftest", action="store_true", help="plant faults in the expected results; each must be reported"
    )
    parser.add_argument("--mutants", action="store_true", help="with --selftest: also in copies of the executor")
    parser.add_argument(
        "--second-opinion", action="store_true", help="compare the oracle with coremltools' own evaluation"
    )
    args = parser.parse_args()
    if args.second_opinion:
        import second_opinion

        return second_opinion.run(args.seed, args.count)
    if args.selftest:
        import selftest

        return selftest.run(args.runner, args.skip, args.mutants)
    if args.one:
        return one(args.one, args.runner, args.out)
    start, result = time.time(), Result()
    todo = tasks(args.seed, args.count, args.jobs, args.runner, args.skip)
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        for done, part in enumerate(pool.imap_unordered(work, todo), 1):
            result.merge(part)
            if sys.stderr.isatty() or done % 10 == 0:
                print(
                    f"{result.coverage.whole['configurations']} configurations, {len(result.findings)} findings, {time.time() - start:.0f} s",
                    file=sys.stderr,
                )
    result.findings.sort(key=lambda finding: finding.config.seed)
    whole = result.coverage.whole
    seconds = time.time() - start
    print(
        f"{whole['configurations']} configurations in {seconds:.0f} s, {1000 * seconds * args.jobs / max(whole['configurations'], 1):.1f} ms each a process"
    )
    print(", ".join(f"{name} {n}" for name, n in sorted(whole.items()) if name != "configurations"))
    if args.table:
        print(result.coverage.table())
    for reason, n in result.refused.most_common(40):
        print(f"not taken: {n} x {reason} ({result.examples.get(reason, '')})")
    report(result, args.out)
    lacking = result.coverage.missing(op for op in GENERATORS if not op.startswith("pattern:") and op not in args.skip)
    lacking += [
        f"{note}: never"
        for note in ("flexible", "interpreted", "outlier", "empty", build.TWO_FUNCTIONS)
        if not whole[note]
    ]
    lacking += [f"{kind}: never fused" for kind in FUSED if not whole[f"fused {kind}"]]
    counted = result.counted
    share = counted[UNKNOWN] / max(counted[COMPARED] + counted[UNKNOWN], 1)
    print(
        f"{counted[COMPARED]} elements compared, {100 * share:.2f} % of all left out because roundings decide them; "
        f"{counted[UNDEFINED]} configurations left out for the same reason"
    )
    if share > MOST_UNKNOWN:
        lacking.append(f"{100 * share:.1f} % of the elements are not compared, at most {100 * MOST_UNKNOWN:.0f} %")
    if counted[UNDEFINED] > MOST_UNKNOWN * whole["configurations"]:
        lacking.append(f"{counted[UNDEFINED]} configurations are not compared")
    for feature in lacking:
        print(f"not exercised: {feature}")
    if args.json:
        args.json.write_text(
            json.dumps({"whole": whole, "operations": result.coverage.counts}, indent=1, sort_keys=True) + "\n"
        )
    return 1 if result.findings or lacking else 0


if __name__ == "__main__":
    sys.exit(main())
