#!/usr/bin/env python3
"""Compares placement reports with the JSON Schema that `microgpt floor --schema` prints.

    reports.py --microgpt BINARY

The judge is the Python package jsonschema. Every fixture of mlpackage is reported on. Faults are then planted in a report,
and each one must be found.
"""

import argparse
import copy
import json
import pathlib
import subprocess
import sys

from jsonschema import Draft202012Validator

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(microgpt, *args):
    done = subprocess.run([microgpt, *map(str, args)], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"microgpt {' '.join(map(str, args))}: exit status {done.returncode}\n{done.stderr}")
    return done.stdout


def faults(report):
    """Yields a name and a report with one fault."""

    def changed(name, change):
        wrong = copy.deepcopy(report)
        change(wrong)
        return name, wrong

    def remove(path, key):
        def change(wrong):
            for step in path:
                wrong = wrong[step]
            del wrong[key]

        return change

    def put(path, key, value):
        def change(wrong):
            for step in path:
                wrong = wrong[step]
            wrong[key] = value

        return change

    operation = ["operations", 0]
    yield changed("a device that does not exist", put(operation, "device", "tpu"))
    yield changed("an operation without a device", remove(operation, "device"))
    yield changed("a verdict that does not exist", put([], "verdict", "fast"))
    yield changed("a confidence that is text", put([], "confidence", "high"))
    yield changed("a negative size", put([], "compiled_bytes", -1))
    yield changed("no functions", remove([], "functions"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--microgpt", required=True)
    microgpt = parser.parse_args().microgpt
    schema = json.loads(run(microgpt, "floor", "--schema"))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)

    problems, reports = [], []
    packages = sorted((ROOT / "crates/mlpackage/tests/fixtures").glob("*.mlpackage"))
    for package in packages:
        read = json.loads(run(microgpt, "floor", package, "--json"))
        for report in read if isinstance(read, list) else [read]:
            reports.append(report)
            for error in validator.iter_errors(report):
                problems.append(f"{package.name}: {error.json_path}: {error.message}")
    if not packages or len(reports) < len(packages):
        problems.append(f"{len(reports)} reports of {len(packages)} packages")

    planted = list(faults(next(r for r in reports if r["operations"])))
    missed = [name for name, wrong in planted if validator.is_valid(wrong)]
    problems += [f"the schema allows {name}" for name in missed]

    print("\n".join(problems) or "reports: all keep to their schema", f"({len(reports)} reports, {len(planted)} planted faults)")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
