"""The shared part of `operations.py`, `layers.py` and `models.py`: writes a case's package, inputs and expected outputs."""

import json
import logging
import shutil
from pathlib import Path

logging.disable(logging.WARNING)

import coremltools as ct  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

HERE = Path(__file__).parent

torch.manual_seed(0)
torch.set_num_threads(1)


def write(name: str, model, steps: list[tuple[str, dict, dict]], tolerance: dict[str, dict] | None = None) -> None:
    """Writes `NAME.mlpackage` and `NAME.safetensors`.

    `steps` are calls, in order, on one state: a function's name, its inputs and its expected outputs. The safetensors file
    holds `STEP.in.INPUT` and `STEP.out.OUTPUT`. Its metadata holds the function of each step, and the bounds that differ from
    the suite's, with the reason.
    """
    package = HERE / f"{name}.mlpackage"
    if package.exists():
        shutil.rmtree(package)
    model.save(str(package))
    tidy(package)
    tensors = {}
    for number, (_, inputs, outputs) in enumerate(steps):
        for key, value in inputs.items():
            tensors[f"{number}.in.{key}"] = np.asarray(value, order="C")
        for key, value in outputs.items():
            tensors[f"{number}.out.{key}"] = np.asarray(value, order="C")
    metadata = {"functions": json.dumps([function for function, _, _ in steps])}
    if tolerance:
        metadata["tolerance"] = json.dumps(tolerance, sort_keys=True)
    save_file(tensors, str(HERE / f"{name}.safetensors"), metadata)


def tidy(package: Path) -> None:
    """Removes what changes from run to run: random identifiers, and the date and versions of the conversion."""
    manifest = package / "Manifest.json"
    text = json.loads(manifest.read_text())
    root, entries = text["rootModelIdentifier"], text["itemInfoEntries"]
    # Git keeps no empty folders, and a manifest must not list missing ones.
    kept = [i for i in entries if i == root or any((package / "Data" / entries[i]["path"]).iterdir())]
    renamed = {i: f"0000000{n}-0000-4000-8000-000000000000" for n, i in enumerate(sorted(kept, key=lambda i: i != root))}
    text["itemInfoEntries"] = {renamed[i]: entries[i] for i in kept}
    text["rootModelIdentifier"] = renamed[root]
    manifest.write_text(json.dumps(text, indent=4, sort_keys=True) + "\n")
    model = package / "Data/com.apple.CoreML/model.mlmodel"
    spec = ct.utils.load_spec(str(model))
    spec.description.metadata.userDefined.clear()
    spec.mlProgram.attributes.clear()
    model.write_bytes(spec.SerializeToString(deterministic=True))
