"""Runs `microgpt` on packages from several versions of coremltools: `judge.py --microgpt BINARY FOLDER...`.

Each folder was made by `write.py`. For every package:

  check     `inspect --check` has no findings: any finding in a package from Apple's own library is a false alarm
  inspect   `inspect` prints the program
  run       the results of `run` equal the reference's, in f32, f16 and fast
  floor     `floor` predicts a placement for every function

and across the folders:

  agree     the same model has the same results, whichever version wrote it

The exit status is 1 if anything fails. `--selftest` plants a fault for each check, and fails if one is missed.
"""

import argparse
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

DTYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "I32": np.int32, "BOOL": np.bool_}
NUMERICS = ("f32", "f16", "fast")
# Relative to the largest value of an output. An fp32 program differs from a float64 reference by its roundings; an fp16 one has
# weights of eleven bits (a rounding of 5e-4, of which a handful add up along the deepest of the models).
TOLERANCE = {"fp32": 2e-5, "fp16": 4e-3}
BINARY = "microgpt"


class Package:
    """One package with its inputs and expected outputs."""

    def __init__(self, folder, writer, entry):
        self.writer, self.name, self.calls, self.function = writer, entry["name"], entry["calls"], entry["function"]
        self.path = folder / f"{self.name}.mlpackage"
        self.inputs = folder / f"{self.name}.inputs.safetensors"
        self.expected = folder / f"{self.name}.expected.safetensors"
        self.precision = entry["precision"]
        self.images, self.own_reference = entry["images"], entry["own_reference"]

    def __str__(self):
        return f"{self.name} of coremltools {self.writer}"


def tensors(path):
    """The tensors of a safetensors file, by name."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header, data = json.loads(data[8 : 8 + size]), data[8 + size :]
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[slice(*info["data_offsets"])], DTYPES[info["dtype"]]).reshape(info["shape"])
        for name, info in header.items()
    }


def call(*args):
    """Runs the binary; returns its status, standard output and standard error."""
    done = subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr.strip()


def check(package):
    """The findings of `inspect --check` for a package."""
    status, out, err = call("inspect", "--check", "--json", package.path)
    if not out:
        return [f"{package}: inspect --check: {err}"]
    findings = json.loads(out)[0]["findings"]
    problems = [f"{package}: {f['severity']}[{f['rule']}] {f['operation'] or ''}: {f['reason']}" for f in findings]
    if status != 0 and not problems:
        problems.append(f"{package}: inspect --check exits with {status}: {err}")
    return problems


def inspect(package):
    """Checks that `inspect` prints the package."""
    status, out, err = call("inspect", package.path)
    return [] if status == 0 and out else [f"{package}: inspect exits with {status}: {err}"]


def floor(package):
    """Checks that `floor` covers every function."""
    status, out, err = call("floor", package.path, "--json")
    if status != 0:
        return [f"{package}: floor exits with {status}: {err}"]
    functions = sum((report.get("functions", []) for report in json.loads(out)), [])
    return [] if functions else [f"{package}: floor says nothing about any function"]


def png(path, planes, colours):
    """Writes an image [1, C, H, W] as PNG."""
    planes = planes[0]
    planes = np.rint(planes.astype(np.float64) * 255 if colours == "GREY_FP16" else planes).astype(np.uint8)
    pixels = (planes[::-1] if colours == "BGR" else planes).transpose(1, 2, 0)
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
            checksum = struct.pack(">I", zlib.crc32(kind + data))
            file.write(struct.pack(">I", len(data)) + kind + data + checksum)


def inputs(package, folder):
    """The arguments that pass a package its inputs."""
    if not package.images:
        return ["--inputs", package.inputs]
    args = []
    for name, planes in tensors(package.inputs).items():
        png(folder / f"{name}.png", planes, package.images[name])
        args += ["--image", f"{name}={folder / name}.png"]
    return args


def run(package, numerics, out):
    """The outputs of a package, or the reason why there are none."""
    args = ["run", package.path, *inputs(package, out.parent), "--out", out, "--numerics", numerics]
    args += ["--steps", package.calls] if package.calls > 1 else []
    args += ["--function", package.function] if package.function else []
    status, _, err = call(*args)
    return (tensors(out), None) if status == 0 else (None, err)


def furthest(found, expected):
    """The largest difference of two tensors, relative to the largest value."""
    if found.shape != expected.shape:
        return float("inf")
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    distance = np.abs(found - expected).max(initial=0) / max(np.abs(expected).max(initial=0), 1e-30)
    return distance if np.isfinite(distance) else float("inf")


def compare(what, found, expected, tolerance):
    """Compares outputs with the expected ones."""
    missing = sorted(expected.keys() - found.keys())
    problems = [f"{what}: output {name} is missing, it has {sorted(found)}" for name in missing]
    for name in expected.keys() & found.keys():
        distance = furthest(found[name], expected[name])
        if distance > tolerance:
            problems.append(f"{what}: output {name} is {distance:.2g} off, more than {tolerance:.0e}")
    return problems


class Verdict:
    """The results of all checks of one package."""

    def __init__(self, package):
        self.package, self.outputs = package, None
        self.problems = {"check": check(package), "inspect": inspect(package), "floor": floor(package), "run": []}
        with tempfile.TemporaryDirectory() as folder:
            for numerics in NUMERICS:
                found, error = run(package, numerics, Path(folder) / f"{numerics}.safetensors")
                if found is None:
                    self.problems["run"].append(f"{package}, {numerics}: run: {error}")
                    return
                tolerance = TOLERANCE["fp16" if numerics == "f16" else package.precision]
                what = f"{package}, {numerics}"
                self.problems["run"] += compare(what, found, tensors(package.expected), tolerance)
                if numerics == "f32":
                    self.outputs = found


def agree(verdicts):
    """Finds models whose results depend on the version that wrote them."""
    problems, first = [], {}
    for verdict in verdicts:
        package = verdict.package
        if verdict.outputs is None or not package.own_reference:
            continue
        other = first.setdefault(package.name, verdict)
        what = f"{package} against {other.package.writer}"
        problems += compare(what, verdict.outputs, other.outputs, TOLERANCE[package.precision])
    return problems


def packages(folders):
    """Every package of the folders."""
    found = []
    for folder in map(Path, folders):
        index = json.loads((folder / "index.json").read_text())
        found += [Package(folder, index["coremltools"], entry) for entry in index["models"]]
    return found


def judge(folders):
    """Prints all problems; returns whether there are none."""
    with ThreadPoolExecutor() as pool:
        verdicts = list(pool.map(Verdict, packages(folders)))
    problems = {name: sum((v.problems[name] for v in verdicts), []) for name in ("check", "inspect", "floor", "run")}
    problems["agree"] = agree(verdicts)
    for name, found in problems.items():
        for problem in found:
            print(f"{name}: {problem}", file=sys.stderr)
    writers = {v.package.writer for v in verdicts}
    compared = sum(1 for v in verdicts if v.outputs is not None)
    print(
        f"{len(problems['check'])} false alarms over {len(verdicts)} packages of {len(writers)} writers "
        f"({', '.join(sorted(writers))}); {compared} ran with the reference's numbers in {', '.join(NUMERICS)} "
        f"and agree between writers"
        if not any(problems.values())
        else f"FAILED: {', '.join(f'{len(p)} {name}' for name, p in problems.items() if p)}"
    )
    return not any(problems.values())


# Tests of the checks.


def damaged(package, folder, change):
    """Copies a package and plants a fault in the copy."""
    copy = Path(folder) / package.path.name
    shutil.copytree(package.path, copy)
    change(copy)
    twin = Package.__new__(Package)
    twin.__dict__.update(package.__dict__, path=copy)
    return twin


def weight_file(path):
    return path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"


def patch(offset, data):
    """Overwrites bytes of the weight file."""

    def change(path):
        content = bytearray(weight_file(path).read_bytes())
        content[offset : offset + len(data)] = data
        weight_file(path).write_bytes(content)

    return change


def model_bytes(old, new):
    """Replaces bytes of the program by as many others."""

    def change(path):
        file = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
        content = file.read_bytes()
        assert old in content and len(old) == len(new)
        file.write_bytes(content.replace(old, new))

    return change


FAULTS = [
    ("check", "mlp_fp32", "no record where a constant looks for it", patch(64, b"\0\0\0\0")),
    ("check", "mlp_fp32", "weights of another type", patch(68, struct.pack("<I", 1))),
    ("check", "mlp_fp32", "no weights", lambda path: shutil.rmtree(weight_file(path).parent)),
    ("check", "mlp_fp32", "an operation that Core ML has not", model_bytes(b"softmax", b"softmix")),
    ("check", "mlp_fp32", "bytes after the last blob", lambda path: weight_file(path).open("ab").write(b"\1" * 5)),
    ("inspect", "mlp_fp32", "no program", lambda path: (path / "Data/com.apple.CoreML/model.mlmodel").write_bytes(b"\0")),
    ("floor", "mlp_fp32", "an operation that Core ML has not", model_bytes(b"softmax", b"softmix")),
    ("run", "mlp_fp32", "one weight of another value", patch(128, struct.pack("<f", 40.0))),
    ("run", "mlp_fp32", "relu in place of a hyperbolic tangent", model_bytes(b"\x0a\x04tanh", b"\x0a\x04relu")),
]


def selftest(folders):
    """Returns whether each fault is found by its check, and an intact package passes."""
    missed = []
    every = packages(folders)
    for name, model, fault, change in [(None, "mlp_fp32", "none", lambda path: None), *FAULTS]:
        package = [p for p in every if p.name == model][-1]
        with tempfile.TemporaryDirectory() as folder:
            verdict = Verdict(damaged(package, folder, change))
        found = verdict.problems[name] if name else sum(verdict.problems.values(), [])
        if bool(found) != bool(name):
            missed.append(f"{name}: {fault}: {found}")
    one = Verdict([p for p in every if p.name == "mlp_fp32"][-1])
    other = Verdict.__new__(Verdict)
    other.__dict__.update(one.__dict__, outputs={name: value * 1.001 for name, value in one.outputs.items()})
    if agree([one, one]) or not agree([one, other]):
        missed.append("agree: numbers that are 1e-3 off")
    for fault in missed:
        print(f"selftest: missed {fault}", file=sys.stderr)
    print(f"selftest: {len(FAULTS) + 1 - len(missed)} of {len(FAULTS) + 1} planted faults found")
    return not missed


def main():
    global BINARY
    parser = argparse.ArgumentParser()
    parser.add_argument("--microgpt", required=True)
    parser.add_argument("--selftest", action="store_true", help="only the planted faults")
    parser.add_argument("folders", nargs="+")
    options = parser.parse_args()
    BINARY = options.microgpt
    passed = selftest(options.folders)
    if not options.selftest:
        passed = judge(options.folders) and passed
    sys.exit(not passed)


if __name__ == "__main__":
    main()
