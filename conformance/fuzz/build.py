"""Packages from configurations, written by coremltools 9.

Many configurations share one function, each with inputs and outputs of its own, so that the cost per package in coremltools and
the executor is paid only once. No optimization pass runs, so the package contains exactly what was drawn. coremltools' own
inference of shapes and types is compared with the oracle's.
"""

import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

logging.disable(logging.WARNING)

import numpy as np  # noqa: E402
from coremltools.converters.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil import input_types as ct_inputs  # noqa: E402
from coremltools.converters.mil._deployment_compatibility import AvailableTarget  # noqa: E402
from coremltools.converters.mil.backend.mil.load import load  # noqa: E402
from coremltools.converters.mil.mil import Function, Program, get_new_symbol, types  # noqa: E402
from coremltools.converters.mil.mil.types.symbolic import is_symbolic  # noqa: E402
from program import Config, Node, Ref  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

SUBBYTE = {name: getattr(types, f"np_{name}_dtype") for name in ("int4", "uint4", "uint1", "uint2", "uint3", "uint6")}
TYPES = {"fp16": types.fp16, "fp32": types.fp32, "int32": types.int32}


# Marks a configuration whose package has two functions.
TWO_FUNCTIONS = "two functions"


@dataclass
class Refused:
    """coremltools refuses a configuration, or infers other shapes or types than the oracle."""

    index: int
    reason: str


def operand(arg, env):
    """An argument in the form that the Builder accepts."""
    if isinstance(arg, list):
        return tuple(operand(one, env) for one in arg)
    if isinstance(arg, Ref):
        return env[arg.name]
    if arg.dtype == "string":
        return arg.value
    value = np.asarray(arg.value)
    if arg.dtype in SUBBYTE:
        value = value.astype(SUBBYTE[arg.dtype])
    return value[()] if value.ndim == 0 else value


def add(node: Node, env: dict) -> None:
    """Adds an operation to the current block."""
    args = {name: operand(arg, env) for name, arg in node.args.items()}
    if node.op == "cond":
        args["_true_fn"], args["_false_fn"] = (lambda b=b: nested(b, env, ()) for b in node.blocks)
    elif node.op == "while_loop":
        args["_cond"] = lambda *vars: nested(node.blocks[0], env, vars)[0]
        args["_body"] = lambda *vars: tuple(nested(node.blocks[1], env, vars))
    made = getattr(mb, node.op)(**args)
    made = list(made) if isinstance(made, list | tuple) else [made]
    env.update(zip(node.outputs, made))


def nested(block, env, vars):
    """Builds a nested block inside the Builder's callback; returns its results."""
    inner = env | dict(zip(block.params, vars))
    for node in block.nodes:
        add(node, inner)
    results = [inner[ref.name] for ref in block.outputs]
    return results if len(results) > 1 else results[0] if not block.params else results


def placeholders(prefix: str, config: Config) -> dict:
    """The inputs and states of a configuration, by their names in the package."""
    found = {}
    for name, given in config.inputs.items():
        shape = [get_new_symbol() if i in given.flexible else n for i, n in enumerate(given.values[0].shape)]
        found[prefix + name] = mb.placeholder(shape=tuple(shape), dtype=TYPES[given.dtype])
    for name, shape in config.states.items():
        found[prefix + name] = mb.state_tensor_placeholder(shape=shape, dtype=types.fp16)
    return found


def disagreement(config: Config, env: dict, expected) -> str | None:
    """Describes a shape or type that coremltools infers differently from the oracle."""
    for ref, (value, dtype) in zip(config.outputs, expected):
        var = env[ref.name]
        shape = tuple(var.shape)
        fits = len(shape) == np.ndim(value) and all(
            is_symbolic(a) or int(a) == b for a, b in zip(shape, np.shape(value))
        )
        if not fits or types.builtin_to_string(var.dtype) != dtype:
            return f"coremltools infers {types.builtin_to_string(var.dtype)}{list(shape)}, the oracle gives {dtype}{list(np.shape(value))}"
    return None


def function_of(configs: dict[int, Config], expected=None, prefix="c{}_"):
    """Builds a function with inputs and outputs for each of the numbered configurations; returns it and the refused ones.

    A refused configuration may leave half a block in the function, which must then not be used.
    """
    inputs = {}
    for index, config in configs.items():
        inputs |= placeholders(prefix.format(index), config)
    function = Function(inputs, opset_version=AvailableTarget[next(iter(configs.values())).opset])
    refused = []
    with function:
        outputs = []
        for index, config in configs.items():
            env = {name: function.inputs[prefix.format(index) + name] for name in (*config.inputs, *config.states)}
            try:
                for node in config.nodes:
                    add(node, env)
                wrong = disagreement(config, env, expected[index]) if expected else None
            except Exception as error:
                # Any exception of coremltools means that it does not accept this program.
                wrong = f"{type(error).__name__}: {error}"[:300]
            if wrong:
                refused.append(Refused(index, wrong))
                continue
            for k, ref in enumerate(config.outputs):
                env[ref.name].name = prefix.format(index) + f"o{k}"
                outputs.append(env[ref.name])
        function.set_outputs(outputs)
    return function, refused


def flexible_types(configs: dict[int, Config], prefix: str) -> list:
    """The open shapes of inputs, as coremltools needs them."""
    found = []
    for index, config in configs.items():
        for name, given in config.inputs.items():
            if given.flexible:
                dims = [
                    ct_inputs.RangeDim(1, n + 9, default=n + 1) if i in given.flexible else n
                    for i, n in enumerate(given.values[0].shape)
                ]
                found.append(ct_inputs.TensorType(name=prefix.format(index) + name, shape=dims))
    return found


def write(configs: list[Config], folder: Path, expected=None, prefix="c{}_") -> list[Refused]:
    """Writes `model.mlpackage`, `calls.json` and the inputs of every call; returns what coremltools refuses.

    Names of inputs and outputs begin with `prefix`, which contains the configuration's number. All configurations have the same
    opset and the same number of calls.
    """
    shutil.rmtree(folder, ignore_errors=True)
    inside = folder / "model.mlpackage/Data/com.apple.CoreML"
    (inside / "weights").mkdir(parents=True)
    program = Program()
    taken = dict(enumerate(configs))
    function, refused = function_of(taken, expected, prefix)
    if len(refused) == len(configs):
        return refused
    if refused:
        taken = {index: config for index, config in taken.items() if index not in {one.index for one in refused}}
        function, _ = function_of(taken, expected, prefix)
    names = ["main"]
    program.add_function("main", function)
    if TWO_FUNCTIONS in configs[0].notes:
        # A second, equal function on the same weights and states; calls alternate between the two.
        names = ["second", "main"]
        second, _ = function_of(taken, None, prefix)
        program.add_function("second", second)
        program.export_as_multifunction = True
    for one in program.functions.values():
        one.input_types = flexible_types(taken, prefix)
        for number, op in enumerate(one.find_ops(op_type="const")):
            op.weight_id = str(number)
    spec = load(program, str(inside / "weights"), specification_version=configs[0].version, convert_to="mlprogram")
    (inside / "model.mlmodel").write_bytes(spec.SerializeToString(deterministic=True))
    weights = (inside / "weights/weight.bin").exists()
    if not weights:
        os.rmdir(inside / "weights")
    (folder / "model.mlpackage/Manifest.json").write_text(manifest(weights))
    (folder / "calls.json").write_text(json.dumps([names[call % len(names)] for call in range(configs[0].calls)]))
    for call in range(configs[0].calls):
        tensors = {
            prefix.format(index) + name: np.ascontiguousarray(given.values[call])
            for index, config in taken.items()
            for name, given in config.inputs.items()
        }
        save_file(tensors, str(folder / f"x-{call}.safetensors"))
    return refused


def manifest(weights: bool) -> str:
    """A manifest with fixed identifiers."""
    entries = {"00000000-0000-4000-8000-000000000000": ("CoreML Model Specification", "model.mlmodel")}
    if weights:
        entries["00000001-0000-4000-8000-000000000000"] = ("CoreML Model Weights", "weights")
    text = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            key: {"author": "com.apple.CoreML", "description": words, "name": name, "path": f"com.apple.CoreML/{name}"}
            for key, (words, name) in entries.items()
        },
        "rootModelIdentifier": next(iter(entries)),
    }
    return json.dumps(text, indent=4, sort_keys=True) + "\n"
