#!/usr/bin/env python3
"""Writes coremltools 9.0's own table of operations as JSON, for `tests/registry.rs` to hold this crate's table against.

    pip install coremltools==9.0
    python make.py > operations.json

For every operation and opset in which it changed: each parameter with `const`, `optional`, the element types that it takes,
and the `domain` whose members must be of one type; what is no tensor (a list, a tuple, a block) has a `kind` instead.
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


def main() -> None:
    table = {}
    for name, versions in sorted(SSAOpRegistry.core_ops.items()):
        forms = {}
        for version, cls in sorted(versions.items(), key=lambda item: item[0].value):
            if version.name not in OPSETS:
                continue
            form = {param: parameter(cls, spec) for param, spec in cls.input_spec.input_types.items()}
            if not forms or list(forms.values())[-1] != form:
                forms[OPSETS[version.name]] = form
        table[name] = forms
    lines = (f"{json.dumps(name)}: {json.dumps(forms, separators=(',', ':'))}" for name, forms in table.items())
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
