#!/usr/bin/env python3
"""Decodes models of the same shapes with this project, llama.cpp, PyTorch and plain C, interleaved, on this machine.

    python3 -m venv .venv && .venv/bin/pip install -r benches/compare/requirements.txt
    cargo build --release
    .venv/bin/python benches/compare/compare.py [--checkpoint CKPT] [--threads 2] [--rounds 5]

There are two shapes: the scaled preset (512 dimensions, 8 heads, 6 layers, context 64) as INT8 here, as a GPT-2 in Q8_0 in
llama.cpp and as f32 in PyTorch; and the original preset (16, 4, 1, 16) on one thread beside plain C (microgpt.c, compiled
with cc). Every competitor runs in a process of its own, and they take turns: a round is one measurement of each. The script
prints medians of rounds and, since the machine's speed may drift, medians of ratios within a round.

Speed does not depend on the weights: without --checkpoint a model is trained for one step.
"""

import argparse
import json
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
MICROGPT = ROOT / "target/release/microgpt"


def run(*command: object) -> str:
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr}")
    return result.stdout


def bundle(folder: Path, preset: str, checkpoint: Path | None, quantize: str) -> tuple[Path, Path]:
    if checkpoint is None:
        checkpoint = folder / f"{preset}-checkpoint"
        run(MICROGPT, "train", "--preset", preset, "--steps", 1, "--out", checkpoint)
    exported = folder / f"{preset}-bundle"
    run(MICROGPT, "export", checkpoint, "--out", exported, "--quantize", quantize, "--no-verify")
    return checkpoint, exported


def ours(path: Path, threads: int, seconds: float) -> dict:
    return json.loads(run(MICROGPT, "bench", path, "--threads", threads, "--seconds", seconds, "--names", 0, "--json"))


# --- llama.cpp -----------------------------------------------------------------------------------------------------------


def write_gguf(path: Path, config: dict) -> None:
    """Writes a GPT-2 of the same shape, with matrices in Q8_0."""
    import gguf
    import numpy as np

    c, layers, context, vocab = config["n_embd"], config["n_layer"], config["block_size"], config["vocab_size"]
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(str(path), "gpt2")
    writer.add_context_length(context)
    writer.add_embedding_length(c)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(4 * c)
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_vocab_size(vocab)
    writer.add_tokenizer_model("no_vocab")

    def matrix(name: str, rows: int, columns: int) -> None:
        weights = rng.normal(0, 0.02, (rows, columns)).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(weights, kind), raw_dtype=kind)

    def vector(name: str, values: np.ndarray) -> None:
        writer.add_tensor(name, values.astype(np.float32))

    def norm(name: str) -> None:
        vector(f"{name}.weight", np.ones(c))
        vector(f"{name}.bias", np.zeros(c))

    matrix("token_embd.weight", vocab, c)
    writer.add_tensor("position_embd.weight", rng.normal(0, 0.02, (context, c)).astype(np.float32))
    norm("output_norm")
    matrix("output.weight", vocab, c)
    for layer in range(layers):
        block = f"blk.{layer}"
        for name, rows, columns in [
            ("attn_qkv", 3 * c, c),
            ("attn_output", c, c),
            ("ffn_up", 4 * c, c),
            ("ffn_down", c, 4 * c),
        ]:
            matrix(f"{block}.{name}.weight", rows, columns)
            vector(f"{block}.{name}.bias", np.zeros(rows))
        norm(f"{block}.attn_norm")
        norm(f"{block}.ffn_norm")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_worker(path: str, threads: int, context: int, seconds: float) -> None:
    """Prints tokens per second over whole contexts, one token per call: the speed of `llama_decode` without sampling."""
    import ctypes

    import llama_cpp as llama

    quiet = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(quiet, ctypes.c_void_p(0))
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_threads, params.n_threads_batch = context, context, threads, threads
    ctx = llama.llama_init_from_model(model, params)
    if not model or not ctx:
        sys.exit("llama.cpp does not load the model")
    token = (llama.llama_token * 1)()
    batch = llama.llama_batch_get_one(token, 1)
    rates = []
    end = time.perf_counter() + seconds
    while len(rates) < 3 or time.perf_counter() < end:
        llama.llama_memory_clear(llama.llama_get_memory(ctx), True)
        started = time.perf_counter()
        for position in range(context):
            token[0] = position % 20
            if llama.llama_decode(ctx, batch):
                sys.exit("llama_decode failed")
            llama.llama_get_logits(ctx)
        rates.append(context / (time.perf_counter() - started))
    print(statistics.median(rates[1:]))


# --- PyTorch -------------------------------------------------------------------------------------------------------------


def torch_worker(config: dict, threads: int, seconds: float) -> None:
    """Prints the speed of the same decode with a cache, in f32, eager."""
    import torch

    torch.set_num_threads(threads)
    c, h, layers = config["n_embd"], config["n_head"], config["n_layer"]
    context, vocab, width = config["block_size"], config["vocab_size"], c // h
    linear = lambda rows, columns: torch.randn(rows, columns) * 0.02
    wte, wpe, head = linear(vocab, c), linear(context, c), linear(vocab, c)
    blocks = [(linear(3 * c, c), linear(c, c), linear(4 * c, c), linear(c, 4 * c)) for _ in range(layers)]
    norm = lambda x: x * torch.rsqrt((x * x).mean() + 1e-5)
    keys, values = torch.zeros(2, layers, h, context, width).unbind(0)
    rates = []
    end = time.perf_counter() + seconds
    with torch.inference_mode():
        while len(rates) < 3 or time.perf_counter() < end:
            started = time.perf_counter()
            for position in range(context):
                x = norm(wte[position % 20] + wpe[position])
                for layer, (qkv, out, up, down) in enumerate(blocks):
                    q, k, v = (qkv @ norm(x)).view(3, h, width).unbind(0)
                    keys[layer, :, position], values[layer, :, position] = k, v
                    scores = torch.einsum("hw,htw->ht", q, keys[layer, :, : position + 1]) * width**-0.5
                    mixed = torch.einsum("ht,htw->hw", scores.softmax(-1), values[layer, :, : position + 1])
                    x = x + out @ mixed.reshape(c)
                    x = x + down @ torch.relu(up @ norm(x))
                head @ x
            rates.append(context / (time.perf_counter() - started))
    print(statistics.median(rates[1:]))


# --- plain C -------------------------------------------------------------------------------------------------------------


def write_raw(path: Path, checkpoint: Path, layers: int) -> None:
    """Writes the checkpoint's weights in the order in which microgpt.c reads them."""
    raw = (checkpoint / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    tensors = json.loads(raw[8 : 8 + length])
    parts = ["attn_q", "attn_k", "attn_v", "attn_o", "mlp_fc1", "mlp_fc2"]
    names = ["wte", "wpe", *(f"layers.{i}.{p}" for i in range(layers) for p in parts), "lm_head"]
    with path.open("wb") as out:
        for name in names:
            tensor = tensors[f"{name}.weight"]
            assert tensor["dtype"] == "F32", f"{name} is {tensor['dtype']}"
            begin, end = tensor["data_offsets"]
            out.write(raw[8 + length + begin : 8 + length + end])


def c_rate(program: Path, weights: Path, config: dict, seconds: float) -> float:
    shape = [config[k] for k in ("n_embd", "n_head", "n_layer", "block_size", "vocab_size")]
    lines = run(program, weights, *shape, seconds / 5).splitlines()
    return statistics.median(map(float, lines[1:]))


# -------------------------------------------------------------------------------------------------------------------------


def report(title: str, rounds: list[dict[str, float]], base: str) -> None:
    print(f"\n{title}")
    for name in rounds[0]:
        rates = [r[name] for r in rounds]
        ratio = statistics.median(r[base] / r[name] for r in rounds)
        print(
            f"  {name:<34}{statistics.median(rates):>12,.0f} tokens/s   "
            f"({min(rates):,.0f} to {max(rates):,.0f})   ours is {ratio:.2f} x this"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a scaled checkpoint")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        kind, config = args.worker[0], json.loads(args.worker[1])
        if kind == "llama":
            llama_worker(config["path"], args.threads, config["block_size"], args.seconds)
        else:
            torch_worker(config, args.threads, args.seconds)
        return

    def worker(kind: str, config: dict) -> float:
        options = ["--threads", args.threads, "--seconds", args.seconds]
        return float(run(sys.executable, __file__, "--worker", kind, json.dumps(config), *options))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scaled = {"n_embd": 512, "n_head": 8, "n_layer": 6, "block_size": 64, "vocab_size": 27}
        original = {"n_embd": 16, "n_head": 4, "n_layer": 1, "block_size": 16, "vocab_size": 27}
        _, scaled_bundle = bundle(folder, "scaled", args.checkpoint, "int8-per-channel")
        small, original_bundle = bundle(folder, "original", None, "int8-per-channel")
        gguf_path = folder / "gpt2-q8_0.gguf"
        write_gguf(gguf_path, scaled)
        program, raw = folder / "microgpt", folder / "weights.bin"
        run("cc", "-O3", "-march=native", "-o", program, HERE / "microgpt.c", "-lm")
        write_raw(raw, small, original["n_layer"])

        large, tiny = [], []
        for number in range(args.rounds + 1):
            here = ours(scaled_bundle, args.threads, args.seconds)
            large_round = {
                "microgpt bench, INT8": here["decode"]["tokens_per_second"],
                "  16 sequences at once": here["batch"]["tokens_per_second"],
                "  the stream floor": 1e3 / here["stream_floor_ms"],
                "llama.cpp, GPT-2, Q8_0": worker("llama", scaled | {"path": str(gguf_path)}),
                "PyTorch, f32": worker("torch", scaled),
            }
            tiny_here = ours(original_bundle, 1, args.seconds)
            tiny_round = {
                "microgpt bench": tiny_here["decode"]["tokens_per_second"],
                "plain C, cc -O3 -march=native": c_rate(program, raw, original, args.seconds),
            }
            if number:  # the first round warms up
                large.append(large_round)
                tiny.append(tiny_round)
        print(f"{here['machine']}; medians of {args.rounds} rounds, measurements interleaved")
        report(f"scaled preset, {args.threads} threads, one token at a time", large, "microgpt bench, INT8")
        report("original preset, 1 thread", tiny, "microgpt bench")


if __name__ == "__main__":
    main()
