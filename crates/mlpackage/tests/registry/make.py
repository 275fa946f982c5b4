#!/usr/bin/env python3
"""Writes coremltools 9.0's operation registry as JSON, with which `tests/integration/registry.rs` compares this crate's table.

    pip install coremltools==9.0
    python make.py > operations.json
    python make.py --defaults > defaults.json
    python make.py --documented > documented.json

For every operation and every opset in which it changed, lists each parameter with `const`, `optional`, its element types, and
the `domain` whose members must have the same type. A parameter that is not a tensor (a list, a tuple, a block) has a `kind` instead.

With `--defaults`, for every operation and opset in which they changed: what parameters that are scalars are when they are left
out. A default that follows from other arguments, such as one stride for each axis, is not among them.
With `--documented`, the opsets in which each operation has a form, and so a documentation, of its own.
"""

import json
import logging
import sys

logging.disable(logging.WARNING)

from coremltools.converters.mil.mil import types  # noqa: E402
from coremltools.converters.mil.mil.input_type import TensorInputType  # noqa: E402
from coremltools.converters.mil.mil.ops import defs  # noqa: E402, F401
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry  # noqa: E402

OPSETS = {"iOS15": "CoreML5", "iOS16": "CoreML6", "iOS17": "CoreML7", "iOS18": "CoreML8", "iOS26": "CoreML9"}


def parameter(operation, spec) -> dict:
    entry = {"const": bool(spec.const), "optional": bool(spec.optional)}
    if not isinstance(spec, TensorInputType):
        return entry | {"kind": type(spec).__name__}
    allowed = spec.type_domain
    if spec.type_domain_id is not None:
        entry["domain"] = spec.type_domain_id
        allowed = operation.type_domains[spec.type_domain_id]
    entry["types"] = sorted(types.builtin_to_string(t) for t in (allowed if isinstance(allowed, tuple) else (allowed,)))
    return entry


class Shaped:
    """Replaces an argument whose rank a default depends on."""

    dtype = types.fp32
    rank = 4
    shape = (1, 2, 3, 4)
    val = None


def defaults(operation) -> dict:
    """Returns the scalar defaults. Most do not depend on the arguments, but only an instance provides them."""
    instance = operation.__new__(operation)
    for param in operation.input_spec.input_types:
        setattr(instance, param, None)
    for param in ("x", "weight", "boxes"):
        if param in operation.input_spec.input_types:
            setattr(instance, param, Shaped())
    if not hasattr(operation, "default_inputs"):
        return {}
    found = {}
    for param, value in instance.default_inputs().items():
        value = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
        if isinstance(value, (bool, int, float, str)):
            found[param] = value
    return found


def parameters(operation) -> dict:
    return {param: parameter(operation, spec) for param, spec in operation.input_spec.input_types.items()}


def documented() -> dict:
    """Returns the opsets in which coremltools has a class for each operation, without internal operations."""
    internal = {"const", "_const_symbolic", "coreml_update_state", "conv_quantized"}
    table = {}
    for name, versions in sorted(SSAOpRegistry.core_ops.items()):
        if name in internal:
            continue
        forms = table.setdefault(name, [])
        before = None
        for version, cls in sorted(versions.items(), key=lambda item: item[0].value):
            if version.name in OPSETS and cls is not before:
                forms.append(OPSETS[version.name])
                before = cls
    # `write_state` is the other half of this operation, which is split when a program is written.
    table["write_state"] = table["read_state"]
    return dict(sorted(table.items()))


def main() -> None:
    if "--documented" in sys.argv[1:]:
        lines = (f"{json.dumps(name)}: {json.dumps(opsets)}" for name, opsets in documented().items())
        sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")
        return
    table = {}
    describe = defaults if "--defaults" in sys.argv[1:] else parameters
    for name, versions in sorted(SSAOpRegistry.core_ops.items()):
        forms = {}
        for version, cls in sorted(versions.items(), key=lambda item: item[0].value):
            if version.name not in OPSETS:
                continue
            form = describe(cls)
            if not forms or list(forms.values())[-1] != form:
                forms[OPSETS[version.name]] = form
        if any(forms.values()):
            table[name] = forms
    lines = (f"{json.dumps(name)}: {json.dumps(forms, separators=(',', ':'))}" for name, forms in table.items())
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
