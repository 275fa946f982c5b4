#!/usr/bin/env python3
"""microGPT in PyTorch, to compare this project's training with.

    python3 -m venv .venv && .venv/bin/pip install torch safetensors
    .venv/bin/python crates/microgpt-model/tests/pytorch/reference.py make      # writes the committed checkpoint and losses
    cargo build --release
    .venv/bin/python crates/microgpt-model/tests/pytorch/reference.py compare   # runs both

`make` draws initial weights, writes them as a checkpoint beside this file, trains 50 steps from them in f64 and writes the
losses; `tests/pytorch/main.rs` trains from the same checkpoint and must reproduce them. `compare` trains with both again, loads
the weights that `microgpt train` wrote into the PyTorch model, and compares weights and losses.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
NAMES = ROOT / "crates/microgpt-model/data/names.txt"
STEPS = 50

# The models, and their recipes by the option names of `microgpt train`.
CASES = {
    "original": {
        "model": {"n_embd": 16, "n_head": 4, "n_layer": 1, "block_size": 16},
        "recipe": {"batch_size": 1, "learning_rate": 0.01},
    },
    "regularised": {
        "model": {"n_embd": 24, "n_head": 3, "n_layer": 2, "block_size": 8},
        "recipe": {
            "batch_size": 8,
            "learning_rate": 0.02,
            "schedule": "cosine",
            "warmup": 5,
            "weight_decay": 0.1,
            "clip_norm": 1.0,
        },
    },
}


class Layer(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        c = config["n_embd"]
        linear = lambda inputs, outputs: nn.Linear(inputs, outputs, bias=False)
        self.attn_q, self.attn_k, self.attn_v, self.attn_o = (linear(c, c) for _ in range(4))
        self.mlp_fc1, self.mlp_fc2 = linear(c, 4 * c), linear(4 * c, c)
        self.heads, self.eps = config["n_head"], config["rms_norm_eps"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t, c = x.shape
        split = lambda y: y.view(t, self.heads, c // self.heads).transpose(0, 1)
        h = norm(x, self.eps)
        q, k, v = split(self.attn_q(h)), split(self.attn_k(h)), split(self.attn_v(h))
        scores = q @ k.transpose(1, 2) / math.sqrt(c // self.heads)
        scores = scores.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -math.inf)
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(t, c)
        x = x + self.attn_o(mixed)
        return x + self.mlp_fc2(F.relu(self.mlp_fc1(norm(x, self.eps))))


class Gpt(nn.Module):
    """Maps a sequence of token ids `[T]` to logits `[T, V]`."""

    def __init__(self, config: dict):
        super().__init__()
        c = config["n_embd"]
        self.wte = nn.Embedding(config["vocab_size"], c)
        self.wpe = nn.Embedding(config["block_size"], c)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config["n_layer"]))
        self.lm_head = nn.Linear(c, config["vocab_size"], bias=False)
        self.eps = config["rms_norm_eps"]

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = norm(self.wte(tokens) + self.wpe(torch.arange(len(tokens))), self.eps)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x)


def norm(x: torch.Tensor, eps: float) -> torch.Tensor:
    return x * (x.pow(2).mean(-1, keepdim=True) + eps).rsqrt()


def examples(names: list[str], block_size: int) -> list[torch.Tensor]:
    """Encodes documents as ids between two BOS, truncated to the predictions that fit the context."""
    characters = sorted(set("".join(names)))
    ids = {c: i for i, c in enumerate(characters)}
    bos = len(characters)
    return [torch.tensor([bos, *(ids[c] for c in name), bos][: block_size + 1]) for name in names]


def loss_of(model: Gpt, batch: list[torch.Tensor]) -> torch.Tensor:
    """Returns the mean loss over all predictions of the batch."""
    total = sum(F.cross_entropy(model(tokens[:-1]), tokens[1:], reduction="sum") for tokens in batch)
    return total / sum(len(tokens) - 1 for tokens in batch)


def rate(recipe: dict, step: int) -> float:
    warmup = recipe.get("warmup", 0)
    if step < warmup:
        return recipe["learning_rate"] * (step + 1) / (warmup + 1)
    done = (step - warmup) / (STEPS - warmup)
    falling = 0.5 + 0.5 * math.cos(math.pi * done) if recipe.get("schedule") == "cosine" else 1 - done
    return recipe["learning_rate"] * falling


def train(model: Gpt, recipe: dict, data: list[torch.Tensor]) -> list[float]:
    decay = recipe.get("weight_decay", 0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.85, 0.99), eps=1e-8, weight_decay=decay)
    losses = []
    for step in range(STEPS):
        size = recipe["batch_size"]
        loss = loss_of(model, [data[(step * size + i) % len(data)] for i in range(size)])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        if "clip_norm" in recipe:
            nn.utils.clip_grad_norm_(model.parameters(), recipe["clip_norm"])
        for group in optimizer.param_groups:
            group["lr"] = rate(recipe, step)
        optimizer.step()
    return losses


def tokenizer_json(characters: list[str]) -> dict:
    """Returns the `tokenizer.json` that `microgpt-model` writes for these characters."""
    bos = len(characters)
    special = lambda: {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    sequence = lambda name: {"Sequence": {"id": name, "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": bos,
                "content": "<bos>",
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(?s)."}, "behavior": "Isolated", "invert": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special(), sequence("A")],
            "pair": [special(), sequence("A"), special(), sequence("B")],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [bos], "tokens": ["<bos>"]}},
        },
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "WordLevel",
            "vocab": {c: i for i, c in enumerate(characters)} | {"<bos>": bos},
            "unk_token": "<unk>",
        },
    }


def load(folder: Path, dtype: torch.dtype) -> tuple[dict, Gpt]:
    config = json.loads((folder / "config.json").read_text())
    model = Gpt(config).to(dtype)
    weights = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(weights, strict=True)
    return config, model


def make() -> None:
    names = NAMES.read_text().split()
    for seed, (case, what) in enumerate(CASES.items()):
        folder = HERE / case
        folder.mkdir(exist_ok=True)
        characters = sorted(set("".join(names)))
        config = {"model_type": "microgpt", "vocab_size": len(characters) + 1, **what["model"], "rms_norm_eps": 1e-5}
        torch.manual_seed(seed)
        model = Gpt(config)
        for parameter in model.parameters():
            nn.init.normal_(parameter, 0.0, 0.08)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(characters), indent=2) + "\n")
        save_file(model.state_dict(), folder / "model.safetensors", {"format": "pt"})
        _, model = load(folder, torch.float64)
        losses = train(model, what["recipe"], examples(names, config["block_size"]))
        about = f"PyTorch {torch.__version__}, f64"
        (folder / "losses.json").write_text(json.dumps({"by": about, **what["recipe"], "losses": losses}, indent=1) + "\n")
        print(f"{case}: {losses[0]:.6f} to {losses[-1]:.6f}")


def compare(microgpt: Path) -> None:
    names = NAMES.read_text().split()
    for case, what in CASES.items():
        folder = HERE / case
        config, model = load(folder, torch.float64)
        data = examples(names, config["block_size"])
        theirs = train(model, what["recipe"], data)
        with tempfile.TemporaryDirectory() as out:
            ours = Path(out) / "checkpoint"
            recipe = [f"--{k.replace('_', '-')}={v}" for k, v in what["recipe"].items()]
            options = ["--init", folder, "--data", NAMES, "--no-shuffle", "--held-out", "0", f"--steps={STEPS}"]
            subprocess.run([microgpt, "train", *options, *recipe, "--out", ours], check=True, capture_output=True)
            losses = [json.loads(line)["loss"] for line in (ours / "metrics.jsonl").read_text().splitlines()]
            largest = max(abs(a - b) for a, b in zip(losses, theirs, strict=True))
            _, trained = load(ours, torch.float32)
            weights = max((a - b).abs().max().item() for a, b in zip(trained.parameters(), model.parameters()))
            probe = data[:200]
            again = [loss_of(m, probe).item() for m in (trained, model)]
        print(f"{case}: losses of {STEPS} steps differ by {largest:.1e} at most, the weights after them by {weights:.1e}")
        print(f"  ours, loaded by PyTorch: loss {again[0]:.6f} on 200 documents; PyTorch's own: {again[1]:.6f}")
        if largest > 1e-4:
            sys.exit("more than 1e-4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "compare"])
    parser.add_argument("--microgpt", type=Path, default=ROOT / "target/release/microgpt")
    args = parser.parse_args()
    make() if args.what == "make" else compare(args.microgpt)


if __name__ == "__main__":
    main()
