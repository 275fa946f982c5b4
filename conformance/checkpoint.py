"""Checkpoints as these scripts use them: a folder with `config.json`, `model.safetensors` and `tokenizer.json`."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Config:
    """Dimensions of a model, named as in `config.json`."""

    vocab_size: int
    n_embd: int
    n_head: int
    n_layer: int
    block_size: int
    rms_norm_eps: float
    model_type: str = "microgpt"

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.n_embd // self.n_head

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Shapes of every tensor of the checkpoint, `[out, in]` as PyTorch stores a Linear."""
        c = self.n_embd
        shapes = {"wte.weight": (self.vocab_size, c), "wpe.weight": (self.block_size, c)}
        for layer in range(self.n_layer):
            shapes |= {f"layers.{layer}.attn_{part}.weight": (c, c) for part in "qkvo"}
            shapes |= {f"layers.{layer}.mlp_fc1.weight": (4 * c, c), f"layers.{layer}.mlp_fc2.weight": (c, 4 * c)}
        return shapes | {"lm_head.weight": (self.vocab_size, c)}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's dimensions and its fp32 tensors."""

    path: Path
    config: Config
    weights: Weights

    @property
    def name(self) -> str:
        """The folder's name, for messages."""
        return self.path.name


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint; raises if a tensor is missing or its shape does not match the dimensions."""
    config = Config(**json.loads((path / "config.json").read_text()))
    weights = load_file(path / "model.safetensors")
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if found != config.shapes():
        raise ValueError(f"{path}: tensors {found}, expected {config.shapes()}")
    return Checkpoint(path, config, weights)


def write_random(path: Path, config: Config, tokenizer: Path, seed: int) -> None:
    """Writes a checkpoint with weights from N(0, 0.02): a large model in seconds, in files not written by Rust."""
    generator = np.random.default_rng(seed)
    weights = {
        name: np.float32(0.02) * generator.standard_normal(shape, dtype=np.float32)
        for name, shape in config.shapes().items()
    }
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    save_file(weights, path / "model.safetensors")
    shutil.copyfile(tokenizer, path / "tokenizer.json")
