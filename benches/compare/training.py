#!/usr/bin/env python3
"""Trains the same models with this project and with PyTorch, interleaved, on this machine.

    python3 -m venv .venv && .venv/bin/pip install numpy torch
    cargo build --release
    .venv/bin/python benches/compare/training.py [--threads 2] [--rounds 3] [--data names.txt]

There are three kinds of work: the scaled preset on running text, whose windows fill the context (batches of 8 and 32); the
scaled preset on names (32 of them); and the original preset with one name per step. A PyTorch step is a forward pass, cross
entropy, a backward pass and its own Adam, eager, with its fused attention; names are padded to the longest of the batch, as in
a typical data loader. Each of the two runs in a process of its own, and they take turns. The script prints medians of rounds
and, since the machine's speed may drift, medians of ratios within a round.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MICROGPT = ROOT / "target/release/microgpt"
NAMES = ROOT / "crates/microgpt-model/data/names.txt"

SCALED = {"preset": "scaled", "n_embd": 512, "n_head": 8, "n_layer": 6, "block_size": 64}
ORIGINAL = {"preset": "original", "n_embd": 16, "n_head": 4, "n_layer": 1, "block_size": 16}
WORK = [
    ("scaled, 8 windows of 64", SCALED | {"batch": 8, "packed": True, "steps": 12}),
    ("scaled, 32 windows of 64", SCALED | {"batch": 32, "packed": True, "steps": 6}),
    ("scaled, 32 names", SCALED | {"batch": 32, "packed": False, "steps": 24}),
    ("original, 1 name", ORIGINAL | {"batch": 1, "packed": False, "steps": 2000}),
]


def ours(work: dict, data: Path, threads: int) -> dict:
    """Returns milliseconds per step, and peak memory in megabytes."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["train", "--preset", work["preset"], "--data", data, "--steps", work["steps"]]
        arguments += ["--batch-size", work["batch"], "--held-out", "0", "--json", "--sample-every", "0"]
        arguments += ["--block-size", work["block_size"]]
        arguments += ["--packed"] if work["packed"] else []
        arguments += ["--out", Path(folder) / "checkpoint"]
        environment = {"RAYON_NUM_THREADS": str(threads), "PATH": "/usr/bin:/bin"}
        with (Path(folder) / "report.json").open("w+") as out, (Path(folder) / "errors").open("w+") as err:
            process = subprocess.Popen([str(a) for a in [MICROGPT, *arguments]], stdout=out, stderr=err, env=environment)
            _, status, usage = os.wait4(process.pid, 0)
            out.seek(0), err.seek(0)
            if status:
                sys.exit(err.read())
            report = json.load(out)
        return {"ms": 1e3 * report["seconds"] / report["steps"], "mb": usage.ru_maxrss / 1e3}


def torch_worker(work: dict, data: str, threads: int) -> None:
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    c, heads, context = work["n_embd"], work["n_head"], work["block_size"]
    text = Path(data).read_text()
    characters = sorted(set(text if work["packed"] else text.replace("\n", "")))
    ids, bos = {ch: i for i, ch in enumerate(characters)}, len(characters)
    vocab = bos + 1
    if work["packed"]:
        stream = [ids[ch] for ch in text]
        examples = [[bos, *stream[i : i + context]] for i in range(0, len(stream) - context, context)]
    else:
        examples = [[bos, *(ids[ch] for ch in name), bos][: context + 1] for name in text.split()]

    norm = lambda x: x * (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt()

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.ModuleList(nn.Linear(c, c, bias=False) for _ in range(3))
            self.out, self.up = nn.Linear(c, c, bias=False), nn.Linear(c, 4 * c, bias=False)
            self.down = nn.Linear(4 * c, c, bias=False)

        def forward(self, x):
            b, t, _ = x.shape
            h = norm(x)
            q, k, v = (p(h).view(b, t, heads, c // heads).transpose(1, 2) for p in self.qkv)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(b, t, c))
            return x + self.down(F.relu(self.up(norm(x))))

    class Gpt(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab, c), nn.Embedding(context, c)
            self.layers = nn.ModuleList(Layer() for _ in range(work["n_layer"]))
            self.head = nn.Linear(c, vocab, bias=False)

        def forward(self, tokens):
            x = norm(self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1])))
            for layer in self.layers:
                x = layer(x)
            return self.head(x)

    model = Gpt()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.0, 0.02)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.85, 0.99), eps=1e-8)

    def step(number: int) -> None:
        batch = [examples[(number * work["batch"] + i) % len(examples)] for i in range(work["batch"])]
        longest = max(map(len, batch))
        padded = torch.tensor([e + [-100] * (longest - len(e)) for e in batch])
        inputs, targets = padded[:, :-1].clamp(min=0), padded[:, 1:]
        loss = F.cross_entropy(model(inputs).reshape(-1, vocab), targets.reshape(-1), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    step(0)
    started = time.perf_counter()
    for number in range(work["steps"]):
        step(number + 1)
    ms = 1e3 * (time.perf_counter() - started) / work["steps"]
    print(json.dumps({"ms": ms, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=NAMES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        torch_worker(json.loads(args.worker), str(args.data), args.threads)
        return
    print(f"{args.threads} threads, medians of {args.rounds} rounds, measurements interleaved")
    for name, work in WORK:
        rounds = []
        for _ in range(args.rounds):
            mine = ours(work, args.data, args.threads)
            command = [sys.executable, __file__, "--worker", json.dumps(work), "--data", args.data]
            command = [str(a) for a in [*command, "--threads", args.threads]]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                sys.exit(result.stderr)
            rounds.append((mine, json.loads(result.stdout)))
        median = lambda key, which: statistics.median(r[which][key] for r in rounds)
        ratio = statistics.median(theirs["ms"] / mine["ms"] for mine, theirs in rounds)
        print(
            f"{name:<28} microgpt {median('ms', 0):9.3f} ms per step, {median('mb', 0):5.0f} MB;  "
            f"PyTorch {median('ms', 1):9.3f} ms, {median('mb', 1):5.0f} MB;  ours is {ratio:.2f} x as fast"
        )


if __name__ == "__main__":
    main()
