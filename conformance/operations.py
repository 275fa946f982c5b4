#!/usr/bin/env python3
"""Has coremltools load a package of every operation in `mlpackage`'s table, each in the opset of its arguments.

    operations.py FOLDER        the packages that `cargo test -p mlpackage --test integration every_operation::` wrote

The loader infers the type and shape of every result, and compares them with those that the file declares. Exits with 1 if
it refuses a package.
"""

import logging
import os
import sys
from pathlib import Path

logging.disable(logging.WARNING)
os.environ.setdefault("TQDM_DISABLE", "1")

import coremltools as ct  # noqa: E402
from coremltools.converters.mil.frontend.milproto import load as milproto  # noqa: E402
from coremltools.libmodelpackage import ModelPackage  # noqa: E402


def refusal(package: Path) -> str | None:
    """Returns why coremltools refuses a package; None if it does not."""
    if not ModelPackage.isValid(str(package)):
        return "ModelPackage finds it invalid"
    try:
        model = ct.models.MLModel(str(package), skip_model_load=True)
        spec = model.get_spec()
        program = milproto.load(spec, spec.specificationVersion, model.weights_dir)
    except Exception as error:  # any exception: a package on which coremltools fails is a bad package
        return f"{type(error).__name__}: {error}"
    # There, one operation reads and writes a state.
    aliases = {"write_state": "coreml_update_state"}
    name = aliases.get(package.stem, package.stem)
    found = {operation.op_type for operation in program.functions["main"].operations}
    return None if name in found else f"it has no {name}: {sorted(found)}"


def main() -> int:
    packages = sorted(Path(sys.argv[1]).glob("*.mlpackage"))
    if not packages:
        sys.exit(f"{sys.argv[1]}: no packages")
    refused = [(package, why) for package in packages if (why := refusal(package)) is not None]
    for package, why in refused:
        print(f"FAILED {package.name}: {why}")
    print(f"operations: {len(packages) - len(refused)} of {len(packages)} packages load")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
