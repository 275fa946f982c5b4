"""Findings: detected among many configurations, confirmed individually, reduced, and written as complete cases."""

import copy
import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import build
import numpy as np
import oracle
from evaluate import ARITHMETICS, Run, expect, off
from generate.base import FP32_DEFAULTS
from program import STORAGE, Config, Const, Input, Node, Ref, Rejected, refs_of
from runner import Runner
from safetensors.numpy import save_file


# The counts: elements that are compared, elements whose values depend on a rounding, and configurations without a defined result.
COMPARED, UNKNOWN, UNDEFINED = "compared", "unknown", "undefined"
# Phrases with which an empty tensor may be refused.
EMPTY = ("no elements", "without elements", "with nothing")


@dataclass
class Finding:
    """A configuration that the executor refuses, or whose results differ from the oracle's."""

    config: Config
    # The problem, by variant.
    wrong: dict[str, str]
    # The excess of the worst variant.
    excess: float = 0.0
    small: Config | None = None
    path: Path | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def signature(self) -> str:
        """Identifies findings with one cause: the operations of the smallest program, the variants, and the message."""
        config = self.small or self.config
        ops = "+".join(node.op for node in config.nodes if not (node.op == "cast" and node is not config.nodes[0]))
        words = {"differs" if w.startswith("differs") else cause(w)[-90:] for w in self.wrong.values()}
        return f"{ops} | {','.join(self.wrong)} | {' / '.join(sorted(words))[:160]}"


def differences(
    config: Config, outcomes, index: int, thorough=False, counted: Counter | None = None
) -> tuple[dict[str, str], float]:
    """By variant, how a configuration's results differ from the expected ones. `counted` receives how many elements are compared, and
    how many are not because roundings decide them."""
    wrong, worst, cache = {}, 0.0, {}
    for variant, outcome in outcomes.items():
        if outcome.error and "empty" in config.notes and any(words in outcome.error for words in EMPTY):
            continue
        if outcome.error:
            wrong[variant] = outcome.error
            worst = np.inf
            continue
        key = "fast" if variant == "unfused" else variant
        if key not in cache:
            cache[key] = expect(config, variant, *((40, 8.0) if thorough else ()))
        for call, outputs in enumerate(cache[key]):
            for k, expected in enumerate(outputs):
                found = outcome.outputs[f"{call}.c{index}_o{k}"]
                excess = off(found, expected)
                if counted is not None:
                    unknown = int(np.isnan(expected.bound).sum())
                    counted.update({COMPARED: expected.bound.size - unknown, UNKNOWN: unknown})
                if excess and variant not in wrong:
                    worst = max(worst, excess[0])
                    wrong[variant] = describe(found, expected, excess, call, k)
    return wrong, worst


def describe(found, expected, excess, call, k) -> str:
    if found.shape != expected.value.shape:
        return f"differs: o{k} of call {call} is {list(found.shape)}, expected {list(expected.value.shape)}"
    times, place = excess
    return (
        f"differs: o{k}{list(place)} of call {call} is {found[place]!s}, expected {expected.value[place]!s} "
        f"within {expected.bound[place]:.2g} ({times:.3g} times that)"
    )


def alone(config: Config, runner: Runner, folder: Path, thorough=True) -> tuple[dict[str, str], float]:
    """Runs a configuration in a package of its own; returns its problems."""
    if build.write([config], folder):
        return {}, 0.0
    return differences(config, runner.run(folder), 0, thorough)


def kind(wrong: dict[str, str]) -> set[tuple[str, str]]:
    """The variants that differ, and those that refuse, with the reason."""
    return {(variant, "differs" if text.startswith("differs") else cause(text)) for variant, text in wrong.items()}


def cause(error: str) -> str:
    """An error message without the parts that vary between programs: names, numbers and paths."""
    return re.sub(r"/\S+|%\w+,?|[\d.]+|\s|[\[\],?-]", "", error)


class Shrinker:
    """Reduces a finding's program while at least one variant fails in the same way."""

    def __init__(self, runner: Runner, folder: Path, wanted: dict[str, str], budget: int = 120):
        self.runner, self.folder, self.wanted, self.budget = runner, folder, kind(wanted), budget

    def still(self, config: Config) -> bool:
        if self.budget <= 0 or not config.nodes:
            return False
        self.budget -= 1
        try:
            return bool(kind(alone(config, self.runner, self.folder)[0]) & self.wanted)
        except (Rejected, oracle.Unsupported, ValueError, IndexError, KeyError, ZeroDivisionError):
            return False

    def shrink(self, config: Config) -> Config:
        for change in (
            self.one_function,
            self.one_output,
            self.shorter,
            self.fewer_operations,
            self.plain_weights,
            self.fewer_arguments,
            self.rounder_values,
        ):
            config = change(config)
        return config

    def attempt(self, config: Config, changed: Config | None) -> Config:
        return changed if changed is not None and self.still(changed) else config

    def one_function(self, config: Config) -> Config:
        fewer = copy.copy(config)
        fewer.notes = config.notes - {build.TWO_FUNCTIONS}
        return self.attempt(config, fewer) if fewer.notes != config.notes else config

    def one_output(self, config: Config) -> Config:
        for ref in list(config.outputs):
            if len(config.outputs) > 1:
                one = copy.copy(config)
                one.outputs = [ref]
                one = swept(one)
                if self.still(one):
                    return one
        return config

    def shorter(self, config: Config) -> Config:
        """Ends the program earlier."""
        run = Run(config.version, ARITHMETICS["f32"])
        run.call(config, 0)
        for i, node in enumerate(config.nodes[:-1]):
            value, dtype = run.env[node.outputs[0]]
            if node.op.startswith("constexpr_") or isinstance(value, list):
                continue
            short = copy.copy(config)
            short.nodes, short.outputs = list(config.nodes[: i + 1]), [Ref(node.outputs[0])]
            if dtype not in ("fp32", "int32") and (dtype != "fp16" or config.version < 7):
                target = Const("fp32" if dtype == "fp16" else "int32", "string")
                short.nodes.append(Node("cast", {"x": short.outputs[0], "dtype": target}, ["end"]))
                short.outputs = [Ref("end")]
            short = swept(short)
            if self.still(short):
                return short
        return config

    def fewer_operations(self, config: Config) -> Config:
        """Replaces intermediate values by inputs, and removes the operations that made them; removes the last operations."""
        for node in list(reversed(config.nodes[:-1])):
            for name in node.outputs:
                if node in config.nodes:
                    config = self.attempt(config, cut(config, name))
        return config

    def plain_weights(self, config: Config) -> Config:
        """Replaces compressed weights by plain ones."""
        for node in list(config.nodes):
            if node.op.startswith("constexpr_") and node in config.nodes:
                config = self.attempt(config, folded(config, node))
        return config

    def fewer_arguments(self, config: Config) -> Config:
        """Removes optional arguments."""
        for i, node in enumerate(config.nodes):
            for name in list(node.args):
                fewer = copy.copy(config)
                fewer.nodes = list(config.nodes)
                args = {k: v for k, v in node.args.items() if k != name}
                if not args or name in FP32_DEFAULTS.get(node.op, ()):
                    continue
                fewer.nodes[i] = Node(node.op, args, node.outputs, node.blocks)
                kept = self.attempt(config, swept(fewer))
                if kept is not config and len(kept.nodes) == len(config.nodes):
                    config, node = kept, kept.nodes[i]
                elif kept is not config:
                    return self.fewer_arguments(kept)
        return config

    def rounder_values(self, config: Config) -> Config:
        """Replaces inputs by values that are short to write."""
        for name, given in config.inputs.items():
            if given.dtype == "int32":
                continue
            for digits in (0, 1):
                rounder = copy.copy(config)
                rounder.inputs = dict(config.inputs)
                values = [np.round(v.astype(np.float64), digits).astype(v.dtype) for v in given.values]
                rounder.inputs[name] = Input(values, given.dtype, given.flexible)
                kept = self.attempt(config, rounder)
                if kept is not config:
                    config = kept
                    break
        return config


def swept(config: Config) -> Config:
    """Removes operations, inputs and states that nothing uses."""
    used = {ref.name for ref in config.outputs}
    nodes = []
    for node in reversed(config.nodes):
        if used & set(node.outputs) or node.op == "coreml_update_state":
            nodes.append(node)
            used |= {ref.name for ref in refs_of(node)}
    result = copy.copy(config)
    result.nodes = nodes[::-1]
    result.inputs = {name: given for name, given in config.inputs.items() if name in used}
    result.states = {name: shape for name, shape in config.states.items() if name in used}
    return result


def cut(config: Config, name: str) -> Config | None:
    """Turns an intermediate value into an input."""
    if config.states or config.calls > 1:
        return None
    run = Run(config.version, ARITHMETICS["f16"])
    run.call(config, 0)
    value, dtype = run.env[name]
    if isinstance(value, list) or np.ndim(value) == 0 or np.size(value) == 0:
        return None
    fits = dtype in ("fp32", "int32") or (dtype == "fp16" and config.version >= 7)
    outer = dtype if fits else "int32" if dtype in ("bool", "int8", "uint8", "int16", "uint16") else "fp32"
    if outer not in ("fp32", "fp16", "int32"):
        return None
    stored = np.asarray(value).astype(STORAGE[dtype]).astype(STORAGE[outer])
    result = copy.copy(config)
    result.nodes = [node for node in config.nodes if name not in node.outputs or len(node.outputs) > 1]
    if any(name in node.outputs for node in result.nodes):
        return None
    if fits:
        result.inputs = config.inputs | {name: Input([stored], dtype)}
    else:
        inner = f"{name}_given"
        result.inputs = config.inputs | {inner: Input([stored], outer)}
        result.nodes.insert(0, Node("cast", {"x": Ref(inner), "dtype": Const(dtype, "string")}, [name]))
    result = swept(result)
    return result if len(result.nodes) < len(config.nodes) else None


def folded(config: Config, node: Node) -> Config | None:
    """Replaces a compressed weight by a plain constant."""
    run = Run(config.version, ARITHMETICS["f16"])
    run.call(config, 0)
    values = {}
    for name in node.outputs:
        value, dtype = run.env[name]
        if dtype not in ("fp16", "fp32"):
            return None
        values[name] = Const(np.asarray(value).astype(STORAGE[dtype]), dtype)
    replace = lambda a: (
        [replace(one) for one in a] if isinstance(a, list) else values.get(a.name, a) if isinstance(a, Ref) else a
    )  # noqa: E731
    result = copy.copy(config)
    result.nodes = [
        Node(n.op, {k: replace(v) for k, v in n.args.items()}, n.outputs, n.blocks)
        for n in config.nodes
        if n is not node
    ]
    return swept(result)


def text(config: Config) -> str:
    """A program as text."""
    lines = []
    for name, given in config.inputs.items():
        open_axes = f" (open: {list(given.flexible)})" if given.flexible else ""
        lines.append(f"{name}: {given.dtype}{list(given.values[0].shape)}{open_axes}")
    for name, shape in config.states.items():
        lines.append(f"{name}: state fp16{list(shape)}")

    def shown(arg):
        if isinstance(arg, list):
            return "(" + ", ".join(map(shown, arg)) + ")"
        if isinstance(arg, Ref):
            return f"%{arg.name}"
        if arg.dtype == "string":
            return f'"{arg.value}"'
        small = np.size(arg.value) <= 8
        return f"{arg.dtype}{list(np.shape(arg.value))}" + (f"={np.asarray(arg.value).tolist()}" if small else "")

    def walk(nodes, indent):
        for node in nodes:
            args = ", ".join(f"{name}={shown(arg)}" for name, arg in node.args.items())
            lines.append(f"{indent}{', '.join('%' + n for n in node.outputs)} = {node.op}({args})")
            for block in node.blocks:
                lines.append(f"{indent}  block({', '.join(block.params)}):")
                walk(block.nodes, indent + "    ")
                lines.append(f"{indent}    -> {', '.join('%' + r.name for r in block.outputs)}")

    walk(config.nodes, "")
    lines.append("-> " + ", ".join(f"%{ref.name}" for ref in config.outputs))
    return "\n".join(lines)


def write_case(finding: Finding, name: str, folder: Path) -> Path:
    """Writes a folder with `model.mlpackage`, `x.safetensors`, `y.safetensors` and `note.md`.

    The expected values are exact; with several calls, tensors have a leading axis of calls.
    """
    config = finding.small or finding.config
    path = folder / name
    shutil.rmtree(path, ignore_errors=True)
    build.write([config], path, prefix="")
    for left in (*path.glob("x-*.safetensors"), path / "calls.json"):
        left.unlink()
    run = Run(config.version, ARITHMETICS["f32"])
    outputs = [run.call(config, n) for n in range(config.calls)]
    several = config.calls > 1
    join = lambda arrays: np.ascontiguousarray(np.stack(arrays) if several else arrays[0])  # noqa: E731
    save_file({n: join(given.values) for n, given in config.inputs.items()}, str(path / "x.safetensors"))
    y = {}
    for k in range(len(config.outputs)):
        dtype = "fp32" if outputs[0][k][1] in ("fp16", "fp32") else "int32"
        y[f"o{k}"] = join([np.asarray(out[k][0]).astype(STORAGE[dtype]) for out in outputs])
    save_file(y, str(path / "y.safetensors"))
    steps = config.calls if several else None
    function = "second" if build.TWO_FUNCTIONS in config.notes else None
    (path / "meta.json").write_text(
        json.dumps({"tol": 2e-5, "tolf16": 4e-3, "steps": steps, "function": function}) + "\n"
    )
    wrong = "\n".join(f"* `{variant}`: {what}" for variant, what in finding.wrong.items())
    (path / "note.md").write_text(
        f"# {name.replace('_', ' ')}\n\nFound by conformance/fuzz, configuration `{config.seed}`, opset {config.opset}.\n"
        f"Expected: numpy in float64, from coremltools' documentation.\n\n{wrong}\n\n```\n{text(config)}\n```\n\n"
        f"Command: `microgpt run model.mlpackage --inputs x.safetensors --out y.safetensors"
        f"{f' --steps {steps}' if steps else ''}`\n"
    )
    finding.path = path
    return path
