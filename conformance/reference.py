"""The decode graph built independently with coremltools' own Builder, and converted and quantized by coremltools itself.

Nothing here is translated from the exporter. The sources are the architecture (RMSNorm without gain after the embedding and
before attention and MLP, 1x1 convolutions, a KV cache, an MLP of 4x with ReLU, no final norm) and the documented formula of
each option, so that an error on either side shows as a difference.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Function, Placeholder, Program, Var, types
from coremltools.converters.mil.mil.program import StateTensorPlaceholder

from checkpoint import Checkpoint, Config

QUANTIZATIONS = ("none", "int8-per-tensor", "int8-per-channel")
PROJECTIONS = ("separate", "fused-qkv")
NORMS = ("plain", "safe", "max-scaled")
CACHE_UPDATES = ("one-hot", "slice-update", "host")

#: Element type and shape of inputs, outputs or states, by name.
Features = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Options:
    """Options of an export, with the values of the command line."""

    quantize: str = "none"
    projections: str = "separate"
    norm: str = "max-scaled"
    cache_update: str = "one-hot"


def matrices(checkpoint: Checkpoint, projections: str) -> dict[str, np.ndarray]:
    """Weights of the convolutions `[Co, Ci, 1, 1]` in fp16, in the order in which the graph uses them."""
    tensors = {name.removesuffix(".weight"): w.astype(np.float16) for name, w in checkpoint.weights.items()}
    result = {}
    for layer in range(checkpoint.config.n_layer):
        prefix = f"layers.{layer}"
        qkv = [f"{prefix}.attn_{part}" for part in "qkv"]
        if projections == "fused-qkv":
            result[f"{prefix}.attn_qkv"] = np.concatenate([tensors[name] for name in qkv])
        else:
            result |= {name: tensors[name] for name in qkv}
        result |= {f"{prefix}.{part}": tensors[f"{prefix}.{part}"] for part in ("attn_o", "mlp_fc1", "mlp_fc2")}
    result["lm_head"] = tensors["lm_head"]
    return {name: matrix.reshape(*matrix.shape, 1, 1) for name, matrix in result.items()}


def _caches(config: Config) -> Features:
    shape = (1, config.n_head, config.block_size, config.head_dim)
    return {f"{kind}_cache_{layer}": ("fp16", shape) for layer in range(config.n_layer) for kind in "kv"}


def inputs(config: Config, cache_update: str) -> Features:
    """The program's inputs; a cache that the host holds is one of them."""
    one_hot = {"kv_write": ("fp16", (1, 1, config.block_size, 1))}
    write = {"position": ("int32", (1,))} if cache_update == "slice-update" else one_hot
    result = {
        "x": ("fp16", (1, config.n_embd, 1, 1)),
        "attn_mask": ("fp16", (1, 1, 1, config.block_size)),
        **write,
    }
    return result | (_caches(config) if cache_update == "host" else {})


def outputs(config: Config, cache_update: str) -> Features:
    """The program's outputs; a host that holds the caches receives their new rows."""
    shape = (1, config.n_head, 1, config.head_dim)
    new = {f"{kind}_new_{layer}": ("fp16", shape) for layer in range(config.n_layer) for kind in "kv"}
    return {"logits": ("fp16", (1, config.vocab_size, 1, 1))} | (new if cache_update == "host" else {})


def states(config: Config, cache_update: str) -> Features:
    """The program's states."""
    return {} if cache_update == "host" else _caches(config)


def rms_norm(x: Var, eps: float, form: str) -> Var:
    """`x / sqrt(mean(x^2) + eps)` over the channels, in one of the three documented forms."""

    def mean_square(value: Var) -> Var:
        return mb.reduce_mean(x=mb.mul(x=value, y=value), axes=[1], keep_dims=True)

    def rsqrt(value: Var, epsilon: float = 1e-12) -> Var:
        # Written explicitly although 1e-12 is MIL's default: the Builder would make it fp16 like `value`, where it is 0.
        return mb.rsqrt(x=value, epsilon=np.float32(epsilon))

    # Constants are computed in fp32 and then rounded to fp16.
    d, eps = np.float32(x.shape[1]), np.float32(eps)
    if form == "plain":
        return mb.mul(x=x, y=rsqrt(mean_square(x), eps))
    if form == "safe":
        xs = mb.mul(x=x, y=np.float16(1 / np.sqrt(d)))
        return mb.mul(x=xs, y=rsqrt(mb.add(x=mean_square(xs), y=np.float16(eps / d))))
    root = np.float16(np.sqrt(eps))
    m = mb.maximum(x=mb.reduce_max(x=mb.abs(x=x), axes=[1], keep_dims=True), y=root)
    xs = mb.real_div(x=x, y=m)
    r = mb.real_div(x=root, y=m)
    return mb.mul(x=xs, y=rsqrt(mb.add(x=mean_square(xs), y=mb.mul(x=r, y=r))))


@dataclass(frozen=True)
class _Decoder:
    """Builds the parts of the graph; holds their shared data."""

    config: Config
    options: Options
    weights: dict[str, np.ndarray]
    variables: dict[str, Var]
    update: Callable[[Var, Var], Var]
    new: list[Var]

    def linear(self, matrix: str, x: Var) -> Var:
        return mb.conv(x=x, weight=self.weights[matrix])

    def norm(self, x: Var) -> Var:
        return rms_norm(x, self.config.rms_norm_eps, self.options.norm)

    def cache(self, kind: str, layer: int, new: Var) -> Var:
        """Puts `new [1, H, 1, D]` into its position; returns the whole cache `[1, H, S, D]`."""
        cache = self.variables[f"{kind}_cache_{layer}"]
        if self.options.cache_update == "host":
            self.new.append(new)
            return self.update(cache, new)
        updated = self.update(mb.read_state(input=cache), new)
        mb.coreml_update_state(state=cache, value=updated)
        return updated

    def heads(self, x: Var, name: str | None = None) -> Var:
        """`[1, C, 1, 1]` as `[1, H, 1, D]`, named `name` if it is an output."""
        names = {"name": name} if name and self.options.cache_update == "host" else {}
        return mb.reshape(x=x, shape=[1, self.config.n_head, 1, self.config.head_dim], **names)

    def qkv(self, layer: int, x: Var) -> list[Var]:
        """Query, key and value, each `[1, H, 1, D]`."""
        if self.options.projections == "fused-qkv":
            parts = mb.split(x=self.linear(f"layers.{layer}.attn_qkv", x), num_splits=3, axis=1)
        else:
            parts = [self.linear(f"layers.{layer}.attn_{part}", x) for part in "qkv"]
        names = (None, f"k_new_{layer}", f"v_new_{layer}")
        return [self.heads(part, name) for part, name in zip(parts, names, strict=True)]

    def attention(self, layer: int, x: Var) -> Var:
        """`softmax(q k^T / sqrt(D) + mask) v` over the cache, without the output projection."""
        q, k, v = self.qkv(layer, x)
        q = mb.mul(x=q, y=np.float16(1 / math.sqrt(self.config.head_dim)))
        keys, values = self.cache("k", layer, k), self.cache("v", layer, v)
        scores = mb.add(x=mb.matmul(x=q, y=keys, transpose_y=True), y=self.variables["attn_mask"])
        mixed = mb.matmul(x=mb.softmax(x=scores, axis=-1), y=values)
        return mb.reshape(x=mixed, shape=[1, self.config.n_embd, 1, 1])

    def logits(self) -> Var:
        x = self.norm(self.variables["x"])
        for layer in range(self.config.n_layer):
            x = mb.add(x=x, y=self.linear(f"layers.{layer}.attn_o", self.attention(layer, self.norm(x))))
            hidden = mb.relu(x=self.linear(f"layers.{layer}.mlp_fc1", self.norm(x)))
            x = mb.add(x=x, y=self.linear(f"layers.{layer}.mlp_fc2", hidden))
        return mb.conv(x=x, weight=self.weights["lm_head"], name="logits")


def _one_hot_update(write: Var) -> Callable[[Var, Var], Var]:
    """`old * (1 - write) + new * write`."""
    keep = mb.sub(x=np.float16(1), y=write)
    return lambda old, new: mb.add(x=mb.mul(x=old, y=keep), y=mb.mul(x=new, y=write))


def _slice_update(position: Var) -> Callable[[Var, Var], Var]:
    """`old[:, :, position : position + 1, :] = new`, with the arguments that coremltools' converters write for it."""
    outer, inner = np.zeros(2, np.int32), np.zeros(1, np.int32)
    behind = mb.add(x=position, y=np.array([1], np.int32))
    begin, end = (mb.concat(values=[outer, corner, inner], axis=0) for corner in (position, behind))
    whole = [True, True, False, True]
    return lambda old, new: mb.slice_update(
        x=old,
        update=new,
        begin=begin,
        end=end,
        stride=[1] * 4,
        begin_mask=whole,
        end_mask=whole,
        squeeze_mask=[False] * 4,
    )


def build(checkpoint: Checkpoint, options: Options) -> Program:
    """Builds the decode graph as a PyMIL program for iOS 18, with fp16 weights."""
    config, update = checkpoint.config, options.cache_update
    weights = matrices(checkpoint, options.projections)
    kinds = {"fp16": types.fp16, "int32": types.int32}
    placeholders = {n: Placeholder(s, kinds[t], name=n) for n, (t, s) in inputs(config, update).items()}
    placeholders |= {n: StateTensorPlaceholder(s, kinds[t], name=n) for n, (t, s) in states(config, update).items()}
    with Function(placeholders, opset_version=ct.target.iOS18) as function:
        variables = {name: placeholder.outputs[0] for name, placeholder in placeholders.items()}
        if update == "slice-update":
            place = _slice_update(variables["position"])
        else:
            place = _one_hot_update(variables["kv_write"])
        decoder = _Decoder(config, options, weights, variables, place, [])
        function.set_outputs([decoder.logits(), *decoder.new])
    program = Program()
    program.add_function("main", function)
    return program


def convert(program: Program, path: Path) -> ct.models.MLModel:
    """Converts with coremltools' default passes, as a user of coremltools would, and saves."""
    model = ct.convert(program, minimum_deployment_target=ct.target.iOS18, skip_model_load=True)
    model.save(str(path))
    return model


def quantize(model: ct.models.MLModel, quantization: str, path: Path) -> None:
    """Quantizes every weight of `model` with coremltools and saves the result."""
    config = cto.OpLinearQuantizerConfig(
        mode="linear_symmetric",
        dtype="int8",
        granularity={"int8-per-tensor": "per_tensor", "int8-per-channel": "per_channel"}[quantization],
        weight_threshold=0,
    )
    with np.errstate(all="ignore"):  # coremltools divides by 0 for a row of zeros
        quantized = cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=config))
    quantized.save(str(path))
